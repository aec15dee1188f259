//! A dependency that is away is waited for: no event becomes a dead letter for it.

use serde_json::json;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path_regex};

use crate::{
    proxy::Proxy,
    support::{Fixture, readings, variable},
    telemetry::{OFFSETS, assert_all_landed, produced},
};

const DRAIN: [&str; 4] = ["consume", "--exit-when-drained", "--batch-rows", "200"];

#[test]
fn a_database_that_goes_away_and_comes_back_costs_nothing() {
    let events = 10_000;
    let fixture = produced(events);
    let url = variable("DATABASE_URL");
    let (user, place) = url.rsplit_once('@').unwrap();
    let (address, database) = place.split_once('/').unwrap();
    let proxy = Proxy::before(address.to_owned());
    let url = format!("{user}@{}/{database}", proxy.address());
    let moments = [10, 30, 60].map(|percent| events * percent / 100);
    let mut held = Some(fixture.hold_at(moments[0]));
    let mut running = fixture.start_with(&DRAIN, &[("DATABASE_URL", &url)]);
    for (number, moment) in (1..).zip(moments) {
        fixture.wait_until_held();
        let before = proxy.refused();
        proxy.cut();
        let landed = fixture.number(OFFSETS);
        assert!((moment..events).contains(&landed), "it went away after {landed}");
        running.wait_for("the database to be asked", || proxy.refused() > before + 2);
        drop(held.take());
        held = moments.get(number).map(|next| fixture.hold_at(*next));
        proxy.mend();
    }
    assert_eq!(running.wait(), Some(0), "{}", running.log());
    assert!(running.log().contains("waiting for Postgres"), "{}", running.log());
    assert_all_landed(&fixture);
}

#[test]
fn a_registry_that_nobody_answers_for_is_waited_for() {
    let fixture = produced(1_000);
    let url = variable("SCHEMA_REGISTRY_URL");
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let proxy = Proxy::before(address.to_owned());
    let url = format!("http://{}/{path}", proxy.address());
    proxy.cut();
    let mut running = fixture.start_with(&DRAIN, &[("SCHEMA_REGISTRY_URL", &url)]);
    running.wait_for_log("waiting for the schema registry");
    running.wait_for("the registry to be asked", || proxy.refused() > 2);
    assert_eq!(fixture.number(OFFSETS), 0);
    proxy.mend();
    assert_eq!(running.wait(), Some(0), "{}", running.log());
    assert_all_landed(&fixture);
}

#[test]
fn a_registry_that_answers_with_errors_of_its_own_is_asked_again() {
    let fixture = Fixture::with_stream(readings());
    let row = |n: i64| json!({"event_id": uuid::Uuid::from_u64_pair(1, n as u64), "device": "d", "ts": n, "value": 1});
    fixture.produce("readings", &(0..50).map(row).collect::<Vec<_>>());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let registry = runtime.block_on(MockServer::start());
    for (priority, status) in (1..).zip([500, 503, 504, 429]) {
        let sick = Mock::given(path_regex("^/schemas/ids/"))
            .respond_with(ResponseTemplate::new(status).set_body_string("not now"))
            .up_to_n_times(2)
            .with_priority(priority);
        runtime.block_on(sick.mount(&registry));
    }
    let schema = json!({"schema": readings().to_string()});
    let well =
        Mock::given(path_regex(format!("^/schemas/ids/{}$", fixture.schema_id(&fixture.topic()))))
            .respond_with(ResponseTemplate::new(200).set_body_json(schema))
            .with_priority(5);
    runtime.block_on(well.mount(&registry));
    let mut running = fixture.start_with(&DRAIN, &[("SCHEMA_REGISTRY_URL", &registry.uri())]);
    assert_eq!(running.wait(), Some(0), "{}", running.log());
    let ledger = fixture.ledger();
    assert_eq!((ledger.inserted, ledger.dead_lettered), (50, 0), "{}", running.log());
    assert!(running.log().contains("waiting for the schema registry"), "{}", running.log());
}
