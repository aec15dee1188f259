//! Services of a test's own, which it may stop, kill and freeze.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rand::RngExt;
use tempfile::TempDir;

use crate::support::{Addresses, poll, repository};

/// Some of Kafka, registry and Postgres, started for one test; its `scripts/services` and data are
/// gone when the value is dropped.
pub struct Services {
    state: TempDir,
    /// What `scripts/services` is told; ports among it, so that no other test takes the port of a
    /// service that is down for a while.
    settings: Vec<(String, String)>,
    names: Vec<&'static str>,
}

impl Services {
    /// Starts `kafka`, `registry` or `postgres`, and waits until they answer.
    pub fn up(names: &[&'static str]) -> Services {
        Services::up_with(names, &[])
    }

    /// Starts a cluster of three brokers: `kafka`, which is the controller too, `kafka-2` and
    /// `kafka-3`, whose numbers are 1 to 3.
    pub fn kafka_cluster() -> Services {
        let brokers = ("KAFKA_BROKER_COUNT", "3".to_owned());
        Services::up_with(&["kafka", "kafka-2", "kafka-3"], &[brokers])
    }

    /// Like [`up`](Services::up), with more in the environment of `scripts/services`.
    pub fn up_with(names: &[&'static str], settings: &[(&str, String)]) -> Services {
        let ports = ["KAFKA_PORT", "SCHEMA_REGISTRY_PORT", "POSTGRES_PORT"];
        let ports = ports.map(|name| (name, free_port().to_string()));
        let settings = ports.iter().chain(settings);
        let services = Services {
            state: TempDir::new().unwrap(),
            settings: settings.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            names: names.into(),
        };
        services.start(&services.names);
        services
    }

    /// Stops them and keeps their data, for somebody to look at; gives the folder.
    #[allow(dead_code, reason = "tests/chaos needs it")]
    pub fn keep(mut self) -> PathBuf {
        self.state.disable_cleanup(true);
        self.thaw_all();
        _ = self.script(&["down"]).output();
        self.names.clear();
        self.state.path().to_owned()
    }

    /// Where they are; those that were not started are those of `make test`.
    pub fn addresses(&self) -> Addresses {
        // `scripts/services env` would ask for all three
        let text = std::fs::read_to_string(self.state.path().join("env")).unwrap();
        let line = |line: &str| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        let ours = |name: &str| match name {
            "KAFKA_BROKERS" => self.names.contains(&"kafka"),
            "SCHEMA_REGISTRY_URL" => self.names.contains(&"registry"),
            _ => self.names.contains(&"postgres"),
        };
        text.lines()
            .filter_map(line)
            .map(|(name, value)| match ours(&name) {
                true => (name, value),
                false => (name.clone(), crate::support::variable(&name)),
            })
            .collect()
    }

    /// Starts services that were stopped or killed; they keep their data and their addresses.
    pub fn start(&self, names: &[&str]) {
        self.run(&[&["up"], names].concat());
    }

    /// Stops services in order.
    pub fn stop(&self, names: &[&str]) {
        self.run(&[&["down"], names].concat());
    }

    /// SIGKILL to a service and its children; they are gone then.
    pub fn kill(&self, name: &str) {
        let processes = self.signal(name, "KILL");
        // buried, too: Postgres takes the id of a dead process for that of a running server
        let is_there = |id: &String| Path::new("/proc").join(id).exists();
        let gone = poll(|| (!processes.iter().any(is_there)).then_some(()));
        assert!(gone.is_some(), "{name} does not die");
    }

    /// SIGSTOP: it holds its connections and does nothing.
    pub fn freeze(&self, name: &str) {
        self.signal(name, "STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self, name: &str) {
        self.signal(name, "CONT");
    }

    /// Gives the processes that it went to.
    fn signal(&self, name: &str, signal: &str) -> Vec<String> {
        let processes = self.processes(name);
        assert!(!processes.is_empty(), "no process of {name}");
        // a child may be gone by now
        _ = Command::new("kill").args(["-s", signal]).args(&processes).output();
        processes
    }

    /// One that was left frozen can't stop.
    fn thaw_all(&self) {
        for name in &self.names {
            _ = Command::new("kill").args(["-s", "CONT"]).args(self.processes(name)).output();
        }
    }

    /// The service's own process and then its children: those of Postgres have sessions of their
    /// own.
    pub fn processes(&self, name: &str) -> Vec<String> {
        let id = std::fs::read_to_string(self.state.path().join(format!("run/{name}.pid")));
        let id = id.unwrap_or_default().trim().to_owned();
        if !is_running(&id) {
            return Vec::new();
        }
        let children = Command::new("pgrep").args(["-P", &id]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        std::iter::once(id).chain(children.lines().map(str::to_owned)).collect()
    }

    fn run(&self, args: &[&str]) {
        let output = self.script(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/services {args:?}: {said}");
    }

    fn script(&self, args: &[&str]) -> Command {
        let mut command = Command::new(repository("scripts/services"));
        command
            .args(args)
            .env("SLUICEGATE_STATE", self.state.path())
            .env("SLUICEGATE_SERVICES", "native")
            .envs(self.settings.iter().cloned())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if self.names.is_empty() {
            return;
        }
        self.thaw_all();
        _ = self.script(&["reset"]).output();
    }
}

/// Of a process that is dead and not yet buried there is no command line.
fn is_running(id: &str) -> bool {
    let id: Option<u32> = id.parse().ok();
    let line = id.and_then(|id| std::fs::read(format!("/proc/{id}/cmdline")).ok());
    line.is_some_and(|line| !line.is_empty())
}

/// A port that is free, and that no connection of anybody's gets for its own end.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let random = std::iter::repeat_with(|| rand::rng().random_range(12_000..32_000));
    random.take(1_000).find(is_free).expect("a free port")
}

#[test]
fn services_of_a_tests_own_keep_data_and_address_over_a_kill() {
    let services = Services::up(&["postgres"]);
    let before = services.addresses();
    assert_ne!(before["DATABASE_URL"], crate::support::variable("DATABASE_URL"));
    let fixture = crate::support::Fixture::on(before.clone());
    services.kill("postgres");
    services.start(&["postgres"]);
    assert_eq!(services.addresses(), before);
    let schemas = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{}'", fixture.prefix);
    assert_eq!(fixture.number(&schemas), 1);
}
