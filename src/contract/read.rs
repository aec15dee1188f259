//! From a schema's text to a contract, or to everything that is wrong with it.

use std::{collections::BTreeMap, path::Path};

use apache_avro::{
    Schema,
    schema::{Name, RecordSchema, ResolvedSchema},
};
use serde_json::Value as Json;

use super::{
    Column, ColumnType, Contract, Identity, Label, Problem, Problems, Topic, attribute::Attribute,
    private::Shows, sample, trial::Trial,
};
use crate::codec;

/// Postgres cuts longer names off.
pub(super) const LONGEST_NAME: usize = 63;

/// Columns that every Postgres table already has.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// Tables that no stream may have.
const FIXED_TABLES: [&str; 13] = [
    "dlq_events",
    "dlq_outbox",
    "dlq_history",
    "ledger",
    "ledger_gaps",
    "breakers",
    "aggregate_changes",
    "metrics",
    "alerts",
    "alert_progress",
    "alert_series",
    "alert_outbox",
    "refinery_schema_history",
];

/// How many partitions a topic gets where the contract does not say.
const PARTITIONS: i32 = 3;

/// Reads a contract from its file's text.
pub(super) fn contract(file: &Path, text: String) -> Result<Contract, Problems> {
    let one = |place: &str, message: String| Problems::one(file, place, message);
    let json: Json =
        serde_json::from_str(&text).map_err(|error| one("", format!("is not JSON: {error}")))?;
    let schema = Schema::parse_str(&text)
        .map_err(|error| one("", format!("is not an Avro schema: {error}")))?;
    let Schema::Record(record) = &schema else {
        return Err(one("type", "expected a record".into()));
    };
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let attribute = json.get("sluicegate");
    let mut reader = Reader { file, record, problems: Vec::new() };
    let parts = reader.parts(stem, &schema, attribute);
    let problems = reader.problems;
    match parts {
        Some(build) if problems.is_empty() => Ok(build(text, schema)),
        _ => Err(Problems(problems)),
    }
}

/// Names that two streams claim, so that one would write into the other's topic or table.
pub(super) fn clashes(contracts: &[Contract]) -> Problems {
    let mut owners: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for contract in contracts {
        let tables =
            contract.aggregates.iter().map(|aggregate| ("table", aggregate.table.as_str()));
        let names = [
            ("topic", contract.topic.name.as_str()),
            ("topic", contract.dead_letter_topic.name.as_str()),
            ("table", contract.table.as_str()),
        ];
        for (kind, name) in names.into_iter().chain(tables) {
            if let Some(owner) = owners.insert((kind, name), &contract.stream) {
                let message = format!(
                    "the {kind} \"{name}\" is also claimed by \"{owner}\"; every topic and table \
                     belongs to one purpose"
                );
                let file = contract.file.clone();
                problems.push(Problem { file, place: "sluicegate".into(), message });
            }
        }
    }
    Problems(problems)
}

/// What is left to do once nothing is wrong: to put text and schema in.
type Build = Box<dyn FnOnce(String, Schema) -> Contract>;

pub(super) struct Reader<'f> {
    file: &'f Path,
    pub(super) record: &'f RecordSchema,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    pub(super) fn problem(&mut self, place: impl Into<String>, message: impl Into<String>) {
        let (place, message) = (place.into(), message.into());
        self.problems.push(Problem { file: self.file.to_owned(), place, message });
    }

    fn parts(&mut self, stream: &str, schema: &Schema, json: Option<&Json>) -> Option<Build> {
        let attribute = match json {
            None => Attribute::default(),
            Some(json) => Attribute::read(json, &mut |place, message| self.problem(place, message)),
        };
        if stream.is_empty() || !is_name(stream) {
            self.problem("", "the file's name is the stream's; expected letters, digits and \"_\"");
        }
        let columns = self.columns(schema)?;
        let table = attribute.table.clone().unwrap_or_else(|| stream.to_owned());
        self.check_table("sluicegate.table", &table);
        let identity = self.identity(attribute.id.as_deref(), &columns);
        let id_from = attribute.id_from.clone().unwrap_or_default();
        self.check_id_from(&id_from, identity);
        let key = attribute.key.as_deref().and_then(|name| self.field("sluicegate.key", name));
        let time = self.time(attribute.time.as_deref(), &columns);
        let on_conflict = attribute.on_conflict.unwrap_or_default();
        if on_conflict == super::OnConflict::Latest && time.is_none() {
            let message = "\"latest\" compares event times; name the time field with \"time\"";
            self.problem("sluicegate.on_conflict", message);
        }
        let time_column = time.and_then(|index| columns.get(index));
        if on_conflict == super::OnConflict::Latest && time_column.is_some_and(|time| time.nullable)
        {
            let message = "\"latest\" compares event times; the time field must not be nullable";
            self.problem("sluicegate.on_conflict", message);
        }
        let params = Json::Object(attribute.params.clone().unwrap_or_default());
        self.check_input(attribute.input.as_ref());
        let trial = Trial { samples: sample::samples(schema, &self.record.fields), columns };
        let rules = self.rules(&attribute.rules, &params, &trial);
        let labels = self.labels(&attribute.labels, &params, &trial);
        let Trial { columns, .. } = trial;
        let dimensions: Vec<Column> =
            columns.iter().cloned().chain(labels.iter().map(Label::column)).collect();
        let mut aggregates = self.aggregates(&attribute.aggregates, stream, time, &dimensions);
        let alerts =
            self.alerts(&attribute.alerts, stream, (time, &params), &dimensions, &mut aggregates);
        let id = match identity {
            Identity::Field(index) => Some(index),
            Identity::Coordinates => None,
        };
        let shows = Shows {
            labels: &labels,
            aggregates: (&attribute.aggregates, &aggregates),
            alerts: (&attribute.alerts, &alerts),
        };
        let private = attribute.private.clone().unwrap_or_default();
        let private = self.private(&private, (id, time), &shows);
        let (topic, dead_letter_topic) = self.topics(stream, &attribute);

        let (stream, file) = (stream.to_owned(), self.file.to_owned());
        let fullname = self.record.name.to_string();
        Some(Box::new(move |text, schema| Contract {
            stream,
            file,
            text,
            schema,
            fullname,
            topic,
            dead_letter_topic,
            table,
            identity,
            id_from,
            key,
            time,
            on_conflict,
            compatibility: attribute.compatibility.unwrap_or_default(),
            private,
            params,
            rules,
            labels,
            aggregates,
            alerts,
            input: attribute.input.unwrap_or_default(),
            columns,
        }))
    }

    fn columns(&mut self, schema: &Schema) -> Option<Vec<Column>> {
        let resolved = match ResolvedSchema::new(schema) {
            Ok(resolved) => resolved,
            Err(error) => {
                self.problem("fields", format!("refers to an unknown type: {error}"));
                return None;
            }
        };
        if let Err(unbounded) = codec::bounded(schema) {
            self.problem("fields", format!("{unbounded}; expected types of a bounded depth"));
            return None;
        }
        let named = |name: &Name| resolved.get_names().get(name).copied();
        let mut columns = Vec::new();
        for (index, field) in self.record.fields.iter().enumerate() {
            let place = format!("fields[{index}]");
            self.check_identifier(&place, &field.name);
            columns.push(Column::of_field(&field.name, &field.schema, &named));
        }
        if columns.is_empty() {
            self.problem("fields", "expected at least one field");
        }
        Some(columns)
    }

    pub(super) fn check_table(&mut self, place: &str, name: &str) {
        self.check_identifier(place, name);
        if FIXED_TABLES.contains(&name) {
            self.problem(place, format!("\"{name}\" is a table of Sluicegate's own; rename it"));
        }
    }

    pub(super) fn check_identifier(&mut self, place: &str, name: &str) {
        if name.is_empty() || name.len() > LONGEST_NAME {
            let message =
                format!("\"{name}\" is {} bytes long; Postgres takes 1 to 63", name.len());
            self.problem(place, message);
        }
        if SYSTEM_COLUMNS.contains(&name) {
            self.problem(place, format!("\"{name}\" is a system column of Postgres; rename it"));
        }
        if name.starts_with("sluicegate_") {
            self.problem(place, format!("\"{name}\" is reserved; rename it"));
        }
    }

    pub(super) fn field(&mut self, place: &str, name: &str) -> Option<usize> {
        let found = self.record.lookup.get(name).copied();
        if found.is_none() {
            let known: Vec<_> =
                self.record.fields.iter().map(|field| field.name.as_str()).collect();
            let known = known.join(", ");
            self.problem(
                place,
                format!("the record has no field \"{name}\"; expected one of {known}"),
            );
        }
        found
    }

    fn identity(&mut self, declared: Option<&str>, columns: &[Column]) -> Identity {
        let index = match declared {
            Some(name) => self.field("sluicegate.id", name),
            None => self.record.lookup.get("event_id").copied(),
        };
        let Some(column) = index.and_then(|index| columns.get(index)) else {
            return Identity::Coordinates;
        };
        use ColumnType::{Bigint, Integer, Text, Uuid};
        if column.nullable || !matches!(column.kind, Text | Uuid | Integer | Bigint) {
            let message = format!(
                "the idempotency key \"{}\" must be a string, uuid, int or long, and never null",
                column.name
            );
            self.problem("sluicegate.id", message);
        }
        index.map_or(Identity::Coordinates, Identity::Field)
    }

    fn check_id_from(&mut self, id_from: &[String], identity: Identity) {
        for name in id_from {
            let field = self.field("sluicegate.id_from", name);
            if field.is_some_and(|index| identity == Identity::Field(index)) {
                let message = format!("\"{name}\" is the id itself; name the fields it is made of");
                self.problem("sluicegate.id_from", message);
            }
        }
        if !id_from.is_empty() && identity == Identity::Coordinates {
            let message = "there is no field to put the id in; add a field \"event_id\"";
            self.problem("sluicegate.id_from", message);
        }
    }

    fn time(&mut self, declared: Option<&str>, columns: &[Column]) -> Option<usize> {
        let index = self.field("sluicegate.time", declared?)?;
        let column = columns.get(index)?;
        if !column.kind.is_instant() {
            let message = format!(
                "\"{}\" is {}; expected a logical type timestamp-*",
                column.name, column.kind
            );
            self.problem("sluicegate.time", message);
        }
        Some(index)
    }

    fn check_input(&mut self, input: Option<&crate::source::InputMapping>) {
        let Some(input) = input else { return };
        for (field, pointer) in &input.fields {
            let place = format!("sluicegate.input.fields.{field}");
            self.field(&place, field);
            self.check_pointer(&place, pointer);
        }
        if let Some(pointer) = &input.records {
            self.check_pointer("sluicegate.input.records", pointer);
        }
    }

    fn check_pointer(&mut self, place: &str, pointer: &str) {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            self.problem(place, format!("\"{pointer}\" is not a JSON pointer; expected \"/...\""));
        }
    }

    fn topics(&mut self, stream: &str, attribute: &Attribute) -> (Topic, Topic) {
        let name = attribute.topic.clone().unwrap_or_else(|| stream.to_owned());
        let dead = attribute.dead_letter_topic.clone().unwrap_or_else(|| format!("{name}.dlq"));
        for (key, name) in [("topic", &name), ("dead_letter_topic", &dead)] {
            let legal = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            if name.is_empty() || name.len() > 249 || !name.chars().all(legal) {
                let message = format!(
                    "\"{name}\" is not a topic's name; expected 1 to 249 letters, digits, \".\", \"-\" or \"_\""
                );
                self.problem(format!("sluicegate.{key}"), message);
            }
        }
        let partitions = attribute.partitions.unwrap_or(PARTITIONS);
        let dead_partitions = attribute.dead_letter_partitions.unwrap_or(1);
        let replication = attribute.replication.unwrap_or(-1);
        for (key, number) in [
            ("partitions", partitions),
            ("dead_letter_partitions", dead_partitions),
            ("replication", replication.abs()),
        ] {
            if number < 1 {
                self.problem(
                    format!("sluicegate.{key}"),
                    format!("is {number}; expected 1 or more"),
                );
            }
        }
        (
            Topic { name, partitions, replication },
            Topic { name: dead, partitions: dead_partitions, replication },
        )
    }
}

pub(super) fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(legal) && !text.starts_with(|c: char| c.is_ascii_digit())
}
