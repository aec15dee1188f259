//! What `serve` makes of closed buckets: metrics, and alerts that are opened, resolved and told.

use std::collections::BTreeSet;

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value};
use serde_json::{Value as Json, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use sluicegate::{
    analytics::statements,
    contract::{ColumnType, Contract},
};

use crate::{
    avro::id,
    support::{Fixture, Ran, poll, readings, repository},
};

/// 2026-05-01T12:00:00Z.
const NOON: i64 = 1_777_636_800_000;

/// How a server is told to take buckets for closed up to the newest event, and not to know the wall's
/// clock.
const BY_EVENTS: [&str; 4] = ["--lateness", "0s", "--idle", "10h"];

/// A server that goes on, and is quick.
const SERVE: [&str; 6] =
    ["serve", "--listen", "127.0.0.1:0", "--every", "100ms", "--no-alerts-topic"];

/// Readings of a minute after noon: of one device and of one value each.
fn rows(device: &str, minute: i64, values: &[f64]) -> Vec<Json> {
    let seconds = (0..).step_by(5);
    let row = |(second, value): (i64, &f64)| {
        let ts = NOON + minute * 60_000 + second * 1_000;
        json!({"event_id": uuid::Uuid::new_v4(), "device": device, "ts": ts, "value": value})
    };
    seconds.zip(values).map(row).collect()
}

/// Lands readings, and one that closes the minutes before another.
fn land(fixture: &Fixture, rows: &[Json], closed: i64) {
    let clock = self::rows("clock", closed, &[0.0]);
    fixture.produce("readings", &[rows, &clock].concat());
    fixture.drain();
}

fn serve_once(fixture: &Fixture, args: &[&str]) -> Ran {
    let ran = fixture.run(&[&["serve", "--once"], &BY_EVENTS[..], args].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    ran
}

/// The contract with alerts.
fn watched(alerts: Json) -> Json {
    let mut contract = readings();
    contract["sluicegate"]["alerts"] = alerts;
    contract
}

/// Opens in the first minute above 50, resolves in the first minute below.
fn hot() -> Json {
    json!([{"name": "hot", "by": ["device"], "when": "avg(value) > 50.0"}])
}

/// Fails the test unless the metrics are what the rows make.
#[track_caller]
fn assert_metrics(fixture: &Fixture, table: &str) {
    let differing = fixture.rows(&format!(
        "SELECT * FROM (\
           SELECT bucket, metric, dimensions->>'device' AS device, value::numeric(12,3) \
           FROM metrics WHERE aggregate = '{table}') AS kept \
         FULL JOIN (\
           SELECT date_trunc('minute', ts) AS bucket, metric, device, value::numeric(12,3) \
           FROM (SELECT date_trunc('minute', ts) AS ts, device, count(*)::float8 AS count, \
                 avg(value) AS avg, max(value) AS max FROM readings \
                 WHERE ts < (SELECT date_trunc('minute', max(ts)) FROM readings) GROUP BY 1, 2) AS made, \
           LATERAL (VALUES ('count', count), ('value_avg', avg), ('value_max', max)) \
             AS of (metric, value)) AS made \
         USING (bucket, metric, device, value) WHERE kept IS NULL OR made IS NULL"
    ));
    assert_eq!(differing, Vec::<Json>::new());
    assert!(fixture.number("SELECT count(*) FROM metrics") > 0);
    // that of the newest event alone is open
    assert_eq!(fixture.number("SELECT count(*) FROM aggregate_changes"), 1);
}

#[test]
fn closed_buckets_become_metrics_once_and_late_events_mend_them() {
    for on_conflict in ["ignore", "latest"] {
        let mut contract = readings();
        contract["sluicegate"]["on_conflict"] = json!(on_conflict);
        let fixture = Fixture::with_stream(contract);
        let mut first = rows("a", 0, &[1.0, 2.0, 6.0]);
        first.extend(rows("b", 0, &[5.0]));
        first.extend(rows("a", 1, &[4.0]));
        land(&fixture, &first, 2);
        serve_once(&fixture, &[]);
        assert_metrics(&fixture, "agg_readings_minute");
        // nothing changed, and nothing is written
        let versions = "SELECT sum(xmin::text::bigint) FROM metrics";
        let before = fixture.number(versions);
        serve_once(&fixture, &[]);
        assert_eq!(fixture.number(versions), before);
        // late ones, and one that changes the minute that an event is in where the newest stands
        let mut late = rows("a", 0, &[9.0]);
        late.extend(rows("c", -60, &[7.0]));
        let mut moved = first[3].clone();
        moved["ts"] = json!(NOON + 5 * 60_000);
        late.push(moved);
        land(&fixture, &late, 6);
        serve_once(&fixture, &[]);
        assert_metrics(&fixture, "agg_readings_minute");
        assert!(fixture.number(versions) > before);
    }
}

#[test]
fn a_bucket_is_closed_once_every_partition_that_is_read_has_passed_its_end() {
    let fixture = Fixture::with_partitions("readings", watched(hot()), 2);
    let now = fixture.number("SELECT extract(epoch FROM date_trunc('minute', now())) * 1000");
    let minute = |ago: i64| now - ago * 60_000;
    let event = |n: u64, device: &str, ts: i64| json!({"event_id": id(n), "device": device, "ts": ts, "value": 60.0});
    // Java's partitioner sends some of these to each partition
    let devices: Vec<String> = (0..8).map(|n| format!("d{n}")).collect();
    let all = |ago: i64, from: u64| -> Vec<Json> {
        (from..).zip(&devices).map(|(n, device)| event(n, device, minute(ago))).collect()
    };
    let serve = ["serve", "--once", "--lateness", "0s", "--idle", "1h", "--no-alerts-topic"];
    let closed = "SELECT count(DISTINCT bucket) FROM metrics";
    fixture.produce("readings", &[all(20, 0), all(10, 100)].concat());
    fixture.drain();
    fixture.run(&serve).success();
    assert_eq!(fixture.number(closed), 1, "the newest event's minute is still open");
    // one partition goes on, the other does not
    let partitions = "SELECT count(*) FROM ledger WHERE event_time IS NOT NULL";
    assert_eq!(fixture.number(partitions), 2);
    let ahead = event(200, &devices[0], minute(2));
    fixture.produce("readings", &[ahead]);
    fixture.drain();
    fixture.run(&serve).success();
    assert_eq!(fixture.number(closed), 1);
    // nothing is read any more, and so nobody is waited for
    let idle = ["serve", "--once", "--lateness", "0s", "--idle", "0s", "--no-alerts-topic"];
    fixture.run(&idle).success();
    assert_eq!(fixture.number(closed), 3);
}

#[test]
fn an_alert_opens_resolves_and_is_told_to_the_topic_and_to_a_webhook_that_comes_back() {
    let mut fixture = Fixture::with_stream(watched(hot()));
    let topic = fixture.alerts_topic();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let webhook = runtime.block_on(MockServer::start());
    let away = ResponseTemplate::new(503);
    runtime.block_on(Mock::given(method("POST")).respond_with(away).mount(&webhook));
    let mut minutes = rows("a", 0, &[40.0, 44.0]);
    minutes.extend(rows("a", 1, &[50.0, 70.0]));
    minutes.extend(rows("b", 1, &[10.0]));
    land(&fixture, &minutes, 2);
    let url = webhook.uri();
    let args = ["--alerts-topic", &topic, "--alerts-webhook", &url];
    let ran = serve_once(&fixture, &args);
    assert_eq!(ran.stdout, "1 told of alerts, 1 still to be told, 0 refused\n");
    assert!(!ran.stderr.contains(&url), "{}", ran.stderr);
    let alerts = "SELECT stream, name, dimensions, status, since, opened_at, resolved_at, measured \
                  FROM alerts ORDER BY id";
    insta::assert_json_snapshot!(fixture.rows(alerts), @r#"
    [
      {
        "dimensions": {
          "device": "a"
        },
        "measured": {
          "avg(value)": 60.0
        },
        "name": "hot",
        "opened_at": "2026-05-01T12:02:00+00:00",
        "resolved_at": null,
        "since": "2026-05-01T12:01:00+00:00",
        "status": "open",
        "stream": "readings"
      }
    ]
    "#);

    // it is over, and the webhook is still away: it hears of both, in order, when it is back
    land(&fixture, &rows("a", 2, &[50.0]), 3);
    serve_once(&fixture, &args);
    let received = || runtime.block_on(webhook.received_requests()).unwrap();
    let before = received().len();
    runtime.block_on(webhook.reset());
    let back = ResponseTemplate::new(204);
    runtime.block_on(Mock::given(method("POST")).respond_with(back).mount(&webhook));
    let told = poll(|| {
        fixture.sql("UPDATE alert_outbox SET next_at = now()");
        serve_once(&fixture, &args);
        (fixture.number("SELECT count(*) FROM alert_outbox") == 0).then_some(())
    });
    assert_eq!((told, before > 0), (Some(()), true));
    let bodies: Vec<Json> = received().iter().map(|request| request.body_json().unwrap()).collect();
    insta::assert_json_snapshot!(bodies, {"[].alert_id" => 1}, @r#"
    [
      {
        "alert_id": 1,
        "dimensions": {
          "device": "a"
        },
        "measured": {
          "avg(value)": 60.0
        },
        "name": "hot",
        "opened_at": "2026-05-01T12:02:00Z",
        "resolution": null,
        "resolved_at": null,
        "since": "2026-05-01T12:01:00Z",
        "status": "open",
        "stream": "readings"
      },
      {
        "alert_id": 1,
        "dimensions": {
          "device": "a"
        },
        "measured": {
          "avg(value)": 60.0
        },
        "name": "hot",
        "opened_at": "2026-05-01T12:02:00Z",
        "resolution": "cleared",
        "resolved_at": "2026-05-01T12:03:00Z",
        "since": "2026-05-01T12:01:00Z",
        "status": "resolved",
        "stream": "readings"
      }
    ]
    "#);
    let records = fixture.read_topic(&topic);
    let schema =
        Schema::parse_str(&std::fs::read_to_string(repository("src/notify/alert.avsc")).unwrap())
            .unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let field = |body: &[u8], name: &str| {
        let Value::Record(fields) = reader.read_value(&mut &body[5..]).unwrap() else { panic!() };
        fields.into_iter().find(|(field, _)| field == name).unwrap().1
    };
    let sent: Vec<String> = records
        .iter()
        .map(|record| {
            let body = record.value.as_ref().unwrap();
            assert_eq!(body[..5], [&[0], &fixture.schema_id(&topic).to_be_bytes()[..]].concat());
            let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
            let Value::Enum(_, status) = field(body, "status") else { panic!() };
            format!("{key} {status} {:?}", field(body, "measured"))
        })
        .collect();
    insta::assert_snapshot!(sent.join("\n"), @r#"
    readings/hot/{"device":"a"} open Map({"avg(value)": Union(1, Double(60.0))})
    readings/hot/{"device":"a"} resolved Map({"avg(value)": Union(1, Double(60.0))})
    "#);
}

#[test]
fn an_alert_that_the_webhook_refuses_is_given_up_and_the_next_is_told() {
    let fixture = Fixture::with_stream(watched(hot()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let webhook = runtime.block_on(MockServer::start());
    let refusal = ResponseTemplate::new(400);
    let refuse = Mock::given(method("POST")).respond_with(refusal).up_to_n_times(1);
    runtime.block_on(refuse.mount(&webhook));
    let take = Mock::given(method("POST")).respond_with(ResponseTemplate::new(200));
    runtime.block_on(take.mount(&webhook));
    land(&fixture, &[rows("a", 0, &[60.0]), rows("b", 0, &[60.0])].concat(), 1);
    let ran = serve_once(&fixture, &["--no-alerts-topic", "--alerts-webhook", &webhook.uri()]);
    assert_eq!(ran.stdout, "1 told of alerts, 0 still to be told, 1 refused\n");
    assert!(ran.stderr.contains("is refused, and given up"), "{}", ran.stderr);
    assert_eq!(fixture.number("SELECT count(*) FROM alert_outbox"), 0);
    assert_eq!(runtime.block_on(webhook.received_requests()).unwrap().len(), 2);
}

#[test]
fn the_same_buckets_are_decided_once_however_often_and_in_whatever_steps_they_are_looked_at() {
    let alerts = json!([
        {"name": "hot", "by": ["device"], "when": "avg(value) > 50.0", "for": "2m"},
        {"name": "rising", "by": ["device"], "when": "avg(value) > 2.0 * avg_before(value)",
         "before": "2m", "clear": "avg(value) < avg_before(value)"},
        {"name": "often_high", "by": ["device"], "when": "share(is_high) > 0.5"},
        {"name": "silent", "by": ["device"], "when": "count() == 0", "for": "2m", "clear_for": "1m"},
    ]);
    let noise = |device: &str, minute: i64| {
        // some minutes have no event
        let n = (minute * 7919 + i64::try_from(device.len()).unwrap() * 104_729) % 101;
        if n % 5 == 0 { Vec::new() } else { rows(device, minute, &[n as f64, n as f64 * 0.9]) }
    };
    let devices = ["a", "bb", "ccc"];
    let minutes = |range: std::ops::Range<i64>| -> Vec<Json> {
        range.flat_map(|minute| devices.iter().flat_map(move |d| noise(d, minute))).collect()
    };
    let alerts_of = |fixture: &Fixture| {
        fixture.rows(
            "SELECT name, dimensions, status, since, opened_at, resolved_at, measured \
             FROM alerts WHERE dimensions->>'device' <> 'clock' ORDER BY name, opened_at, dimensions",
        )
    };
    let at_once = Fixture::with_stream(watched(alerts.clone()));
    land(&at_once, &minutes(0..60), 60);
    let until = ["--no-alerts-topic"];
    serve_once(&at_once, &until);
    let expected = alerts_of(&at_once);
    let names: BTreeSet<String> = expected.iter().map(|alert| alert["name"].to_string()).collect();
    assert_eq!(names.len(), 4, "{names:?}");

    let in_steps = Fixture::with_stream(watched(alerts));
    for begin in (0..60).step_by(12) {
        land(&in_steps, &minutes(begin..begin + 12), begin + 12);
        for _ in 0..2 {
            serve_once(&in_steps, &until);
        }
    }
    let told = alerts_of(&in_steps);
    let differing = told.iter().zip(&expected).find(|(told, expected)| told != expected);
    assert_eq!((differing, told.len()), (None, expected.len()));
}

#[test]
fn an_alert_that_is_not_declared_any_more_is_withdrawn() {
    let mut fixture = Fixture::with_stream(watched(hot()));
    land(&fixture, &rows("a", 0, &[60.0]), 1);
    serve_once(&fixture, &["--no-alerts-topic"]);
    let open = "SELECT count(*) FROM alerts WHERE status = 'open'";
    assert_eq!(fixture.number(open), 1);
    fixture.stream("readings", readings());
    serve_once(&fixture, &["--no-alerts-topic"]);
    assert_eq!(fixture.number(open), 0);
    let resolution = "SELECT resolution FROM alerts";
    assert_eq!(fixture.rows(resolution), [json!({"resolution": "withdrawn"})]);
}

#[test]
fn one_of_two_servers_does_the_work_and_the_other_takes_over_when_it_is_killed() {
    let fixture = Fixture::with_stream(watched(hot()));
    land(&fixture, &rows("a", 0, &[60.0]), 1);
    let args = [&SERVE[..], &BY_EVENTS].concat();
    let leads = "this process looks at closed buckets";
    let mut first = fixture.start(&args);
    first.wait_for_log(leads);
    let mut second = fixture.start(&args);
    second.wait_for_log("serving http://");
    let second_at = second.address();
    let leader = |address: &str| -> Option<String> {
        let page = fixture.metrics(address);
        let line = page.lines().find(|line| line.starts_with("sluicegate_analytics_leader "))?;
        line.split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(leader(&first.address()).as_deref(), Some("1"));
    let stands_by = poll(|| leader(&second_at).filter(|leads| leads == "0"));
    assert_eq!(stands_by.as_deref(), Some("0"));
    fixture.wait_until("SELECT count(*) FROM alerts", |alerts| alerts == 1);

    first.kill();
    second.wait_for_log(leads);
    land(&fixture, &rows("a", 1, &[10.0]), 2);
    fixture.wait_until("SELECT count(*) FROM alerts WHERE status = 'resolved'", |n| n == 1);
    fixture.wait_until("SELECT count(*) FROM metrics", |metrics| metrics == 9);
    assert_eq!(leader(&second_at).as_deref(), Some("1"));
    assert_eq!(second.terminate(), Some(0));
}

#[test]
fn a_server_waits_for_a_database_that_is_away_and_goes_on() {
    let fixture = Fixture::with_stream(watched(hot()));
    let args = [&SERVE[..], &BY_EVENTS].concat();
    let mut server = fixture.start(&args);
    server.wait_for_log("this process looks at closed buckets");
    // what a restart does to its sessions
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE application_name = 'sluicegate analytics' AND query LIKE '%' \
         AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND \
           ((classid::bigint << 32) | objid::bigint) = \
           hashtextextended('sluicegate analytics {}', 0))",
        fixture.prefix
    );
    assert_eq!(fixture.number(&end), 1);
    server.wait_for_log("analytics waits for Postgres");
    land(&fixture, &rows("a", 0, &[60.0]), 1);
    fixture.wait_until("SELECT count(*) FROM alerts", |alerts| alerts == 1);
}

#[test]
fn what_a_consumer_that_was_away_reads_later_is_decided_as_if_it_had_been_there() {
    let fixture = Fixture::with_stream(watched(json!([
        {"name": "hot", "by": ["device"], "when": "avg(value) > 50.0"},
        {"name": "silent", "by": ["device"], "when": "count() == 0", "for": "2m", "clear_for": "1m"},
    ])));
    land(&fixture, &rows("a", 0, &[10.0]), 1);
    // by the wall's clock all of it is long past; what was sent meanwhile is still on the topic
    let args = ["serve", "--once", "--lateness", "0s", "--idle", "0s", "--no-alerts-topic"];
    let minutes: Vec<Json> = (1..8)
        .flat_map(|minute| rows("a", minute, &[if minute == 4 { 90.0 } else { 10.0 }]))
        .collect();
    fixture.produce("readings", &minutes);
    fixture.run(&args).success();
    let decided = "SELECT extract(epoch FROM max(decided_until)) * 1000 FROM alert_progress";
    assert_eq!(fixture.number(decided), NOON + 60_000);
    assert_eq!(fixture.number("SELECT count(*) FROM alerts"), 0);

    fixture.drain();
    serve_once(&fixture, &["--no-alerts-topic"]);
    let names = fixture.rows("SELECT name, status FROM alerts WHERE dimensions->>'device' = 'a'");
    assert_eq!(names, [json!({"name": "hot", "status": "resolved"})]);
    // who does not come back is not waited for for ever
    fixture.produce("readings", &rows("a", 9, &[10.0]));
    fixture.run(&[&args[..], &["--hold", "0s"]].concat()).success();
    assert!(fixture.number(decided) > NOON + 24 * 3_600_000);
}

#[test]
fn no_number_and_no_text_that_lands_keeps_others_from_their_metrics_and_alerts() {
    let mut contract = watched(json!([
        {"name": "hot", "by": ["device"], "when": "avg(value) > 50.0"},
        {"name": "high", "when": "share(is_high) > 0.1 && max(value) > 1.0"},
    ]));
    contract["sluicegate"]["aggregates"] =
        json!([{"every": "1m", "by": ["device", "is_high"], "of": ["value"]}]);
    let fixture = Fixture::with_stream(contract);
    // random, so that it can't be compressed, and longer than a b-tree takes with all else
    let long: String = (0..82).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    let mut minutes = rows("small", 0, &[5e-324, 0.0]);
    minutes.extend(rows("large", 0, &[1.7e308]));
    minutes.extend(rows("larger", 0, &[1.7e308]));
    minutes.extend(rows(&long, 0, &[60.0]));
    minutes.extend(rows("a", 0, &[60.0]));
    land(&fixture, &minutes, 1);
    let ran = serve_once(&fixture, &["--no-alerts-topic"]);
    assert!(!ran.stderr.contains("ERROR"), "{}", ran.stderr);
    let averages = "SELECT dimensions->>'device' AS device, value FROM metrics \
                    WHERE metric = 'value_avg' AND length(dimensions->>'device') < 9 ORDER BY 1";
    let averages = fixture.rows(averages);
    let averages: Vec<(&str, f64)> = averages
        .iter()
        .map(|row| (row["device"].as_str().unwrap(), row["value"].as_f64().unwrap()))
        .collect();
    let expected = [("a", 60.0), ("large", 1.7e308), ("larger", 1.7e308), ("small", 0.0)];
    assert_eq!(averages, expected);
    let hot = "SELECT count(*) FROM alerts WHERE name = 'hot'";
    assert_eq!(fixture.number(hot), 4);
    assert_eq!(fixture.number("SELECT count(*) FROM alerts WHERE name = 'high'"), 1);
    let metrics = "SELECT count(*) FROM metrics WHERE length(dimensions->>'device') > 2600";
    assert_eq!(fixture.number(metrics), 3);
}

#[test]
fn of_one_series_a_webhook_hears_in_order_and_one_that_leads_elsewhere_was_not_told() {
    let fixture = Fixture::with_stream(watched(hot()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let webhook = runtime.block_on(MockServer::start());
    let elsewhere = ResponseTemplate::new(302).insert_header("location", "/login");
    runtime.block_on(Mock::given(method("POST")).respond_with(elsewhere).mount(&webhook));
    let page = Mock::given(method("GET")).respond_with(ResponseTemplate::new(200));
    runtime.block_on(page.mount(&webhook));
    let minutes: Vec<Json> = (0..6)
        .flat_map(|minute| rows("a", minute, &[if minute % 2 == 0 { 60.0 } else { 10.0 }]))
        .collect();
    land(&fixture, &minutes, 6);
    let url = webhook.uri();
    let args = ["--no-alerts-topic", "--alerts-webhook", &url];
    let ran = serve_once(&fixture, &args);
    assert_eq!(ran.stdout, "0 told of alerts, 1 still to be told, 0 refused\n");
    runtime.block_on(webhook.reset());
    let take = Mock::given(method("POST")).respond_with(ResponseTemplate::new(200));
    runtime.block_on(take.mount(&webhook));
    fixture.sql("UPDATE alert_outbox SET next_at = now()");
    let ran = serve_once(&fixture, &args);
    assert_eq!(ran.stdout, "6 told of alerts, 0 still to be told, 0 refused\n");
    let told = runtime.block_on(webhook.received_requests()).unwrap();
    let told: Vec<String> = told
        .iter()
        .map(|request| request.body_json::<Json>().unwrap()["status"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, ["open", "resolved", "open", "resolved", "open", "resolved"]);
}

/// What a plan reads: each table that it scans, and how.
fn scans(plan: &Json, found: &mut Vec<(String, String)>) {
    let text = |name: &str| plan[name].as_str().unwrap_or_default().to_owned();
    let kind = text("Node Type");
    if plan.get("Relation Name").is_some() || kind == "Bitmap Index Scan" {
        found.push((text("Relation Name") + &text("Index Name"), kind));
    }
    plan["Plans"].as_array().into_iter().flatten().for_each(|plan| scans(plan, found));
}

#[test]
fn what_is_done_each_minute_reads_no_table_as_a_whole_and_no_table_of_events_at_all() {
    let fixture = Fixture::new();
    let mut streams = Vec::new();
    for stream in ["heartbeats", "bus_telemetry", "device_telemetry", "events", "traffic"] {
        let file = format!("{stream}.avsc");
        let from = repository(&format!("schemas/{file}"));
        std::fs::copy(&from, fixture.schemas.path().join(file)).unwrap();
        streams.push(Contract::read(&from).unwrap());
    }
    fixture.run(&["migrate"]).success();
    for contract in &streams {
        // three days of minutes of twenty series, as the aggregate and as metrics
        for aggregate in &contract.aggregates {
            let columns = sluicegate::sink::aggregate_columns(aggregate);
            let values: Vec<String> = columns
                .iter()
                .map(|column| match column.kind {
                    ColumnType::TimestampTz if column.name == "minute" => "minute".to_owned(),
                    ColumnType::TimestampTz => "now()".to_owned(),
                    ColumnType::Text => "'series ' || n".to_owned(),
                    ColumnType::Boolean => "n % 2 = 0".to_owned(),
                    _ => "n".to_owned(),
                })
                .collect();
            fixture.sql(&format!(
                "INSERT INTO {table} SELECT {values} FROM generate_series(\
                   timestamptz '2026-05-01 00:00+00', '2026-05-03 23:59+00', '1 minute') AS minute, \
                   generate_series(1, 20) AS n ON CONFLICT DO NOTHING; \
                 INSERT INTO metrics SELECT '{table}', minute, 'count', jsonb_build_object('n', n), n \
                 FROM generate_series(\
                   timestamptz '2026-05-01 00:00+00', '2026-05-03 23:59+00', '1 minute') AS minute, \
                   generate_series(1, 20) AS n; ANALYZE {table}",
                table = aggregate.table,
                values = values.join(", "),
            ));
        }
    }
    fixture.sql("ANALYZE metrics");
    let mut seen = BTreeSet::new();
    for (contract, (what, sql)) in streams
        .iter()
        .flat_map(|contract| statements(contract).into_iter().map(move |found| (contract, found)))
    {
        let sql = sql
            .replace(
                "ANY ($1)",
                "ANY ('{2026-05-03 12:00+00, 2026-05-03 12:01+00}'::timestamptz[])",
            )
            .replace("to_timestamp($1)", "timestamptz '2026-05-03 12:00+00'")
            .replace("to_timestamp($2)", "timestamptz '2026-05-03 12:06+00'");
        let plan = fixture.explain(&sql);
        let mut found = Vec::new();
        scans(&plan[0]["Plan"], &mut found);
        assert!(!found.is_empty(), "{what}: {plan}");
        for (table, kind) in found {
            assert!(kind != "Seq Scan" && table != contract.table, "{what}: {kind} of {table}");
            seen.insert(table);
        }
    }
    assert!(seen.len() >= 6, "{seen:?}");
}
