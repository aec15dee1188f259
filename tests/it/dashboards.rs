//! What people watch the pipeline with asks for what there is: dashboards, rules, and the role that
//! reads for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::{Value as Json, json};

use crate::{
    pages::page,
    prometheus::{RunningPrometheus, metric_names_in, query, run_prometheus},
    services::Services,
    support::{Fixture, Ran, contract, poll, repository},
};

/// What a panel asks for.
#[derive(Debug)]
pub struct Query {
    /// The dashboard's title.
    pub dashboard: String,
    /// The panel's.
    pub panel: String,
    pub kind: Kind,
    pub text: String,
}

/// Whom a panel asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Prometheus,
    Postgres,
}

/// What the dashboards ask for, all of it.
pub fn dashboard_queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for (dashboard, panel) in panels() {
        for target in array(&panel["targets"]) {
            let (kind, text) = match (&target["expr"], &target["rawSql"]) {
                (Json::String(expr), Json::Null) => (Kind::Prometheus, expr.clone()),
                (Json::Null, Json::String(sql)) => (Kind::Postgres, sql.clone()),
                _ => panic!("neither an expression nor a statement: {target}"),
            };
            let panel = text_of(&panel["title"]);
            queries.push(Query { dashboard: dashboard.clone(), panel, kind, text });
        }
    }
    queries
}

/// A statement as Grafana sends it for the last hour.
pub fn expanded_sql(raw: &str) -> String {
    let mut parts = raw.split("$__timeFilter(");
    let mut sql = parts.next().unwrap().to_owned();
    for part in parts {
        let (column, behind) = part.split_once(')').unwrap();
        sql += &format!("{column} BETWEEN now() - interval '1 hour' AND now(){behind}");
    }
    assert!(!sql.contains('$'), "an unknown macro or variable: {raw}");
    sql
}

fn dashboards() -> Vec<Json> {
    let files = std::fs::read_dir(repository("deploy/grafana/dashboards")).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let read = |path| serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    paths.into_iter().map(read).collect()
}

/// Each panel with its dashboard's title.
fn panels() -> Vec<(String, Json)> {
    let of = |dashboard: Json| {
        let title = text_of(&dashboard["title"]);
        array(&dashboard["panels"]).into_iter().map(move |panel| (title.clone(), panel))
    };
    dashboards().into_iter().flat_map(of).collect()
}

#[track_caller]
fn array(value: &Json) -> Vec<Json> {
    value.as_array().unwrap_or_else(|| panic!("no array: {value}")).clone()
}

#[track_caller]
fn text_of(value: &Json) -> String {
    let text = value.as_str().unwrap_or_else(|| panic!("no text: {value}"));
    assert!(!text.is_empty());
    text.to_owned()
}

#[test]
fn every_panel_says_what_it_shows_and_asks_somebody_who_is_provisioned() {
    let provisioned = repository("deploy/grafana/provisioning/datasources/sluicegate.yaml");
    let provisioned = std::fs::read_to_string(provisioned).unwrap();
    let values = |key: &str| -> Vec<String> {
        let lines = provisioned.lines().filter_map(|line| line.trim().strip_prefix(key));
        lines.map(|value| value.trim().to_owned()).collect()
    };
    let known: BTreeMap<_, _> = values("uid:").into_iter().zip(values("type:")).collect();
    let dashboards = dashboards();
    let uids: BTreeSet<_> = dashboards.iter().map(|dashboard| text_of(&dashboard["uid"])).collect();
    assert_eq!(uids.len(), dashboards.len());
    for dashboard in &dashboards {
        let panels = array(&dashboard["panels"]);
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
        for panel in &panels {
            let title = text_of(&panel["title"]);
            text_of(&panel["description"]);
            text_of(&panel["fieldConfig"]["defaults"]["unit"]);
            let targets = array(&panel["targets"]);
            assert!(!targets.is_empty(), "{title} asks for nothing");
            for asked in targets.iter().chain([panel]).map(|target| &target["datasource"]) {
                let kind = known.get(&text_of(&asked["uid"]));
                assert_eq!(kind, Some(&text_of(&asked["type"])), "{title}");
            }
        }
    }
}

#[test]
fn the_buses_dashboard_shows_speed_events_and_passengers_and_the_devices_one_totals() {
    let of = |dashboard: &str| -> Vec<String> {
        let panels = panels().into_iter().filter(|(title, _)| title == dashboard);
        panels.map(|(_, panel)| text_of(&panel["title"])).collect()
    };
    let buses = of("Sluicegate: buses");
    assert_eq!(buses[..3], ["Speed", "Events", "Passengers"]);
    assert_eq!(of("Sluicegate: devices")[0], "Totals");
}

#[test]
fn settings_and_rules_pass_promtool_and_so_do_the_rules_tests() {
    let promtool = |args: &[&str]| {
        let mut command = Command::new("promtool");
        Ran::of(command.args(args).current_dir(repository("deploy/prometheus"))).success()
    };
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "sluicegate.rules.yml"]);
    promtool(&["test", "rules", "tests/sluicegate.test.yml"]);
}

#[test]
fn every_rule_has_a_test_in_which_it_fires() {
    let read = |name: &str| {
        std::fs::read_to_string(repository(&format!("deploy/prometheus/{name}"))).unwrap()
    };
    let (rules, tests) = (read("sluicegate.rules.yml"), read("tests/sluicegate.test.yml"));
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: BTreeSet<&str> = names.collect();
    let fired = tests.lines().filter_map(|line| line.trim().strip_prefix("- alertname: "));
    let fired: BTreeSet<&str> = fired.collect();
    assert!(!names.is_empty());
    assert_eq!(names, fired);
}

#[test]
fn every_expression_of_dashboards_and_rules_asks_for_metrics_that_there_are() {
    let targets = ["consume", "serve"].map(|job| (job, page(job)));
    let prometheus = run_prometheus(&targets);
    for Query { dashboard, panel, text, .. } in of_kind(Kind::Prometheus) {
        // a rate needs two scrapes
        let samples = poll(|| Some(query(&prometheus, &text)).filter(|found| !found.is_empty()));
        assert!(samples.is_some(), "{dashboard}, {panel}: nothing for {text}");
        assert_all_there(&prometheus, &text);
    }
    // each is evaluated within a second or two
    let rules = poll(|| {
        let rules = prometheus.rules();
        rules.iter().all(|rule| rule.health != "unknown").then_some(rules)
    });
    let rules = rules.expect("rules are not evaluated");
    assert!(!rules.is_empty());
    for rule in &rules {
        assert_eq!(rule.health, "ok", "{}", rule.name);
        assert_all_there(&prometheus, &rule.expression);
    }
    assert_eq!(query(&prometheus, "sum(sluicegate_lag_records)")[0].value, 12.0);
    // what the pages say is no trouble, not even a pending one, but for the alerts of the data
    let alerts = poll(|| Some(query(&prometheus, "ALERTS")).filter(|alerts| !alerts.is_empty()));
    let alerts = alerts.expect("no alert");
    let names: BTreeSet<_> = alerts.iter().map(|alert| &*alert.labels["alertname"]).collect();
    assert_eq!(names, BTreeSet::from(["SluicegateAlertOpen"]));
}

#[test]
fn every_statement_of_the_dashboards_finds_rows_and_reads_no_stream_as_a_whole() {
    let fixture = landed();
    fixture.sql(
        "CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql \
         SET enable_seqscan = off AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || query; END $$",
    );
    for Query { dashboard, panel, text, .. } in of_kind(Kind::Postgres) {
        let sql = expanded_sql(&text);
        let rows = fixture.rows(&sql);
        let says_something = |row: &Json| {
            let values = row.as_object().unwrap().values();
            values.into_iter().any(|value| !value.is_null() && *value != json!(0))
        };
        assert!(rows.iter().any(says_something), "{dashboard}, {panel}: {rows:?} for {sql}");
        let plan = fixture.rows(&format!("SELECT plan FROM plan($sql${sql}$sql$)"));
        let plan: Vec<_> = plan.iter().map(|line| text_of(&line["plan"])).collect();
        let has = |what: &str| plan.iter().any(|line| line.contains(what));
        // an index says where to begin, or what comes first; of the ledger, each partition has a row
        let is_bounded = has("Index Cond") || has("Limit") && !has("Sort") || has(" on ledger");
        assert!(is_bounded && !has("Seq Scan"), "{dashboard}, {panel}: {plan:#?}");
    }
}

#[test]
fn grafana_reads_every_table_and_can_write_none() {
    let services = Services::up(&["postgres"]);
    let fixture = Fixture::on(services.addresses());
    fixture.sql("CREATE TABLE readings (value integer)");
    let role = std::fs::read_to_string(repository("deploy/grafana/role.sql")).unwrap();
    // again, as scripts/services does for data that were there
    fixture.sql(&role);
    fixture.sql(&role);
    let url = fixture.address("DATABASE_URL").replace("sluicegate:sluicegate@", "grafana:grafana@");
    let psql = |statements: &[&str]| {
        let mut command = Command::new("psql");
        command.args([&url, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        Ran::of(command.args(statements.iter().flat_map(|statement| ["-c", *statement])))
    };
    let schema = &fixture.prefix;
    let count = psql(&[&format!("SELECT count(*) FROM \"{schema}\".readings")]);
    assert_eq!(count.success().trim(), "0");
    let delete = format!("DELETE FROM \"{schema}\".readings");
    let refused = psql(&[&delete]).stderr;
    assert!(refused.contains("read-only transaction"), "{refused}");
    let read_write = "SET default_transaction_read_only = off";
    let refused = psql(&[read_write, &delete]).stderr;
    assert!(refused.contains("permission denied"), "{refused}");
    let refused = psql(&[read_write, "COPY (SELECT 1) TO PROGRAM 'true'"]).stderr;
    assert!(refused.contains("to COPY to or from an external program"), "{refused}");
}

fn of_kind(kind: Kind) -> Vec<Query> {
    let queries: Vec<_> =
        dashboard_queries().into_iter().filter(|query| query.kind == kind).collect();
    assert!(!queries.is_empty());
    queries
}

/// Fails the test unless Prometheus has each metric that an expression names.
#[track_caller]
pub fn assert_all_there(prometheus: &RunningPrometheus, expression: &str) {
    let names = metric_names_in(expression);
    assert!(!names.is_empty(), "no metric in {expression}");
    for name in names {
        assert!(!query(prometheus, &name).is_empty(), "no {name}, for {expression}");
    }
}

/// The streams that have dashboards, with simulated events of the last minutes, dead letters, and
/// an alert.
fn landed() -> Fixture {
    let mut fixture = Fixture::new();
    let streams = ["heartbeats", "bus_telemetry", "device_telemetry", "traffic"];
    for stream in streams {
        let topic = fixture.stream(stream, contract(stream));
        fixture.create_topic(&topic, 1);
    }
    for verb in ["register", "migrate"] {
        fixture.run(&[verb]).success();
    }
    for stream in streams {
        fixture.run(&["produce", stream, "--count", "3000", "--invalid", "1%"]).success();
    }
    fixture.drain();
    fixture.sql(
        "INSERT INTO alerts (stream, name, dimensions, since, opened_at, measured) VALUES \
         ('traffic', 'jam', '{\"segment_id\": \"s-1\"}', now(), now(), '{\"speed_kmh_avg\": 9}')",
    );
    fixture
}

#[test]
fn time_filters_are_expanded_and_nothing_else_is_let_through() {
    assert_eq!(
        expanded_sql("SELECT 1 FROM t WHERE $__timeFilter(\"ts\") AND a ORDER BY 1"),
        "SELECT 1 FROM t WHERE \"ts\" BETWEEN now() - interval '1 hour' AND now() AND a ORDER BY 1"
    );
    let unknown = std::panic::catch_unwind(|| expanded_sql("SELECT $__interval"));
    assert!(unknown.is_err());
}
