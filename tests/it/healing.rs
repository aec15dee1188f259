//! A record that may heal is tried a few times, and becomes a dead letter after that.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::{
    proxy::Proxy,
    scripted_registry::{Answer, ScriptedRegistry},
    services::Services,
    support::{Fixture, Ran, framed, readings},
};

#[test]
fn an_event_whose_schema_is_registered_a_moment_later_lands() {
    let services = Services::up(&["registry"]);
    let fixture = Fixture::on(services.addresses()).and_partitions("readings", readings(), 1);
    // a registry of our own counts its ids up
    let later = fixture.schema_id(&fixture.topic()) + 1;
    fixture.send_values(&fixture.topic(), &[Some(framed(later, &evolved(), event()))]);
    let args = ["consume", "--unknown-schema-attempts", "20", "--unknown-schema-delay", "200ms"];
    let (proxy, url) = Proxy::before_registry(fixture.address("SCHEMA_REGISTRY_URL"));
    let mut running = fixture.start_with(&args, &[("SCHEMA_REGISTRY_URL", &url)]);
    // whatever the rest of it says, the id was unknown then
    running.wait_for("answer about the id", || proxy.answered() > 0);
    assert_eq!(fixture.register("readings-evolved", &evolved(), "AVRO"), later);
    fixture.wait_until("SELECT count(*) FROM readings", |landed| landed == 1);
    assert_eq!(running.terminate(), Some(0));
    assert_eq!(fixture.ledger().dead_lettered, 0);
}

#[test]
fn the_registry_is_asked_for_an_unknown_id_with_pauses_that_grow() {
    let fixture = Fixture::with_stream(readings());
    fixture.send_values(&fixture.topic(), &[Some(framed(77, &readings(), event()))]);
    let (ran, asked) = drained_with(&fixture, &["5", "200ms"], |number| match number {
        0..4 => Answer::unknown(),
        _ => Answer::schema(&readings()),
    });
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ledger = fixture.ledger();
    assert_eq!((ledger.inserted, ledger.dead_lettered), (1, 0), "{}", ran.stderr);
    let pauses: Vec<Duration> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses.len(), 4, "{pauses:?}");
    for (pause, millis) in pauses.iter().zip([200, 400, 800, 1_600]) {
        assert!(*pause >= Duration::from_millis(millis), "{pauses:?}");
    }
}

#[test]
fn an_id_that_stays_unknown_is_a_dead_letter_that_says_how_often_it_was_asked_for() {
    let fixture = Fixture::with_stream(readings());
    for attempts in [1, 2, 4] {
        let id = 1_000_000 + attempts;
        fixture.send_values(&fixture.topic(), &[Some(framed(id, &readings(), event()))]);
        let options = [&attempts.to_string(), "10ms"];
        let (ran, asked) = drained_with(&fixture, &options, |_| Answer::unknown());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(asked.len(), attempts as usize, "{attempts} attempts");
    }
    let letters = fixture.rows("SELECT reason, attempts, schema_id FROM dlq_events ORDER BY id");
    let letter = |attempts: u32| json!({"reason": "unknown_schema_id", "attempts": attempts, "schema_id": 1_000_000 + attempts});
    assert_eq!(letters, [1, 2, 4].map(letter));
    let published = fixture.read_topic(&format!("{}.dlq", fixture.topic()));
    let attempts = published.iter().map(|letter| letter.header("sluicegate.attempts").unwrap());
    assert_eq!(attempts.collect::<Vec<_>>(), ["1", "2", "4"]);
}

/// Runs the pipeline with a registry that answers as it is told, and so many attempts and such a
/// first pause; gives when the registry was asked.
fn drained_with(
    fixture: &Fixture,
    [attempts, delay]: &[&str; 2],
    answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
) -> (Ran, Vec<Instant>) {
    let registry = ScriptedRegistry::start(answer);
    let mut command = fixture.command(&["consume", "--exit-when-drained"]);
    command
        .args(["--unknown-schema-attempts", attempts, "--unknown-schema-delay", delay])
        .env("SCHEMA_REGISTRY_URL", registry.url());
    (Ran::of(&mut command), registry.asked())
}

/// What a producer sends that is a version ahead.
fn evolved() -> Json {
    let mut schema = readings();
    let more = json!({"name": "unit", "type": "string", "default": "kelvin"});
    schema["fields"].as_array_mut().unwrap().push(more);
    schema
}

fn event() -> Json {
    let id = uuid::Uuid::new_v4().to_string();
    json!({"event_id": id, "device": "d", "ts": 1_000, "value": 1.0, "unit": "celsius"})
}
