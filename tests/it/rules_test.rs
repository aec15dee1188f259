//! `rules test`: what a contract would change about rows and dead letters, to the last one.

use serde_json::{Value as Json, json};

use crate::{
    avro::{id, reading},
    support::{Fixture, readings, repository},
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

fn dry_run(fixture: &Fixture) -> String {
    let args = ["dlq", "replay", "--dry-run", "--status", "pending", "--status", "parked"];
    fixture.run(&args).success()
}

fn test(fixture: &Fixture, more: &[&str]) -> String {
    fixture.run(&[&["rules", "test", "readings", "--since", SINCE], more].concat()).success()
}

#[test]
fn tightened_rules_and_labels_are_counted_over_the_rows_that_landed() {
    let mut fixture = landed(limited(0.0, 80.0));
    insta::assert_snapshot!(test(&fixture, &[]), @r#"
    readings since 2026-05-01 00:00 UTC: 1000 rows, 0 dead letters
    rows that would be refused: 0
    labels that would change: 0
    dead letters that would pass: 0
    dead letters that would still fail: 0
    "#);

    fixture.stream("readings", limited(5.0, 60.0));
    insta::assert_snapshot!(test(&fixture, &["--examples", "1"]), @r#"
    readings since 2026-05-01 00:00 UTC: 1000 rows, 0 dead letters
    rows that would be refused: 50
            50  rule:is_high_enough
                00000000-0000-0000-0000-000000000000 value=0.0
    labels that would change: 200
           200  is_high: false -> true
                00000000-0000-0000-0000-00000000003d value=61.0
    dead letters that would pass: 0
    dead letters that would still fail: 0
    "#);
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
    insta::assert_snapshot!(test(&fixture, &["--examples", "1"]), @r#"
    readings since 2026-05-01 00:00 UTC: 1000 rows, 0 dead letters
    rows that would be refused: 50
            50  rule:is_high_enough
                00000000-0000-0000-0000-000000000000 value=***
    labels that would change: 200
           200  is_high: "***" -> "***"
                00000000-0000-0000-0000-00000000003d value=***
    dead letters that would pass: 0
    dead letters that would still fail: 0
    "#);
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 1_000);
}

#[test]
fn a_loosened_rule_says_how_many_dead_letters_would_pass_and_replay_agrees() {
    let mut fixture = landed(limited(10.0, 80.0));
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_events"), 100);
    fixture.send(&fixture.topic(), None, None);
    fixture.run(&["consume", "--exit-when-drained", "--no-breaker"]).success();
    fixture.run(&["dlq", "park", "--id", "1", "--because", "later"]).success();

    fixture.stream("readings", limited(4.0, 80.0));
    insta::assert_snapshot!(test(&fixture, &[]), @r#"
    readings since 2026-05-01 00:00 UTC: 900 rows, 101 dead letters
    rows that would be refused: 0
    labels that would change: 0
    dead letters that would pass: 60
            60  check rule:is_high_enough
    dead letters that would still fail: 41
            40  check rule:is_high_enough
             1  wire tombstone
    "#);
    insta::assert_snapshot!(dry_run(&fixture), @r#"
    readings: 101 letters, 60 would land, 41 would be refused
            40  check rule:is_high_enough
             1  wire tombstone
    "#);
}

#[test]
fn a_row_of_every_type_is_turned_back_into_the_event_that_it_was() {
    let text = std::fs::read_to_string(repository("fuzz/everything.avsc")).unwrap();
    let mut contract: Json = serde_json::from_str(&text).unwrap();
    let label = |(name, kind, value): &(&str, &str, &str)| json!({"name": format!("label_{name}"), "type": kind, "value": value});
    let labels = [
        ("number", "double", "message.number"),
        ("single", "double", "message.single"),
        ("small", "long", "message.small"),
        ("large", "long", "message.large"),
        ("flag", "boolean", "message.flag"),
        ("text", "string", "message.text"),
        ("bytes", "long", "size(message.bytes)"),
        ("fixed", "long", "size(message.fixed)"),
        ("kind", "string", "message.kind"),
        ("at", "string", "string(message.at)"),
        ("at_nanos", "long", "message.at_nanos.getMilliseconds()"),
        ("local", "string", "string(message.local)"),
        ("day", "string", "string(message.day)"),
        ("of_day", "string", "string(message.of_day)"),
        ("lasting", "long", "message.lasting.months * 1000 + message.lasting.days"),
        ("lasting_millis", "long", "message.lasting.millis"),
        ("exact", "double", "message.exact"),
        ("big", "double", "message.big"),
        ("items", "string", "size(message.items) > 0 ? message.items[0] : 'none'"),
        ("nested", "long", "size(message.nested)"),
        ("inner", "boolean", "message.inner.flag"),
        ("pairs", "boolean", "message.inner.pairs.exists(p, p.left != null && p.left > 0.5)"),
    ];
    contract["sluicegate"]["rules"] = json!([]);
    contract["sluicegate"]["labels"] = labels.iter().map(label).collect();
    let mut fixture = Fixture::with_partitions("everything", contract.clone(), 1);
    fixture.run(&["produce", "everything", "--count", "300"]).success();
    fixture.run(&["consume", "--exit-when-drained"]).success();
    assert_eq!(fixture.number("SELECT count(*) FROM everything"), 300);
    let report = |fixture: &Fixture| -> Json {
        let args = ["rules", "test", "everything", "--since", "1970-01-01T00:00:00Z", "--json"];
        serde_json::from_str(&fixture.run(&args).success()).unwrap()
    };
    let unchanged = report(&fixture);
    assert_eq!(unchanged["rows"], 300);
    assert_eq!(unchanged["unreadable_rows"], json!({}));
    assert_eq!(unchanged["refused_rows"], json!({}));
    assert_eq!(unchanged["labels"], json!({}), "{unchanged:#}");

    // which branch of its union a value was of is not in the table, and not guessed
    contract["sluicegate"]["rules"] =
        json!([{"name": "choice", "check": "message.choice == null || message.choice != 'x'"}]);
    fixture.stream("everything", contract);
    let known = fixture.number("SELECT count(*) FROM everything WHERE choice IS NOT NULL");
    assert_eq!(report(&fixture)["unreadable_rows"], json!({"choice": known}));
    assert!(known > 0);
}
