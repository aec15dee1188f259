//! Kafka away, in every way that it can be; also for what publishes dead letters.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};

use super::{CONSUME, LONG};
use crate::{
    services::Services,
    support::{Fixture, Read, Running, contract, poll},
    telemetry::{OFFSETS, STREAM, assert_all_landed, produce, topic},
};

/// So many events before each outage.
const EVENTS: i64 = 2_000;

/// How the broker breaks, and how that is mended.
const OUTAGES: [[fn(&Services); 2]; 3] = [
    [|services| services.stop(&["kafka"]), |services| services.start(&["kafka"])],
    [|services| services.kill("kafka"), |services| services.start(&["kafka"])],
    [|services| services.freeze("kafka"), |services| services.thaw("kafka")],
];

#[test]
fn a_broker_that_is_stopped_and_killed_and_hangs_costs_nothing() {
    let services = Services::up(&["kafka"]);
    let fixture = Fixture::on(services.addresses()).and_partitions(STREAM, contract(STREAM), 3);
    let mut running = fixture.start(&CONSUME);
    for (round, [breaks, mends]) in (0..).zip(OUTAGES) {
        let held = fixture.hold_at(round * EVENTS + EVENTS / 3);
        fixture.run(&produce(&EVENTS.to_string())).success();
        fixture.wait_until_held();
        // there are offsets to commit then, and dead letters to publish
        breaks(&services);
        drop(held);
        let since = Instant::now();
        running.wait_for("end of the outage", || since.elapsed() > LONG);
        mends(&services);
    }
    assert!(running.log().contains("waiting for Kafka"), "{}", running.log());
    lands_and_publishes_everything(&fixture, running);
}

#[test]
fn a_leader_that_is_lost_under_load_costs_nothing() {
    let services = Services::kafka_cluster();
    let mut fixture = Fixture::on(services.addresses());
    let topic = fixture.stream(STREAM, contract(STREAM));
    let dead_letters = format!("{topic}.dlq");
    create_topic(&fixture, &topic, &[&[2, 1, 3], &[2, 3, 1], &[3, 2, 1]]);
    create_topic(&fixture, &dead_letters, &[&[2, 1, 3]]);
    fixture.run(&["register"]).success();
    fixture.run(&["migrate"]).success();
    let running = fixture.start(&CONSUME);
    let mut load = fixture.start(&[&produce("12000")[..], &["--rate", "1000"]].concat());
    fixture.wait_until(OFFSETS, |landed| landed > 1_000);
    services.kill("kafka-2");
    load.wait_for("new leaders", || {
        !leaders(&fixture, &topic).contains(&2) && leaders(&fixture, &dead_letters) != [2]
    });
    assert_eq!(load.wait(), Some(0), "{}", load.log());
    lands_and_publishes_everything(&fixture, running);
}

/// Waits until everything that is on the topic has landed, and every dead letter is on its own.
#[track_caller]
fn lands_and_publishes_everything(fixture: &Fixture, mut running: Running) {
    let sent: i64 = fixture.watermarks(&topic(fixture)).iter().map(|(_, end)| end).sum();
    fixture.wait_until(OFFSETS, |offsets| offsets == sent);
    let unpublished = "SELECT count(*) FROM dlq_outbox";
    fixture.wait_until(unpublished, |unpublished| unpublished == 0);
    assert_eq!(running.terminate(), Some(0), "{}", running.log());
    assert_all_landed(fixture);
    let published = fixture.read_topic(&format!("{}.dlq", topic(fixture)));
    let place = |read: &Read| {
        let [partition, offset] = ["partition", "offset"]
            .map(|name| read.header(&format!("__connect.errors.{name}")).unwrap());
        format!("{partition}@{offset}")
    };
    // publishing may repeat, and never misses
    let published: BTreeSet<String> = published.iter().map(place).collect();
    let kept = fixture.rows("SELECT partition || '@' || \"offset\" AS place FROM dlq_events");
    let kept = kept.iter().map(|row| row["place"].as_str().unwrap().to_owned()).collect();
    assert_eq!(published, kept);
}

/// A topic whose partitions are kept by these brokers, led by the first of each.
fn create_topic(fixture: &Fixture, topic: &str, replicas: &[&[i32]]) {
    let admin: AdminClient<DefaultClientContext> = fixture.client().create().unwrap();
    let partitions = i32::try_from(replicas.len()).unwrap();
    let new = NewTopic::new(topic, partitions, TopicReplication::Variable(replicas));
    let created = futures::executor::block_on(admin.create_topics(&[new], &AdminOptions::new()));
    created.unwrap()[0].as_ref().unwrap();
    let are_known = || (leaders(fixture, topic).len() == replicas.len()).then_some(());
    assert!(poll(are_known).is_some(), "{topic} has no leaders");
}

/// Each partition's leader.
fn leaders(fixture: &Fixture, topic: &str) -> Vec<i32> {
    let consumer: BaseConsumer = fixture.client().create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    metadata.topics()[0].partitions().iter().map(|partition| partition.leader()).collect()
}
