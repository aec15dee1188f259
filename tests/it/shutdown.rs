//! Ending in order: what is in hand is finished and committed, and the exit code is 0.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::{
    support::{Fixture, PATIENCE, framed, readings},
    telemetry::{self, STREAM, assert_all_landed, produced},
};

#[test]
fn sigterm_commits_what_has_landed_so_that_nothing_is_read_again() {
    let events = 20_000;
    let fixture = produced(events);
    let held = fixture.hold_at(events / 10);
    let mut running = fixture.start(&["consume", "--batch-rows", "250"]);
    fixture.wait_until_held();
    let before = fixture.ledger().offsets;
    assert!((events / 10..events).contains(&before), "told to stop after {before}");
    running.ask_to_end();
    running.wait_for_log("stopping: ");
    drop(held);
    assert_eq!(running.wait(), Some(0), "{}", running.log());
    let landed = fixture.ledger().offsets;
    // the batch that was held is finished, and the rest is left
    assert!((before + 1..events).contains(&landed), "{before}, then {landed} of {events}");
    let ledger = fixture.rows("SELECT next_offset FROM ledger ORDER BY partition");
    let next: Vec<i64> = ledger.iter().map(|row| row["next_offset"].as_i64().unwrap()).collect();
    // of a partition of which nothing has landed, nothing is committed
    let committed = fixture.committed(STREAM).into_iter().map(Option::unwrap_or_default);
    assert_eq!(committed.collect::<Vec<_>>(), next);

    let rest = fixture.run(&["consume", "--exit-when-drained"]).success();
    assert_eq!(numbers(&rest).iter().sum::<i64>(), events - landed, "{rest}");
    assert_all_landed(&fixture);
}

#[test]
fn a_duration_ends_the_run_by_itself() {
    let fixture = produced(100);
    let started = Instant::now();
    fixture.run(&["consume", "--duration", "2s"]).success();
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    // what it got done in that time is the machine's matter
    fixture.drain();
    assert_all_landed(&fixture);
}

#[test]
fn an_empty_topic_is_drained_and_lands_nothing() {
    let fixture = telemetry::empty();
    let stdout = fixture.run(&["consume", "--exit-when-drained"]).success();
    assert_eq!(stdout, format!("{STREAM}: 0 inserted, 0 duplicates, 0 dead letters\n"));
}

#[test]
fn events_of_an_aborted_transaction_never_were_and_their_offsets_are_skipped() {
    let fixture = Fixture::with_stream(readings());
    transactions(&fixture, &[(2, true), (3, false), (2, true)]);
    fixture.drain();
    // what the broker gives a reader of committed events
    let committed = fixture.read_topic(&fixture.topic());
    let names = fixture.rows("SELECT device FROM readings ORDER BY device");
    assert_eq!(names, ["0.0", "0.1", "2.0", "2.1"].map(|device| json!({"device": device})));
    let ledger = fixture.ledger();
    assert_eq!(ledger.inserted, 4);
    assert_eq!(ledger.offsets, committed.last().unwrap().offset + 1);
    assert_eq!(ledger.skipped, ledger.offsets - i64::try_from(committed.len()).unwrap());
    assert!(ledger.skipped > 3, "the control records are offsets too: {ledger:?}");
    assert_eq!((ledger.duplicate, ledger.dead_lettered), (0, 0));

    fixture.drain();
    assert_eq!(fixture.ledger(), ledger);
}

/// One transaction after the other, each of so many events, committed or aborted.
fn transactions(fixture: &Fixture, transactions: &[(usize, bool)]) {
    let producer: BaseProducer =
        fixture.client().set("transactional.id", &fixture.prefix).create().unwrap();
    let (topic, schema_id) = (fixture.topic(), fixture.schema_id(&fixture.topic()));
    producer.init_transactions(PATIENCE).unwrap();
    for (number, (events, commit)) in transactions.iter().enumerate() {
        producer.begin_transaction().unwrap();
        for event in 0..*events {
            let device = format!("{number}.{event}");
            let event = json!({
                "event_id": uuid::Uuid::new_v4().to_string(), "device": device, "ts": 1_000, "value": 1.0,
            });
            let value = framed(schema_id, &readings(), event);
            let record = BaseRecord::to(&topic).key("k").payload(&value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        match commit {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
}

/// The numbers of a line that `consume` prints.
fn numbers(line: &str) -> Vec<i64> {
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}
