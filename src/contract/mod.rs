//! What a schema declares about its events.
//!
//! A contract is one `.avsc` file: plain Avro, and the attribute `"sluicegate"` on its record.
//! Everything the pipeline knows of a stream follows from it. This module does no I/O but
//! reading those files.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod alert;
mod attribute;
mod column;
mod compile;
mod compiled;
mod condition;
mod derived;
mod evaluate;
mod expression;
mod private;
mod problem;
mod read;
mod sample;
mod scope;
mod trial;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use apache_avro::Schema;
use serde_json::Value as Json;

pub use alert::Alert;
pub use attribute::{Every, OnConflict};
pub use column::{Column, ColumnType};
pub use condition::{Condition, ConditionScope, Function, Measure, Truth};
pub use expression::Expression;
pub use private::MASK;
pub use problem::{Problem, Problems};
pub(crate) use scope::Outcome;
pub use scope::Scope;

use crate::{registry::Compatibility, source::InputMapping};

/// One stream, as its schema declares it.
#[derive(Debug, Clone)]
pub struct Contract {
    /// The stream's name: the file's name without `.avsc`.
    pub stream: String,
    /// Where the contract was read.
    pub file: PathBuf,
    /// The file's own text, which is what gets registered.
    pub text: String,
    /// The schema that readers resolve to.
    pub schema: Schema,
    /// The record's full name, with its namespace.
    pub fullname: String,
    /// Where the events are.
    pub topic: Topic,
    /// Where the dead letters are copied to.
    pub dead_letter_topic: Topic,
    /// Where the good events land.
    pub table: String,
    /// What makes an event the same event.
    pub identity: Identity,
    /// The fields that an event id is derived from where the input has none.
    pub id_from: Vec<String>,
    /// The field whose value is the Kafka key.
    pub key: Option<usize>,
    /// The field that says when the event happened.
    pub time: Option<usize>,
    /// What happens to an event whose id has already landed.
    pub on_conflict: OnConflict,
    /// The compatibility level of the subject.
    pub compatibility: Compatibility,
    /// The fields that neither a person nor a log may see.
    pub private: BTreeSet<String>,
    /// Tunables that rules and labels refer to as `params`.
    pub params: Json,
    /// What must hold.
    pub rules: Vec<Rule>,
    /// What is derived and stored beside the event.
    pub labels: Vec<Label>,
    /// What is kept per bucket of time: first what is declared, then what only alerts need.
    pub aggregates: Vec<Aggregate>,
    /// When somebody must be told.
    pub alerts: Vec<Alert>,
    /// How records of a file or an HTTP API become events.
    pub input: InputMapping,
    /// One column a field, in the schema's order.
    pub columns: Vec<Column>,
}

/// A topic and how it is created where it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it is created with.
    pub partitions: i32,
    /// How many replicas it is created with; -1 leaves that to the broker.
    pub replication: i32,
}

/// The idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The field at this index.
    Field(usize),
    /// The schema has no id: an event is its place in the topic. Redeliveries are still landed
    /// once, but an event that its producer sent twice is two events.
    Coordinates,
}

/// Something that must hold, or the event is a dead letter.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name, which is part of the dead letter's reason.
    pub name: String,
    /// A CEL expression that gives a boolean.
    pub check: Expression,
}

/// A fact derived from the event.
#[derive(Debug, Clone)]
pub struct Label {
    /// The column's name.
    pub name: String,
    /// The column's type.
    pub kind: ColumnType,
    /// A CEL expression that gives the value, or null.
    pub value: Expression,
}

/// Counts, sums, minima and maxima per bucket of time and dimensions.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The aggregate's table.
    pub table: String,
    /// The bucket's width.
    pub every: Every,
    /// The columns that dimension it: fields or labels.
    pub by: Vec<Column>,
    /// The number columns that are summed up.
    pub of: Vec<Column>,
    /// Whether the contract declares it. Of one that only alerts need, no metrics are made.
    pub declared: bool,
}

impl Contract {
    /// Reads one contract.
    pub fn read(file: &Path) -> Result<Contract, Problems> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Problems::one(file, "", format!("can't be read: {error}")))?;
        Contract::parse(file, text)
    }

    /// Makes a contract of a file's text; the file's name is the stream's.
    pub fn parse(file: &Path, text: String) -> Result<Contract, Problems> {
        read::contract(file, text)
    }

    /// Reads every `.avsc` of a folder, sorted by stream. Reports every problem of every file.
    pub fn read_all(folder: &Path) -> Result<Vec<Contract>, Problems> {
        let files = avsc_files(folder)?;
        if files.is_empty() {
            let hint = "has no .avsc file; name the folder of your schemas with --schemas";
            return Err(Problems::one(folder, "", hint.to_owned()));
        }
        let mut contracts = Vec::new();
        let mut problems = Problems::default();
        for file in files {
            match Contract::read(&file) {
                Ok(contract) => contracts.push(contract),
                Err(found) => problems.extend(found),
            }
        }
        problems.extend(read::clashes(&contracts));
        if problems.is_empty() { Ok(contracts) } else { Err(problems) }
    }

    /// The name of the column that holds the idempotency key.
    pub fn id_column(&self) -> &str {
        match self.identity {
            Identity::Field(index) => self.columns.get(index).map_or("event_id", |c| &c.name),
            Identity::Coordinates => "event_id",
        }
    }

    /// The column that says when an event happened.
    pub fn time_column(&self) -> Option<&Column> {
        self.time.and_then(|index| self.columns.get(index))
    }

    /// Every column of the stream's table: the id first where the schema has none, then the
    /// fields, then the labels.
    pub fn table_columns(&self) -> Vec<Column> {
        let id = (self.identity == Identity::Coordinates).then(|| Column {
            name: "event_id".into(),
            kind: ColumnType::Uuid,
            nullable: false,
        });
        let labels = self.labels.iter().map(Label::column);
        id.into_iter().chain(self.columns.iter().cloned()).chain(labels).collect()
    }

    /// Whether a rule or a label reads a field.
    pub fn reads(&self, field: &str) -> bool {
        let rules = self.rules.iter().map(|rule| &rule.check);
        rules.chain(self.labels.iter().map(|label| &label.value)).any(|it| it.reads(field))
    }

    /// The record's fields.
    pub fn fields(&self) -> &[apache_avro::schema::RecordField] {
        match &self.schema {
            Schema::Record(record) => &record.fields,
            _ => &[],
        }
    }
}

impl Label {
    /// The column that the label is stored in; an expression may always give null.
    pub fn column(&self) -> Column {
        Column { name: self.name.clone(), kind: self.kind.clone(), nullable: true }
    }
}

impl Aggregate {
    /// The name of the column that holds the bucket's start.
    pub fn bucket_column(&self) -> &'static str {
        self.every.bucket_column()
    }
}

fn avsc_files(folder: &Path) -> Result<Vec<PathBuf>, Problems> {
    let unreadable = |error: std::io::Error| {
        let hint =
            format!("can't be listed: {error}; name the folder of your schemas with --schemas");
        Problems::one(folder, "", hint)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "avsc") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
