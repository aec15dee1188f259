//! The whole pipeline in one process: it needs no service, loses nothing and leaves nothing behind.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::support::{ended, poll, repository};

#[test]
fn a_demo_lands_every_stream_and_its_audit_is_clean() {
    let corner = Corner::new();
    let (status, said) = corner.run(&["--duration", "3s", "--rate", "100"]);
    assert!(status.success(), "{said}");
    for entry in std::fs::read_dir(repository("schemas")).unwrap() {
        let path = entry.unwrap().path();
        let stream = path.file_stem().unwrap().to_str().unwrap();
        let row = said.lines().find(|line| line.contains(&format!("│ {stream} ")));
        let row = row.unwrap_or_else(|| panic!("no {stream}: {said}"));
        let numbers: Vec<u64> =
            row.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [sent, landed, duplicates, dead_letters] = numbers[..] else { panic!("{row}") };
        assert!(sent >= 250 && landed > 200, "{row}");
        assert_eq!(sent, landed + duplicates + dead_letters, "{row}");
    }
    for promised in ["nothing is missing", "bad_magic_byte", "rule:", "demo --hold", "/metrics"] {
        assert!(said.contains(promised), "no {promised}: {said}");
    }
    corner.wait_until_nothing_is_left();
}

#[test]
fn a_demo_that_is_interrupted_drains_and_audits_and_one_that_is_killed_leaves_nothing_either() {
    let corner = Corner::new();
    // also one that has only begun
    for millis in [20, 200, 600] {
        let mut begun = corner.start(&["--stream", "events"]);
        let since = Instant::now();
        let later = Duration::from_millis(millis);
        poll(|| (since.elapsed() >= later).then_some(())).unwrap();
        begun.child.kill().unwrap();
        begun.end();
    }
    corner.wait_until_nothing_is_left();
    let mut interrupted = corner.start(&["--duration", "10m", "--stream", "events"]);
    let mut killed = corner.start(&["--duration", "10m", "--stream", "traffic"]);
    // two of them, beside each other
    for demo in [&mut interrupted, &mut killed] {
        demo.wait_for_landed();
    }
    assert_eq!(corner.left().len(), 2);
    for folder in corner.left() {
        // whoever reaches the database may do what its user may
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", folder.display());
    }
    interrupted.signal("INT");
    let (status, said) = interrupted.end();
    assert!(status.success() && said.contains("nothing is missing"), "{status}: {said}");
    killed.child.kill().unwrap();
    assert_eq!(killed.end().0.signal(), Some(9));
    corner.wait_until_nothing_is_left();
}

#[test]
fn a_demo_that_is_held_is_reached_as_any_service_is_and_what_is_kept_stays() {
    let corner = Corner::new();
    let args = ["--hold", "--keep", "--duration", "1s", "--stream", "device_telemetry"];
    let mut demo = corner.start(&args);
    let mut settings = Vec::new();
    let mut lines = BufReader::new(demo.child.stdout.take().unwrap()).lines();
    while settings.len() < 3 {
        let line = lines.next().expect("the demo ended").unwrap();
        if let Some(setting) = line.strip_prefix("export ") {
            let (name, value) = setting.split_once('=').unwrap();
            settings.push((name.to_owned(), value.trim_matches('\'').to_owned()));
        }
    }
    let program = |args: &[&str]| {
        let mut command = corner.command(args);
        command.env_remove("KAFKA_SECURITY_PROTOCOL").envs(settings.iter().cloned());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = program(&["dlq", "list", "--json"]);
    assert!(listed.contains("device_telemetry"), "{listed}");
    program(&["produce", "device_telemetry", "--count", "500"]);
    let more = poll(|| {
        let stats: serde_json::Value =
            serde_json::from_str(&program(&["stats", "device_telemetry", "--json"])).unwrap();
        (stats[0]["inserted"].as_i64().unwrap() > 600).then_some(())
    });
    assert!(more.is_some(), "what was sent did not land");
    demo.signal("TERM");
    assert_eq!(ended(&mut demo.child).and_then(|status| status.code()), Some(0));

    let left = corner.left();
    let folder = left.first().expect("nothing was kept");
    assert_eq!(left.len(), 1);
    let (_, url) = settings.iter().find(|(name, _)| name == "DATABASE_URL").unwrap();
    assert!(url.ends_with(&format!("&host={}", folder.display())), "{url}");
    assert!(folder.join("data/PG_VERSION").exists());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let still_answers = runtime.block_on(PgConnection::connect(url));
    assert!(still_answers.is_err(), "it is kept, not left running");
    // and starts again as it says
    let said: Vec<String> = lines.map(Result::unwrap).collect();
    let start = said.iter().find(|line| line.contains("pg_ctl")).unwrap();
    let run = |command: &str| {
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", command]).current_dir("/").stdout(Stdio::null()).status();
        assert!(output.unwrap().success(), "{command}");
    };
    run(&format!("{start} 2>&1"));
    let count = async {
        let mut connection = PgConnection::connect(url).await?;
        let sql = "SELECT count(*) FROM device_telemetry";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await
    };
    let counted = runtime.block_on(count);
    run(&start.replace(" start", " -m fast stop"));
    assert!(counted.unwrap() > 600);
}

#[test]
fn without_postgres_the_demo_says_in_one_line_what_to_install() {
    let corner = Corner::new();
    let nowhere = corner.folder.path().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let (status, said) = corner.run(&["--postgres-programs", nowhere]);
    assert_eq!(status.code(), Some(2));
    let line = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert!(line.contains("apt install postgresql") && line.contains(nowhere), "{said}");
    assert_eq!(corner.left(), BTreeSet::new());
}

/// A temporary folder of this test's own.
struct Corner {
    folder: TempDir,
}

impl Corner {
    fn new() -> Corner {
        // its path is no longer than that of any temporary folder
        let folder = tempfile::Builder::new().prefix("d").rand_bytes(6).tempdir().unwrap();
        // Postgres runs as another user where we are root
        let all = std::fs::Permissions::from_mode(0o1777);
        std::fs::set_permissions(folder.path(), all).unwrap();
        Corner { folder }
    }

    /// The program without the services of `make test`; what the environment says of others is of no
    /// concern to it.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TMPDIR", self.folder.path());
        command.env("SLUICEGATE_SCHEMAS", repository("schemas")).current_dir(self.folder.path());
        command
    }

    fn start(&self, args: &[&str]) -> Demo {
        let mut command = self.command(&[&["demo", "--listen", "127.0.0.1:0"], args].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Demo { child }
    }

    /// How it ended, and all that it said.
    fn run(&self, args: &[&str]) -> (ExitStatus, String) {
        self.start(args).end()
    }

    /// Neither folders nor processes.
    #[track_caller]
    fn wait_until_nothing_is_left(&self) {
        let here = self.folder.path().to_str().unwrap();
        let processes = || {
            let listed = Command::new("pgrep").args(["-f", "-a", here]).output().unwrap();
            String::from_utf8(listed.stdout).unwrap()
        };
        let gone = poll(|| (self.left().is_empty() && processes().is_empty()).then_some(()));
        assert!(gone.is_some(), "left behind: {:?}, {}", self.left(), processes());
    }

    /// What demos have left in it.
    fn left(&self) -> BTreeSet<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| is_of_a_demo(path)).collect()
    }
}

fn is_of_a_demo(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with("sluicegate-demo-")
}

/// A demo under way.
struct Demo {
    child: Child,
}

impl Demo {
    /// Waits until it says that something has landed.
    fn wait_for_landed(&mut self) {
        let mut lines = BufReader::new(self.child.stderr.take().unwrap()).lines();
        let landed = lines
            .by_ref()
            .map(Result::unwrap)
            .any(|line| line.contains(" landed") && !line.contains(" 0 landed"));
        assert!(landed, "it ended before anything had landed");
        // what else it says must go somewhere
        std::thread::spawn(move || lines.for_each(drop));
    }

    fn signal(&self, name: &str) {
        let signalled =
            Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(signalled.unwrap().success());
    }

    fn end(mut self) -> (ExitStatus, String) {
        let stderr = self.child.stderr.take();
        let log = std::thread::spawn(move || read_all(stderr));
        let said = read_all(self.child.stdout.take()) + &log.join().unwrap();
        let status = ended(&mut self.child).expect("it does not end");
        (status, said)
    }
}

fn read_all(from: Option<impl Read>) -> String {
    let mut text = String::new();
    from.map(|mut from| from.read_to_string(&mut text).unwrap());
    text
}

impl Drop for Demo {
    fn drop(&mut self) {
        // it may have ended
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
