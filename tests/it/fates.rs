//! What became of a record is decided once, and no record is passed over.

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use serde_json::{Value as Json, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path_regex};

use crate::support::{Fixture, Ledger, framed, poll, readings};

#[test]
fn a_batch_that_is_given_up_is_not_jumped_over_by_the_next() {
    let fixture = Fixture::with_stream(readings());
    let well = fixture.schema_id(&fixture.topic());
    let mut other = readings();
    other["doc"] = json!("another id");
    let sick = fixture.register("other", &other, "AVRO");
    let events = (0..30).map(|n| reading(if (10..20).contains(&n) { sick } else { well }, n, 1.0));
    fixture.send_values(&fixture.topic(), &events.map(Some).collect::<Vec<_>>());

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let registry = runtime.block_on(MockServer::start());
    let schema =
        ResponseTemplate::new(200).set_body_json(json!({"schema": readings().to_string()}));
    let answers = Mock::given(path_regex(format!("^/schemas/ids/{well}$"))).respond_with(schema);
    runtime.block_on(answers.mount(&registry));
    let fails = Mock::given(path_regex(format!("^/schemas/ids/{sick}$")));
    runtime.block_on(fails.respond_with(ResponseTemplate::new(500)).mount(&registry));

    let consume = ["consume", "--batch-rows", "10", "--batch-time", "10s"];
    let mut running = fixture.start_with(&consume, &[("SCHEMA_REGISTRY_URL", &registry.uri())]);
    running.wait_for_log("waiting for the schema registry");
    assert_eq!(running.terminate(), Some(0), "{}", running.log());
    assert_eq!(fixture.ledger().offsets, 10, "{}", running.log());
    assert_eq!(fixture.committed("readings"), [Some(10)]);

    fixture.drain();
    let all = Ledger { inserted: 30, duplicate: 0, dead_lettered: 0, skipped: 0, offsets: 30 };
    assert_eq!(fixture.ledger(), all);
}

#[test]
fn an_event_whose_twin_the_table_refuses_lands_in_its_place() {
    for (on_conflict, stands) in [("ignore", 30), ("latest", 20)] {
        let mut contract = readings();
        contract["sluicegate"]["on_conflict"] = json!(on_conflict);
        let fixture = Fixture::with_stream(contract);
        fixture.sql("ALTER TABLE readings ADD CONSTRAINT no_hundreds CHECK (value < 100)");
        let schema_id = fixture.schema_id(&fixture.topic());
        let twin = |ts, value| Some(event(schema_id, 1, ts, value));
        // the first is what "ignore" keeps, the newest what "latest" keeps, and both are refused
        let twins = [twin(1, 500.0), twin(9, 30.0), twin(20, 600.0), twin(10, 20.0)];
        fixture.send_values(&fixture.topic(), &twins);
        fixture.drain();
        assert_eq!(fixture.rows("SELECT value FROM readings"), [json!({"value": stands})]);
        let ledger = fixture.ledger();
        assert_eq!((ledger.inserted, ledger.dead_lettered), (1, 1), "{on_conflict}");
        assert_eq!(fixture.number("SELECT sum(count) FROM agg_readings_minute"), 1);
    }
}

#[test]
fn what_is_redelivered_keeps_its_fate_though_it_would_be_decided_otherwise_now() {
    let mut contract = readings();
    let rule = json!({"name": "below_limit", "check": "message.value < params.limit"});
    contract["sluicegate"]["rules"] = json!([rule]);
    let fixture = Fixture::with_stream(contract);
    let schema_id = fixture.schema_id(&fixture.topic());
    let events = [reading(schema_id, 1, 5.0), reading(schema_id, 2, 50.0)];
    fixture.send_values(&fixture.topic(), &events.map(Some));
    let drain = |limit| {
        let param = format!("readings.limit={limit}");
        fixture.run(&["consume", "--exit-when-drained", "--param", &param]).success();
        let landed = fixture.rows("SELECT value FROM readings ORDER BY value");
        (landed, fixture.rows("SELECT event_id, reason FROM dlq_events"), fixture.ledger())
    };
    let before = drain(10);
    assert_eq!(before.0, [json!({"value": 5})]);
    assert_eq!(before.1.len(), 1);
    for limit in [1, 100] {
        fixture.commit("readings", &[0]);
        assert_eq!(drain(limit), before, "with a limit of {limit}");
    }
}

#[test]
fn a_topic_that_was_made_anew_stops_its_stream_instead_of_being_taken_for_redelivered() {
    let fixture = Fixture::with_stream(readings());
    let schema_id = fixture.schema_id(&fixture.topic());
    let events = [1, 2].map(|n| Some(reading(schema_id, n, 1.0)));
    let [other_nonsense, nonsense] = [b"before", b"behind"].map(|text| Some(text.to_vec()));
    fixture.send_values(&fixture.topic(), &[&[other_nonsense], &events[..]].concat());
    fixture.drain();
    make_anew(&fixture, &[fixture.topic(), format!("{}.dlq", fixture.topic())]);
    // a dead letter where one was before, which is not the same
    let event = Some(reading(schema_id, 3, 1.0));
    fixture.send_values(&fixture.topic(), &[nonsense, event]);
    let ran = fixture.run(&["audit"]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let said = fixture.run(&["consume", "--exit-when-drained"]).one_clear_error();
    assert!(said.contains("has seen all offsets up to 3 of"), "{said}");
    let (_, mend) = said.split_once("run: ").unwrap();
    fixture.sql(mend);
    fixture.drain();
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 3);
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_events"), 2);
    fixture.run(&["audit", "--drained"]).success();
}

/// Deletes topics with all that is on them, and creates them again.
fn make_anew(fixture: &Fixture, topics: &[String]) {
    let admin: AdminClient<DefaultClientContext> = fixture.client().create().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for topic in topics {
        let options = AdminOptions::new();
        runtime.block_on(admin.delete_topics(&[topic], &options)).unwrap();
        // Kafka deletes it in the background
        let made = poll(|| {
            let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
            let made = runtime.block_on(admin.create_topics(&[new], &options)).unwrap();
            made[0].is_ok().then_some(())
        });
        made.expect("the topic to be made again");
    }
}

fn reading(schema_id: u32, n: u64, value: f64) -> Vec<u8> {
    event(schema_id, n, 1, value)
}

fn event(schema_id: u32, n: u64, ts: i64, value: f64) -> Vec<u8> {
    let id: Json = json!(uuid::Uuid::from_u64_pair(7, n));
    framed(schema_id, &readings(), json!({"event_id": id, "device": "d", "ts": ts, "value": value}))
}
