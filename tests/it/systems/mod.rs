//! Every system at work: its generator, the pipeline, what is made of it each minute, and Prometheus;
//! and how much of what the generators planted was found.
//!
//! The generators' time runs thirty times as fast as the wall's: a run of three minutes is one of an
//! hour and a half, which ends about now.

mod score;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Child, Stdio},
};

use serde_json::Value as Json;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use self::score::{Horizon, score, table};
use crate::{
    dashboards::{Kind, dashboard_queries, expanded_sql},
    prometheus::{RunningPrometheus, metric_names_in, query, run_prometheus},
    support::{Fixture, contract, poll},
};

const STREAMS: [&str; 5] = ["bus_telemetry", "device_telemetry", "events", "heartbeats", "traffic"];

/// Of each stream: so many events a second, for so long, by a clock that is so much faster.
const LOAD: [&str; 8] = ["--rate", "500", "--duration", "180s", "--speed-up", "30", "--seed", "11"];

#[test]
fn every_system_runs_and_finds_the_anomalies_that_its_generator_planted_and_no_others() {
    let mut fixture = Fixture::new();
    for stream in STREAMS {
        fixture.stream(stream, contract(stream));
    }
    let topic = fixture.alerts_topic();
    fixture.run(&["migrate"]).success();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let webhook = runtime.block_on(MockServer::start());
    let take = Mock::given(method("POST")).respond_with(ResponseTemplate::new(204));
    runtime.block_on(take.mount(&webhook));

    let mut consume = fixture.start(&["consume", "--metrics-listen", "127.0.0.1:0"]);
    let url = webhook.uri();
    let mut serve = fixture.start(
        &[
            &["serve", "--listen", "127.0.0.1:0", "--every", "1s", "--idle", "30s"][..],
            &["--alerts-topic", &topic, "--alerts-webhook", &url],
        ]
        .concat(),
    );
    let pages = [("consume", consume.address()), ("serve", serve.address())];
    let prometheus = run_prometheus(&pages);
    // with what they print where it is seen if one fails
    let producers = STREAMS.map(|stream| (stream, produce(&fixture, stream)));
    for (stream, mut producer) in producers {
        assert!(producer.wait().unwrap().success(), "{stream}");
    }
    consume.wait_for("end of what was produced", || is_drained(&fixture));
    let horizon = Horizon::read(&fixture, &STREAMS);
    serve.wait_for("end of what has closed", || horizon.is_decided(&fixture));

    assert_outputs(&fixture);
    assert_pages(&fixture, &prometheus, &pages);
    assert_told(&fixture, &topic, || runtime.block_on(webhook.received_requests()).unwrap().len());
    assert_eq!((serve.terminate(), consume.terminate()), (Some(0), Some(0)));
    fixture.run(&["aggregates", "verify"]).success();
    fixture.run(&["audit", "--drained"]).success();

    let scores = score(&fixture, &horizon);
    // past the harness, which keeps what a test prints to itself
    _ = write!(std::io::stderr(), "{}", table(&scores));
    for score in &scores {
        assert!(score.is_perfect(), "{score:#?}");
    }
    let found: usize = scores.iter().map(|score| score.found).sum();
    assert!(found >= 40, "an hour and a half has more to find");
}

fn produce(fixture: &Fixture, stream: &str) -> Child {
    let anomalies = Horizon::file(fixture, stream);
    let args = [&["produce", stream, "--anomalies", anomalies.to_str().unwrap()][..], &LOAD];
    let faults = ["--duplicates", "1%", "--invalid", "1%", "--corrupt", "0.1%"];
    let mut command = fixture.command(&[&args.concat()[..], &faults].concat());
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// Whether all that is on the topics is in the ledger.
fn is_drained(fixture: &Fixture) -> bool {
    let ends = |stream: &&str| -> i64 {
        let topic = format!("{}.{stream}", fixture.prefix);
        fixture.watermarks(&topic).iter().map(|(_, end)| end).sum()
    };
    fixture.number("SELECT coalesce(sum(next_offset), 0) FROM ledger")
        == STREAMS.iter().map(ends).sum::<i64>()
}

/// What the systems put into the database.
fn assert_outputs(fixture: &Fixture) {
    let stats: Json = serde_json::from_str(&fixture.run(&["stats", "--json"]).success()).unwrap();
    for stats in stats.as_array().unwrap() {
        let number = |name: &str| stats[name].as_i64().unwrap_or_else(|| panic!("{name}: {stats}"));
        assert!(number("rows") > 20_000, "{stats}");
        assert!(number("duplicates") > 0 && number("dead_lettered") > 0, "{stats}");
        assert_eq!(number("lag"), 0, "{stats}");
    }
    let labels = |stream: &str| -> BTreeMap<String, i64> {
        let stats = stats.as_array().unwrap().iter().find(|stats| stats["stream"] == stream);
        let labels = stats.unwrap()["labels"].as_object().unwrap().values().next().unwrap();
        serde_json::from_value(labels.clone()).unwrap()
    };
    // total, degraded and healthy
    let devices = labels("device_telemetry");
    let total = fixture.number("SELECT count(*) FROM device_telemetry");
    assert_eq!(devices["true"] + devices["false"], total);
    assert!(devices["true"] > 0 && devices["true"] * 5 < total, "{devices:?}");
    let hearts = labels("heartbeats");
    assert!(hearts["too_high"] > 0 && hearts["too_low"] > 0, "{hearts:?}");
    // each minute of each route, as an average and as the largest, and as the rows make them
    let differing = fixture.rows(
        "SELECT * FROM (SELECT bucket, dimensions->>'route' AS route, metric, value::numeric(12, 3) \
           FROM metrics WHERE aggregate = 'agg_bus_telemetry_minute' \
           AND metric IN ('speed_kmh_avg', 'speed_kmh_max')) AS kept \
         FULL JOIN (SELECT date_trunc('minute', ts) AS bucket, route, \
           unnest(ARRAY['speed_kmh_avg', 'speed_kmh_max']) AS metric, \
           unnest(ARRAY[avg(speed_kmh), max(speed_kmh)])::numeric(12, 3) AS value \
           FROM bus_telemetry GROUP BY 1, 2) AS made USING (bucket, route, metric, value) \
         WHERE (kept IS NULL OR made IS NULL) \
         AND bucket <= (SELECT max(bucket) FROM metrics WHERE aggregate = 'agg_bus_telemetry_minute')",
    );
    assert_eq!(differing, Vec::<Json>::new());
    assert!(fixture.number("SELECT count(DISTINCT bucket) FROM metrics") > 60);
    let counted = "SELECT count(*) FROM agg_events_minute JOIN (SELECT date_trunc('minute', \
                   occurred_at) AS minute, event_type, count(*) FROM raw_events GROUP BY 1, 2) \
                   AS made USING (minute, event_type, count)";
    assert_eq!(fixture.number(counted), fixture.number("SELECT count(*) FROM agg_events_minute"));
}

/// What Prometheus has of it, and that whatever asks for it gets it.
fn assert_pages(fixture: &Fixture, prometheus: &RunningPrometheus, pages: &[(&str, String)]) {
    let newest = "SELECT dimensions->>'route' AS route, value FROM metrics \
                  WHERE aggregate = 'agg_bus_telemetry_minute' AND metric = 'speed_kmh_avg' \
                  AND bucket = (SELECT max(bucket) FROM metrics \
                                WHERE aggregate = 'agg_bus_telemetry_minute')";
    let kept = || -> BTreeMap<String, f64> {
        let route = |row: &Json| row["route"].as_str().unwrap().to_owned();
        let rows = fixture.rows(newest);
        rows.iter().map(|row| (route(row), row["value"].as_f64().unwrap())).collect()
    };
    let scraped = || -> BTreeMap<String, f64> {
        let samples = query(prometheus, "sluicegate_bus_telemetry_minute_speed_kmh_avg");
        samples.iter().map(|sample| (sample.labels["route"].clone(), sample.value)).collect()
    };
    let same = poll(|| {
        let kept = kept();
        (!kept.is_empty() && scraped() == kept).then_some(())
    });
    assert_eq!(same, Some(()), "{:?} is not {:?}", scraped(), kept());

    let there: BTreeSet<String> = pages
        .iter()
        .flat_map(|(_, address)| {
            let page = fixture.metrics(address);
            let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            kinds.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    for rule in prometheus.rules() {
        assert_eq!(rule.health, "ok", "{rule:?}");
        for name in metric_names_in(&rule.expression) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_there = there.contains(&name) || base.is_some_and(|base| there.contains(base));
            assert!(is_there || name == "up", "no {name}, for {}", rule.name);
        }
    }
    for asked in dashboard_queries() {
        let answered = poll(|| {
            let count = match asked.kind {
                Kind::Prometheus => query(prometheus, &asked.text).len(),
                Kind::Postgres => fixture.rows(&expanded_sql(&asked.text)).len(),
            };
            (count > 0).then_some(())
        });
        assert_eq!(answered, Some(()), "nothing for {asked:?}");
    }
}

/// Everybody was told of every alert, once when it opened and once when it resolved.
fn assert_told(fixture: &Fixture, topic: &str, posted: impl Fn() -> usize) {
    let changes = "SELECT count(*) + count(*) FILTER (WHERE status = 'resolved') FROM alerts";
    let told = poll(|| {
        let changes = usize::try_from(fixture.number(changes)).unwrap();
        let sent = fixture.read_topic(topic).len();
        (sent == changes && posted() == changes).then_some(())
    });
    assert_eq!(told, Some(()));
}
