//! Alerts: when somebody must be told, and of what.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value as Json;

use super::{
    Aggregate, Column, ColumnType, Condition,
    attribute::{AlertSpec, Every},
    condition::{Function, Measure},
    read::Reader,
};

/// The width of buckets that an alert looks at where it does not say.
const EVERY: &str = "1m";

/// How many buckets an alert may wait for.
const MOST_BUCKETS: u64 = 1_440;

/// How many buckets an alert may compare with, each time.
const MOST_BEFORE: u64 = 60;

/// How many buckets an alert compares with where it does not say.
const BEFORE: u32 = 5;

/// A condition that lasts, for each value of the dimensions on its own.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// The columns that tell one from another: fields or labels.
    pub by: Vec<Column>,
    /// Where in [`Contract::aggregates`](super::Contract::aggregates) the aggregate is that answers
    /// what the conditions ask.
    pub aggregate: usize,
    /// The width of a bucket.
    pub every: Every,
    /// Opens it,
    pub when: Condition,
    /// once it has held in so many buckets, one after the other.
    pub lasting: u32,
    /// Resolves it; where there is none, that `when` does not hold.
    pub clear: Option<Condition>,
    /// How many buckets have to be so.
    pub clear_for: u32,
    /// How many buckets before the one that is looked at the measures `..._before` are of.
    pub before: u32,
}

impl Alert {
    /// What its conditions ask for, each once.
    pub fn measures(&self) -> Vec<&Measure> {
        measures(&self.when, self.clear.as_ref())
    }
}

fn measures<'c>(when: &'c Condition, clear: Option<&'c Condition>) -> Vec<&'c Measure> {
    let mut measures: Vec<&Measure> = Vec::new();
    for measure in when.measures.iter().chain(clear.into_iter().flat_map(|clear| &clear.measures)) {
        if !measures.contains(&measure) {
            measures.push(measure);
        }
    }
    measures
}

impl Reader<'_> {
    /// Reads alerts. What no aggregate can answer gets one of its own, behind those that are
    /// declared.
    pub(super) fn alerts(
        &mut self,
        specs: &[(String, AlertSpec)],
        stream: &str,
        (time, params): (Option<usize>, &Json),
        columns: &[Column],
        aggregates: &mut Vec<Aggregate>,
    ) -> Vec<Alert> {
        let mut names = BTreeSet::new();
        let mut alerts = Vec::new();
        for (place, spec) in specs {
            self.check_unique(place, &spec.name, &mut names);
            if time.is_none() {
                self.problem(place, "needs an event time; name its field with \"time\"");
            }
            let by = self.columns_named(place, "by", &spec.by, columns);
            let when = self.condition(&format!("{place}.when"), &spec.when, params, columns);
            let clear = spec
                .clear
                .as_ref()
                .map(|clear| self.condition(&format!("{place}.clear"), clear, params, columns));
            let Some(every) = spec.every.or_else(|| EVERY.parse().ok()) else { continue };
            let mut buckets = |key: &str, width: Option<Every>, default: u32, most| match width {
                Some(width) => self.buckets(&format!("{place}.{key}"), width, every, most),
                None => default,
            };
            let lasting = buckets("for", spec.lasting, 1, MOST_BUCKETS);
            let clear_for = buckets("clear_for", spec.clear_for, lasting, MOST_BUCKETS);
            let before = buckets("before", spec.before, BEFORE, MOST_BEFORE);
            let (Some(when), None | Some(Some(_))) = (when, &clear) else { continue };
            let clear = clear.flatten();
            let name = spec.name.clone();
            let wanted = wanted(&by, &measures(&when, clear.as_ref()), columns);
            let aggregate = answering(aggregates, &wanted, every).unwrap_or_else(|| {
                let (by, of) = wanted;
                let table = format!("agg_{stream}_{name}_{}", every.suffix());
                self.check_table(&format!("{place}.name"), &table);
                if aggregates.iter().any(|aggregate| aggregate.table == table) {
                    let message = format!("its aggregate's table \"{table}\" is already taken");
                    self.problem(format!("{place}.name"), message);
                }
                let aggregate = Aggregate { table, every, by, of, declared: false };
                self.check_columns(place, &aggregate);
                aggregates.push(aggregate);
                aggregates.len().saturating_sub(1)
            });
            alerts.push(Alert {
                name,
                by,
                aggregate,
                every,
                when,
                lasting,
                clear,
                clear_for,
                before,
            });
        }
        alerts
    }

    fn condition(
        &mut self,
        place: &str,
        source: &str,
        params: &Json,
        columns: &[Column],
    ) -> Option<Condition> {
        let condition = match Condition::compile(source, params) {
            Ok(condition) => condition,
            Err(wrong) => {
                self.problems_at(place, wrong);
                return None;
            }
        };
        let mut wrong: Vec<String> = condition
            .measures
            .iter()
            .filter_map(|measure| unanswerable(measure, columns))
            .collect();
        wrong.extend(condition.wrong(params));
        let is_sound = wrong.is_empty();
        self.problems_at(place, wrong);
        is_sound.then_some(condition)
    }

    /// How many buckets a width of time is.
    fn buckets(&mut self, place: &str, width: Every, every: Every, most: u64) -> u32 {
        let (width, every) = (width.duration().as_secs(), every.duration().as_secs());
        let buckets = width.checked_div(every).unwrap_or_default();
        if !width.is_multiple_of(every) || !(1..=most).contains(&buckets) {
            let every = Duration::from_secs(every);
            let message = format!("expected 1 to {most} buckets, which are {every:?} wide here");
            self.problem(place, message);
        }
        u32::try_from(buckets).unwrap_or(u32::MAX)
    }
}

/// What is wrong with a measure of these columns.
fn unanswerable(measure: &Measure, columns: &[Column]) -> Option<String> {
    let name = measure.of.as_ref()?;
    let Some(column) = columns.iter().find(|column| column.name == *name) else {
        return Some(format!("there is no field or label \"{name}\""));
    };
    let (fits, expected) = match measure.function {
        Function::Share => {
            (matches!(column.kind, ColumnType::Boolean | ColumnType::Text), "a boolean or a text")
        }
        _ => (column.kind.is_number(), "a number"),
    };
    (!fits).then(|| format!("\"{name}\" is {} in {measure}; expected {expected}", column.kind))
}

/// The dimensions and the summed up columns of an aggregate that answers measures. A share is made of
/// the counts of a label's values, so that the label is a dimension.
fn wanted(by: &[Column], measures: &[&Measure], columns: &[Column]) -> (Vec<Column>, Vec<Column>) {
    let (mut by, mut of) = (by.to_vec(), Vec::new());
    for measure in measures {
        let column = columns.iter().find(|column| measure.of.as_ref() == Some(&column.name));
        let into = if measure.function == Function::Share { &mut by } else { &mut of };
        if let Some(column) = column.filter(|column| !into.contains(column)) {
            into.push(column.clone());
        }
    }
    (by, of)
}

/// The aggregate with the fewest dimensions that has all that is wanted.
fn answering(
    aggregates: &[Aggregate],
    (by, of): &(Vec<Column>, Vec<Column>),
    every: Every,
) -> Option<usize> {
    let has_all = |aggregate: &Aggregate| {
        aggregate.every == every
            && by.iter().all(|column| aggregate.by.contains(column))
            && of.iter().all(|column| aggregate.of.contains(column))
    };
    let answering = aggregates.iter().enumerate().filter(|(_, aggregate)| has_all(aggregate));
    answering.min_by_key(|(_, aggregate)| aggregate.by.len()).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::contract::Contract;

    fn contract(alerts: serde_json::Value) -> Result<Contract, Vec<String>> {
        let avsc = json!({
            "type": "record", "name": "R",
            "sluicegate": {
                "time": "ts", "params": {"slow": 20.0},
                "labels": [{"name": "is_slow", "type": "boolean", "value": "message.speed < 20.0"}],
                "aggregates": [
                    {"every": "1m", "by": ["segment", "kind"], "of": ["speed"], "name": "both"},
                    {"every": "1m", "by": ["segment"], "of": ["speed"], "name": "segments"},
                    {"every": "1h", "by": ["segment"], "of": ["speed"], "name": "hours"},
                ],
                "alerts": alerts,
            },
            "fields": [
                {"name": "event_id", "type": "string"},
                {"name": "segment", "type": "string"},
                {"name": "kind", "type": "string"},
                {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
                {"name": "speed", "type": "double"},
            ],
        });
        Contract::parse("roads.avsc".as_ref(), avsc.to_string())
            .map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_alert_is_answered_by_the_smallest_aggregate_that_can_or_by_one_of_its_own() {
        let contract = contract(json!([
            {"name": "jam", "by": ["segment"], "when": "avg(speed) < params.slow", "for": "5m"},
            {"name": "rush", "by": ["kind"], "when": "max(speed) > 99.0"},
            {"name": "slow_hour", "by": ["segment"], "when": "avg(speed) < 9.0", "every": "1h"},
            {"name": "slow", "by": ["segment"], "when": "share(is_slow) > 0.5", "for": "3m",
             "clear": "share(is_slow) < 0.2", "clear_for": "2m", "before": "10m"},
            {"name": "silent", "when": "count() == 0"},
        ]))
        .unwrap();
        let answered: Vec<String> = contract
            .alerts
            .iter()
            .map(|alert| {
                let table = &contract.aggregates[alert.aggregate].table;
                let (lasting, clear_for, before) = (alert.lasting, alert.clear_for, alert.before);
                format!("{} {table} {lasting} {clear_for} {before}", alert.name)
            })
            .collect();
        insta::assert_snapshot!(answered.join("\n"), @r"
        jam segments 5 5 5
        rush both 1 1 5
        slow_hour hours 1 1 5
        slow agg_roads_slow_minute 3 2 10
        silent segments 1 1 5
        ");
        let own = &contract.aggregates[3];
        let by: Vec<&str> = own.by.iter().map(|column| column.name.as_str()).collect();
        assert_eq!((by, own.of.len()), (vec!["segment", "is_slow"], 0));
    }

    #[test]
    fn what_is_wrong_with_an_alert_is_said_with_its_place() {
        let problems = contract(json!([
            {"name": "a", "when": "avg(kind) < 1.0"},
            {"name": "a", "when": "share(speed) > 0.5"},
            {"name": "b", "by": ["road"], "when": "count() == 0", "for": "90s"},
            {"name": "c", "when": "avg(speed) > 0.0", "clear": "avg(speeed) > 0.0"},
            {"name": "d", "when": "avg(speed)", "for": "2d"},
        ]))
        .unwrap_err();
        insta::assert_snapshot!(problems.join("\n"), @r#"
        roads.avsc: sluicegate.alerts[0].when: "kind" is text in avg(kind); expected a number
        roads.avsc: sluicegate.alerts[1].name: "a" is already taken
        roads.avsc: sluicegate.alerts[1].when: "speed" is double precision in share(speed); expected a boolean or a text
        roads.avsc: sluicegate.alerts[2].by: there is no field or label "road"
        roads.avsc: sluicegate.alerts[2].for: expected 1 to 1440 buckets, which are 60s wide here
        roads.avsc: sluicegate.alerts[3].clear: there is no field or label "speeed"
        roads.avsc: sluicegate.alerts[4].when: gives float; expected a boolean
        roads.avsc: sluicegate.alerts[4].for: expected 1 to 1440 buckets, which are 60s wide here
        "#);
    }
}
