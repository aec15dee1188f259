//! Trying a contract's expressions on made-up events.

use std::collections::BTreeSet;

use apache_avro::types::Value;
use cel::{ExecutionError, Value as Cel};
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::{
    Column, Expression,
    evaluate::{Library, execute},
};
use crate::codec::cells;

/// The events that expressions are tried on.
pub(super) struct Trial {
    pub(super) samples: Vec<Vec<(String, Value)>>,
    pub(super) columns: Vec<Column>,
}

impl Trial {
    /// Everything that goes wrong for an ordinary event, or where a field is null that may be.
    pub(super) fn wrong(
        &self,
        expression: &Expression,
        params: &Json,
        fits: &dyn Fn(&Cel) -> Result<(), String>,
    ) -> Vec<String> {
        let library = Library::new(params, OffsetDateTime::UNIX_EPOCH);
        let open = self.reads_open_text(expression);
        let run = |event: &[(String, Value)]| {
            let uses = std::iter::once(expression);
            let event = library.see(&cells(event, &self.columns), &self.columns, uses);
            match execute(expression, &event) {
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
