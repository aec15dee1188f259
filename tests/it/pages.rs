//! Pages of `consume` and `serve` as Prometheus gets them, kept in `tests/it/pages`: with every metric
//! that there is, for tests that ask Prometheus and run neither.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    thread,
};

use sluicegate::metrics::{self, CONSUME, DATABASE, Metric, PROCESS, SERVE};

use crate::support::{contract, repository};

/// Serves what a command's /metrics looks like, with counters that go up; gives the address.
pub fn page(command: &str) -> String {
    let lines = std::fs::read_to_string(lines_of(command)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for (scrape, connection) in (1..).zip(listener.incoming()) {
            let mut connection = connection.unwrap();
            let request = BufReader::new(&connection).lines();
            _ = request.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).count();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
                        Connection: close\r\n\r\n";
            let body: String = lines.lines().map(|line| gone_up(line, scrape)).collect();
            // Prometheus may have gone
            _ = connection.write_all(format!("{head}{body}").as_bytes());
        }
    });
    address
}

fn lines_of(command: &str) -> PathBuf {
    repository(&format!("tests/it/pages/{command}.txt"))
}

/// A line of a page, at the so-manieth scrape.
fn gone_up(line: &str, scrape: u32) -> String {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let name = series.split('{').next().unwrap();
    let is_counter = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end));
    let times = if is_counter { f64::from(scrape) } else { 1.0 };
    format!("{series} {}\n", value.parse::<f64>().unwrap() * times)
}

#[test]
fn the_pages_have_every_metric_of_the_program_and_of_the_aggregates() {
    let shown = |command: &str| -> BTreeSet<String> {
        let text = std::fs::read_to_string(lines_of(command)).unwrap();
        text.lines().map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
    };
    assert_eq!(shown("consume"), [PROCESS, CONSUME].into_iter().flat_map(names_of).collect());
    // what else serve shows is of aggregates, which are named as the contracts say
    let streams = ["heartbeats", "bus_telemetry", "device_telemetry", "traffic", "events"];
    let of_aggregates = streams.into_iter().flat_map(gauges_of_aggregates);
    let fixed = [PROCESS, SERVE, DATABASE].into_iter().flat_map(names_of);
    assert_eq!(shown("serve"), fixed.chain(of_aggregates).collect());
}

/// The names under which Prometheus keeps metrics.
fn names_of(metrics: &[Metric]) -> Vec<String> {
    let parts = |metric: &Metric| match metric.kind {
        metrics::Kind::Histogram => vec!["_bucket", "_count", "_sum"],
        _ => vec![""],
    };
    let names = |metric| parts(metric).into_iter().map(|part| format!("{}{part}", metric.name));
    metrics.iter().flat_map(names).collect()
}

/// What `serve` shows of the newest minute of a stream.
fn gauges_of_aggregates(stream: &str) -> Vec<String> {
    let mut names = Vec::new();
    for aggregate in contract(stream)["sluicegate"]["aggregates"].as_array().unwrap() {
        let of = aggregate["of"].as_array().cloned().unwrap_or_default();
        let fields = of.iter().map(|field| field.as_str().unwrap());
        names.push(format!("sluicegate_{stream}_minute_events"));
        for field in fields {
            names.extend(
                ["avg", "max"].map(|of| format!("sluicegate_{stream}_minute_{field}_{of}")),
            );
        }
    }
    names
}
