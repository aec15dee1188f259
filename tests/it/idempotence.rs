//! The same event again changes nothing, however it comes: sent twice, in one batch or in two, or
//! read by several processes.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    support::{Fixture, Running, readings},
    telemetry::{self, OFFSETS, assert_all_landed},
};

#[test]
fn the_same_file_twice_lands_once() {
    let mut contract = readings();
    contract["sluicegate"]["id_from"] = json!(["device", "ts"]);
    let fixture = Fixture::with_stream(contract);
    let row = |n: i64| json!({"device": format!("d{}", n % 7), "ts": n * 1_000, "value": n});
    let rows: Vec<Json> = (0..200).map(row).collect();
    fixture.produce("readings", &rows);
    fixture.drain();
    let tables = || {
        [
            "SELECT * FROM readings ORDER BY event_id",
            "SELECT * FROM agg_readings_minute ORDER BY 1, 2",
        ]
        .map(|query| fixture.rows(query))
    };
    let once = tables();
    assert_eq!((once[0].len(), fixture.ledger().duplicate), (rows.len(), 0));

    fixture.produce("readings", &rows);
    let again = fixture.drain();
    assert_eq!(again.stdout, "readings: 0 inserted, 200 duplicates, 0 dead letters\n");
    assert_eq!(tables(), once);
    assert_eq!(fixture.ledger().duplicate, 200);
}

#[test]
fn where_the_latest_stands_neither_an_older_event_nor_an_equal_one_replaces_it() {
    let at = |minute: i64, value: i64| sample(Uuid::nil(), None, minute * 60_000, Some(value));
    for batch_rows in ["1", "1000"] {
        let fixture = Fixture::with_stream(samples("latest"));
        fixture.produce("readings", &[at(0, 1), at(2, 5), at(1, 9), at(2, 7)]);
        consume(&fixture, batch_rows);
        let rows = fixture.rows("SELECT ts, value FROM readings");
        assert_eq!(rows, [json!({"ts": "1970-01-01T00:02:00+00:00", "value": 5})]);
        // the minute that the event has left is left empty
        assert_eq!(
            fixture.rows("SELECT minute, value_sum FROM agg_readings_minute"),
            [json!({"minute": "1970-01-01T00:02:00+00:00", "value_sum": 5})]
        );
        assert_eq!((fixture.ledger().inserted, fixture.ledger().duplicate), (1, 3));
    }
}

#[test]
fn the_first_event_with_an_id_stands_however_the_batches_fall() {
    one_of_each_id_stands("ignore", |_, _| false);
}

#[test]
fn the_newest_event_with_an_id_stands_however_the_batches_fall() {
    one_of_each_id_stands("latest", |new, kept| new["ts"].as_i64() > kept["ts"].as_i64());
}

#[test]
fn members_that_come_and_go_lose_nothing_and_count_nothing_twice() {
    let fixture = telemetry::empty();
    // more than will be waited for: it ends when all members have had their part
    let mut producer =
        fixture.start(&[&telemetry::produce("1000000")[..], &["--rate", "2000"]].concat());
    let consume = ["consume", "--batch-rows", "200", "--log", "info,sluicegate=debug"];
    let mut staying = [fixture.start(&consume), fixture.start(&consume)];
    staying.iter_mut().for_each(wait_until_it_lands);
    fixture.wait_until(OFFSETS, |offsets| offsets >= 1_000);
    let mut passing = fixture.start(&consume);
    wait_until_it_lands(&mut passing);
    let before = fixture.number(OFFSETS);
    fixture.wait_until(OFFSETS, |offsets| offsets >= before + 1_000);
    assert_eq!(passing.terminate(), Some(0), "{}", passing.log());
    let before = fixture.number(OFFSETS);
    fixture.wait_until(OFFSETS, |offsets| offsets >= before + 1_000);
    assert_eq!(producer.terminate(), Some(0), "{}", producer.log());
    let ends = fixture.watermarks(&telemetry::topic(&fixture));
    let sent: i64 = ends.iter().map(|(low, high)| high - low).sum();
    fixture.wait_until(OFFSETS, |offsets| offsets >= sent);
    for member in &mut staying {
        assert_eq!(member.terminate(), Some(0), "{}", member.log());
    }
    let inserted =
        staying.iter().chain([&passing]).map(|member| inserted_at_the_end(&member.log()));
    let inserted: Vec<i64> = inserted.collect();
    assert!(inserted.iter().all(|inserted| *inserted > 0), "{inserted:?}");
    assert_eq!(inserted.iter().sum::<i64>(), fixture.ledger().inserted, "{inserted:?}");
    assert_all_landed(&fixture);
}

/// Sends events of few ids, dimensions and moments, and expects one of each id in the table,
/// and the aggregates to be those of the table.
#[track_caller]
fn one_of_each_id_stands(on_conflict: &str, replaces: fn(&Json, &Json) -> bool) {
    let events = few_of_everything(100);
    let mut standing: BTreeMap<&str, &Json> = BTreeMap::new();
    for event in &events {
        let kept = standing.entry(event["event_id"].as_str().unwrap()).or_insert(event);
        if replaces(event, kept) {
            *kept = event;
        }
    }
    let standing: Vec<Json> = standing.into_values().cloned().collect();
    assert!(standing.len() < events.len() / 2);
    for batch_rows in ["7", "1000"] {
        let fixture = Fixture::with_stream(samples(on_conflict));
        fixture.produce("readings", &events);
        consume(&fixture, batch_rows);
        assert_stands(&fixture, &standing, events.len());
        // and once more, as if Kafka had not heard of it
        fixture.commit("readings", &[0]);
        consume(&fixture, "1000");
        assert_stands(&fixture, &standing, events.len());
    }
}

#[track_caller]
fn assert_stands(fixture: &Fixture, standing: &[Json], events: usize) {
    let kept = fixture.rows(
        "SELECT event_id, zone, (extract(epoch FROM ts) * 1000)::bigint AS ts, value \
         FROM readings ORDER BY event_id",
    );
    assert_eq!(kept, standing);
    let aggregates = fixture.rows(
        "SELECT minute, zone, count, value_count, value_sum, value_min, value_max, value_last, \
         value_last_at \
         FROM agg_readings_minute ORDER BY minute, zone",
    );
    let anew = fixture.rows(
        "SELECT date_trunc('minute', ts) AS minute, zone, count(*) AS count, \
         count(value) AS value_count, sum(value) AS value_sum, min(value) AS value_min, \
         max(value) AS value_max, (array_agg(value ORDER BY ts DESC, value DESC) \
         FILTER (WHERE value IS NOT NULL))[1] AS value_last, \
         max(ts) FILTER (WHERE value IS NOT NULL) AS value_last_at \
         FROM readings GROUP BY 1, 2 ORDER BY 1, 2",
    );
    assert_eq!(aggregates, anew);
    let ledger = fixture.ledger();
    let counted = [ledger.inserted, ledger.duplicate].map(|n| usize::try_from(n).unwrap());
    assert_eq!(counted, [standing.len(), events - standing.len()]);
}

/// A contract whose dimension and value may be null.
fn samples(on_conflict: &str) -> Json {
    let mut contract = readings();
    contract["sluicegate"] = json!({
        "key": "event_id", "time": "ts", "on_conflict": on_conflict,
        "aggregates": [{"every": "1m", "by": ["zone"], "of": ["value"]}],
    });
    contract["fields"][1] = json!({"name": "zone", "type": ["null", "string"]});
    contract["fields"][3] = json!({"name": "value", "type": ["null", "long"]});
    contract
}

fn sample(id: Uuid, zone: Option<&str>, ts: i64, value: Option<i64>) -> Json {
    json!({"event_id": id, "zone": zone, "ts": ts, "value": value})
}

/// Events that meet each other often.
fn few_of_everything(count: usize) -> Vec<Json> {
    let mut chance = StdRng::seed_from_u64(11);
    let mut event = || {
        let id = Uuid::from_u128(chance.random_range(1..=20));
        let zone = *[None, Some("north"), Some("south")].choose(&mut chance).unwrap();
        let ts = chance.random_range(0..12) * 15_000;
        let value = chance.random_bool(0.7).then(|| chance.random_range(-9..9));
        sample(id, zone, ts, value)
    };
    (0..count).map(|_| event()).collect()
}

fn consume(fixture: &Fixture, batch_rows: &str) {
    let run = ["consume", "--exit-when-drained", "--batch-rows", batch_rows];
    fixture.run(&run).success();
}

/// Waits until a member of the group has a row in the table that is new by it.
fn wait_until_it_lands(member: &mut Running) {
    member.wait_for_line("batch of its own", |line| {
        line.contains("batch landed") && inserted(line) > 0
    });
}

/// How many rows were new by a member, as it says when it is done.
fn inserted_at_the_end(log: &str) -> i64 {
    let done = log.lines().find(|line| line.contains(" done "));
    inserted(done.unwrap_or_else(|| panic!("it does not say that it is done: {log}")))
}

/// The number in a line of a log.
fn inserted(line: &str) -> i64 {
    let number = line.split_whitespace().find_map(|word| word.strip_prefix("inserted="));
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("none in {line}"))
}
