//! From a schema's text to a contract, or to everything that is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use apache_avro::{
    Schema,
    schema::{Name, RecordSchema, ResolvedSchema},
    types::Value,
};
use cel::{ExecutionError, Value as Cel};
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::{
    Aggregate, Column, ColumnType, Contract, Expression, Identity, Label, Problem, Problems, Rule,
    Scope, Topic,
    attribute::{AggregateSpec, Attribute, LabelSpec, LabelType, RuleSpec},
    sample,
};
use crate::codec::is_recursive;

/// Postgres cuts longer names off.
const LONGEST_NAME: usize = 63;

/// Columns that every Postgres table already has.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// Topics that a stream's partitions default to; one table takes what few members deliver.
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

struct Reader<'f> {
    file: &'f Path,
    record: &'f RecordSchema,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, place: impl Into<String>, message: impl Into<String>) {
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
        self.check_identifier("sluicegate.table", &table);
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
        let params = Json::Object(attribute.params.clone().unwrap_or_default());
        self.check_input(attribute.input.as_ref());
        let trial = Trial { samples: sample::samples(schema, &self.record.fields), columns };
        let rules = self.rules(&attribute.rules, &params, &trial);
        let labels = self.labels(&attribute.labels, &params, &trial);
        let Trial { columns, .. } = trial;
        let dimensions: Vec<Column> =
            columns.iter().cloned().chain(labels.iter().map(Label::column)).collect();
        let aggregates = self.aggregates(&attribute.aggregates, stream, time, &dimensions);
        self.check_alerts(&attribute, &dimensions);
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
            params,
            rules,
            labels,
            aggregates,
            alerts: attribute.alerts.into_iter().map(|(_, alert)| alert).collect(),
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
        if is_recursive(schema) {
            self.problem("fields", "a type contains itself; expected types of a bounded depth");
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

    fn check_identifier(&mut self, place: &str, name: &str) {
        if name.is_empty() || name.len() > LONGEST_NAME {
            let message =
                format!("\"{name}\" is {} bytes long; Postgres takes 1 to 63", name.len());
            self.problem(place, message);
        }
        if SYSTEM_COLUMNS.contains(&name) {
            self.problem(place, format!("\"{name}\" is a system column of Postgres; rename it"));
        }
    }

    fn field(&mut self, place: &str, name: &str) -> Option<usize> {
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
            self.field("sluicegate.id_from", name);
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

    fn rules(&mut self, specs: &[(String, RuleSpec)], params: &Json, trial: &Trial) -> Vec<Rule> {
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for (place, spec) in specs {
            self.check_unique(place, &spec.name, &mut names);
            if spec.name.len() > LONGEST_NAME {
                // it is part of a reason code, which goes into a header
                let message = format!("is {} bytes long; expected up to 63", spec.name.len());
                self.problem(format!("{place}.name"), message);
            }
            let place = format!("{place}.check");
            let Some(check) = self.compile(&place, &spec.check, params) else { continue };
            let boolean = |value: &Cel| match value {
                Cel::Bool(_) => Ok(()),
                other => Err(format!("gives {}; expected a boolean", other.type_of())),
            };
            self.problems_at(&place, trial.wrong(&check, params, &boolean));
            rules.push(Rule { name: spec.name.clone(), check });
        }
        rules
    }

    fn labels(
        &mut self,
        specs: &[(String, LabelSpec)],
        params: &Json,
        trial: &Trial,
    ) -> Vec<Label> {
        let mut names: BTreeSet<String> =
            trial.columns.iter().map(|column| column.name.clone()).collect();
        names.insert("event_id".into());
        let mut labels = Vec::new();
        for (place, spec) in specs {
            self.check_unique(place, &spec.name, &mut names);
            self.check_identifier(&format!("{place}.name"), &spec.name);
            let place = format!("{place}.value");
            let Some(value) = self.compile(&place, &spec.value, params) else { continue };
            let kind = label_column(spec.kind);
            let fits = |result: &Cel| match fits(&kind, result) {
                true => Ok(()),
                false => Err(format!(
                    "gives {}; the label's type is {}",
                    result.type_of(),
                    spec.kind.name()
                )),
            };
            self.problems_at(&place, trial.wrong(&value, params, &fits));
            labels.push(Label { name: spec.name.clone(), kind, value });
        }
        labels
    }

    fn compile(&mut self, place: &str, source: &str, params: &Json) -> Option<Expression> {
        let fields: Vec<String> =
            self.record.fields.iter().map(|field| field.name.clone()).collect();
        match Expression::compile(source, &fields, params) {
            Ok(expression) => Some(expression),
            Err(wrong) => {
                self.problems_at(place, wrong);
                None
            }
        }
    }

    fn problems_at(&mut self, place: &str, messages: Vec<String>) {
        messages.into_iter().for_each(|message| self.problem(place, message));
    }

    fn check_unique(&mut self, place: &str, name: &str, names: &mut BTreeSet<String>) {
        if !is_name(name) {
            let message = format!("\"{name}\" is not a name; expected letters, digits and \"_\"");
            self.problem(format!("{place}.name"), message);
        }
        if !names.insert(name.to_owned()) {
            self.problem(format!("{place}.name"), format!("\"{name}\" is already taken"));
        }
    }

    fn aggregates(
        &mut self,
        specs: &[(String, AggregateSpec)],
        stream: &str,
        time: Option<usize>,
        columns: &[Column],
    ) -> Vec<Aggregate> {
        let mut tables = BTreeSet::new();
        let mut aggregates = Vec::new();
        for (place, spec) in specs {
            if time.is_none() {
                self.problem(place, "needs an event time; name its field with \"time\"");
            }
            let by = self.columns_named(place, "by", &spec.by, columns);
            let of = self.columns_named(place, "of", &spec.of, columns);
            for column in of.iter().filter(|column| !column.kind.is_number()) {
                let message = format!("\"{}\" is {}; expected a number", column.name, column.kind);
                self.problem(format!("{place}.of"), message);
            }
            let default = || format!("agg_{stream}_{}", spec.every.suffix());
            let table = spec.name.clone().unwrap_or_else(default);
            self.check_identifier(&format!("{place}.name"), &table);
            if !tables.insert(table.clone()) {
                let message = format!("\"{table}\" is already taken; give each its own \"name\"");
                self.problem(format!("{place}.name"), message);
            }
            aggregates.push(Aggregate { table, every: spec.every, by, of });
        }
        aggregates
    }

    fn columns_named(
        &mut self,
        place: &str,
        key: &str,
        names: &[String],
        columns: &[Column],
    ) -> Vec<Column> {
        let mut found: Vec<Column> = Vec::new();
        for name in names {
            let place = format!("{place}.{key}");
            match columns.iter().find(|column| column.name == *name) {
                Some(_) if found.iter().any(|column| column.name == *name) => {
                    self.problem(place, format!("\"{name}\" is named twice"));
                }
                Some(column) => found.push(column.clone()),
                None => self.problem(place, format!("there is no field or label \"{name}\"")),
            }
        }
        found
    }

    /// Dimensions and syntax; what the functions of `when` mean is for whoever evaluates them.
    fn check_alerts(&mut self, attribute: &Attribute, columns: &[Column]) {
        let mut names = BTreeSet::new();
        for (place, alert) in &attribute.alerts {
            self.check_unique(place, &alert.name, &mut names);
            self.columns_named(place, "by", &alert.by, columns);
            if let Err(wrong) = Expression::compile(&alert.when, &[], &Json::Null) {
                self.problems_at(&format!("{place}.when"), wrong);
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(legal) && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn label_column(kind: LabelType) -> ColumnType {
    match kind {
        LabelType::Boolean => ColumnType::Boolean,
        LabelType::Long => ColumnType::Bigint,
        LabelType::Double => ColumnType::Double,
        LabelType::String => ColumnType::Text,
    }
}

/// Whether a label's value can be stored in its column.
fn fits(kind: &ColumnType, value: &Cel) -> bool {
    matches!(
        (kind, value),
        (_, Cel::Null)
            | (ColumnType::Boolean, Cel::Bool(_))
            | (ColumnType::Bigint, Cel::Int(_))
            | (ColumnType::Double, Cel::Float(_) | Cel::Int(_))
            | (ColumnType::Text, Cel::String(_))
    )
}

/// The events that expressions are tried on.
struct Trial {
    samples: Vec<Vec<(String, Value)>>,
    columns: Vec<Column>,
}

impl Trial {
    /// Everything that goes wrong for an ordinary event, or where a field is null that may be.
    fn wrong(
        &self,
        expression: &Expression,
        params: &Json,
        fits: &dyn Fn(&Cel) -> Result<(), String>,
    ) -> Vec<String> {
        let scope = Scope::new(params, OffsetDateTime::UNIX_EPOCH);
        let open = self.reads_open_text(expression);
        let run = |event: &[(String, Value)]| {
            let uses = std::iter::once(expression);
            let result = scope.evaluate(event, &self.columns, uses, |run| run(expression));
            match result {
                Ok(value) => fits(&value),
                Err(error) if depends_on_values(&error, open) => Ok(()),
                Err(error) => Err(format!("can't be evaluated: {error}")),
            }
        };
        let mut wrong = BTreeSet::new();
        for event in &self.samples {
            wrong.extend(run(event).err());
        }
        let used = |column: &&Column| expression.fields.contains(&column.name);
        for column in self.columns.iter().filter(|column| column.nullable).filter(used) {
            let Some(mut event) = self.samples.first().cloned().filter(|_| wrong.is_empty()) else {
                continue;
            };
            for (_, value) in event.iter_mut().filter(|(name, _)| *name == column.name) {
                *value = Value::Null;
            }
            if let Err(error) = run(&event) {
                let name = &column.name;
                wrong.insert(format!(
                    "fails where \"{name}\" is null: {error}; guard it with \
                     \"message.{name} == null || ...\""
                ));
            }
        }
        wrong.into_iter().collect()
    }

    /// Whether an event may bring a text, and so a key, that no sample has. Of an enum every
    /// symbol is tried.
    fn reads_open_text(&self, expression: &Expression) -> bool {
        let used = |name: &String| expression.whole_message || expression.fields.contains(name);
        let mut values = self.samples.iter().flatten().filter(|(name, _)| used(name));
        values.any(|(_, value)| is_open_text(value))
    }
}

fn is_open_text(value: &Value) -> bool {
    match value {
        Value::Union(_, inner) => is_open_text(inner),
        Value::String(_) | Value::Uuid(_) => true,
        Value::Map(_) | Value::Array(_) | Value::Record(_) => true,
        _ => false,
    }
}

/// Errors that other values would not have raised; `open` says whether there are other texts.
fn depends_on_values(error: &ExecutionError, open: bool) -> bool {
    use ExecutionError::{
        DivisionByZero, FunctionError, IndexOutOfBounds, NoSuchKey, Overflow, RemainderByZero,
    };
    match error {
        NoSuchKey(_) => open,
        DivisionByZero(_)
        | RemainderByZero(_)
        | Overflow(..)
        | IndexOutOfBounds(_)
        | FunctionError { .. } => true,
        _ => false,
    }
}
