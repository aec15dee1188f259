//! The parts of a contract that are made of its fields: rules, labels and aggregates.

use std::collections::BTreeSet;

use cel::Value as Cel;
use serde_json::Value as Json;

use super::{
    Aggregate, Column, ColumnType, Expression, Label, Rule,
    attribute::{AggregateSpec, LabelSpec, LabelType, RuleSpec},
    read::{LONGEST_NAME, Reader, is_name},
    trial::Trial,
};
use crate::sink::aggregate_columns;

impl Reader<'_> {
    pub(super) fn rules(
        &mut self,
        specs: &[(String, RuleSpec)],
        params: &Json,
        trial: &Trial,
    ) -> Vec<Rule> {
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

    pub(super) fn labels(
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

    pub(super) fn problems_at(&mut self, place: &str, messages: Vec<String>) {
        messages.into_iter().for_each(|message| self.problem(place, message));
    }

    pub(super) fn check_unique(&mut self, place: &str, name: &str, names: &mut BTreeSet<String>) {
        if !is_name(name) {
            let message = format!("\"{name}\" is not a name; expected letters, digits and \"_\"");
            self.problem(format!("{place}.name"), message);
        }
        if !names.insert(name.to_owned()) {
            self.problem(format!("{place}.name"), format!("\"{name}\" is already taken"));
        }
    }

    pub(super) fn aggregates(
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
            self.check_table(&format!("{place}.name"), &table);
            if !tables.insert(table.clone()) {
                let message = format!("\"{table}\" is already taken; give each its own \"name\"");
                self.problem(format!("{place}.name"), message);
            }
            let aggregate = Aggregate { table, every: spec.every, by, of, declared: true };
            self.check_columns(place, &aggregate);
            aggregates.push(aggregate);
        }
        aggregates
    }

    pub(super) fn check_columns(&mut self, place: &str, aggregate: &Aggregate) {
        let mut columns = BTreeSet::new();
        for column in aggregate_columns(aggregate) {
            self.check_identifier(place, &column.name);
            if !columns.insert(column.name.clone()) {
                let message = format!("would have two columns \"{}\"", column.name);
                self.problem(place, message);
            }
        }
    }

    pub(super) fn columns_named(
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
