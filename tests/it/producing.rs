//! `produce` puts on the topic what its source says: every record once, keyed, or rejected by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::Stdio,
    time::{Duration, Instant},
};

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value};
use serde_json::{Value as Json, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{any, header},
};

use crate::support::{Fixture, Ledger, PATIENCE, ended, poll, readings, repository};

/// A moment to start from, so that a seed decides every byte.
const START: &str = "2026-01-01T00:00:00Z";

#[test]
fn a_csv_file_lands_once_however_often_it_is_produced() {
    let fixture = repository_stream("pedestrian_counts");
    let csv = repository("tests/data/pedestrian_counts.csv");
    let text = std::fs::read_to_string(&csv).unwrap();
    let is_blank = |line: &&str| line.split(',').nth(2) == Some("");
    let blank = text.lines().skip(1).filter(is_blank).count() as i64;
    let counted = text.lines().skip(1).count() as i64 - blank;
    assert!(blank > 0 && counted > 0);

    let produce = ["produce", "pedestrian_counts", "--from", csv.to_str().unwrap()];
    fixture.run(&produce).success();
    fixture.drain();
    let landed = fixture.rows("SELECT * FROM pedestrian_counts ORDER BY event_id");
    assert_eq!(landed.len() as i64, counted);
    let reasons = fixture.rows("SELECT DISTINCT reason FROM dlq_events");
    assert_eq!(reasons, [json!({"reason": "rule:sensor_was_up"})]);

    fixture.run(&produce).success();
    fixture.drain();
    assert_eq!(fixture.rows("SELECT * FROM pedestrian_counts ORDER BY event_id"), landed);
    let ledger = Ledger {
        inserted: counted,
        duplicate: counted + blank,
        dead_lettered: blank,
        skipped: 0,
        offsets: 2 * (counted + blank),
    };
    assert_eq!(fixture.ledger(), ledger);
}

#[test]
fn a_document_lands_by_its_pointers_and_again_changes_nothing() {
    let fixture = repository_stream("earthquakes");
    let file = repository("tests/data/earthquakes.geojson");
    let produce = ["produce", "earthquakes", "--from", file.to_str().unwrap()];
    let document: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let mut expected: Vec<Json> = document["features"]
        .as_array()
        .unwrap()
        .iter()
        .map(|feature| {
            let (properties, place) = (&feature["properties"], &feature["geometry"]["coordinates"]);
            json!({
                "usgs_id": feature["id"], "updated": properties["updated"],
                "magnitude": properties["mag"], "felt_reports": properties["felt"],
                "kind": properties["type"], "longitude": place[0], "depth_km": place[2],
            })
        })
        .collect();
    expected.sort_by_key(|row| row["usgs_id"].to_string());
    let rows = "SELECT usgs_id, (extract(epoch FROM updated_at) * 1000)::bigint AS updated, \
                magnitude, felt_reports, kind, longitude, depth_km FROM earthquakes \
                ORDER BY usgs_id COLLATE \"C\"";
    let days = "SELECT * FROM agg_earthquakes_day ORDER BY day, kind";

    fixture.run(&produce).success();
    fixture.drain();
    let first = fixture.rows(days);
    assert_same_numbers(&fixture.rows(rows), &expected);
    fixture.run(&produce).success();
    fixture.drain();
    assert_same_numbers(&fixture.rows(rows), &expected);
    assert_eq!(fixture.rows(days), first);
    assert_eq!(fixture.ledger().duplicate, expected.len() as i64);
}

#[test]
fn json_lines_come_from_a_file_or_from_standard_input() {
    let fixture = Fixture::embedded(readings());
    let lines = |ids: std::ops::Range<u128>| {
        let line = |id| {
            let event_id = uuid::Uuid::from_u128(id).to_string();
            json!({"event_id": event_id, "device": "a", "ts": START, "value": 1.5}).to_string()
        };
        ids.map(line).collect::<Vec<_>>().join("\n")
    };
    let file = fixture.schemas.path().join("some.jsonl");
    std::fs::write(&file, lines(0..30)).unwrap();
    fixture.run(&["produce", "readings", "--from", file.to_str().unwrap()]).success();

    let mut command = fixture.command(&["produce", "readings", "--from", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines(20..70).as_bytes()).unwrap();
    assert!(ended(&mut child).is_some_and(|status| status.success()));
    fixture.drain();
    let ledger = fixture.ledger();
    assert_eq!((ledger.inserted, ledger.duplicate), (70, 10));
}

#[test]
fn a_row_that_cannot_be_encoded_is_kept_with_line_field_and_reason() {
    let fixture = Fixture::embedded(readings());
    let id = |id: u128| uuid::Uuid::from_u128(id).to_string();
    let csv = format!(
        "event_id,device,ts,value\n{},a,{START},1.5\n{},a,{START},many\n{},a,yesterday,2\n\
         not-a-uuid,a,{START},3\n{},a,{START}\n{},a,{START},4\n",
        id(1),
        id(2),
        id(3),
        id(5),
        id(6),
    );
    let path = fixture.schemas.path();
    std::fs::write(path.join("some.csv"), csv).unwrap();
    let ran = fixture.run(&["produce", "readings", "--from", "some.csv", "--log", "error"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    insta::assert_snapshot!(ran.stdout.replace(&fixture.prefix, "[prefix]"), @"readings: 2 records delivered to [prefix].readings");
    insta::assert_snapshot!(ran.stderr, @"4 rejected rows; see readings.rejects.jsonl");
    let rejects = std::fs::read_to_string(path.join("readings.rejects.jsonl")).unwrap();
    insta::assert_snapshot!(rejects, @r#"
    {"line":3,"field":"value","reason":"expected a number, found \"many\"","row":{"device":"a","event_id":"00000000-0000-0000-0000-000000000002","ts":"2026-01-01T00:00:00Z","value":"many"}}
    {"line":4,"field":"ts","reason":"expected a time such as 2023-10-01T00:00:00Z, found \"yesterday\"","row":{"device":"a","event_id":"00000000-0000-0000-0000-000000000003","ts":"yesterday","value":"2"}}
    {"line":5,"field":"event_id","reason":"expected a UUID, found \"not-a-uuid\"","row":{"device":"a","event_id":"not-a-uuid","ts":"2026-01-01T00:00:00Z","value":"3"}}
    {"line":6,"field":"","reason":"the row has 3 columns, the header names 4","row":"00000000-0000-0000-0000-000000000005,a,2026-01-01T00:00:00Z"}
    "#);
    fixture.drain();
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 2);
}

#[test]
fn polling_again_sends_only_what_has_changed() {
    let fixture = repository_stream("earthquakes");
    let topic = format!("{}.earthquakes", fixture.prefix);
    let file = repository("tests/data/earthquakes.geojson");
    let first: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let count = first["features"].as_array().unwrap().len();
    let mut second = first.clone();
    let report = &mut second["features"][3]["properties"];
    report["updated"] = json!(report["updated"].as_i64().unwrap() + 60_000);
    report["mag"] = json!(9.5);

    let api = Api::serving(&first, &second);
    let produce = ["produce", "earthquakes", "--poll", &api.url(), "--every", "100ms"];
    let mut polling = fixture.start(&produce);
    api.wait_for_unchanged(3);
    assert_eq!(polling.terminate(), Some(0), "{}", polling.log());
    assert_eq!(fixture.read_topic(&topic).len(), count + 1);
    fixture.drain();
    let landed = fixture.rows("SELECT * FROM earthquakes ORDER BY event_id");
    assert_eq!(landed.len(), count);
    let newest: Vec<&Json> = landed.iter().filter(|row| row["magnitude"] == 9.5).collect();
    assert_eq!(newest.len(), 1);
    assert_eq!(newest[0]["usgs_id"], first["features"][3]["id"]);

    // a process that knows of no poll before sends everything, and the table stays as it is
    fixture.run(&["produce", "earthquakes", "--poll", &api.url()]).success();
    assert_eq!(fixture.read_topic(&topic).len(), count + 1 + count);
    fixture.drain();
    assert_eq!(fixture.rows("SELECT * FROM earthquakes ORDER BY event_id"), landed);
}

#[test]
fn count_rate_and_duration_are_kept() {
    let fixture = Fixture::embedded(readings());
    let mut sent = 0;
    let mut run = |args: &[&str]| {
        let started = Instant::now();
        fixture.run(&[&["produce", "readings"], args].concat()).success();
        let before = std::mem::replace(&mut sent, fixture.read_topic(&fixture.topic()).len());
        (sent - before, started.elapsed())
    };
    assert_eq!(run(&["--count", "137"]).0, 137);
    assert_eq!(run(&["--count", "0"]).0, 0);

    let (count, took) = run(&["--rate", "100", "--count", "60"]);
    assert_eq!(count, 60);
    assert!(took >= Duration::from_millis(590), "{took:?}");

    // what ends first ends the run
    let (count, took) = run(&["--rate", "50", "--duration", "1s", "--count", "100000"]);
    assert!((1..=51).contains(&count), "{count}");
    assert!(took >= Duration::from_secs(1) && took < PATIENCE, "{took:?}");
}

#[test]
fn a_seed_and_a_start_decide_every_byte() {
    let fixture = repository_stream("device_telemetry");
    let topic = format!("{}.device_telemetry", fixture.prefix);
    let produce = |seed: &str| {
        let args = ["produce", "device_telemetry", "--start", START, "--count", "400"];
        fixture.run(&[&args[..], &["--seed", seed]].concat()).success();
    };
    ["7", "7", "8"].into_iter().for_each(produce);
    let records = fixture.read_topic(&topic);
    let bytes: Vec<_> = records.into_iter().map(|read| (read.key, read.value)).collect();
    let runs: Vec<_> = bytes.chunks(400).collect();
    assert_eq!(runs.len(), 3);
    assert!(runs[0] == runs[1], "the same seed gave other bytes");
    assert!(runs[0] != runs[2], "another seed gave the same bytes");
}

#[test]
fn sped_up_readings_end_now_and_hold_the_anomalies_that_are_said() {
    let fixture = repository_stream("heartbeats");
    let file = fixture.schemas.path().join("anomalies.jsonl");
    let began = millis(OffsetDateTime::now_utc());
    let produce = ["produce", "heartbeats", "--rate", "1000", "--count", "3000", "--seed", "7"];
    let speed_up = ["--speed-up", "600", "--anomalies", file.to_str().unwrap()];
    fixture.run(&[&produce[..], &speed_up].concat()).success();
    let readings = heartbeats(&fixture);
    assert_eq!(readings.len(), 3_000);
    assert!(readings.windows(2).all(|pair| pair[1].at - pair[0].at == 600));
    let last = readings[2_999].at;
    assert!((began..=millis(OffsetDateTime::now_utc())).contains(&last), "{last}");

    let text = std::fs::read_to_string(&file).unwrap();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let anomalies: Vec<Json> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for anomaly in &anomalies {
        let (begins, ends) = (instant(&anomaly["begins"]), instant(&anomaly["ends"]));
        let (begins, ends) = (begins.unwrap(), ends.unwrap_or(last + 1));
        assert!(readings[0].at <= begins && begins < ends && ends <= last + 1, "{anomaly}");
        assert_eq!(anomaly["stream"], "heartbeats");
        let customer = anomaly["dimensions"]["customer_id"].as_str().unwrap();
        let within = |settled: i64| {
            let moments = begins + settled..ends;
            let of_customer = readings.iter().filter(move |now| now.customer == customer);
            of_customer.filter(move |now| moments.contains(&now.at)).map(|now| now.heart_rate)
        };
        let kind = anomaly["kind"].as_str().unwrap();
        match kind {
            "heart_rate_high" => assert!(within(60_000).all(|rate| rate > 120.0), "{anomaly}"),
            "heart_rate_low" => assert!(within(60_000).all(|rate| rate < 55.0), "{anomaly}"),
            "sensor_silent" => assert_eq!(within(0).count(), 0, "{anomaly}"),
            other => panic!("what is {other}?"),
        }
        *kinds.entry(kind).or_default() += 1;
    }
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

#[test]
fn sped_up_readings_that_catch_up_with_the_clock_go_on_at_its_pace() {
    let fixture = repository_stream("heartbeats");
    let began = OffsetDateTime::now_utc();
    let start = (began - time::Duration::minutes(1)).format(&Rfc3339).unwrap();
    let produce = ["produce", "heartbeats", "--rate", "500", "--count", "1000"];
    fixture.run(&[&produce[..], &["--speed-up", "100", "--start", &start]].concat()).success();
    let readings = heartbeats(&fixture);
    let (first, last) = (readings[0].at, readings[999].at);
    assert_eq!(first, millis(began) - 60_000);
    assert!((millis(began)..=millis(OffsetDateTime::now_utc())).contains(&last), "{last}");
    assert!(readings.is_sorted_by_key(|now| now.at));
    for wrong in [
        &["--speed-up", "2", "--count", "5"][..],
        &["--speed-up", "2", "--rate", "5"],
        &["--speed-up", "2", "--rate", "5", "--continuous"],
        &["--speed-up", "0", "--rate", "5", "--count", "5"],
    ] {
        let ran = fixture.run(&[&["produce", "heartbeats"], wrong].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{wrong:?}: {}", ran.stderr);
    }
}

#[test]
fn of_readings_made_from_a_schema_alone_no_anomalies_are_known() {
    let fixture = Fixture::embedded(readings());
    let produce = ["produce", "readings", "--count", "10", "--anomalies", "anomalies.jsonl"];
    let ran = fixture.run(&produce);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("no anomalies are known"), "{}", ran.stderr);
    let file = fixture.schemas.path().join("anomalies.jsonl");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "");
}

#[test]
fn faults_are_found_again_as_what_they_are() {
    let fixture = repository_stream("device_telemetry");
    let args = ["--duplicates", "5%", "--invalid", "4%", "--corrupt", "0.03", "--seed", "7"];
    let produce = [&["produce", "device_telemetry", "--count", "3000"], &args[..]].concat();
    let summary = fixture.run(&produce).success();
    let said = |what: &str| -> i64 {
        let end = summary.find(what).unwrap_or_else(|| panic!("no {what} in {summary}"));
        summary[..end].trim_end().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (sent_again, invalid, corrupt) =
        (said("sent again"), said("breaking a rule"), said("corrupt"));
    assert_eq!(said("records delivered"), 3_000);
    assert!(sent_again > 75 && invalid > 60 && corrupt > 45, "{summary}");

    fixture.drain();
    let ledger = fixture.ledger();
    assert_eq!(ledger.duplicate, sent_again);
    assert_eq!(ledger.dead_lettered, invalid + corrupt);
    assert_eq!(ledger.inserted, 3_000 - sent_again - invalid - corrupt);
    let dead = |reason: &str| {
        fixture.number(&format!("SELECT count(*) FROM dlq_events WHERE reason LIKE '{reason}'"))
    };
    assert_eq!(dead("rule:%"), invalid);
    let corrupted = ["bad_magic_byte", "unknown_schema_id", "truncated_body"].map(dead);
    assert_eq!(corrupted.iter().sum::<i64>(), corrupt);
    let (most, least) = (corrupted.iter().max(), corrupted.iter().min());
    assert!(most.unwrap() - least.unwrap() <= 1, "{corrupted:?}");
}

#[test]
fn a_key_is_the_contracts_field_and_goes_where_java_sends_it() {
    let mut fixture = Fixture::new();
    let avsc = avsc("device_telemetry");
    let topic = fixture.stream("device_telemetry", avsc.clone());
    fixture.create_topic(&topic, 6);
    fixture.run(&["produce", "device_telemetry", "--count", "500"]).success();
    let schema = Schema::parse(&avsc).unwrap();
    let mut keys: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for read in fixture.read_topic(&topic) {
        let body = read.value.unwrap();
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let Value::Record(fields) = reader.read_value(&mut &body[5..]).unwrap() else {
            panic!("no record");
        };
        let key = String::from_utf8(read.key.unwrap()).unwrap();
        let device = fields.iter().find(|(name, _)| name == "device_id").unwrap();
        assert_eq!(device.1, Value::String(key.clone()));
        assert_eq!(read.partition, (murmur2(key.as_bytes()) & 0x7fff_ffff) % 6, "{key}");
        keys.entry(key).or_default().insert(read.partition);
    }
    assert!(keys.len() > 6, "{keys:?}");
    let partitions: BTreeSet<i32> = keys.into_values().flatten().collect();
    assert!(partitions.len() > 1, "{partitions:?}");
}

#[test]
fn the_tests_own_murmur2_is_javas() {
    // from the tests of org.apache.kafka.common.utils.Utils
    for (text, hash) in [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ] {
        assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
    }
}

/// Kafka's own variant of the hash.
fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

/// An HTTP API whose document changes once, and says so by its ETag.
struct Api {
    runtime: tokio::runtime::Runtime,
    server: MockServer,
}

impl Api {
    fn serving(first: &Json, second: &Json) -> Api {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = runtime.block_on(async {
            let server = MockServer::start().await;
            let answer = |document: &Json, etag: &str| {
                ResponseTemplate::new(200).set_body_json(document).insert_header("etag", etag)
            };
            let unchanged = ResponseTemplate::new(304);
            let knows = |etag: &'static str| Mock::given(header("if-none-match", etag));
            knows("\"2\"").respond_with(unchanged).with_priority(1).mount(&server).await;
            knows("\"1\"")
                .respond_with(answer(second, "\"2\""))
                .with_priority(2)
                .mount(&server)
                .await;
            let anyone = Mock::given(any());
            anyone.respond_with(answer(first, "\"1\"")).with_priority(3).mount(&server).await;
            server
        });
        Api { runtime, server }
    }

    fn url(&self) -> String {
        self.server.uri()
    }

    /// Waits until so many polls were told that nothing is new.
    fn wait_for_unchanged(&self, count: usize) {
        let requests = || self.runtime.block_on(self.server.received_requests()).unwrap();
        let knew = |request: &&Request| {
            request.headers.get("if-none-match").is_some_and(|etag| etag == "\"2\"")
        };
        poll(|| (requests().iter().filter(knew).count() >= count).then_some(()))
            .unwrap_or_else(|| panic!("polled {} times", requests().len()));
    }
}

/// One heartbeat, as it is on the topic.
struct Heartbeat {
    customer: String,
    /// In milliseconds since 1970.
    at: i64,
    heart_rate: f64,
}

/// What is on the topic, in the order in which it was sent.
fn heartbeats(fixture: &Fixture) -> Vec<Heartbeat> {
    let schema = Schema::parse(&avsc("heartbeats")).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let topic = format!("{}.heartbeats", fixture.prefix);
    let records = fixture.read_topic(&topic).into_iter();
    records
        .map(|read| {
            let body = read.value.unwrap();
            let json: Json = reader.read_value(&mut &body[5..]).unwrap().try_into().unwrap();
            Heartbeat {
                customer: json["customer_id"].as_str().unwrap().to_owned(),
                at: json["timestamp"].as_i64().unwrap(),
                heart_rate: json["heart_rate"].as_f64().unwrap(),
            }
        })
        .collect()
}

/// In milliseconds since 1970; none for null.
fn instant(json: &Json) -> Option<i64> {
    json.as_str().map(|text| millis(OffsetDateTime::parse(text, &Rfc3339).unwrap()))
}

fn millis(at: OffsetDateTime) -> i64 {
    (at.unix_timestamp_nanos() / 1_000_000) as i64
}

/// A corner with one of the repository's streams, on a topic of one partition.
fn repository_stream(stream: &str) -> Fixture {
    let mut fixture = Fixture::new();
    let topic = fixture.stream(stream, avsc(stream));
    fixture.create_topic(&topic, 1);
    fixture.run(&["migrate"]).success();
    fixture
}

fn avsc(stream: &str) -> Json {
    let file = repository("schemas").join(format!("{stream}.avsc"));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// Rows as JSON, where 2 and 2.0 are one number.
fn assert_same_numbers(left: &[Json], right: &[Json]) {
    fn plain(json: &Json) -> Json {
        match json {
            Json::Number(number) => json!(number.as_f64()),
            Json::Array(items) => items.iter().map(plain).collect(),
            Json::Object(entries) => {
                Json::Object(entries.iter().map(|(k, v)| (k.clone(), plain(v))).collect())
            }
            other => other.clone(),
        }
    }
    let [left, right] = [left, right].map(|rows| rows.iter().map(plain).collect::<Vec<_>>());
    assert_eq!(left, right);
}
