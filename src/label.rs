//! The facts that a contract derives from an event. Pure, like [`crate::check`].

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use apache_avro::types::Value;
use cel::Value as Cel;

use crate::{
    contract::{ColumnType, Contract, Scope},
    failure::{Rejection, Stage},
};

/// One value a label, in the contract's order, in the type of the label's column or null.
///
/// The reason of a refusal is `label_error:<name>`: the label could not be evaluated for this
/// event, or gave a value of another type.
pub fn label(
    event: &[(String, Value)],
    contract: &Contract,
    scope: &Scope,
) -> Result<Vec<Value>, Rejection> {
    if contract.labels.is_empty() {
        return Ok(Vec::new());
    }
    let uses = contract.labels.iter().map(|label| &label.value);
    scope.evaluate(event, &contract.columns, uses, |run| {
        let values = contract.labels.iter().map(|label| {
            let value = run(&label.value)
                .map_err(|error| format!("{error}, in {}", label.value.source))
                .and_then(|value| column_value(value, &label.kind));
            value.map_err(|detail| {
                Rejection::new(Stage::Label, format!("label_error:{}", label.name), detail)
            })
        });
        values.collect()
    })
}

#[expect(clippy::cast_precision_loss, reason = "CEL itself compares a long with a double so")]
fn column_value(value: Cel, kind: &ColumnType) -> Result<Value, String> {
    match (kind, value) {
        (_, Cel::Null) => Ok(Value::Null),
        (ColumnType::Boolean, Cel::Bool(value)) => Ok(Value::Boolean(value)),
        (ColumnType::Bigint, Cel::Int(value)) => Ok(Value::Long(value)),
        (ColumnType::Double, Cel::Float(value)) => Ok(Value::Double(value)),
        (ColumnType::Double, Cel::Int(value)) => Ok(Value::Double(value as f64)),
        (ColumnType::Text, Cel::String(value)) => Ok(Value::String(value.to_string())),
        (kind, other) => Err(format!("gives {}; the label's column is {kind}", other.type_of())),
    }
}
