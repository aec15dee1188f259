//! A stream pauses where nearly everything would be a dead letter, and goes on when that is mended.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::{
    avro::id,
    scripted_registry::{Answer, ScriptedRegistry},
    support::{Fixture, Ran, Running, framed, readings},
};

/// Sends so many events with a value, of devices for every partition.
fn produce(fixture: &Fixture, count: u64, value: i32) {
    let row = |n: u64| json!({"event_id": uuid::Uuid::new_v4(), "device": format!("d{}", n % 50), "ts": 1_777_636_800_000_u64, "value": value});
    fixture.produce("readings", &(0..count).map(row).collect::<Vec<Json>>());
}

fn letters(fixture: &Fixture) -> i64 {
    fixture.number("SELECT count(*) FROM dlq_events")
}

fn stats(fixture: &Fixture) -> Json {
    serde_json::from_str(&fixture.run(&["stats", "--json"]).success()).unwrap()
}

const OPENED: &str = "the breaker is open and the stream pauses";

fn start_and_wait_until_open(fixture: &Fixture) -> Running {
    start_with_and_wait_until_open(fixture, &["--breaker-probe", "300ms"])
}

fn start_with_and_wait_until_open(fixture: &Fixture, args: &[&str]) -> Running {
    let mut running = fixture.start(&[&["consume"], args].concat());
    running.wait_for_log(OPENED);
    running
}

#[test]
fn a_stream_of_which_nothing_is_valid_pauses_and_dead_letters_nothing() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 150, -1);
    let mut running = start_and_wait_until_open(&fixture);
    fixture.wait_until("SELECT count(*) FROM breakers", |open| open == 1);
    let paused = stats(&fixture)[0]["paused"].as_str().unwrap().to_owned();
    let reason = "none of the first 150 events is valid, most of them for rule:value_is_positive";
    assert!(paused.contains(reason), "{paused}");
    let table = fixture.run(&["stats"]).success();
    assert!(table.contains("readings: paused since"), "{table}");
    assert_eq!((letters(&fixture), fixture.committed("readings")), (0, vec![None]));
    assert_eq!(running.terminate(), Some(0));
    assert_eq!(letters(&fixture), 0);
}

#[test]
fn a_stream_goes_on_by_itself_once_the_cause_is_mended() {
    let fixture = Fixture::with_stream(readings());
    fixture.sql("ALTER TABLE readings ADD CONSTRAINT too_strict CHECK (value > 1000)");
    produce(&fixture, 150, 1);
    let mut running = start_and_wait_until_open(&fixture);
    fixture.sql("ALTER TABLE readings DROP CONSTRAINT too_strict");
    running.wait_for_log("the breaker is closed");
    fixture.wait_until("SELECT count(*) FROM readings", |rows| rows == 150);
    fixture.wait_until("SELECT count(*) FROM breakers", |open| open == 0);
    assert_eq!(running.terminate(), Some(0));
    assert_eq!((letters(&fixture), &stats(&fixture)[0]["paused"]), (0, &Json::Null));
}

#[test]
fn a_share_of_dead_letters_in_a_window_opens_it_and_a_smaller_one_does_not() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 100, 1);
    produce(&fixture, 300, -1);
    let consume = |share| -> Ran {
        fixture.run(&[
            "consume",
            "--exit-when-drained",
            "--breaker-window",
            "400",
            "--breaker-share",
            share,
        ])
    };
    let error = consume("70%").one_clear_error();
    assert!(error.contains("300 of the last 400 events would be dead letters"), "{error}");
    assert_eq!(letters(&fixture), 0);
    consume("80%").success();
    assert_eq!(letters(&fixture), 300);
}

#[test]
fn one_that_is_switched_off_lets_everything_through() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 1_500, -1);
    fixture.run(&["consume", "--exit-when-drained", "--no-breaker"]).success();
    assert_eq!(letters(&fixture), 1_500);
}

/// How long the group waits for a member that does not poll; and longer than that.
const MAX_POLL_INTERVAL: &str = "max.poll.interval.ms=6000";
const LONG: Duration = Duration::from_secs(7);

/// Below the twenty seconds for which a member that loses its partitions waits for a batch of theirs.
const AT_ONCE: Duration = Duration::from_secs(15);

#[test]
fn a_paused_stream_keeps_its_membership_and_lets_go_of_partitions_at_once() {
    let fixture = Fixture::with_partitions("readings", readings(), 2);
    produce(&fixture, 1_000, -1);
    let properties =
        ["--kafka-property", MAX_POLL_INTERVAL, "--kafka-property", "session.timeout.ms=6000"];
    let args = [&properties[..], &["--breaker-probe", "1h"]].concat();
    let mut paused = start_with_and_wait_until_open(&fixture, &args);
    let (group, since) = (fixture.group("readings"), Instant::now());
    let (alone, before) = (group.members(), letters(&fixture));
    assert_eq!(alone.len(), 1, "{}", paused.log());
    paused.wait_for("end of a long pause", || since.elapsed() > LONG);
    assert_eq!((group.members(), letters(&fixture)), (alone.clone(), before), "{}", paused.log());

    // this one lets the group wait for five minutes
    let mut second = fixture.start(&["consume", "--no-breaker"]);
    second.wait_for("second member", || group.members().len() == 2);
    let since = Instant::now();
    fixture.wait_until("SELECT count(*) FROM dlq_events", |letters| letters > before);
    assert!(since.elapsed() < AT_ONCE, "{:?}: {}", since.elapsed(), paused.log());
    assert!(group.members().contains(&alone[0]), "it joined anew: {}", paused.log());
    assert_eq!((paused.terminate(), second.terminate()), (Some(0), Some(0)));
}

#[test]
fn prometheus_can_read_that_a_stream_pauses_and_how_much_has_landed() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 20, 1);
    let port = crate::services::free_port();
    let address = format!("127.0.0.1:{port}");
    let mut running = fixture.start(&[
        "consume",
        "--metrics-listen",
        &address,
        "--breaker-window",
        "50",
        "--breaker-probe",
        "1h",
    ]);
    let scrape = || fixture.metrics(&address);
    let landed = r#"sluicegate_records_total{stream="readings",outcome="inserted"} 20"#;
    running.wait_for(landed, || scrape().contains(landed));
    produce(&fixture, 500, -1);
    let open = r#"sluicegate_breaker_open{stream="readings"} 1"#;
    running.wait_for(open, || scrape().contains(open));
    assert!(scrape().contains("# HELP sluicegate_breaker_open "));
}

#[test]
fn a_batch_that_was_decided_before_the_breaker_opened_is_decided_again() {
    let fixture = Fixture::with_stream(readings());
    let event = |n: u64| json!({"event_id": id(n), "device": "d", "ts": 0, "value": 1.0});
    let values: Vec<_> = (0..150).map(|n| Some(framed(77, &readings(), event(n)))).collect();
    fixture.send_values(&fixture.topic(), &values);
    // the first batch of a hundred opens the breaker, and the second is decided by then
    let registry = ScriptedRegistry::start(|number| match number {
        0 | 1 => Answer::unknown(),
        _ => Answer::schema(&readings()),
    });
    let args = ["--batch-rows", "100", "--breaker-probe", "2s", "--unknown-schema-attempts", "1"];
    let args = [&["consume", "--sink-tasks", "1"], &args[..]].concat();
    let mut running = fixture.start_with(&args, &[("SCHEMA_REGISTRY_URL", &registry.url())]);
    running.wait_for_log("the breaker is closed");
    fixture.wait_until("SELECT coalesce(sum(next_offset), 0) FROM ledger", |next| next == 150);
    assert_eq!(running.terminate(), Some(0));
    let ledger = fixture.ledger();
    assert_eq!((ledger.inserted, ledger.dead_lettered), (150, 0));
}
