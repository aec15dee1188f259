//! What Prometheus and a health check are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use sluicegate::{
    broker::{Broker, TopicEnds},
    contract::Contract,
    http::{Page, routes, serve},
    metrics::{CONSUME, DATABASE, DatabaseMetrics, PROCESS, SERVE, install},
    secret::Secret,
};
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::{
    proxy::Proxy,
    support::{Fixture, Running, poll, readings, variable},
    telemetry::{OFFSETS, STREAM, produced},
};

const CONSUME_AND_SERVE: [&str; 3] = ["consume", "--metrics-listen", "127.0.0.1:0"];

/// What a process serves.
struct Served {
    runtime: tokio::runtime::Runtime,
    address: String,
}

impl Served {
    /// At the address that it has logged.
    #[track_caller]
    fn by(running: &mut Running) -> Served {
        const SERVING: &str = "serving http://";
        running.wait_for_log(SERVING);
        let log = running.log();
        let (_, rest) = log.split_once(SERVING).unwrap();
        let address = rest.split_once("/metrics").unwrap().0.to_owned();
        Served { runtime: tokio::runtime::Runtime::new().unwrap(), address }
    }

    /// Status and body.
    fn get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.address);
        self.runtime.block_on(async {
            let answer = reqwest::get(url).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    fn readiness(&self) -> (u16, Json) {
        let (status, body) = self.get("/readyz");
        (status, serde_json::from_str(&body).unwrap())
    }

    fn metrics(&self) -> Values {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200, "{text}");
        Values::of(&text)
    }
}

/// Prometheus' text, by name and labels.
#[derive(Debug)]
struct Values(BTreeMap<String, f64>);

impl Values {
    /// Fails the test unless each metric is described once, and each of its lines can be read.
    fn of(text: &str) -> Values {
        let described: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(|line| line.split_once(' ').unwrap().0)
            .collect();
        let names: BTreeSet<&&str> = described.iter().collect();
        assert_eq!(names.len(), described.len(), "{text}");
        let mut values = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| name.strip_suffix(part).filter(|it| names.contains(it)));
            assert!(names.contains(&family.unwrap_or(name)), "{name} is not described: {text}");
            let before = values.insert(series.to_owned(), value.parse().unwrap());
            assert_eq!(before, None, "{series} is there twice: {text}");
        }
        Values(values)
    }

    #[track_caller]
    fn get(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {self:?}"))
    }

    /// The sum over all labels.
    fn sum(&self, name: &str) -> f64 {
        let of = |(series, value): (&String, &f64)| {
            (series.split('{').next() == Some(name)).then_some(*value)
        };
        self.0.iter().filter_map(of).sum()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a test")]
fn float(number: i64) -> f64 {
    number as f64
}

#[test]
fn every_stage_of_a_stream_with_faults_is_counted() {
    let fixture = produced(3_000);
    let sent: i64 =
        fixture.watermarks(&crate::telemetry::topic(&fixture)).iter().map(|(_, end)| end).sum();
    let mut running = fixture.start(&[&CONSUME_AND_SERVE[..], &["--batch-rows", "200"]].concat());
    let served = Served::by(&mut running);
    fixture.wait_until(OFFSETS, |offsets| offsets == sent);
    let letters = fixture.number("SELECT count(*) FROM dlq_events");
    assert!(letters > 0);
    let of = |metric: &str| format!("sluicegate_{metric}{{stream=\"{STREAM}\"}}");
    let published = of("dead_letters_published_total");
    running.wait_for("copies and commits", || {
        let metrics = served.metrics();
        metrics.get(&published) == float(letters) && metrics.get(&of("offset_commits_total")) > 0.0
    });
    let metrics = served.metrics();
    assert_eq!(metrics.get(&of("offset_commits_failed_total")), 0.0);
    assert_eq!(metrics.get(&of("received_records_total")), float(sent));
    assert!(metrics.get(&of("received_bytes_total")) > 20.0 * float(sent));
    let ledger = fixture.ledger();
    for (outcome, offsets) in [
        ("inserted", ledger.inserted),
        ("duplicate", ledger.duplicate),
        ("dead_lettered", ledger.dead_lettered),
        ("skipped", 0),
    ] {
        let series =
            format!("sluicegate_records_total{{stream=\"{STREAM}\",outcome=\"{outcome}\"}}");
        assert_eq!(metrics.get(&series), float(offsets), "{outcome}");
    }
    let by_reason = "SELECT stage, reason, count(*) AS letters FROM dlq_events GROUP BY 1, 2";
    for row in fixture.rows(by_reason) {
        let (stage, reason) = (row["stage"].as_str().unwrap(), row["reason"].as_str().unwrap());
        let labels = format!("stream=\"{STREAM}\",stage=\"{stage}\",reason=\"{reason}\"");
        let shown = metrics.get(&format!("sluicegate_dead_letters_total{{{labels}}}"));
        assert_eq!(Some(shown), row["letters"].as_f64(), "{row}");
    }
    assert_eq!(metrics.sum("sluicegate_dead_letters_total"), float(letters));
    let batches = metrics.sum("sluicegate_batches_total");
    assert!(batches >= float(sent) / 200.0, "{batches}");
    for stage in ["decide", "write", "commit"] {
        let labels = format!("stream=\"{STREAM}\",stage=\"{stage}\"");
        let of =
            |part| metrics.get(&format!("sluicegate_stage_duration_seconds_{part}{{{labels}}}"));
        assert_eq!(of("count"), batches, "{stage}");
        assert!(of("sum") > 0.0, "{stage}");
    }
    let newest = fixture.number("SELECT 1000 * extract(epoch FROM max(ts)) FROM device_telemetry");
    let shown = metrics.get(&of("newest_event_timestamp_seconds"));
    assert!((shown - float(newest) / 1_000.0).abs() < 0.01, "{shown} {newest}");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(metrics.get(&format!("sluicegate_build_info{{version=\"{version}\"}}")), 1.0);
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn a_metric_is_described_before_there_is_anything_to_count() {
    let fixture = Fixture::with_stream(readings());
    let mut running = fixture.start(&CONSUME_AND_SERVE);
    let served = Served::by(&mut running);
    let (_, text) = served.get("/metrics");
    for metric in PROCESS.iter().chain(CONSUME) {
        let help = format!("# HELP {} {}\n", metric.name, metric.help);
        let kind = format!("# TYPE {} {}\n", metric.name, metric.kind.name());
        assert!(text.contains(&help) && text.contains(&kind), "no {help} in {text}");
    }
    let nothing = ["sluicegate_records_total{stream=\"readings\",outcome=\"inserted\"}"];
    running.wait_for("nought", || {
        let metrics = served.metrics();
        nothing.iter().all(|series| metrics.0.get(*series) == Some(&0.0))
    });
    assert_eq!(served.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(served.get("/nothing").0, 404);
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_one_clear_error_before_anything_is_read() {
    let fixture = Fixture::with_stream(readings());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = fixture.run(&["consume", "--metrics-listen", &address]).one_clear_error();
    let expected = format!("error: metrics and health can't be served at {address}: ");
    assert!(error.starts_with(&expected), "{error}");
}

const READY: &str = r#"{"ready":true,"waiting":[],"open_breakers":[],"stopped":{}}"#;

#[test]
fn a_stream_is_not_ready_for_as_long_as_postgres_is_away() {
    let fixture = produced(2_000);
    let sent: i64 =
        fixture.watermarks(&crate::telemetry::topic(&fixture)).iter().map(|(_, end)| end).sum();
    let (proxy, url) = Proxy::before_postgres(&variable("DATABASE_URL"));
    let args = [&CONSUME_AND_SERVE[..], &["--batch-rows", "200"]].concat();
    let held = fixture.hold_at(sent / 3);
    let mut running = fixture.start_with(&args, &[("DATABASE_URL", &url)]);
    let served = Served::by(&mut running);
    fixture.wait_until_held();
    assert_eq!(served.get("/readyz"), (200, READY.to_owned()));
    proxy.cut();
    drop(held);
    running.wait_for("stream that is not ready", || served.readiness().0 == 503);
    let (_, readiness) = served.readiness();
    let waiting = json!([{"stream": STREAM, "dependency": "Postgres"}]);
    let expected = json!({"ready": false, "waiting": waiting, "open_breakers": [], "stopped": {}});
    assert_eq!(readiness, expected);
    // nor while it is asked again
    let before = proxy.refused();
    running.wait_for("the database to be asked", || {
        assert_eq!((served.readiness(), served.get("/healthz").0), ((503, expected.clone()), 200));
        proxy.refused() > before + 3
    });
    proxy.mend();
    fixture.wait_until(OFFSETS, |offsets| offsets == sent);
    running.wait_for("stream that is ready", || served.get("/readyz") == (200, READY.to_owned()));
    assert_eq!(running.terminate(), Some(0), "{}", running.log());
}

fn event(n: usize, value: f64) -> Json {
    json!({"event_id": uuid::Uuid::new_v4(), "device": format!("d{}", n % 7), "ts": 1_777_636_800_000_u64, "value": value})
}

fn events(count: usize, value: f64) -> Vec<Json> {
    (0..count).map(|n| event(n, value)).collect()
}

#[test]
fn a_stream_whose_breaker_is_open_is_not_ready() {
    let fixture = Fixture::with_stream(readings());
    fixture.produce("readings", &events(150, -1.0));
    let mut running = fixture.start(&[&CONSUME_AND_SERVE[..], &["--breaker-probe", "1h"]].concat());
    let served = Served::by(&mut running);
    running.wait_for("stream that is not ready", || served.readiness().0 == 503);
    let expected =
        json!({"ready": false, "waiting": [], "open_breakers": ["readings"], "stopped": {}});
    assert_eq!(served.readiness(), (503, expected));
    assert_eq!(served.metrics().get(r#"sluicegate_breaker_open{stream="readings"}"#), 1.0);
    assert_eq!(served.get("/healthz").0, 200);
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn a_stream_that_stopped_while_others_go_on_is_named_with_its_reason() {
    let fixture = Fixture::with_stream(readings()).and_partitions("others", readings(), 1);
    fixture.sql("ALTER TABLE readings DROP COLUMN value");
    let mut running = fixture.start(&CONSUME_AND_SERVE);
    let served = Served::by(&mut running);
    running.wait_for("stream that is not ready", || served.readiness().0 == 503);
    let (_, readiness) = served.readiness();
    let reason = readiness["stopped"]["readings"].as_str().unwrap();
    assert!(reason.contains("value"), "{readiness}");
    assert_eq!(readiness["stopped"].as_object().unwrap().len(), 1, "{readiness}");
    let metrics = served.metrics();
    assert_eq!(metrics.get(r#"sluicegate_stream_stopped{stream="readings"}"#), 1.0);
    assert_eq!(metrics.get(r#"sluicegate_stream_stopped{stream="others"}"#), 0.0);
    running.terminate();
}

/// Readings with an alert.
fn alerting() -> Json {
    let mut avsc = readings();
    avsc["sluicegate"]["alerts"] =
        json!([{"name": "hot", "by": ["device"], "when": "avg(value) > 50.0", "for": "3m"}]);
    avsc
}

/// What `serve` reads of a fixture's database, at a URL.
fn database(fixture: &Fixture, url: &str, most_series: usize) -> DatabaseMetrics {
    let contracts = Contract::read_all(fixture.schemas.path()).unwrap();
    let postgres = PgConnectOptions::from_str(url).unwrap();
    let postgres = postgres.options([("search_path", &fixture.prefix)]);
    let brokers = Secret::new(fixture.address("KAFKA_BROKERS"));
    let broker = Broker::new(BTreeMap::from([("bootstrap.servers".to_owned(), brokers)])).unwrap();
    let topics = contracts.iter().map(|contract| contract.topic.name.clone()).collect();
    let ends = Arc::new(TopicEnds::watch(broker, topics));
    DatabaseMetrics::new(Arc::new(contracts), postgres, ends, most_series)
}

/// Two buckets of `agg_readings_minute`, the newer one of three devices, and what others wait for.
const ROWS: &str = r#"
    INSERT INTO metrics (aggregate, bucket, metric, dimensions, value) VALUES
        ('agg_readings_minute', '2026-05-01 11:59Z', 'count', '{"device": "gone"}', 99),
        ('agg_readings_minute', '2026-05-01 12:00Z', 'count', '{"device": "d1"}', 5),
        ('agg_readings_minute', '2026-05-01 12:00Z', 'value_avg', '{"device": "d1"}', 2.5),
        ('agg_readings_minute', '2026-05-01 12:00Z', 'value_max', '{"device": "d1"}', 4),
        ('agg_readings_minute', '2026-05-01 12:00Z', 'count', '{"device": null}', 9),
        ('agg_readings_minute', '2026-05-01 12:00Z', 'value_avg', '{"device": null}', -1e-7),
        ('agg_readings_minute', '2026-05-01 12:00Z', 'count', '{"device": "few"}', 1),
        ('agg_others_minute', '2026-05-01 12:01Z', 'count', '{"device": "of another"}', 7);
    INSERT INTO alerts (stream, name, dimensions, since, opened_at, measured) VALUES
        ('readings', 'hot', '{"device": "d1"}', now(), now(), '{}'),
        ('readings', 'hot', '{"device": "d2"}', now(), now(), '{}');
    INSERT INTO alert_outbox (alert_id, status, target, series)
        SELECT id, 'open', 'topic', 's' FROM alerts;
    INSERT INTO dlq_outbox (stream, id) VALUES ('readings', 999999);
    INSERT INTO breakers (stream, member, probe_at, reason)
        VALUES ('readings', gen_random_uuid(), now(), 'a test');
    UPDATE ledger SET event_time = '2026-05-01 12:00:07.5Z'"#;

#[test]
fn the_database_is_shown_as_it_is_and_what_is_gone_is_gone() {
    let fixture = Fixture::with_stream(alerting());
    fixture.produce("readings", &[events(20, 1.0), events(3, -1.0)].concat());
    fixture.drain();
    fixture.produce("readings", &events(5, 1.0));
    fixture.sql(ROWS);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(async { database(&fixture, &variable("DATABASE_URL"), 2) });
    let text = || runtime.block_on(database.render());
    // Kafka answers in its own time
    poll(|| text().contains("\nsluicegate_lag_records{").then_some(())).unwrap();
    let shown = text();
    for metric in DATABASE {
        assert!(shown.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{shown}");
    }
    let lines = |text: &str| {
        let values: Vec<String> =
            Values::of(text).0.iter().map(|(series, value)| format!("{series} {value}")).collect();
        values.join("\n")
    };
    insta::assert_snapshot!(lines(&shown), @r#"
    sluicegate_aggregate_bucket_timestamp_seconds{aggregate="agg_readings_minute"} 1777636800
    sluicegate_aggregate_series_omitted{aggregate="agg_readings_minute"} 1
    sluicegate_alert_deliveries_pending{target="topic"} 2
    sluicegate_alert_deliveries_pending{target="webhook"} 0
    sluicegate_alerts_open{stream="readings",alert="hot"} 2
    sluicegate_breakers_open{stream="readings"} 1
    sluicegate_database_up 1
    sluicegate_dead_letters_unpublished{stream="readings"} 1
    sluicegate_lag_records{stream="readings"} 5
    sluicegate_ledger_newest_event_timestamp_seconds{stream="readings"} 1777636807.5
    sluicegate_ledger_offsets_total{stream="readings",outcome="dead_lettered"} 3
    sluicegate_ledger_offsets_total{stream="readings",outcome="duplicate"} 0
    sluicegate_ledger_offsets_total{stream="readings",outcome="expired"} 0
    sluicegate_ledger_offsets_total{stream="readings",outcome="inserted"} 20
    sluicegate_ledger_offsets_total{stream="readings",outcome="skipped"} 0
    sluicegate_readings_minute_events{device=""} 9
    sluicegate_readings_minute_events{device="d1"} 5
    sluicegate_readings_minute_value_avg{device=""} -0.0000001
    sluicegate_readings_minute_value_avg{device="d1"} 2.5
    sluicegate_readings_minute_value_max{device="d1"} 4
    "#);
    fixture.sql(
        "DELETE FROM metrics; DELETE FROM alert_outbox; DELETE FROM breakers;
         UPDATE alerts SET status = 'resolved', resolved_at = now(), resolution = 'cleared'
         WHERE dimensions->>'device' = 'd1'",
    );
    let before = lines(&shown);
    let after = lines(&text());
    let changed: Vec<&str> =
        after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
    insta::assert_snapshot!(changed.join("\n"), @r#"
    sluicegate_aggregate_series_omitted{aggregate="agg_readings_minute"} 0
    sluicegate_alert_deliveries_pending{target="topic"} 0
    sluicegate_alerts_open{stream="readings",alert="hot"} 1
    sluicegate_breakers_open{stream="readings"} 0
    "#);
    assert!(!after.contains("sluicegate_readings_minute"), "{after}");
}

#[test]
fn fifty_thousand_metrics_of_the_past_are_not_read_for_the_newest_ones() {
    let fixture = Fixture::with_stream(readings());
    fixture.sql(
        "INSERT INTO metrics (aggregate, bucket, metric, dimensions, value)
         SELECT 'agg_readings_minute', '2026-01-01Z'::timestamptz + bucket * interval '1 minute',
             metric, jsonb_build_object('device', 'd' || device), device
         FROM generate_series(1, 5000) AS bucket, generate_series(1, 5) AS device,
             unnest(ARRAY['count', 'value_avg']) AS metric;
         ANALYZE metrics",
    );
    let counted = |what: &str| {
        let prefix = &fixture.prefix;
        format!(
            "SELECT {what} FROM pg_stat_user_tables \
             WHERE schemaname = '{prefix}' AND relname = 'metrics'"
        )
    };
    let scanned = fixture.number(&counted("seq_tup_read"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let text = runtime.block_on(async {
        let database = database(&fixture, &variable("DATABASE_URL"), 500);
        database.render().await
    });
    assert_eq!(Values::of(&text).sum("sluicegate_readings_minute_events"), 15.0);
    // Postgres counts once the connection is gone
    let fetched = fixture.wait_until(&counted("idx_scan + idx_tup_fetch"), |read| read > 0);
    assert!(fetched < 200, "{fetched}");
    assert_eq!(fixture.number(&counted("seq_tup_read")), scanned);
}

#[test]
fn a_database_that_is_away_or_slow_costs_its_own_metrics_and_nothing_else() {
    let fixture = Fixture::with_stream(readings());
    let (proxy, url) = Proxy::before_postgres(&variable("DATABASE_URL"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stop = CancellationToken::new();
    let serving = runtime.block_on(async {
        let database = Arc::new(database(&fixture, &url, 500));
        let page = Page::new(install(&[PROCESS, SERVE]).unwrap());
        let page = page.with(move || {
            let database = database.clone();
            async move { database.render().await }
        });
        serve(&[([127, 0, 0, 1], 0).into()], routes(page), stop.clone()).await.unwrap()
    });
    let served = Served { runtime, address: serving.address().to_string() };
    let errors = |metrics: &Values| metrics.sum("sluicegate_scrape_errors_total");
    let offsets = r#"sluicegate_ledger_offsets_total{stream="readings",outcome="inserted"}"#;
    let is_up = |metrics: &Values| {
        assert!(metrics.0.keys().any(|series| series.starts_with("sluicegate_build_info")));
        let up = metrics.get("sluicegate_database_up") == 1.0;
        assert_eq!(metrics.0.contains_key(offsets), up, "{metrics:?}");
        up
    };
    let metrics = served.metrics();
    assert!(is_up(&metrics) && errors(&metrics) == 0.0, "{metrics:?}");

    proxy.cut();
    let metrics = served.metrics();
    assert!(!is_up(&metrics) && errors(&metrics) == 1.0, "{metrics:?}");
    proxy.mend();
    assert!(is_up(&served.metrics()));

    // those who ask meanwhile do not wait one behind the other
    let held = fixture.hold("LOCK TABLE ledger");
    let since = Instant::now();
    std::thread::scope(|scope| {
        let scrapes: Vec<_> = (0..4).map(|_| scope.spawn(|| served.metrics())).collect();
        for scrape in scrapes {
            assert!(!is_up(&scrape.join().unwrap()));
        }
    });
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    drop(held);
    assert!(is_up(&served.metrics()));
    stop.cancel();
    served.runtime.block_on(serving.ended());
}
