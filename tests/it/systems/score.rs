//! Alerts held against what the generators planted.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::support::Fixture;

/// What `schemas/` declares: an alert, its stream, for how many minutes its condition must hold and
/// then be over, and of which planted anomalies it tells.
const ALERTS: [Declared; 8] = [
    Declared("jam", "traffic", 5, 3, &["jam", "accident"]),
    Declared("accident", "traffic", 1, 2, &["accident"]),
    Declared("heart_rate_high", "heartbeats", 2, 2, &["heart_rate_high"]),
    Declared("heart_rate_low", "heartbeats", 2, 2, &["heart_rate_low"]),
    Declared("sensor_silent", "heartbeats", 3, 1, &["sensor_silent"]),
    Declared("bus_silent", "bus_telemetry", 4, 1, &["bus_silent"]),
    Declared("kpi_degraded", "device_telemetry", 3, 3, &["kpi_degraded"]),
    Declared("errors", "events", 3, 3, &["errors"]),
];

#[derive(Debug, Clone, Copy)]
struct Declared(&'static str, &'static str, i64, i64, &'static [&'static str]);

/// How far a bucket's edge may be from an anomaly's.
const EDGE: Duration = Duration::seconds(90);

/// From where to where a stream was looked at.
#[derive(Debug)]
pub struct Horizon {
    streams: BTreeMap<String, (OffsetDateTime, OffsetDateTime)>,
}

/// What a generator planted, as `produce --anomalies` writes it.
#[derive(Debug, Clone, Deserialize)]
struct Planted {
    kind: String,
    dimensions: BTreeMap<String, String>,
    #[serde(with = "time::serde::rfc3339")]
    begins: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    ends: Option<OffsetDateTime>,
}

/// An alert as its table has it.
#[derive(Debug, Clone)]
struct Told {
    dimensions: BTreeMap<String, String>,
    since: OffsetDateTime,
    opened_at: OffsetDateTime,
    resolved_at: Option<OffsetDateTime>,
}

/// How one alert did.
#[derive(Debug)]
pub struct Score {
    pub alert: &'static str,
    /// Anomalies that lasted two minutes longer than the alert's window.
    pub planted: usize,
    /// Those of them that it told of.
    pub found: usize,
    /// How many alerts there were.
    pub told: usize,
    /// Anomalies that it did not tell of.
    pub missed: Vec<String>,
    /// Alerts where nothing was planted.
    pub wrong: Vec<String>,
    /// Alerts that were open when their anomaly was long over.
    pub stuck: Vec<String>,
    /// From the beginning of each anomaly that was found to the end of the bucket that told.
    delays: Vec<Duration>,
}

impl Horizon {
    /// Up to the last whole minute of each stream.
    pub fn read(fixture: &Fixture, streams: &[&str]) -> Horizon {
        let time = |stream: &str| match stream {
            "heartbeats" => ("heartbeats", "timestamp"),
            "events" => ("raw_events", "occurred_at"),
            "bus_telemetry" => ("bus_telemetry", "ts"),
            "device_telemetry" => ("device_telemetry", "ts"),
            _ => ("traffic", "ts"),
        };
        let of = |stream: &&str| {
            let (table, time) = time(stream);
            let moment = |what: &str| {
                let sql = format!("SELECT extract(epoch FROM {what}(\"{time}\")) FROM {table}");
                OffsetDateTime::from_unix_timestamp(fixture.number(&sql)).unwrap()
            };
            let end = moment("max").unix_timestamp();
            let end = OffsetDateTime::from_unix_timestamp(end - end % 60).unwrap();
            ((*stream).to_owned(), (moment("min"), end))
        };
        Horizon { streams: streams.iter().map(of).collect() }
    }

    /// Where a stream's anomalies are.
    pub fn file(fixture: &Fixture, stream: &str) -> PathBuf {
        fixture.schemas.path().join(format!("{stream}.anomalies.jsonl"))
    }

    /// Whether every alert has been decided up to there.
    pub fn is_decided(&self, fixture: &Fixture) -> bool {
        ALERTS.iter().all(|Declared(alert, stream, ..)| {
            let until = format!(
                "SELECT coalesce((SELECT extract(epoch FROM decided_until) FROM alert_progress \
                 WHERE stream = '{stream}' AND name = '{alert}'), 0)"
            );
            fixture.number(&until) >= self.streams[*stream].1.unix_timestamp()
        })
    }
}

/// Holds every alert against what was planted.
pub fn score(fixture: &Fixture, horizon: &Horizon) -> Vec<Score> {
    ALERTS.iter().map(|declared| score_one(fixture, horizon, *declared)).collect()
}

fn score_one(fixture: &Fixture, horizon: &Horizon, declared: Declared) -> Score {
    let Declared(alert, stream, lasting, clear_for, kinds) = declared;
    let (begin, end) = horizon.streams[stream];
    let planted: Vec<Planted> = std::fs::read_to_string(Horizon::file(fixture, stream))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Planted>(line).unwrap())
        .filter(|planted| kinds.contains(&planted.kind.as_str()) && planted.begins < end)
        .collect();
    let told = told(fixture, alert, end);
    let mut score = Score {
        alert,
        planted: 0,
        found: 0,
        told: told.len(),
        missed: Vec::new(),
        wrong: Vec::new(),
        stuck: Vec::new(),
        delays: Vec::new(),
    };
    let until = |planted: &Planted| planted.ends.unwrap_or(end).min(end);
    let is_of = |told: &Told, planted: &Planted| {
        told.dimensions == planted.dimensions
            && told.since >= planted.begins - EDGE
            && told.since <= until(planted) + EDGE
    };
    for anomaly in &planted {
        let lasts = until(anomaly) - anomaly.begins.max(begin);
        // what has no past can't fall against it
        let is_known = anomaly.begins >= begin + Duration::minutes(2);
        // a jam that another follows at once is one to who looks at the road
        if lasts < Duration::minutes(lasting + 2) || !is_known {
            continue;
        }
        score.planted += 1;
        let found = told.iter().find(|told| {
            told.dimensions == anomaly.dimensions
                && told.opened_at > anomaly.begins
                && told.since <= until(anomaly)
                && told.resolved_at.is_none_or(|resolved| resolved > anomaly.begins)
        });
        match found {
            Some(told) => {
                score.found += 1;
                score.delays.push(told.opened_at - anomaly.begins);
            }
            None => score.missed.push(format!("{anomaly:?}")),
        }
    }
    for alert in &told {
        let of: Vec<&Planted> = planted.iter().filter(|planted| is_of(alert, planted)).collect();
        if of.is_empty() {
            score.wrong.push(format!("{alert:?}"));
        }
        let over = of.iter().map(|planted| until(planted)).max();
        let deadline = Duration::minutes(clear_for + 3);
        let goes_on = |over| {
            let same = |planted: &&Planted| planted.dimensions == alert.dimensions;
            planted
                .iter()
                .filter(same)
                .any(|planted| planted.begins > over - deadline && planted.begins < over + deadline)
        };
        if let Some(over) = over.filter(|over| *over + deadline < end && !goes_on(*over))
            && alert.resolved_at.is_none_or(|resolved| resolved > over + deadline)
        {
            score.stuck.push(format!("{alert:?}"));
        }
    }
    score
}

/// The alerts that opened within the horizon.
fn told(fixture: &Fixture, alert: &str, end: OffsetDateTime) -> Vec<Told> {
    let rows = fixture.rows(&format!(
        "SELECT dimensions, since, opened_at, resolved_at FROM alerts WHERE name = '{alert}' \
         ORDER BY opened_at"
    ));
    let moment = |value: &serde_json::Value| {
        value.as_str().map(|text| OffsetDateTime::parse(text, &Rfc3339).unwrap())
    };
    rows.iter()
        .map(|row| Told {
            dimensions: serde_json::from_value(row["dimensions"].clone()).unwrap(),
            since: moment(&row["since"]).unwrap(),
            opened_at: moment(&row["opened_at"]).unwrap(),
            resolved_at: moment(&row["resolved_at"]),
        })
        .filter(|told| told.opened_at <= end)
        .collect()
}

impl Score {
    /// Whether all that was planted was found, nothing else was, and what was over is resolved.
    pub fn is_perfect(&self) -> bool {
        self.missed.is_empty() && self.wrong.is_empty() && self.stuck.is_empty()
    }
}

/// The scores for a person.
pub fn table(scores: &[Score]) -> String {
    let mut text = format!(
        "\n{:<16} {:>7} {:>5} {:>6} {:>6} {:>9} {:>12}\n",
        "alert", "planted", "found", "alerts", "recall", "precision", "median delay"
    );
    let share = |part: usize, whole: usize| match whole {
        0 => "-".to_owned(),
        _ => format!("{:.3}", part as f64 / whole as f64),
    };
    for score in scores {
        let mut delays = score.delays.clone();
        delays.sort();
        let delay = delays
            .get(delays.len() / 2)
            .map_or("-".to_owned(), |delay| format!("{} s", delay.whole_seconds()));
        text += &format!(
            "{:<16} {:>7} {:>5} {:>6} {:>6} {:>9} {:>12}\n",
            score.alert,
            score.planted,
            score.found,
            score.told,
            share(score.found, score.planted),
            share(score.told - score.wrong.len(), score.told),
            delay
        );
    }
    text
}
