//! A dependency that is away is waited for: the group keeps its member, no event becomes a dead
//! letter for it, and everything lands once when it is back.

mod kafka;
mod memory;
mod patience;
mod postgres;
mod registry;
mod small_disk;

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use crate::{
    support::{Addresses, Fixture, Group, Running, contract},
    telemetry::{OFFSETS, STREAM, assert_all_landed, produce, topic},
};

/// Small batches, so that one is always under way, and a group that after six seconds takes the
/// partitions from a member that does not poll.
const CONSUME: [&str; 7] = [
    "consume",
    "--batch-rows",
    "200",
    "--kafka-property",
    "max.poll.interval.ms=6000",
    "--kafka-property",
    "session.timeout.ms=6000",
];

/// Longer than that.
const LONG: Duration = Duration::from_secs(7);

/// So many events on three partitions of other services than those of `make test`.
fn produced_on(addresses: Addresses, events: i64) -> Fixture {
    let fixture = Fixture::on(addresses).and_partitions(STREAM, contract(STREAM), 3);
    fixture.run(&produce(&events.to_string())).success();
    fixture
}

/// The only member of a consumer group.
struct Member<'f> {
    fixture: &'f Fixture,
    running: Running,
    group: Group,
    /// Its name in the group, which is another one whenever it joins.
    id: Vec<String>,
}

impl Member<'_> {
    /// One that has joined a stream's group.
    fn of<'f>(fixture: &'f Fixture, stream: &'static str, running: Running) -> Member<'f> {
        let group = fixture.group(stream);
        Member { fixture, running, id: group.members(), group }
    }

    /// Starts it. Once it has accounted for so many offsets it waits in the middle of a batch,
    /// until the second value is dropped.
    fn held_at<'f>(
        fixture: &'f Fixture,
        offsets: i64,
        environment: &[(&str, &str)],
    ) -> (Member<'f>, PgConnection) {
        let held = fixture.hold_at(offsets);
        let running = fixture.start_with(&CONSUME, environment);
        fixture.wait_until_held();
        (Member::of(fixture, STREAM, running), held)
    }

    /// Looks on for longer than the group waits for a member that does not poll.
    #[track_caller]
    fn outlasts_max_poll_interval(&mut self) {
        let since = Instant::now();
        self.running.wait_for("end of the outage", || since.elapsed() > LONG);
        assert_eq!(self.group.members(), self.id, "it joined anew: {}", self.running.log());
    }

    /// Waits until everything has landed, once and by this member.
    #[track_caller]
    fn lands_everything(mut self) {
        let sent: i64 =
            self.fixture.watermarks(&topic(self.fixture)).iter().map(|(_, end)| end).sum();
        self.fixture.wait_until(OFFSETS, |offsets| offsets == sent);
        assert_eq!(self.group.members(), self.id, "it joined anew: {}", self.running.log());
        assert_eq!(self.running.terminate(), Some(0), "{}", self.running.log());
        let log = self.running.log();
        assert_eq!(log.matches("partitions assigned").count(), 1, "{log}");
        assert_all_landed(self.fixture);
    }
}
