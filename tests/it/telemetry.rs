//! Simulated device telemetry with faults, and what must be true of it once it has landed.

use std::{collections::BTreeSet, time::SystemTime};

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value};

use crate::support::{Fixture, contract};

/// The stream.
pub const STREAM: &str = "device_telemetry";

/// How many offsets have been accounted for.
pub const OFFSETS: &str = "SELECT coalesce(sum(next_offset - first_offset), 0) FROM ledger";

/// The flags of a run with 1% duplicates, 1% invalid and 0.1% corrupt events.
pub fn produce(count: &str) -> Vec<&str> {
    let faults = ["--duplicates", "1%", "--invalid", "1%", "--corrupt", "0.1%"];
    [&["produce", STREAM, "--count", count][..], &faults].concat()
}

/// The stream on three partitions, with nothing on them yet.
pub fn empty() -> Fixture {
    Fixture::with_partitions(STREAM, contract(STREAM), 3)
}

/// So many events on three partitions.
pub fn produced(count: i64) -> Fixture {
    let fixture = empty();
    fixture.run(&produce(&count.to_string())).success();
    fixture
}

/// The stream's topic.
pub fn topic(fixture: &Fixture) -> String {
    format!("{}.{STREAM}", fixture.prefix)
}

/// Fails the test unless every sound event is in the table once, every other one is a dead
/// letter, the aggregates are the table's, and the ledger accounts for the whole topic.
#[track_caller]
pub fn assert_all_landed(fixture: &Fixture) {
    let sent = Sent::read(fixture);
    let landed = fixture.rows(&format!("SELECT event_id FROM {STREAM}"));
    let ids: BTreeSet<String> =
        landed.iter().map(|row| row["event_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), landed.len(), "an event is there twice");
    assert!(ids == sent.sound, "{} events are there, not {}", ids.len(), sent.sound.len());
    assert_aggregates(fixture);

    let ledger = fixture.ledger();
    let dead_letters = fixture.number("SELECT count(*) FROM dlq_events");
    assert_eq!(ledger.inserted, i64::try_from(ids.len()).unwrap());
    assert_eq!(ledger.dead_lettered, dead_letters);
    assert_eq!(ledger.dead_lettered, sent.unsound);
    assert_eq!(ledger.duplicate, sent.records - ledger.inserted - sent.unsound);
    assert_eq!(ledger.skipped, 0);
    assert_eq!(ledger.offsets, sent.records);
    let ends: Vec<(i64, i64)> = fixture
        .rows("SELECT first_offset, next_offset FROM ledger ORDER BY partition")
        .iter()
        .map(|row| (row["first_offset"].as_i64().unwrap(), row["next_offset"].as_i64().unwrap()))
        .collect();
    assert_eq!(ends, fixture.watermarks(&topic(fixture)));
}

/// Fails the test unless the aggregates equal those made anew from the table.
#[track_caller]
pub fn assert_aggregates(fixture: &Fixture) {
    let differing = fixture.rows(&format!(
        "SELECT anew.*, kept.* FROM (SELECT date_trunc('minute', ts) AS minute, zone, kpi, \
         count(*) AS n, sum(value) AS sum, min(value) AS min, max(value) AS max \
         FROM {STREAM} GROUP BY 1, 2, 3) AS anew \
         FULL JOIN agg_{STREAM}_minute AS kept USING (minute, zone, kpi) \
         WHERE anew.n IS DISTINCT FROM kept.count OR anew.min IS DISTINCT FROM kept.value_min \
         OR anew.max IS DISTINCT FROM kept.value_max \
         OR (abs(anew.sum - kept.value_sum) <= 1e-9 * abs(anew.sum)) IS NOT TRUE"
    ));
    assert_eq!(differing, Vec::<serde_json::Value>::new());
}

/// What is on the topic, read with a decoder of the test's own.
struct Sent {
    records: i64,
    /// The ids of the events that decode and keep the contract's rules.
    sound: BTreeSet<String>,
    /// How many records do not.
    unsound: i64,
}

impl Sent {
    fn read(fixture: &Fixture) -> Sent {
        let schema = Schema::parse(&contract(STREAM)).unwrap();
        let header =
            [&[0], &fixture.schema_id(&format!("{}.{STREAM}", fixture.prefix)).to_be_bytes()[..]]
                .concat();
        let mut sent = Sent { records: 0, sound: BTreeSet::new(), unsound: 0 };
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        for record in fixture.read_topic(&topic(fixture)) {
            sent.records += 1;
            let value = record.value.unwrap();
            match value.strip_prefix(header.as_slice()).and_then(|body| sound_id(&reader, body)) {
                Some(id) => _ = sent.sound.insert(id),
                None => sent.unsound += 1,
            }
        }
        assert!(!sent.sound.is_empty());
        sent
    }
}

fn sound_id(reader: &GenericDatumReader<'_>, mut body: &[u8]) -> Option<String> {
    let Value::Record(fields) = reader.read_value(&mut body).ok()? else { return None };
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).unwrap().1.clone();
    let (Value::Uuid(id), Value::TimestampMillis(ts), Value::Double(value)) =
        (field("event_id"), field("ts"), field("value"))
    else {
        panic!("{fields:?} is no telemetry")
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let keeps_rules = value.abs() < 1e6 && i128::from(ts) <= now as i128 + 300_000;
    (keeps_rules && body.is_empty()).then(|| id.to_string())
}
