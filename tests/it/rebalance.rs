//! Members that come and go cost nothing: no event is lost or counted twice, no partition stands still.

use std::time::{Duration, Instant};

use crate::{
    proxy::Proxy,
    support::{Fixture, Running, contract, variable},
    telemetry::{OFFSETS, STREAM, assert_all_landed, produce, produced, topic},
};

/// A partition of the topic goes on within so long after each change.
const STANDSTILL: Duration = Duration::from_secs(60);

/// How long the group misses a member that was killed, or that hangs.
const SESSION: Duration = Duration::from_secs(6);

const CONSUME: [&str; 5] =
    ["consume", "--batch-rows", "100", "--kafka-property", "session.timeout.ms=6000"];

/// How a member leaves.
#[derive(Debug, Clone, Copy)]
enum Leave {
    /// SIGTERM: it says good-bye.
    InOrder,
    /// SIGKILL: the group has to miss it.
    Killed,
    /// SIGSTOP for longer than a session, then SIGCONT: it wakes up with a batch of partitions
    /// that are another's by now. It joins again by itself.
    Hangs,
}

#[test]
fn twenty_joins_and_leaves_under_load_lose_nothing_and_double_nothing() {
    use Leave::{Hangs, InOrder, Killed};
    let fixture = Fixture::with_partitions(STREAM, contract(STREAM), 6);
    let load = [&produce("1000000")[..], &["--rate", "300"]].concat();
    let mut load = fixture.start(&load);
    let mut group = Group { fixture: &fixture, members: Vec::new() };
    // joins up to four members; those that hang join a second time
    group.join();
    group.join();
    for (joins, leave) in [
        (2, InOrder),
        (1, Killed),
        (1, Hangs),
        (0, Killed),
        (0, InOrder),
        (2, Hangs),
        (0, Killed),
        (1, InOrder),
        (0, Killed),
    ] {
        (0..joins).for_each(|_| group.join());
        group.leave(leave);
    }
    assert_eq!(load.terminate(), Some(0), "{}", load.log());
    let sent: i64 = fixture.watermarks(&topic(&fixture)).iter().map(|(_, end)| end).sum();
    fixture.wait_until(OFFSETS, |offsets| offsets == sent);
    for mut member in group.members {
        assert_eq!(member.terminate(), Some(0), "{}", member.log());
    }
    println!("{sent} events over twenty joins and leaves");
    assert_all_landed(&fixture);
}

/// The members of one consumer group.
struct Group<'f> {
    fixture: &'f Fixture,
    members: Vec<Running>,
}

impl Group<'_> {
    fn join(&mut self) {
        self.members.push(self.fixture.start(&CONSUME));
        assert!(self.members.len() <= 4);
        self.every_partition_goes_on("a join");
    }

    /// The oldest member leaves, and one that only hung is the youngest after that.
    fn leave(&mut self, leave: Leave) {
        let mut member = self.members.remove(0);
        match leave {
            Leave::InOrder => assert_eq!(member.terminate(), Some(0), "{}", member.log()),
            Leave::Killed => member.kill(),
            Leave::Hangs => {
                member.signal("STOP");
                let since = Instant::now();
                member.wait_for("end of its session", || since.elapsed() > SESSION);
            }
        }
        self.every_partition_goes_on(&format!("{leave:?}"));
        if let Leave::Hangs = leave {
            member.signal("CONT");
            self.members.push(member);
            self.every_partition_goes_on("it woke up");
        }
    }

    /// Waits until each partition's account is further than it is now.
    #[track_caller]
    fn every_partition_goes_on(&self, change: &str) {
        let since = Instant::now();
        let now = self.fixture.rows("SELECT partition, next_offset FROM ledger");
        let now: Vec<String> = now
            .iter()
            .map(|row| format!("({}, {})", row["partition"], row["next_offset"]))
            .collect();
        // a partition that has no account yet begins with its first
        let further = match now.is_empty() {
            true => "SELECT count(*) FROM ledger".to_owned(),
            false => format!(
                "SELECT 6 - count(*) FROM ledger JOIN (VALUES {}) AS before (partition, next_offset) \
                 USING (partition) WHERE ledger.next_offset <= before.next_offset",
                now.join(", ")
            ),
        };
        self.fixture.wait_until(&further, |partitions| partitions == 6);
        let standstill = since.elapsed();
        assert!(standstill < STANDSTILL, "after {change}: {standstill:?}");
    }
}

#[test]
fn a_batch_in_hand_is_finished_before_its_partitions_go_to_a_member_that_joins() {
    let events = 6_000;
    let fixture = produced(events);
    let held = fixture.hold_at(events / 3);
    let mut first = fixture.start(&CONSUME);
    fixture.wait_until_held();
    let mut second = fixture.start(&CONSUME);
    let group = fixture.group(STREAM);
    second.wait_for("second member", || group.members().len() == 2);
    assert!(!second.log().contains("partitions assigned"), "{}", second.log());
    drop(held);
    second.wait_for_log("partitions assigned");
    fixture.wait_until(OFFSETS, |offsets| offsets == events);
    for member in [&mut first, &mut second] {
        assert_eq!(member.terminate(), Some(0), "{}", member.log());
        assert!(!member.log().contains("while a batch was being written"), "{}", member.log());
    }
    assert_all_landed(&fixture);
}

#[test]
fn a_batch_that_waits_for_postgres_is_left_to_the_member_that_gets_its_partition() {
    let events = 6_000;
    let fixture = produced(events);
    let (proxy, url) = Proxy::before_postgres(&variable("DATABASE_URL"));
    let held = fixture.hold_at(events / 3);
    let mut first = fixture.start_with(&CONSUME, &[("DATABASE_URL", &url)]);
    fixture.wait_until_held();
    proxy.cut();
    drop(held);
    first.wait_for_log("waiting for Postgres");
    // Postgres answers this one
    let mut second = fixture.start(&CONSUME);
    second.wait_for_log("partitions assigned");
    proxy.mend();
    fixture.wait_until(OFFSETS, |offsets| offsets == events);
    for member in [&mut first, &mut second] {
        assert_eq!(member.terminate(), Some(0), "{}", member.log());
    }
    assert_all_landed(&fixture);
}

#[test]
fn a_member_that_is_frozen_in_the_middle_of_a_copy_keeps_no_partition_still_for_a_minute() {
    let events = 6_000;
    let fixture = produced(events);
    let (proxy, url) = Proxy::before_postgres(&variable("DATABASE_URL"));
    // in the middle of the first batch: only rows are as much, and one has twice as many
    proxy.freeze_after(80_000);
    let slow = ["consume", "--batch-time", "10s", "--batch-rows", "2000", "--sink-tasks", "1"];
    let mut frozen = fixture.start_with(&slow, &[("DATABASE_URL", &url)]);
    frozen.wait_for("COPY that goes no further", || proxy.frozen() > 0);
    // Postgres does not see it go
    frozen.kill();
    let since = Instant::now();
    let mut other = fixture.start(&CONSUME);
    fixture.wait_until(OFFSETS, |offsets| offsets == events);
    let standstill = since.elapsed();
    assert!(standstill < STANDSTILL, "{standstill:?}");
    assert_eq!(other.terminate(), Some(0), "{}", other.log());
    assert!(other.log().contains("a frozen session kept us waiting"), "{}", other.log());
    assert_all_landed(&fixture);
}
