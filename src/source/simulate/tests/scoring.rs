//! The anomalies that a generator plants are those that an alert on its readings finds: all of them,
//! and nothing else.

use super::{NIGHT, RUSH_HOUR, TYPED};
use crate::source::simulate::{
    Anomaly, BusTelemetry, Buses, DeviceTelemetry, Devices, Event, Events, Generator, Heartbeat,
    Heartbeats, Traffic, TrafficReading,
};
use std::collections::{BTreeMap, BTreeSet};
use time::{Duration, OffsetDateTime};

/// Seeds, and events a second of their time.
const RUNS: [(u64, i64); 6] = [(1, 16), (2, 16), (3, 16), (4, 16), (5, 100), (6, 100)];

const MINUTES: usize = 180;

#[test]
fn every_jam_and_every_accident_is_found_and_nothing_else() {
    let alerts = [
        alert("jam", &["jam", "accident"], 5, |of| of.mean() < 20.0),
        alert("accident", &["accident"], 1, |of| of.has_dropped()),
    ];
    let series = |now: &TrafficReading| (vec![now.segment_id.clone()], now.speed_kmh);
    score(Traffic::new, Traffic::next, series, &alerts);
}

#[test]
fn every_episode_of_a_heart_and_every_silent_sensor_is_found_and_nothing_else() {
    let alerts = [
        alert("heart_rate_high", &["heart_rate_high"], 2, |of| of.mean() > 120.0),
        alert("heart_rate_low", &["heart_rate_low"], 2, |of| of.mean() < 50.0),
        alert("sensor_silent", &["sensor_silent"], 3, |of| of.is_silent()),
    ];
    let series = |now: &Heartbeat| (vec![now.customer_id.clone()], now.heart_rate);
    score(Heartbeats::new, Heartbeats::next, series, &alerts);
}

#[test]
fn every_silent_bus_is_found_and_nothing_else() {
    let alerts = [alert("bus_silent", &["bus_silent"], 4, |of| of.is_silent())];
    let series = |now: &BusTelemetry| (vec![now.bus_id.clone()], 0.0);
    score(Buses::new, Buses::next, series, &alerts);
}

#[test]
fn every_worn_device_is_found_and_nothing_else() {
    let alerts = [alert("kpi_degraded", &["kpi_degraded"], 3, |of| of.mean() > 0.5)];
    let series = |now: &DeviceTelemetry| {
        let kpi = format!("{:?}", now.kpi).to_lowercase();
        let limit = match kpi.as_str() {
            "temperature" => 80.0,
            "humidity" => 70.0,
            "pressure" => 1050.0,
            _ => 5.0,
        };
        (vec![now.device_id.clone(), kpi], f64::from(now.value > limit))
    };
    score(Devices::new, Devices::next, series, &alerts);
}

#[test]
fn every_outage_of_the_shop_is_found_and_nothing_else() {
    let alerts = [alert("errors", &["errors"], 3, |of| of.mean() > 0.2)];
    let series = |now: &Event| (vec![], f64::from(now.event_type == "error"));
    score(Events::new, Events::next, series, &alerts);
}

#[test]
fn errors_are_few_while_the_shop_is_open() {
    for (seed, rate) in RUNS.into_iter().step_by(4) {
        let mut events = Events::new(seed);
        let series = run(&mut events, Events::next, RUSH_HOUR, rate, &|now: &Event| {
            (vec![], f64::from(now.event_type == "error"))
        });
        let anomalies = events.anomalies();
        for (minute, bucket) in series[&vec![]].iter().enumerate().filter(|(_, b)| b.count >= 500) {
            let (from, to) = bounds(RUSH_HOUR, minute, minute + 1);
            if !anomalies.iter().any(|anomaly| overlaps(anomaly, from, to)) {
                assert!(bucket.sum < 0.05 * bucket.count as f64, "seed {seed}, minute {minute}");
            }
        }
    }
}

#[test]
fn a_healthy_bus_is_never_silent_for_two_minutes() {
    for (seed, rate) in RUNS.into_iter().step_by(4) {
        let mut buses = Buses::new(seed);
        let mut last = BTreeMap::new();
        let mut gaps = Vec::new();
        for at in moments(RUSH_HOUR, rate) {
            let bus = buses.next(at).bus_id;
            if let Some(before) = last.insert(bus.clone(), at)
                && at - before > Duration::minutes(2)
            {
                gaps.push((bus, before, at));
            }
        }
        let anomalies = buses.anomalies();
        assert!(!gaps.is_empty());
        for (bus, from, to) in gaps {
            let known = |anomaly: &Anomaly| {
                anomaly.dimensions["bus_id"] == bus
                    && (anomaly.begins, anomaly.ends) == (from, Some(to))
            };
            assert!(anomalies.iter().any(known), "{bus} is silent from {from} to {to}");
        }
    }
}

#[test]
fn anomalies_end_after_they_began_and_within_half_an_hour() {
    for (stream, start) in TYPED {
        let mut generator = start(1);
        for at in moments(NIGHT, 16) {
            generator.reading(at).unwrap();
        }
        let anomalies = generator.anomalies();
        assert!(anomalies.is_sorted_by_key(|anomaly| anomaly.begins), "{stream}");
        for anomaly in anomalies {
            let ends = anomaly.ends.unwrap_or(anomaly.begins + Duration::SECOND);
            let lasted = ends - anomaly.begins;
            assert!(lasted.is_positive() && lasted <= Duration::minutes(26), "{anomaly:?}");
        }
    }
}

/// What a contract would declare: a condition that holds for so many minutes.
struct Alert {
    name: &'static str,
    /// What it may be about: a jam alert for an accident is right.
    kinds: &'static [&'static str],
    minutes: usize,
    when: fn(&Series) -> bool,
}

fn alert(
    name: &'static str,
    kinds: &'static [&'static str],
    minutes: usize,
    when: fn(&Series) -> bool,
) -> Alert {
    Alert { name, kinds, minutes, when }
}

/// The readings of one minute.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    sum: f64,
    count: u32,
}

/// The minutes of one series up to the one in question.
struct Series<'b>(&'b [Bucket]);

impl Series<'_> {
    /// Of the last minute; not a number where there is no reading, so that no comparison holds.
    fn mean(&self) -> f64 {
        mean(&self.0[self.0.len() - 1..])
    }

    /// Whether something was heard once, and nothing in the last minute.
    fn is_silent(&self) -> bool {
        let (last, before) = self.0.split_last().unwrap();
        last.count == 0 && before.iter().any(|bucket| bucket.count > 0)
    }

    fn has_dropped(&self) -> bool {
        let last = self.0.len() - 1;
        self.mean() < 0.2 * mean(&self.0[last.saturating_sub(5)..last])
    }
}

fn mean(buckets: &[Bucket]) -> f64 {
    let count: u32 = buckets.iter().map(|bucket| bucket.count).sum();
    buckets.iter().map(|bucket| bucket.sum).sum::<f64>() / f64::from(count)
}

/// Holds what the alerts find in every run against what was planted in it.
fn score<G: Generator, R>(
    new: fn(u64) -> G,
    next: fn(&mut G, OffsetDateTime) -> R,
    series: impl Fn(&R) -> (Vec<String>, f64),
    alerts: &[Alert],
) {
    let mut seen = BTreeSet::new();
    for (seed, rate) in RUNS {
        let start = if seed % 2 == 0 { NIGHT } else { RUSH_HOUR };
        let mut generator = new(seed);
        let all = run(&mut generator, next, start, rate, &series);
        let anomalies = generator.anomalies();
        for alert in alerts {
            let found: Vec<_> = all
                .iter()
                .flat_map(|(key, buckets)| {
                    let fired = fired(alert, buckets);
                    fired.into_iter().map(move |(from, to)| (key, bounds(start, from, to)))
                })
                .collect();
            let run = format!("{}, seed {seed}, {rate} a second", alert.name);
            assert_scores(alert, &anomalies, &found, start, &run);
            let planted = anomalies.iter().filter(|anomaly| anomaly.kind == alert.name);
            seen.extend(planted.map(|anomaly| anomaly.kind));
        }
    }
    assert_eq!(seen, alerts.iter().map(|alert| alert.name).collect());
}

type Found<'k> = (&'k Vec<String>, (OffsetDateTime, OffsetDateTime));

fn assert_scores(
    alert: &Alert,
    anomalies: &[Anomaly],
    found: &[Found<'_>],
    start: OffsetDateTime,
    run: &str,
) {
    let is_about = |anomaly: &Anomaly, (key, (from, to)): &Found<'_>| {
        anomaly.dimensions.values().eq(key.iter()) && overlaps(anomaly, *from, *to)
    };
    for found in found {
        let right =
            |anomaly: &Anomaly| alert.kinds.contains(&anomaly.kind) && is_about(anomaly, found);
        assert!(anomalies.iter().any(right), "a false alarm of {run}: {found:?}");
    }
    let end = start + Duration::minutes(MINUTES as i64);
    let enough = Duration::minutes(alert.minutes as i64 + 2);
    for anomaly in anomalies.iter().filter(|anomaly| anomaly.kind == alert.name) {
        let lasted = anomaly.ends.unwrap_or(end) - anomaly.begins;
        let is_found = found.iter().any(|found| is_about(anomaly, found));
        assert!(is_found || lasted < enough, "{run} misses {anomaly:?}");
    }
}

/// From which minute to which the alert was on: from when its condition had held for long enough.
fn fired(alert: &Alert, buckets: &[Bucket]) -> Vec<(usize, usize)> {
    let mut fired = Vec::new();
    let mut since = None;
    for minute in 0..=buckets.len() {
        if minute < buckets.len() && (alert.when)(&Series(&buckets[..=minute])) {
            since.get_or_insert(minute);
        } else if let Some(since) = since.take()
            && minute - since >= alert.minutes
        {
            fired.push((since + alert.minutes - 1, minute));
        }
    }
    fired
}

fn run<G, R>(
    generator: &mut G,
    next: fn(&mut G, OffsetDateTime) -> R,
    start: OffsetDateTime,
    rate: i64,
    series: &impl Fn(&R) -> (Vec<String>, f64),
) -> BTreeMap<Vec<String>, Vec<Bucket>> {
    let mut all: BTreeMap<_, Vec<Bucket>> = BTreeMap::new();
    for at in moments(start, rate) {
        let (key, value) = series(&next(generator, at));
        let buckets = all.entry(key).or_insert_with(|| vec![Bucket::default(); MINUTES]);
        let bucket = &mut buckets[(at - start).whole_minutes() as usize];
        bucket.sum += value;
        bucket.count += 1;
    }
    all
}

fn moments(start: OffsetDateTime, rate: i64) -> impl Iterator<Item = OffsetDateTime> {
    let count = MINUTES as i64 * 60 * rate;
    (0..count).map(move |n| start + Duration::milliseconds(n * 1000 / rate))
}

fn bounds(start: OffsetDateTime, from: usize, to: usize) -> (OffsetDateTime, OffsetDateTime) {
    (start + Duration::minutes(from as i64), start + Duration::minutes(to as i64))
}

fn overlaps(anomaly: &Anomaly, from: OffsetDateTime, to: OffsetDateTime) -> bool {
    anomaly.begins < to && anomaly.ends.is_none_or(|ends| from < ends)
}
