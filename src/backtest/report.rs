//! What would change, counted, with examples. Pure.

use std::collections::{BTreeMap, HashMap};

use apache_avro::types::Value;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use time::OffsetDateTime;

use super::Options;
use crate::{
    check::check,
    codec::{cells, event_to_json},
    contract::{Contract, Expression, MASK, Scope},
    dlq::Letter,
    failure::Rejection,
    label::{Fact, label},
};

/// How many changes of one label are told apart.
const MOST_CHANGES: usize = 20;

/// What a contract would change.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The stream.
    pub stream: String,
    /// What was looked at: from then on,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// and up to then.
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
    /// Whether rows have a time to be chosen by; else all are looked at.
    pub rows_have_time: bool,
    /// Rows that were looked at.
    pub rows: u64,
    /// Those that can't be turned back into the event they were, by the field that is in the way.
    pub unreadable_rows: BTreeMap<String, u64>,
    /// Rows that would be refused now, by reason.
    pub refused_rows: BTreeMap<String, Refusals>,
    /// Labels that would be other ones now, by name.
    pub labels: BTreeMap<String, LabelChanges>,
    /// Dead letters that were looked at.
    pub letters: u64,
    /// Those that rules and labels would let pass, by the stage and reason that they have.
    pub passing_letters: BTreeMap<String, u64>,
    /// Those among them that the table itself had refused, which only a replay tries.
    pub untried_letters: BTreeMap<String, u64>,
    /// Those that would be refused again, by today's stage and reason.
    pub failing_letters: BTreeMap<String, u64>,
    #[serde(skip)]
    examples: usize,
}

/// Rows that one reason would refuse.
#[derive(Debug, Default, Serialize)]
pub struct Refusals {
    /// How many.
    pub count: u64,
    /// Some of them.
    pub examples: Vec<Example>,
}

/// How the values of one label would change.
#[derive(Debug, Default, Serialize)]
pub struct LabelChanges {
    /// In how many rows.
    pub count: u64,
    /// From what to what; the first so many that were met.
    pub changes: Vec<LabelChange>,
    /// In how many rows otherwise.
    pub others: u64,
}

/// One label's value in place of another.
#[derive(Debug, Serialize)]
pub struct LabelChange {
    /// What is stored.
    pub from: Json,
    /// What it would be.
    pub to: Json,
    /// In how many rows.
    pub count: u64,
    /// Some of them.
    pub examples: Vec<Example>,
}

/// One row.
#[derive(Debug, Serialize)]
pub struct Example {
    /// Its event's id.
    pub id: String,
    /// What the expression reads of it, as it may be shown.
    pub reads: Json,
}

impl Report {
    pub(super) fn new(contract: &Contract, options: &Options) -> Report {
        Report {
            stream: contract.stream.clone(),
            since: options.since,
            until: options.until,
            rows_have_time: contract.time.is_some(),
            rows: 0,
            unreadable_rows: BTreeMap::new(),
            refused_rows: BTreeMap::new(),
            labels: BTreeMap::new(),
            letters: 0,
            passing_letters: BTreeMap::new(),
            untried_letters: BTreeMap::new(),
            failing_letters: BTreeMap::new(),
            examples: options.examples,
        }
    }

    /// A row, with the labels that are stored beside it.
    pub(super) fn row(
        &mut self,
        contract: &Contract,
        scope: &Scope,
        id: String,
        event: &[(String, Value)],
        stored: &[Fact<'_>],
    ) {
        self.rows = self.rows.saturating_add(1);
        let cells = cells(event, &contract.columns);
        let labels = check(&cells, contract, scope).and_then(|()| label(&cells, contract, scope));
        let example = |expression: Option<&Expression>| Example {
            id: id.clone(),
            reads: reads(contract, event, expression),
        };
        let labels = match labels {
            Ok(labels) => labels,
            Err(Rejection { reason, .. }) => {
                let expression = expression(contract, &reason);
                let refusals = self.refused_rows.entry(reason.into_owned()).or_default();
                refusals.count = refusals.count.saturating_add(1);
                if refusals.examples.len() < self.examples {
                    refusals.examples.push(example(expression));
                }
                return;
            }
        };
        for ((label, new), old) in contract.labels.iter().zip(&labels).zip(stored) {
            if new == old {
                continue;
            }
            let (from, to) = match contract.is_private_label(label) {
                true => (MASK.into(), MASK.into()),
                false => (json(old), json(new)),
            };
            let changes = self.labels.entry(label.name.clone()).or_default();
            if let Some(change) = changes.one(from, to)
                && change.examples.len() < self.examples
            {
                change.examples.push(example(Some(&label.value)));
            }
        }
    }

    /// A row that can't be turned back.
    pub(super) fn unreadable_row(&mut self, field: String) {
        self.rows = self.rows.saturating_add(1);
        more(&mut self.unreadable_rows, field);
    }

    /// Dead letters, and why some of them are refused again, by their place among them.
    pub(super) fn letters(&mut self, letters: &[Letter], refused: &HashMap<usize, Rejection>) {
        for (index, letter) in letters.iter().enumerate() {
            self.letters = self.letters.saturating_add(1);
            let why = format!("{} {}", letter.stage, letter.reason);
            match refused.get(&index) {
                Some(rejection) => {
                    let why = format!("{} {}", rejection.stage, rejection.reason);
                    more(&mut self.failing_letters, why);
                }
                None if is_of_the_table(&letter.reason) => more(&mut self.untried_letters, why),
                None => more(&mut self.passing_letters, why),
            }
        }
    }
}

impl LabelChanges {
    /// Counts one; gives where it is counted, if it is told apart.
    fn one(&mut self, from: Json, to: Json) -> Option<&mut LabelChange> {
        self.count = self.count.saturating_add(1);
        let known = self.changes.iter().position(|change| change.from == from && change.to == to);
        if known.is_none() && self.changes.len() >= MOST_CHANGES {
            self.others = self.others.saturating_add(1);
            return None;
        }
        let index = known.unwrap_or_else(|| {
            self.changes.push(LabelChange { from, to, count: 0, examples: Vec::new() });
            self.changes.len().saturating_sub(1)
        });
        let change = self.changes.get_mut(index)?;
        change.count = change.count.saturating_add(1);
        Some(change)
    }
}

fn more(counts: &mut BTreeMap<String, u64>, what: String) {
    let count = counts.entry(what).or_default();
    *count = count.saturating_add(1);
}

/// Whether a reason is a constraint's or a trigger's.
fn is_of_the_table(reason: &str) -> bool {
    reason.ends_with("_violation")
        || reason.starts_with("table_refused:")
        || reason == "raised_by_trigger"
}

/// The rule or the label that a reason names.
fn expression<'c>(contract: &'c Contract, reason: &str) -> Option<&'c Expression> {
    let (code, name) = reason.split_once(':')?;
    match code {
        "label_error" => {
            contract.labels.iter().find(|label| label.name == name).map(|label| &label.value)
        }
        _ => contract.rules.iter().find(|rule| rule.name == name).map(|rule| &rule.check),
    }
}

/// What an expression reads of an event, as it may be shown.
fn reads(contract: &Contract, event: &[(String, Value)], expression: Option<&Expression>) -> Json {
    let Json::Object(fields) = contract.shown(event_to_json(&contract.schema, event)) else {
        return Json::Object(Map::new());
    };
    let read = |name: &str| expression.is_some_and(|expression| expression.reads(name));
    Json::Object(fields.into_iter().filter(|(name, _)| read(name)).collect())
}

fn json(fact: &Fact<'_>) -> Json {
    match fact {
        Fact::Null => Json::Null,
        Fact::Boolean(value) => (*value).into(),
        Fact::Long(value) => (*value).into(),
        Fact::Double(value) => (*value).into(),
        Fact::String(text) => (&**text).into(),
    }
}
