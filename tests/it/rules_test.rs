//! `rules test`: what a contract would change about rows and dead letters, to the last one.

use serde_json::{Value as Json, json};

use crate::{
    avro::{id, reading},
    support::{Fixture, readings},
};

/// 2026-05-01T12:00:00Z.
const NOON: i64 = 1_777_636_800_000;

const SINCE: &str = "2026-05-01T00:00:00Z";

/// A contract that refuses what is below one limit, and calls high what is above another.
fn limited(low: f64, high: f64) -> Json {
    let mut contract = readings();
    contract["sluicegate"]["params"] = json!({"low": low, "high": high});
    contract["sluicegate"]["rules"] =
        json!([{"name": "is_high_enough", "check": "message.value >= params.low"}]);
    contract["sluicegate"]["labels"] =
        json!([{"name": "is_high", "type": "boolean", "value": "message.value > params.high"}]);
    contract
}

/// A stream of 1,000 readings, with the values 0 to 99 ten times each.
fn landed(contract: Json) -> Fixture {
    let fixture = Fixture::with_stream(contract);
    let schema = fixture.schema_id(&fixture.topic());
    let event = |n: u64| reading(schema, &id(n), NOON + n as i64 * 1_000, (n % 100) as f64);
    fixture.send_values(&fixture.topic(), &(0..1_000).map(event).collect::<Vec<_>>());
    fixture.run(&["consume", "--exit-when-drained", "--no-breaker"]).success();
    fixture
}

fn test(fixture: &Fixture, more: &[&str]) -> String {
    fixture.run(&[&["rules", "test", "readings", "--since", SINCE], more].concat()).success()
}

#[test]
fn tightened_rules_and_labels_are_counted_over_the_rows_that_landed() {
    let mut fixture = landed(limited(0.0, 80.0));
    insta::assert_snapshot!(test(&fixture, &[]), @"");

    fixture.stream("readings", limited(5.0, 60.0));
    insta::assert_snapshot!(test(&fixture, &["--examples", "1"]), @"");
    // of the last 100 events only, with a tunable in place of a change of the contract
    let since = "2026-05-01T12:15:00Z";
    let until = "2026-05-01T12:16:00Z";
    let args = ["rules", "test", "readings", "--since", since, "--until", until, "--json"];
    let json = fixture.run(&[&args[..], &["--param", "readings.low=50"]].concat()).success();
    let report: Json = serde_json::from_str(&json).unwrap();
    assert_eq!(report["rows"], 60);
    assert_eq!(report["refused_rows"]["rule:is_high_enough"]["count"], 50);

    // a private value is not an example's
    let mut private = limited(5.0, 60.0);
    private["sluicegate"]["private"] = json!(["value"]);
    private["sluicegate"]["aggregates"] = json!([]);
    fixture.stream("readings", private);
    insta::assert_snapshot!(test(&fixture, &["--examples", "1"]), @"");
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 1_000);
}

#[test]
fn a_loosened_rule_says_how_many_dead_letters_would_pass_and_replay_agrees() {
    let mut fixture = landed(limited(10.0, 80.0));
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_events"), 100);
    fixture.send(&fixture.topic(), None, None);
    fixture.run(&["consume", "--exit-when-drained", "--no-breaker"]).success();
    fixture.run(&["dlq", "park", "--id", "1", "--note", "later"]);

    fixture.stream("readings", limited(4.0, 80.0));
    insta::assert_snapshot!(test(&fixture, &[]), @"");
    insta::assert_snapshot!(fixture.run(&["dlq", "replay", "--dry-run"]).success(), @"");
}
