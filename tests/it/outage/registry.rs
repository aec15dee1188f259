//! The schema registry away, in every way that it can be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;

use super::{CONSUME, Member, produced_on};
use crate::{
    scripted_registry::{Answer, ScriptedRegistry},
    services::Services,
    support::{Fixture, readings},
    telemetry::{OFFSETS, STREAM},
};

/// How many events there are.
const EVENTS: i64 = 50;

#[test]
fn a_registry_that_is_stopped_and_started_costs_nothing() {
    let services = Services::up(&["registry"]);
    let fixture = produced_on(services.addresses(), 1_000);
    services.stop(&["registry"]);
    let mut running = fixture.start(&CONSUME);
    running.wait_for_log("waiting for the schema registry");
    let mut member = Member::of(&fixture, STREAM, running);
    member.outlasts_max_poll_interval();
    assert_eq!(fixture.number(OFFSETS), 0);
    services.start(&["registry"]);
    member.lands_everything();
}

#[test]
fn a_registry_that_hangs_for_a_while_costs_nothing() {
    let services = Services::up(&["registry"]);
    let fixture = produced_on(services.addresses(), 1_000);
    services.freeze("registry");
    let mut running = fixture.start(&[&CONSUME[..], &["--registry-timeout", "2"]].concat());
    running.wait_for_log("waiting for the schema registry");
    let mut member = Member::of(&fixture, STREAM, running);
    member.outlasts_max_poll_interval();
    assert_eq!(fixture.number(OFFSETS), 0);
    services.thaw("registry");
    member.lands_everything();
}

#[test]
fn a_registry_that_answers_badly_or_not_at_all_is_asked_again_until_it_is_well() {
    let page = "<html><body>The site is being rebuilt</body></html>";
    let schema = json!({"schema": readings().to_string()}).to_string();
    let says = |status, body: &str| Answer::Says(status, "", body.to_owned());
    let sick = [
        says(500, r#"{"error_code": 50001, "message": "Error in the backend datastore"}"#),
        says(502, page),
        says(503, ""),
        says(504, page),
        says(429, "slow down"),
        // what a proxy says that has lost its registry
        says(404, page),
        says(200, page),
        says(200, "{}"),
        Answer::Half(schema),
        Answer::Nothing,
    ];
    thread::scope(|scope| {
        for answer in sick {
            scope.spawn(|| is_asked_again(answer));
        }
    });
}

/// A consumer lands everything when the registry no longer answers like this.
fn is_asked_again(sick: Answer) {
    let fixture = produced();
    let is_well = Arc::new(AtomicBool::new(false));
    let (said, asked) = (sick.clone(), is_well.clone());
    let registry = ScriptedRegistry::start(move |_| match asked.load(Ordering::Relaxed) {
        false => said.clone(),
        true => Answer::schema(&readings()),
    });
    let url = registry.url();
    let environment = [("SCHEMA_REGISTRY_URL", url.as_str()), ("SCHEMA_REGISTRY_TIMEOUT", "1")];
    let mut running = fixture.start_with(&["consume", "--exit-when-drained"], &environment);
    running.wait_for_log("waiting for the schema registry");
    let before = registry.asked().len();
    running.wait_for("the registry to be asked again", || registry.asked().len() > before);
    assert_eq!(fixture.number(OFFSETS), 0, "{sick:?}");
    is_well.store(true, Ordering::Relaxed);
    assert_eq!(running.wait(), Some(0), "{sick:?}: {}", running.log());
    let ledger = fixture.ledger();
    assert_eq!((ledger.inserted, ledger.dead_lettered), (EVENTS, 0), "{sick:?}");
}

#[test]
fn a_registry_that_says_when_to_come_again_is_not_asked_before() {
    for status in [429, 503] {
        let fixture = produced();
        let registry = ScriptedRegistry::start(move |number| match number {
            0 => Answer::Says(status, "Retry-After: 3\r\n", "not now".to_owned()),
            _ => Answer::schema(&readings()),
        });
        let url = registry.url();
        let environment = [("SCHEMA_REGISTRY_URL", url.as_str())];
        let mut running = fixture.start_with(&["consume", "--exit-when-drained"], &environment);
        assert_eq!(running.wait(), Some(0), "{}", running.log());
        let asked = registry.asked();
        let waited = asked[1] - asked[0];
        assert!(waited >= Duration::from_secs(3), "{status}: asked again after {waited:?}");
        assert_eq!(fixture.ledger().inserted, EVENTS);
    }
}

/// A stream with events for both sink tasks on its topic.
fn produced() -> Fixture {
    let fixture = Fixture::with_partitions("readings", readings(), 2);
    let row = |n: i64| json!({"event_id": uuid::Uuid::new_v4().to_string(), "device": n.to_string(), "ts": n, "value": 1});
    fixture.produce("readings", &(0..EVENTS).map(row).collect::<Vec<_>>());
    fixture
}
