//! What the pipeline does, as Prometheus reads it; and whether it can go on.
//!
//! What a process does itself it counts around the code (`pipeline`, `analytics`). What is true of
//! the database, whoever did it, is read there for each scrape (`database`).

pub(crate) mod analytics;
mod database;
mod list;
mod pipeline;
mod readiness;

use std::time::Duration;

use ::metrics::{describe_counter, describe_gauge, describe_histogram, set_global_recorder};
use anyhow::anyhow;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub use database::DatabaseMetrics;
pub use list::{CONSUME, DATABASE, Kind, Metric, PROCESS, SERVE};
pub(crate) use pipeline::*;
pub use readiness::{Readiness, Unready, readiness};
pub(crate) use readiness::{Waiting, waiting};

/// The bounds of durations, in seconds: from a small batch's commit to an attempt's time limit.
const BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];

/// How often what was measured is added up: nobody may ever ask for it.
const UPKEEP: Duration = Duration::from_secs(5);

/// What this process counts.
#[derive(Clone)]
pub struct Process {
    handle: PrometheusHandle,
    lists: &'static [&'static [Metric]],
}

/// Counts from now on, for as long as the program runs; without it, whatever is to be counted
/// costs nothing. Needs a Tokio runtime.
pub fn install(lists: &'static [&'static [Metric]]) -> anyhow::Result<Process> {
    let recorder = recorder()?;
    let process = Process { handle: recorder.handle(), lists };
    set_global_recorder(recorder).map_err(|_| anyhow!("metrics are counted already"))?;
    process.describe();
    list::BUILD_INFO.gauge(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    let handle = process.handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            handle.run_upkeep();
        }
    });
    Ok(process)
}

impl Process {
    /// The text that Prometheus reads. What has not happened yet is described all the same.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        self.lists.iter().for_each(|list| describe_missing(&mut text, list));
        text
    }

    fn describe(&self) {
        self.lists.iter().for_each(|list| describe(list));
    }
}

fn recorder() -> anyhow::Result<PrometheusRecorder> {
    Ok(PrometheusBuilder::new().set_buckets(&BUCKETS)?.build_recorder())
}

fn describe(list: &[Metric]) {
    for Metric { name, kind, help, .. } in list {
        match kind {
            Kind::Counter => describe_counter!(*name, *help),
            Kind::Gauge => describe_gauge!(*name, *help),
            Kind::Histogram => describe_histogram!(*name, *help),
        }
    }
}

/// The exporter describes what it has a value of.
fn describe_missing(text: &mut String, list: &[Metric]) {
    for Metric { name, kind, help, .. } in list {
        if !text.contains(&format!("# HELP {name} ")) {
            let kind = kind.name();
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n\n"));
        }
    }
}

#[cfg(test)]
pub(crate) use tests::shown;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown after something has been counted.
    pub(crate) fn shown(count: impl FnOnce()) -> String {
        let recorder = recorder().unwrap();
        let process = Process { handle: recorder.handle(), lists: &[PROCESS, CONSUME, SERVE] };
        ::metrics::with_local_recorder(&recorder, || {
            process.describe();
            count();
        });
        process.render()
    }

    #[test]
    fn what_has_not_happened_yet_is_described_once_and_has_no_value() {
        let text = shown(|| received("s", 1, 7));
        for metric in [PROCESS, CONSUME, SERVE].into_iter().flatten() {
            let help = format!("# HELP {} {}\n", metric.name, metric.help);
            let kind = format!("# TYPE {} {}\n", metric.name, metric.kind.name());
            assert_eq!(
                (text.matches(&help).count(), text.matches(&kind).count()),
                (1, 1),
                "{text}"
            );
        }
        let values: Vec<&str> =
            text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(values.len(), 2, "{values:?}");
        assert!(values.contains(&r#"sluicegate_received_bytes_total{stream="s"} 7"#), "{values:?}");
    }

    #[test]
    fn a_label_is_shown_as_it_is_whatever_is_in_it() {
        for (value, shown_as) in
            [(r"a\b", r"a\\b"), (r"a\\b", r"a\\\\b"), ("a\\\"", r#"a\\\""#), ("a\nb", r"a\nb")]
        {
            let text = shown(|| received(value, 1, 1));
            let line = format!("sluicegate_received_bytes_total{{stream=\"{shown_as}\"}} 1\n");
            assert!(text.contains(&line), "no {line}: {text}");
        }
    }
}
