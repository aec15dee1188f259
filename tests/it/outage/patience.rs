//! `--max-outage`: whoever would rather be told than wait.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use super::produced_on;
use crate::{
    proxy::Proxy,
    services::Services,
    support::{Fixture, Running, variable},
    telemetry::{OFFSETS, assert_all_landed, produced},
};

/// What an operator sets who has another one take over.
const CONSUME: [&str; 5] = ["consume", "--batch-rows", "100", "--max-outage", "3s"];

/// The run has ended well within this, on a machine that has much else to do.
const BOUND: Duration = Duration::from_secs(60);

/// How many events there are.
const EVENTS: i64 = 1_000;

#[test]
fn a_postgres_that_is_away_for_too_long_ends_the_run() {
    let fixture = produced(EVENTS);
    let (proxy, url) = Proxy::before_postgres(&variable("DATABASE_URL"));
    let held = fixture.hold_at(EVENTS / 3);
    let running = fixture.start_with(&CONSUME, &[("DATABASE_URL", &url)]);
    fixture.wait_until_held();
    proxy.cut();
    drop(held);
    gives_up(running, "Postgres");
    lands_in_another(&fixture);
}

#[test]
fn a_postgres_that_hangs_for_too_long_ends_the_run() {
    let services = Services::up(&["postgres"]);
    let fixture = produced_on(services.addresses(), EVENTS);
    let held = fixture.hold_at(EVENTS / 3);
    let running = fixture.start(&CONSUME);
    fixture.wait_until_held();
    services.freeze("postgres");
    drop(held);
    gives_up(running, "Postgres");
    services.thaw("postgres");
    lands_in_another(&fixture);
}

#[test]
fn a_registry_that_is_away_for_too_long_ends_the_run() {
    let fixture = produced(EVENTS);
    // nobody listens there any more
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let running = fixture.start_with(&CONSUME, &[("SCHEMA_REGISTRY_URL", &url)]);
    gives_up(running, "registry");
    lands_in_another(&fixture);
}

#[test]
fn a_broker_that_is_away_for_too_long_ends_the_run() {
    let services = Services::up(&["kafka"]);
    let fixture = produced_on(services.addresses(), EVENTS);
    let running = fixture.start(&CONSUME);
    fixture.wait_until(OFFSETS, |landed| landed == EVENTS);
    services.kill("kafka");
    gives_up(running, "Kafka");
    services.start(&["kafka"]);
    lands_in_another(&fixture);
}

/// The run ends by itself with one error that says what was away and for how long.
#[track_caller]
fn gives_up(mut running: Running, what: &str) {
    let since = Instant::now();
    assert_eq!(running.wait(), Some(1), "{}", running.log());
    let log = running.log();
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{} errors: {log}", errors.len()) };
    assert!(error.contains(what) && error.contains("away for"), "{error}");
    assert!(since.elapsed() < BOUND, "{:?}", since.elapsed());
}

/// What a run that gave up leaves behind lands in the next.
#[track_caller]
fn lands_in_another(fixture: &Fixture) {
    fixture.drain();
    assert_all_landed(fixture);
}
