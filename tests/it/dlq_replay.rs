//! Dead letters that are replayed: what passes by today's rules lands once, and everything still adds up.

use std::{collections::BTreeMap, process::Stdio};

use serde_json::{Value as Json, json};

use crate::{
    avro::{id, reading},
    support::{Fixture, Ran, readings},
};

/// 2026-05-01T12:00:00Z.
const NOON: i64 = 1_777_636_800_000;

/// A contract whose rule refuses what is below a limit.
fn limited(limit: f64) -> Json {
    let mut contract = readings();
    contract["sluicegate"]["rules"] =
        json!([{"name": "value_is_high_enough", "check": format!("message.value >= {limit:?}")}]);
    contract
}

/// Events of these ids and values, ten to a minute.
fn send(fixture: &Fixture, events: impl IntoIterator<Item = (u64, f64)>) {
    let schema = fixture.schema_id(&fixture.topic());
    let at = |n: u64| NOON + i64::try_from(n / 10).unwrap() * 60_000;
    let values: Vec<_> =
        events.into_iter().map(|(n, value)| reading(schema, &id(n), at(n), value)).collect();
    fixture.send_values(&fixture.topic(), &values);
}

fn consume(fixture: &Fixture) {
    fixture.run(&["consume", "--exit-when-drained", "--no-breaker"]).success();
}

fn replay(fixture: &Fixture, args: &[&str]) -> String {
    fixture.run(&[&["dlq", "replay", "--who", "me"], args].concat()).success()
}

/// The contract as it is from now on.
fn change(fixture: &mut Fixture, contract: Json) {
    fixture.stream("readings", contract);
    fixture.run(&["register"]).success();
}

#[track_caller]
fn assert_sound(fixture: &Fixture) {
    let audit = fixture.run(&["audit", "--drained"]);
    assert_eq!(audit.code, 0, "{}{}", audit.stdout, audit.stderr);
    fixture.run(&["aggregates", "verify"]).success();
}

fn statuses(fixture: &Fixture) -> BTreeMap<String, i64> {
    let rows = fixture.rows("SELECT status, count(*) FROM dlq_events GROUP BY 1");
    rows.iter()
        .map(|row| (row["status"].as_str().unwrap().to_owned(), row["count"].as_i64().unwrap()))
        .collect()
}

/// Everything that a replay may change.
fn everything(fixture: &Fixture) -> Vec<Json> {
    [
        "SELECT * FROM readings ORDER BY event_id",
        "SELECT * FROM agg_readings_minute ORDER BY 1, 2",
        "SELECT * FROM dlq_events ORDER BY id",
        "SELECT * FROM dlq_history ORDER BY id",
        "SELECT * FROM ledger ORDER BY partition",
    ]
    .iter()
    .flat_map(|query| fixture.rows(query))
    .collect()
}

#[test]
fn a_rule_that_was_too_strict_is_loosened_and_exactly_what_it_refused_lands_once() {
    let mut fixture = Fixture::with_stream(limited(10.0));
    // three in a hundred are below 10, and every other of them below 5
    let value = |n: u64| match n % 100 {
        3 | 40 => 7.0,
        77 => 2.0,
        _ => 50.0 + (n % 40) as f64,
    };
    send(&fixture, (0..10_000).map(|n| (n, value(n))));
    consume(&fixture);
    assert_eq!(fixture.ledger().dead_lettered, 300);
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 9_700);
    let listed = fixture.run(&["dlq", "list", "--limit", "1000", "--json"]).success();
    assert_eq!(listed.lines().count(), 300);
    let letter: Json = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    let explained = fixture.run(&["dlq", "explain", &letter["id"].to_string()]).success();
    assert!(explained.contains("message.value >= 10.0"), "{explained}");
    // by the same rule they are refused again
    let dry = replay(&fixture, &["--dry-run"]);
    insta::assert_snapshot!(dry, @r"
    readings: 300 letters, 0 would land, 300 would be refused
           300  check rule:value_is_high_enough
    ");

    change(&mut fixture, limited(5.0));
    let test = ["rules", "test", "readings", "--since", "2026-01-01T00:00:00Z", "--json"];
    let predicted: Json = serde_json::from_str(&fixture.run(&test).success()).unwrap();
    assert_eq!(predicted["passing_letters"], json!({"check rule:value_is_high_enough": 200}));
    assert_eq!(predicted["failing_letters"], json!({"check rule:value_is_high_enough": 100}));
    assert_eq!((&predicted["rows"], &predicted["refused_rows"]), (&json!(9_700), &json!({})));
    let before = everything(&fixture);
    insta::assert_snapshot!(replay(&fixture, &["--dry-run"]), @r"
    readings: 300 letters, 200 would land, 100 would be refused
           100  check rule:value_is_high_enough
    ");
    assert!(everything(&fixture) == before, "a dry run changes nothing");
    insta::assert_snapshot!(replay(&fixture, &[]), @r"
    readings: 300 letters, 200 landed, 100 refused
           100  check rule:value_is_high_enough
    ");
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 9_900);
    assert_eq!(fixture.number("SELECT count(*) FROM readings WHERE value = 7.0"), 200);
    assert_eq!(
        statuses(&fixture),
        BTreeMap::from([("pending".into(), 100), ("replayed".into(), 200)])
    );
    assert_sound(&fixture);

    // once more changes nothing but that the others were tried
    let rows = "SELECT * FROM readings ORDER BY event_id";
    let landed = fixture.rows(rows);
    insta::assert_snapshot!(replay(&fixture, &[]), @r"
    readings: 100 letters, 0 landed, 100 refused
           100  check rule:value_is_high_enough
    ");
    assert!(fixture.rows(rows) == landed);
    assert_eq!(fixture.number("SELECT max(replays) FROM dlq_events WHERE status = 'pending'"), 2);
    assert_eq!(fixture.number("SELECT max(replays) FROM dlq_events WHERE status = 'replayed'"), 0);
    assert_sound(&fixture);
    // what was replayed is not landed once more by who reads the topic anew, and not counted either
    fixture.drain_again();
    assert!(fixture.rows(rows) == landed);
    assert_sound(&fixture);
}

#[test]
fn two_replays_at_once_and_one_that_is_killed_land_every_letter_once() {
    let mut fixture = Fixture::with_stream(limited(10.0));
    send(&fixture, (0..4_000).map(|n| (n, 1.0)));
    consume(&fixture);
    change(&mut fixture, limited(0.0));
    // the first batch waits with its letters locked, and then its process is gone
    let held = fixture.hold("LOCK TABLE readings IN SHARE MODE");
    let mut killed = fixture.start(&["dlq", "replay"]);
    let waits =
        "SELECT count(*) FROM pg_locks WHERE relation = 'readings'::regclass AND NOT granted";
    fixture.wait_until(waits, |waiting| waiting == 1);
    killed.kill();
    drop(held);
    // its server process lets go of the letters once it has noticed
    let locked = "SELECT count(*) FROM pg_locks WHERE relation = 'dlq_events'::regclass";
    fixture.wait_until(locked, |locks| locks == 0);
    let spawn = |_| {
        let mut command = fixture.command(&["dlq", "replay"]);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let mut both: Vec<_> = (0..2).map(spawn).collect();
    assert!(both.iter_mut().all(|replay| replay.wait().unwrap().success()));
    // what one skipped because the other had it is the other's
    assert_eq!(statuses(&fixture), BTreeMap::from([("replayed".into(), 4_000)]));
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 4_000);
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_history WHERE action = 'replayed'"), 4_000);
    assert_sound(&fixture);
}

#[test]
fn a_letter_that_is_replayed_in_vain_too_often_is_parked_and_waits_again_when_reopened() {
    let mut fixture = Fixture::with_stream(limited(10.0));
    send(&fixture, [(0, 1.0), (1, 20.0)]);
    consume(&fixture);
    for _ in 0..2 {
        replay(&fixture, &["--most-replays", "3"]);
    }
    insta::assert_snapshot!(replay(&fixture, &["--most-replays", "3"]), @r"
    readings: 1 letter, 0 landed, 1 refused, 1 parked
             1  check rule:value_is_high_enough
    ");
    change(&mut fixture, limited(0.0));
    assert_eq!(replay(&fixture, &[]), "no dead letter to replay\n");
    fixture
        .run(&["dlq", "reopen", "--stream", "readings", "--because", "the rule is mended"])
        .success();
    insta::assert_snapshot!(replay(&fixture, &[]), @r"readings: 1 letter, 1 landed, 0 refused");
    let history = fixture.rows("SELECT action, note, who FROM dlq_history ORDER BY id");
    let history: Vec<String> = history
        .iter()
        .map(|row| {
            format!("{}: {}", row["action"].as_str().unwrap(), row["note"].as_str().unwrap())
        })
        .collect();
    insta::assert_snapshot!(history.join("\n"), @r"
    refused: check rule:value_is_high_enough: does not hold: message.value >= 10.0
    refused: check rule:value_is_high_enough: does not hold: message.value >= 10.0
    refused: check rule:value_is_high_enough: does not hold: message.value >= 10.0
    parked: replayed 3 times in vain
    reopened: the rule is mended
    replayed:
    ");
    assert_sound(&fixture);
}

#[test]
fn a_row_that_the_table_refused_lands_once_the_table_takes_it() {
    let fixture = Fixture::with_stream(limited(0.0));
    fixture.sql("ALTER TABLE readings ADD CONSTRAINT small CHECK (value < 100)");
    send(&fixture, (0..50).map(|n| (n, if n % 10 == 3 { 500.0 } else { 5.0 })));
    consume(&fixture);
    insta::assert_snapshot!(replay(&fixture, &["--reason", "check_violation"]), @r"
    readings: 5 letters, 0 landed, 5 refused
             5  land check_violation
    ");
    fixture.sql("ALTER TABLE readings DROP CONSTRAINT small");
    // one of them has landed meanwhile, by another way
    send(&fixture, [(3, 400.0)]);
    consume(&fixture);
    insta::assert_snapshot!(replay(&fixture, &["--reason", "check_violation"]), @r"readings: 5 letters, 5 landed (1 of them had before), 0 refused");
    assert_eq!(fixture.number("SELECT count(*) FROM readings WHERE value = 500"), 4);
    assert_sound(&fixture);
}

#[test]
fn where_the_latest_stands_a_replayed_letter_replaces_only_what_is_older() {
    let contract = |limit: f64| {
        let mut contract = limited(limit);
        contract["sluicegate"]["on_conflict"] = json!("latest");
        contract
    };
    let mut fixture = Fixture::with_stream(contract(10.0));
    let schema = fixture.schema_id(&fixture.topic());
    let at =
        |minute: i64, n: u64, value: f64| reading(schema, &id(n), NOON + minute * 60_000, value);
    fixture.send_values(
        &fixture.topic(),
        &[at(0, 0, 20.0), at(0, 1, 20.0), at(1, 0, 1.0), at(-1, 1, 1.0), at(2, 2, 1.0)],
    );
    consume(&fixture);
    change(&mut fixture, contract(0.0));
    insta::assert_snapshot!(replay(&fixture, &[]), @r"readings: 3 letters, 3 landed (2 of them had before), 0 refused");
    let values = fixture.rows("SELECT value FROM readings ORDER BY event_id");
    assert_eq!(values, [json!({"value": 1}), json!({"value": 20}), json!({"value": 1})]);
    fixture.run(&["aggregates", "verify"]).success();
    assert_sound(&fixture);
}

#[test]
fn an_event_that_was_mended_by_hand_lands_and_the_letter_keeps_its_own() {
    let fixture = Fixture::with_stream(limited(10.0));
    send(&fixture, [(0, 1.0), (1, 2.0)]);
    consume(&fixture);
    let letter = fixture.number("SELECT min(id) FROM dlq_events").to_string();
    let original = fixture.rows("SELECT payload, key, decoded FROM dlq_events ORDER BY id");
    let edit = |script: &str| {
        fixture.run(&[
            "dlq",
            "edit",
            &letter,
            "--who",
            "me",
            "--editor",
            &format!("sed -i '{script}'"),
        ])
    };
    assert_eq!(edit("").success(), "nothing was changed, and nothing is replayed\n");
    let refused = edit("s/1.0/9.0/");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    insta::assert_snapshot!(refused.stdout.replace(&format!("letter {letter} "), "letter N "), @r"letter N is refused: rule:value_is_high_enough: does not hold: message.value >= 10.0");
    let wrong = edit("s/value/valeu/").one_clear_error();
    assert!(wrong.ends_with(": the contract has no field \"valeu\""), "{wrong}");
    // what was written is not lost
    let (_, kept) = wrong.split_once("what you wrote is in ").unwrap();
    let kept = std::path::Path::new(kept.split_once(':').unwrap().0);
    assert!(std::fs::read_to_string(kept).unwrap().contains("valeu"));
    std::fs::remove_dir_all(kept.parent().unwrap()).unwrap();
    let wrong = edit("s/1.0/\"much\"/").one_clear_error();
    assert!(wrong.ends_with("value: expected a double, found \"much\""), "{wrong}");
    assert_eq!(edit("s/1.0/42.5/").success(), format!("letter {letter} landed\n"));
    assert_eq!(fixture.rows("SELECT value FROM readings"), [json!({"value": 42.5})]);
    assert_eq!(fixture.rows("SELECT payload, key, decoded FROM dlq_events ORDER BY id"), original);
    let history = "SELECT action, who, payload IS NOT NULL AS mended FROM dlq_history ORDER BY id";
    let history: Vec<String> = fixture.rows(history).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(history.join("\n"), @r#"
    {"action":"edited","mended":true,"who":"me"}
    {"action":"refused","mended":false,"who":"me"}
    {"action":"edited","mended":true,"who":"me"}
    {"action":"replayed","mended":false,"who":"me"}
    "#);
    let again = edit("s/1.0/43.5/").one_clear_error();
    assert!(again.contains("not waiting any more"), "{again}");
    assert_sound(&fixture);
}

#[test]
fn letters_are_exported_byte_for_byte_parked_discarded_and_purged_and_the_account_adds_up() {
    let fixture = Fixture::with_stream(limited(10.0));
    send(&fixture, (0..6).map(|n| (n, 1.0)));
    fixture.send_with_headers(
        &fixture.topic(),
        Some(b"\xff key"),
        Some(b"no event"),
        &[("h", Some(b"\xfe"))],
    );
    consume(&fixture);
    let folder = tempfile::TempDir::new().unwrap();
    let raw = folder.path().join("raw");
    let lines = fixture.run(&["dlq", "export", "--raw", raw.to_str().unwrap()]).success();
    let lines: Vec<Json> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 7);
    let bytes = |name: String| std::fs::read(raw.join(name)).unwrap();
    let last = lines.last().unwrap();
    assert_eq!((&last["key"], &last["payload"]), (&json!("/yBrZXk="), &json!("bm8gZXZlbnQ=")));
    assert_eq!(bytes(format!("{}.bin", last["id"])), b"no event");
    assert_eq!(bytes(format!("{}.key", last["id"])), b"\xff key");
    let records = fixture.read_topic(&fixture.topic());
    for (line, record) in lines.iter().zip(&records) {
        assert_eq!(Some(bytes(format!("{}.bin", line["id"]))), record.value);
    }

    let run = |args: &[&str]| -> Ran { fixture.run(&[&["dlq"], args].concat()) };
    let nothing = run(&["discard"]).one_clear_error();
    assert!(nothing.starts_with("error: say which: "), "{nothing}");
    let first = lines[0]["id"].to_string();
    assert_eq!(run(&["park", "--id", &first]).success(), "1 parked\n");
    let discard = ["discard", "--stage", "wire", "--because", "no event", "--who", "me"];
    assert_eq!(run(&discard).success(), "1 discarded\n");
    assert_eq!(run(&discard).success(), "0 discarded\n");
    assert_sound(&fixture);
    let old = "UPDATE dlq_events SET seen_at = seen_at - interval '40 days'";
    fixture.sql(old);
    assert_eq!(
        run(&["purge", "--older-than", "720h", "--dry-run"]).success(),
        "1 would be purged\n"
    );
    assert_eq!(run(&["purge", "--older-than", "1000h"]).success(), "0 purged\n");
    assert_eq!(run(&["purge", "--older-than", "720h"]).success(), "1 purged\n");
    let left = fixture.rows(
        "SELECT reason, status, key, payload, headers, detail, decoded FROM dlq_events \
         WHERE purged_at IS NOT NULL",
    );
    let expected = json!({"reason": "bad_magic_byte", "status": "discarded", "key": null,
        "payload": null, "headers": [], "detail": "", "decoded": null});
    assert_eq!(left, [expected]);
    assert_sound(&fixture);
    assert_eq!(run(&["export", "--status", "discarded"]).success(), "");
}

#[test]
fn letters_that_are_sent_to_their_topic_again_are_as_they_were_and_land_by_the_pipeline() {
    let mut fixture = Fixture::with_stream(limited(10.0));
    send(&fixture, (0..5).map(|n| (n, 1.0)));
    consume(&fixture);
    change(&mut fixture, limited(0.0));
    let before = fixture.read_topic(&fixture.topic());
    let sent = replay(&fixture, &["--to-topic"]);
    assert_eq!(sent, format!("readings: 5 sent to {}\n", fixture.topic()));
    let after = fixture.read_topic(&fixture.topic());
    let same = |a: &crate::support::Read, b: &crate::support::Read| {
        (&a.key, &a.value, &a.headers, a.timestamp, a.partition)
            == (&b.key, &b.value, &b.headers, b.timestamp, b.partition)
    };
    assert_eq!(after.len(), 10);
    assert!(after[5..].iter().zip(&before).all(|(sent, first)| same(sent, first)));
    consume(&fixture);
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 5);
    assert_eq!(statuses(&fixture), BTreeMap::from([("replayed".into(), 5)]));
    assert_sound(&fixture);
}

#[test]
fn a_letter_that_is_sent_again_while_its_rule_still_refuses_it_is_a_letter_again() {
    let fixture = Fixture::with_stream(limited(10.0));
    send(&fixture, (0..5).map(|n| (n, 1.0)));
    let mut running = fixture.start(&["consume", "--no-breaker"]);
    fixture.wait_until("SELECT count(*) FROM dlq_events", |letters| letters == 5);
    replay(&fixture, &["--to-topic"]);
    // whether the consumer reads them before or after we hear that they are there
    fixture.wait_until("SELECT coalesce(sum(next_offset), 0) FROM ledger", |next| next == 10);
    assert_eq!(running.terminate(), Some(0));
    assert_eq!(statuses(&fixture), BTreeMap::from([("pending".into(), 5), ("replayed".into(), 5)]));
    assert_sound(&fixture);
}
