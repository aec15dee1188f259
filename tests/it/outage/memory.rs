//! However much there is to read: what waits for Postgres is bounded.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value as Json, json};

use super::Member;
use crate::{
    proxy::Proxy,
    support::{Fixture, PATIENCE, framed, variable},
};

/// What is on the topic, in MiB.
const TOPIC: u64 = 300;

/// What the program may take: batches of 8 MiB, of which a sink task holds at most three to come and,
/// while it writes one, its rows, their COPY and what is on the way to Postgres of it, twice for two
/// sink tasks; 16 MiB that librdkafka reads ahead, and as much that it is about to; and 48 MiB for
/// the program itself.
const BOUND: u64 = 2 * (3 + 3) * 8 + 2 * 16 + 48;

#[test]
fn memory_is_bounded_while_postgres_is_away_however_much_there_is_to_read() {
    let fixture = Fixture::with_partitions("notes", notes(), 2);
    fill(&fixture);
    let (proxy, url) = Proxy::before_postgres(&variable("DATABASE_URL"));
    let held = fixture.hold_at(1);
    let args = ["consume", "--kafka-property", "max.poll.interval.ms=6000"];
    let args = [&args[..], &["--kafka-property", "session.timeout.ms=6000"]].concat();
    let mut running = fixture.start_with(&args, &[("DATABASE_URL", &url)]);
    fixture.wait_until_held();
    proxy.cut();
    drop(held);
    running.wait_for_log("waiting for Postgres");
    let mut member = Member::of(&fixture, "notes", running);
    member.outlasts_max_poll_interval();
    let most = peak(member.running.id());
    println!("{most} MiB at most while {TOPIC} MiB wait, of {BOUND} MiB");
    assert!(most < BOUND, "{most} MiB");
}

/// A stream of events that are as long as one likes.
fn notes() -> Json {
    json!({
        "type": "record", "name": "Note", "namespace": "test",
        "fields": [
            {"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "text", "type": "string"},
        ],
    })
}

/// Events of ten kilobytes on both partitions.
fn fill(fixture: &Fixture) {
    let topic = format!("{}.notes", fixture.prefix);
    let producer: BaseProducer = fixture.client().create().unwrap();
    let id = fixture.schema_id(&topic);
    let text = "ten bytes ".repeat(1_024);
    let note = json!({"event_id": uuid::Uuid::nil().to_string(), "text": text});
    let mut value = framed(id, &notes(), note);
    // behind the header and the length of the id as text
    let own = 6..42;
    for n in 0..TOPIC * 1_048_576 / value.len() as u64 {
        let event = uuid::Uuid::from_u64_pair(1, n).to_string();
        value[own.clone()].copy_from_slice(event.as_bytes());
        let record = BaseRecord::<(), _>::to(&topic).payload(&value).partition((n % 2) as i32);
        let mut sent = producer.send(record);
        while let Err((_, record)) = sent {
            producer.poll(Duration::from_millis(100));
            sent = producer.send(record);
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// The most memory that a process has had, in MiB.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() / 1_024
}
