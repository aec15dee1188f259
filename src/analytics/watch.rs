//! One alert over the buckets of all its series: what opens and what resolves.
//!
//! Pure: what is remembered of series and what the aggregate holds go in, decisions come out.

use std::{collections::BTreeMap, ops::Range};

use serde_json::Value as Json;

use super::{
    series::{Change, Course, Series, Standing},
    window::{Asked, Sample, Samples, look},
};
use crate::contract::{Aggregate, Alert, ConditionScope, Contract, Measure, Truth};

/// For how long a series is expected at least that has no events any more, in seconds.
const REMEMBERED: i64 = 86_400;

/// What one alert needs of its contract, made ready.
pub(super) struct Watch<'c> {
    pub(super) contract: &'c Contract,
    pub(super) alert: &'c Alert,
    pub(super) aggregate: &'c Aggregate,
    pub(super) asked: Asked,
    pub(super) course: Course,
    scope: ConditionScope,
    /// Whether the condition holds in a bucket without events: then each series that was ever seen
    /// has to be remembered.
    watches_silence: bool,
}

/// What became of a series in a bucket.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decided {
    /// The series, as Postgres writes JSON.
    pub(super) dimensions: String,
    pub(super) change: Change,
    /// The end of the bucket, in seconds since 1970.
    pub(super) at: i64,
    /// What the condition saw in it.
    pub(super) measured: Json,
}

impl<'c> Watch<'c> {
    /// One of a contract's alerts; none where its aggregate is missing, which does not pass the
    /// contract's reading.
    pub(super) fn new(contract: &'c Contract, alert: &'c Alert) -> Option<Watch<'c>> {
        let every = i64::try_from(alert.every.duration().as_secs()).unwrap_or(i64::MAX);
        let mut watch = Watch {
            contract,
            alert,
            aggregate: contract.aggregates.get(alert.aggregate)?,
            asked: Asked::of(&alert.measures()),
            course: Course { every, lasting: alert.lasting, clear_for: alert.clear_for },
            scope: ConditionScope::new(&contract.params),
            watches_silence: false,
        };
        let (holds, _) = watch.judge(&Sample::default(), &Sample::default());
        watch.watches_silence = holds == Truth::True;
        Some(watch)
    }

    /// How long before a bucket those begin that it is compared with, in seconds.
    pub(super) fn before(&self) -> i64 {
        self.course.every.saturating_mul(i64::from(self.alert.before))
    }

    /// What becomes of each series in the buckets that begin from `from` on and before `until`, in
    /// their order. `known` is what was remembered of series, and then what is to be.
    pub(super) fn decide(
        &self,
        known: &mut BTreeMap<String, Series>,
        samples: &BTreeMap<String, Samples>,
        from: i64,
        until: i64,
    ) -> Vec<Decided> {
        for (dimensions, samples) in samples {
            if let Some((first, _)) = samples.range(from..until).next() {
                known.entry(dimensions.clone()).or_insert_with(|| Series::begin(*first));
            }
        }
        let mut decided = Vec::new();
        let nothing = Samples::new();
        for (dimensions, series) in known.iter_mut() {
            let samples = samples.get(dimensions).unwrap_or(&nothing);
            let begin = decided.len();
            self.follow(series, samples, from..until, &mut decided);
            decided.iter_mut().skip(begin).for_each(|new| new.dimensions.clone_from(dimensions));
        }
        known.retain(|_, series| {
            !self.is_forgotten(series, until) && (self.watches_silence || series.is_under_way())
        });
        decided.sort_by(|a, b| (a.at, &a.dimensions).cmp(&(b.at, &b.dimensions)));
        decided
    }

    /// One series through some buckets. Before its first event nothing is known of it.
    fn follow(
        &self,
        series: &mut Series,
        samples: &Samples,
        buckets: Range<i64>,
        decided: &mut Vec<Decided>,
    ) {
        let mut bucket = buckets.start.max(series.seen_at);
        while bucket < buckets.end {
            let end = bucket.saturating_add(self.course.every);
            let (now, earlier) = look(samples, bucket, self.before());
            let change = if now.count == 0.0 && self.is_forgotten(series, end) {
                let was_open = series.is_open();
                let anew = samples.range(bucket..buckets.end).next().map(|(first, _)| *first);
                bucket = anew.unwrap_or(buckets.end);
                series.standing = Standing::Quiet { holding_since: None };
                series.seen_at = anew.unwrap_or(series.seen_at);
                was_open.then_some(Change::Forgotten)
            } else {
                if now.count > 0.0 {
                    series.seen_at = bucket;
                }
                bucket = end;
                let (holds, is_over) = self.judge(&now, &earlier);
                series.advance(self.course, end - self.course.every, holds, is_over)
            };
            decided.extend(change.map(|change| Decided {
                dimensions: String::new(),
                change,
                at: end,
                measured: self.measured(&now, &earlier),
            }));
        }
    }

    /// Whether a series has been silent for so long, at the end of a bucket, that it is not expected:
    /// for a day, and for longer than the alert takes to open and to resolve.
    fn is_forgotten(&self, series: &Series, end: i64) -> bool {
        let Course { every, lasting, clear_for } = self.course;
        let buckets = i64::from(lasting).saturating_add(i64::from(clear_for)).saturating_add(2);
        let silent = end.saturating_sub(series.seen_at).saturating_sub(every);
        silent > REMEMBERED.max(every.saturating_mul(buckets))
    }

    /// Whether the condition holds, and whether it is over.
    fn judge(&self, now: &Sample, earlier: &Sample) -> (Truth, Truth) {
        let value = |measure: &Measure| self.value(measure, now, earlier);
        let holds = self.alert.when.judge(&self.scope, value);
        let is_over = match (&self.alert.clear, holds) {
            (Some(clear), _) => clear.judge(&self.scope, value),
            (None, Truth::True) => Truth::False,
            (None, Truth::False) => Truth::True,
            (None, Truth::Unknown) => Truth::Unknown,
        };
        (holds, is_over)
    }

    fn value(&self, measure: &Measure, now: &Sample, earlier: &Sample) -> Option<f64> {
        self.asked.value(measure, if measure.before { earlier } else { now })
    }

    fn measured(&self, now: &Sample, earlier: &Sample) -> Json {
        let value = |measure: &&Measure| {
            let value = self.value(measure, now, earlier);
            (measure.to_string(), value.map_or(Json::Null, Json::from))
        };
        Json::Object(self.alert.measures().iter().map(value).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::analytics::window::Field;

    fn contract(alert: Json) -> Contract {
        let avsc = json!({
            "type": "record", "name": "R",
            "sluicegate": {"time": "ts", "alerts": [alert]},
            "fields": [
                {"name": "road", "type": "string"},
                {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
                {"name": "speed", "type": "double"},
            ],
        });
        Contract::parse("roads.avsc".as_ref(), avsc.to_string()).unwrap()
    }

    /// Minutes of one series: each has three events of a speed, or none.
    fn minutes(speeds: &[Option<f64>]) -> Samples {
        let sample = |speed: f64| {
            let (sum, speed) = (Some(speed * 3.0), Some(speed));
            let field = Field { count: 3.0, sum, min: speed, max: speed };
            Sample { count: 3.0, fields: vec![field], labelled: Vec::new() }
        };
        let minutes = (0..).step_by(60).zip(speeds);
        minutes.filter_map(|(at, speed)| Some((at, sample((*speed)?)))).collect()
    }

    /// What is told, one a line, however the minutes are cut into steps.
    fn told(alert: Json, speeds: &[Option<f64>]) -> String {
        let contract = contract(alert);
        let watch = Watch::new(&contract, &contract.alerts[0]).unwrap();
        let all = BTreeMap::from([("a".to_owned(), minutes(speeds))]);
        let end = 60 * i64::try_from(speeds.len()).unwrap();
        let run = |step: i64| {
            let (mut known, mut told) = (BTreeMap::new(), Vec::new());
            let mut from = 0;
            while from < end {
                let until = (from + step).min(end);
                // no more than what the step would have read
                let mut samples = all.clone();
                let earliest = from - watch.before();
                samples.values_mut().for_each(|s| s.retain(|at, _| (earliest..until).contains(at)));
                let decided = watch.decide(&mut known, &samples, from, until);
                told.extend(decided.iter().map(|decided| {
                    format!("{} {:?} {}", decided.at / 60, decided.change, decided.measured)
                }));
                from = until;
            }
            told.join("\n")
        };
        let whole = run(end);
        for step in [60, 180, 420] {
            assert_eq!(run(step), whole, "in steps of {step}");
        }
        whole
    }

    fn each(speeds: &[f64]) -> Vec<Option<f64>> {
        speeds.iter().copied().map(Some).collect()
    }

    #[test]
    fn slow_for_minutes_is_a_jam() {
        let jam = json!({"name": "jam", "by": ["road"], "when": "avg(speed) < 20.0", "for": "3m",
            "clear": "avg(speed) > 30.0", "clear_for": "2m"});
        let speeds = [50., 15., 15., 40., 15., 12., 9., 9., 25., 40., 25., 40., 40., 40.];
        insta::assert_snapshot!(told(jam, &each(&speeds)), @r#"
        7 Opened { since: 240 } {"avg(speed)":9.0}
        13 Cleared {"avg(speed)":40.0}
        "#);
    }

    #[test]
    fn a_sudden_drop_against_the_minutes_before_is_an_accident() {
        let accident = json!({"name": "accident", "by": ["road"], "before": "3m",
            "when": "avg(speed) < 0.2 * avg_before(speed)", "clear": "avg(speed) > 20.0"});
        // slow from the start, and slower and slower, is none
        let speeds = [5., 50., 50., 50., 30., 15., 9., 9., 50., 50., 6., 2., 2., 25., 50.];
        insta::assert_snapshot!(told(accident, &each(&speeds)), @r#"
        11 Opened { since: 600 } {"avg(speed)":6.0,"avg_before(speed)":36.333333333333336}
        14 Cleared {"avg(speed)":25.0,"avg_before(speed)":3.3333333333333335}
        "#);
    }

    #[test]
    fn a_series_that_was_heard_of_and_is_not_any_more_is_silent_until_it_is_forgotten() {
        let silent = json!({"name": "silent", "by": ["road"], "when": "count() == 0", "for": "2m",
            "clear_for": "1m"});
        let heard = Some(1.0);
        let mut minutes = vec![None, None, None, heard, None, heard, None, None, None, heard];
        minutes.extend([None; 1_450]);
        insta::assert_snapshot!(told(silent, &minutes), @r#"
        8 Opened { since: 360 } {"count()":0.0}
        10 Cleared {"count()":3.0}
        12 Opened { since: 600 } {"count()":0.0}
        1451 Forgotten {"count()":0.0}
        "#);
    }

    #[test]
    fn only_what_an_alert_needs_of_a_series_is_remembered() {
        let known = |when: &str| {
            let alert = json!({"name": "a", "by": ["road"], "when": when, "for": "3m"});
            let contract = contract(alert);
            let watch = Watch::new(&contract, &contract.alerts[0]).unwrap();
            let samples = BTreeMap::from([
                ("slow".to_owned(), minutes(&each(&[50.0, 9.0]))),
                ("fast".to_owned(), minutes(&each(&[50.0, 50.0]))),
            ]);
            let mut known = BTreeMap::new();
            watch.decide(&mut known, &samples, 0, 120);
            known.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(known("avg(speed) < 20.0"), ["slow"]);
        assert_eq!(known("count() == 0 || avg(speed) < 20.0"), ["fast", "slow"]);
    }
}
