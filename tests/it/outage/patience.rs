//! `--max-outage`: whoever would rather be told than wait.

use std::{net::TcpListener, time::Instant};

use super::produced_on;
use crate::{
    proxy::Proxy,
    services::Services,
    support::{Fixture, Running, variable},
    telemetry::{OFFSETS, produced},
};

/// What an operator sets who has another one take over.
const CONSUME: [&str; 5] = ["consume", "--batch-rows", "100", "--max-outage", "3s"];

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
    gives_up(&fixture, running, "Postgres");
}

#[test]
fn a_registry_that_is_away_for_too_long_ends_the_run() {
    let fixture = produced(EVENTS);
    // nobody listens there any more
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let running = fixture.start_with(&CONSUME, &[("SCHEMA_REGISTRY_URL", &url)]);
    gives_up(&fixture, running, "registry");
}

#[test]
fn a_broker_that_is_away_for_too_long_ends_the_run() {
    let services = Services::up(&["kafka"]);
    let fixture = produced_on(services.addresses(), EVENTS);
    let running = fixture.start(&CONSUME);
    fixture.wait_until(OFFSETS, |landed| landed == EVENTS);
    services.kill("kafka");
    gives_up(&fixture, running, "Kafka");
    services.start(&["kafka"]);
}

/// The run ends by itself with one error that says what was away and for how long; the rest lands
/// in another.
#[track_caller]
fn gives_up(fixture: &Fixture, mut running: Running, what: &str) {
    let since = Instant::now();
    assert_eq!(running.wait(), Some(1), "{}", running.log());
    let log = running.log();
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{} errors: {log}", errors.len()) };
    assert!(error.contains(what) && error.contains("away for"), "{error}");
    assert!(since.elapsed().as_secs() < 30, "{:?}", since.elapsed());
    assert_eq!(fixture.ledger().dead_lettered, fixture.number("SELECT count(*) FROM dlq_events"));
}
