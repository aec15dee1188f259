//! What Kafka deleted before it was read is a gap with its exact range; what a restored database
//! lacks is read again.

use serde_json::{Value as Json, json};

use crate::{
    services::free_port,
    support::{Fixture, Ledger, readings},
};

const GAPS: &str = "SELECT partition, first_offset, end_offset, accepted_at FROM ledger_gaps";

/// Sends events `from` to `to`, one offset each.
fn produce(fixture: &Fixture, from: u64, to: u64) {
    let row = |n| json!({"event_id": uuid::Uuid::from_u64_pair(7, n), "device": "d", "ts": 1_777_636_800_000 + n, "value": 1});
    fixture.produce("readings", &(from..to).map(row).collect::<Vec<Json>>());
}

fn rows(fixture: &Fixture) -> i64 {
    fixture.number("SELECT count(*) FROM readings")
}

#[test]
fn offsets_that_expired_before_they_were_read_are_a_gap_with_its_exact_range() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 0, 10);
    fixture.drain();
    produce(&fixture, 10, 50);
    fixture.expire(&fixture.topic(), 37);
    let ran = fixture.drain();
    let said = "Kafka deleted offsets 10 to 36 of";
    assert!(ran.stderr.contains(said) && ran.stderr.contains("ERROR"), "{}", ran.stderr);
    let gap = json!({"partition": 0, "first_offset": 10, "end_offset": 37, "accepted_at": null});
    assert_eq!(fixture.rows(GAPS), std::slice::from_ref(&gap));
    assert_eq!(rows(&fixture), 23);
    let account = &fixture.rows("SELECT next_offset, inserted, expired FROM ledger")[0];
    assert_eq!(account, &json!({"next_offset": 50, "inserted": 23, "expired": 27}));
    // and it is said once
    fixture.drain();
    assert_eq!(fixture.rows(GAPS), [gap]);
    let stats: Json = serde_json::from_str(&fixture.run(&["stats", "--json"]).success()).unwrap();
    assert_eq!((&stats[0]["expired"], &stats[0]["total"]), (&json!(27), &json!(50)));
}

#[test]
fn a_stream_that_is_to_stop_at_a_gap_stops_and_names_it() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 0, 10);
    fixture.drain();
    produce(&fixture, 10, 20);
    fixture.expire(&fixture.topic(), 15);
    let stop = ["consume", "--exit-when-drained", "--on-gap", "stop"];
    let error = fixture.run(&stop).one_clear_error();
    let expected = format!(
        "error: readings: Kafka deleted offsets 10 to 14 of \"{}\" partition 0 before they were \
         read; start with --on-gap skip to record that and go on",
        fixture.topic()
    );
    assert_eq!(error, expected);
    assert_eq!((fixture.rows(GAPS), rows(&fixture)), (vec![], 10));
}

#[test]
fn a_consumer_that_retention_overtakes_lands_what_it_has_and_names_the_rest() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 0, 60);
    let held = fixture.hold("LOCK TABLE readings");
    let address = format!("127.0.0.1:{}", free_port());
    let consume = ["consume", "--batch-rows", "10", "--metrics-listen", &address];
    let mut running = fixture.start(&consume);
    // it has its fill, and fetches nothing more
    running.wait_for_log("back-pressure");
    produce(&fixture, 60, 200);
    fixture.expire(&fixture.topic(), 190);
    drop(held);
    fixture.wait_until("SELECT coalesce(sum(next_offset), 0) FROM ledger", |next| next == 200);
    let shown = fixture.metrics(&address);
    assert_eq!(running.terminate(), Some(0));
    let gap = &fixture.rows(GAPS)[0];
    let (first, end) = (gap["first_offset"].as_i64().unwrap(), gap["end_offset"].as_i64().unwrap());
    assert!((20..=60).contains(&first) && end == 190, "{gap}");
    // what had been read when the rest went is there
    assert_eq!(rows(&fixture), first + 10);
    let expired = end - first;
    assert_eq!(fixture.number("SELECT sum(expired) FROM ledger"), expired);
    let expired = format!("sluicegate_expired_offsets_total{{stream=\"readings\"}} {expired}");
    assert!(shown.lines().any(|line| line == expired), "no {expired}: {shown}");
}

#[test]
fn what_a_restored_database_lacks_is_read_again() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 0, 30);
    fixture.drain();
    // a backup is put back: of before the last twenty
    fixture.sql(
        "DELETE FROM readings WHERE ts >= '2026-05-01 12:00:00.010+00';
         UPDATE ledger SET next_offset = 10, inserted = 10;
         UPDATE agg_readings_minute SET count = 10, value_sum = 10",
    );
    assert_eq!(rows(&fixture), 10);
    let ran = fixture.drain();
    assert!(ran.stderr.contains("reading again from offset 10"), "{}", ran.stderr);
    let ledger = Ledger { inserted: 30, duplicate: 0, dead_lettered: 0, skipped: 0, offsets: 30 };
    assert_eq!((rows(&fixture), fixture.ledger()), (30, ledger));
    assert_eq!(fixture.number("SELECT sum(count) FROM agg_readings_minute"), 30);
    assert_eq!(fixture.committed("readings"), [Some(30)]);
}

#[test]
fn what_a_database_lacks_that_was_restored_under_a_running_consumer_is_read_again() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 0, 30);
    let mut running = fixture.start(&["consume"]);
    let next = "SELECT coalesce(sum(next_offset), 0) FROM ledger";
    fixture.wait_until(next, |next| next == 30);
    fixture.sql("DELETE FROM readings; UPDATE ledger SET next_offset = 0, inserted = 0");
    produce(&fixture, 30, 40);
    fixture.wait_until(next, |next| next == 40);
    assert_eq!(rows(&fixture), 40);
    assert!(running.log().contains("the ledger was put back"), "{}", running.log());
    assert_eq!(running.terminate(), Some(0));
    assert_eq!(fixture.committed("readings"), [Some(40)]);
}
