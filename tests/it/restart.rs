//! kill -9 at any moment: what landed stays, the rest is read again, and the account adds up.

use serde_json::Value as Json;

use crate::{
    support::Fixture,
    telemetry::{STREAM, assert_all_landed, produce, produced, topic},
};

#[test]
fn killed_in_the_middle_again_and_again_it_lands_every_event_once() {
    let events = 30_000;
    let fixture = produced(events);
    // a member that is killed is missed for so long, unless it comes back under its own name
    let member = ["--kafka-property", "group.instance.id=the-killed-one"];
    for percent in [1, 25, 55] {
        let consume = [&["consume", "--batch-rows", "500"][..], &member].concat();
        let held = fixture.hold_at(events * percent / 100);
        let mut running = fixture.start(&consume);
        fixture.wait_until_held();
        running.kill();
        let landed = fixture.ledger().offsets;
        assert!((events * percent / 100..events).contains(&landed), "killed after {landed}");
        drop(held);
    }
    let drain = [&["consume", "--exit-when-drained"][..], &member].concat();
    fixture.run(&drain).success();
    assert_all_landed(&fixture);
}

#[test]
fn another_process_takes_over_from_one_that_was_killed() {
    let events = 10_000;
    let fixture = produced(events);
    let timeout = ["--kafka-property", "session.timeout.ms=6000"];
    let held = fixture.hold_at(events / 5);
    let mut killed = fixture.start(&[&["consume", "--batch-rows", "100"][..], &timeout].concat());
    fixture.wait_until_held();
    killed.kill();
    let landed = fixture.ledger().offsets;
    assert!((events / 5..events).contains(&landed), "killed after {landed}");
    drop(held);
    fixture.drain();
    assert_all_landed(&fixture);
}

#[test]
fn an_event_that_is_not_in_the_database_is_not_committed_to_kafka() {
    let fixture = produced(1_000);
    fixture.drain();
    let before = fixture.committed(STREAM);
    fixture.run(&produce("3000")).success();
    let member = ["--kafka-property", "group.instance.id=the-killed-one"];
    let waiting = fixture.hold("SELECT FROM ledger WHERE partition = 0 FOR UPDATE");
    let mut running = fixture.start(&[&["consume", "--batch-rows", "100"][..], &member].concat());
    // the other sink task goes on, and with its offsets all are committed that have landed
    let (_, end) = fixture.watermarks(&topic(&fixture))[1];
    let group = fixture.group(STREAM);
    running.wait_for("partition 1", || group.committed()[1] == Some(end));
    running.kill();
    assert_eq!(fixture.committed(STREAM)[0], before[0]);
    drop(waiting);
    fixture.run(&[&["consume", "--exit-when-drained"][..], &member].concat()).success();
    assert_all_landed(&fixture);
}

#[test]
fn a_crash_between_the_databases_commit_and_kafkas_changes_nothing() {
    let fixture = produced(3_000);
    fixture.drain();
    assert_all_landed(&fixture);
    let before = everything(&fixture);
    let ends: Vec<i64> = fixture.committed(STREAM).into_iter().map(Option::unwrap).collect();
    for crashed_at in [vec![0, 0, 0], ends.iter().map(|end| end / 2).collect()] {
        fixture.commit(STREAM, &crashed_at);
        let stdout = fixture.run(&["consume", "--exit-when-drained"]).success();
        assert_eq!(stdout, format!("{STREAM}: 0 inserted, 0 duplicates, 0 dead letters\n"));
        assert!(everything(&fixture) == before, "redelivered events changed something");
        let committed: Vec<i64> =
            fixture.committed(STREAM).into_iter().map(Option::unwrap).collect();
        assert_eq!(committed, ends, "not all was read again");
    }
}

#[test]
fn redelivered_and_new_events_in_one_batch_are_told_apart() {
    let fixture = produced(2_000);
    fixture.drain();
    let ends: Vec<i64> = fixture.committed(STREAM).into_iter().map(Option::unwrap).collect();
    fixture.commit(STREAM, &ends.iter().map(|end| end - 100).collect::<Vec<_>>());
    fixture.run(&produce("1000")).success();
    fixture.drain();
    assert_all_landed(&fixture);
}

/// All that a batch writes.
fn everything(fixture: &Fixture) -> Vec<Vec<Json>> {
    [
        "SELECT * FROM device_telemetry ORDER BY event_id",
        "SELECT * FROM agg_device_telemetry_minute ORDER BY minute, zone, kpi",
        "SELECT * FROM dlq_events ORDER BY id",
        "SELECT partition, first_offset, next_offset, inserted, duplicate, dead_lettered, skipped \
         FROM ledger ORDER BY partition",
    ]
    .map(|query| fixture.rows(query))
    .into()
}
