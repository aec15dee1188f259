//! Services that are killed, stopped and frozen.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::{SHOWS, Scene};
use crate::{load::Sender, members::Mark, plan::Step, wait};

impl Scene {
    /// Waits until a member complains about what is away, then starts it again.
    pub(super) fn until_said(
        &mut self,
        what: &str,
        step: &Step,
        mark: &Mark,
        services: &[&str],
    ) -> anyhow::Result<String> {
        let said = self.complaint(what, mark)?;
        wait::pass(step.lasts)?;
        self.services.start(services);
        Ok(said)
    }

    fn complaint(&self, what: &str, mark: &Mark) -> anyhow::Result<String> {
        let what = what.to_lowercase();
        let is_it = |line: &str| {
            let line = line.to_lowercase();
            // two members that touch the same buckets: no fault of ours
            line.contains("waiting for")
                && line.contains("error=")
                && line.contains(&what)
                && !line.contains("40p01")
        };
        let waiting = format!("a member to complain about {what}");
        let line = wait::until(&waiting, SHOWS, || self.members.said(mark, is_it))?;
        let (_, error) = line.split_once("error=").context("a complaint without an error")?;
        // what comes in brackets are addresses and repetitions
        let error = error.split(" (").next().unwrap_or(error).trim_matches('"');
        Ok(format!("logged: {}", error.chars().take(90).collect::<String>()))
    }

    pub(super) fn freeze_postgres(&mut self, step: &Step) -> anyhow::Result<String> {
        self.services.freeze("postgres");
        let silent =
            wait::until("Postgres not to answer", SHOWS, || (!self.watch.answers()).then_some(()));
        let passed = wait::pass(step.lasts);
        self.services.thaw("postgres");
        silent.and(passed)?;
        Ok(format!("no answer for {:.1} s, connections held", step.lasts.as_secs_f64()))
    }

    pub(super) fn terminate_backends(&mut self, mark: &Mark) -> anyhow::Result<String> {
        let ended = self.fixture.number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE application_name LIKE 'sluicegate %'",
        );
        ensure!(ended > 0, "no member had a connection to terminate");
        let said = self.complaint("Postgres", mark)?;
        Ok(format!("{ended} connections; {said}"))
    }

    pub(super) fn freeze_kafka(&mut self, step: &Step) -> anyhow::Result<String> {
        self.services.freeze("kafka");
        // what was on its way is told to the producer
        let arrived = wait::pass(Duration::from_secs(1));
        let sent = |sender: &Sender| sender.account().sent().iter().sum::<i64>();
        let (before, delivered) = (sent(&self.sender), self.sender.account().delivered());
        let passed = wait::pass(step.lasts);
        let waiting = sent(&self.sender) - before;
        let told = self.sender.account().delivered() - delivered;
        self.services.thaw("kafka");
        arrived.and(passed)?;
        ensure!(waiting > 0 && told == 0, "{waiting} sent, {told} acknowledged by a frozen broker");
        Ok(format!("{waiting} sent, none acknowledged for {:.1} s", step.lasts.as_secs_f64()))
    }

    pub(super) fn freeze_registry(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
        let writer = self.evolve()?;
        self.services.freeze("registry");
        let said = self
            .write_with(writer)
            .and_then(|_| self.complaint("registry", mark))
            .and_then(|said| wait::pass(step.lasts).map(|()| said));
        self.services.thaw("registry");
        said
    }

    pub(super) fn kill_everything(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
        let number = self.members.draw(step.seed).number;
        let all = ["kafka", "registry", "postgres"];
        all.iter().for_each(|service| self.services.kill(service));
        self.members.kill(number)?;
        let said = self.complaint("Kafka", mark)?;
        wait::pass(step.lasts)?;
        self.services.start(&all);
        self.members.join(&self.fixture);
        Ok(said)
    }
}
