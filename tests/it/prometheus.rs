//! A Prometheus of a test's own, with the repository's settings and rules, and what an expression
//! asks it for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::{
    services::free_port,
    support::{poll, repository},
};

/// Starts a Prometheus that asks each target, a job and its HOST:PORT, every second, and waits until
/// all of them answer it. The jobs are `consume` and `serve`.
pub fn run_prometheus(targets: &[(&str, String)]) -> RunningPrometheus {
    let folder = TempDir::new().unwrap();
    write_settings(folder.path(), targets);
    let address = format!("127.0.0.1:{}", free_port());
    let log = File::create(folder.path().join("log")).unwrap();
    let child = Command::new("prometheus")
        .arg("--config.file=prometheus.yml")
        .arg("--storage.tsdb.path=data")
        .arg(format!("--web.listen-address={address}"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("prometheus; `scripts/install prometheus` installs it");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut prometheus = RunningPrometheus { child, address, folder, runtime };
    prometheus.wait_until_up(targets.len());
    prometheus
}

/// See [`run_prometheus`]; it is gone with its data when the value is dropped.
pub struct RunningPrometheus {
    child: Child,
    address: String,
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
}

/// What an expression gives for one set of labels.
#[derive(Debug, Clone)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A rule that Prometheus has read.
#[derive(Debug)]
pub struct Rule {
    pub name: String,
    pub expression: String,
    /// `ok` once it could be evaluated, `err` where it could not.
    pub health: String,
}

/// What an expression gives now; one that Prometheus can't read fails the test.
#[track_caller]
pub fn query(prometheus: &RunningPrometheus, promql: &str) -> Vec<Sample> {
    let answer = prometheus.get("query", &[("query", promql)]);
    assert_eq!(answer["status"], "success", "{promql}: {answer}");
    answer["data"]["result"].as_array().unwrap().iter().map(Sample::of).collect()
}

impl RunningPrometheus {
    /// Its rules.
    pub fn rules(&self) -> Vec<Rule> {
        let answer = self.get("rules", &[]);
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        rules
            .map(|rule| Rule {
                name: text(&rule["name"]),
                expression: text(&rule["query"]),
                health: text(&rule["health"]),
            })
            .collect()
    }

    fn wait_until_up(&mut self, targets: usize) {
        let up = poll(|| {
            let ended = self.child.try_wait().unwrap().is_some();
            let answer = self.try_get("query", &[("query", "up == 1")]).unwrap_or_default();
            let up = answer["data"]["result"].as_array().is_some_and(|up| up.len() == targets);
            (up || ended).then_some(up)
        });
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        assert_eq!(up, Some(true), "{targets} targets are not all up: {log}");
    }

    fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Json {
        self.try_get(path, parameters).unwrap()
    }

    fn try_get(&self, path: &str, parameters: &[(&str, &str)]) -> reqwest::Result<Json> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let url = reqwest::Url::parse_with_params(&url, parameters).unwrap();
        self.runtime.block_on(async { reqwest::get(url).await?.json().await })
    }
}

impl Drop for RunningPrometheus {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Sample {
    fn of(result: &Json) -> Sample {
        let labels = result["metric"].as_object().unwrap().iter();
        let label =
            |(name, value): (&String, &Json)| (name.clone(), value.as_str().unwrap().into());
        Sample {
            labels: labels.map(label).collect(),
            value: result["value"][1].as_str().unwrap().parse().unwrap(),
        }
    }
}

/// The repository's own, but for the targets, and quicker.
fn write_settings(folder: &Path, targets: &[(&str, String)]) {
    let ours = |name: &str| {
        let path = repository(&format!("deploy/prometheus/{name}"));
        std::fs::read_to_string(path).unwrap()
    };
    let settings = ours("prometheus.yml");
    let quicker = settings.replace("interval: 5s", "interval: 1s");
    assert_ne!(settings, quicker);
    std::fs::write(folder.join("prometheus.yml"), quicker).unwrap();
    std::fs::write(folder.join("sluicegate.rules.yml"), ours("sluicegate.rules.yml")).unwrap();
    std::fs::create_dir(folder.join("targets")).unwrap();
    for job in ["consume", "serve"] {
        let addresses = targets.iter().filter(|(of, _)| *of == job).map(|(_, address)| address);
        let file = json!([{"targets": addresses.collect::<Vec<_>>()}]);
        std::fs::write(folder.join(format!("targets/{job}.json")), file.to_string()).unwrap();
    }
}

/// The metrics that an expression asks for.
pub fn metric_names_in(promql: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = promql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' | '`' => quoted(rest),
            '{' => braced(rest),
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            // a number or a duration
            '0'..='9' => word(rest),
            _ if word(rest) > 0 => word(rest),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at(length);
        rest = behind.trim_start();
        if !token.starts_with(|first: char| first.is_alphabetic() || first == '_' || first == ':') {
            continue;
        }
        match token {
            "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" => {
                // a list of labels
                if rest.starts_with('(') {
                    rest = rest.split_once(')').map_or("", |(_, behind)| behind);
                }
            }
            "and" | "or" | "unless" | "offset" | "bool" => {}
            _ if rest.starts_with('(') || ["by", "without"].contains(&&rest[..word(rest)]) => {}
            name => _ = names.insert(name.to_owned()),
        }
    }
    names
}

/// The length of what a name, a number or a keyword at the beginning takes.
fn word(text: &str) -> usize {
    let ends = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == ':');
    text.find(ends).unwrap_or(text.len())
}

/// The length of the string at the beginning, with its quotes.
fn quoted(text: &str) -> usize {
    let quote = text.chars().next().unwrap();
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, letter)| {
        let ends = *letter == quote && !escaped;
        escaped = *letter == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The length of the labels at the beginning, with their braces.
fn braced(text: &str) -> usize {
    let mut at = 1;
    while let Some(letter) = text[at..].chars().next() {
        match letter {
            '}' => return at + 1,
            '"' | '\'' | '`' => at += quoted(&text[at..]),
            _ => at += letter.len_utf8(),
        }
    }
    text.len()
}

#[test]
fn metrics_are_told_from_functions_labels_strings_and_durations() {
    let names = |promql| metric_names_in(promql).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names("up"), "up");
    assert_eq!(
        names("sum by (stream, job) (rate(a_total{job=~\"b|c\"}[5m] offset 1h)) > 0.05"),
        "a_total"
    );
    assert_eq!(names("sum(a) by (stream) / on (stream) group_left (b) c"), "a c");
    assert_eq!(names("histogram_quantile(0.5, sum by (le) (rate(a_bucket[1m])))"), "a_bucket");
    assert_eq!(names("a{x=\"}\\\"b\", y='c'} or d unless ignoring (e) f and g"), "a d f g");
    assert_eq!(names("time() - max without(instance) (a:b) or vector(0)"), "a:b");
    assert_eq!(names("topk(10, a) > bool 1e3"), "a");
}
