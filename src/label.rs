//! The facts that a contract derives from an event. Pure, like [`crate::check`].

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::borrow::Cow;

use crate::{
    codec::Cell,
    contract::{ColumnType, Contract, Outcome, Scope},
    failure::{Rejection, Stage},
};

/// A label's value, in the types that a label may have.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are Avro's own names")]
pub enum Fact<'e> {
    Null,
    Boolean(bool),
    Long(i64),
    Double(f64),
    String(Cow<'e, str>),
}

/// One value a label, in the contract's order, in the type of the label's column or null. The
/// event's cells are in the order of the contract's columns.
///
/// The reason of a refusal is `label_error:<name>`: the label could not be evaluated for this
/// event, or gave a value of another type.
pub fn label<'e>(
    event: &'e [Cell<'e>],
    contract: &'e Contract,
    scope: &'e Scope,
) -> Result<Vec<Fact<'e>>, Rejection> {
    let facts = scope.labels(event, contract).map(|(label, outcome)| {
        let fact = outcome
            .map_err(|error| format!("{error}, in {}", label.value.source))
            .and_then(|outcome| fact(outcome, &label.kind));
        fact.map_err(|detail| {
            Rejection::new(Stage::Label, format!("label_error:{}", label.name), detail)
        })
    });
    facts.collect()
}

impl Fact<'_> {
    /// The value as what is stored beside the event's own.
    pub fn cell(&self) -> Cell<'_> {
        match self {
            Fact::Null => Cell::Null,
            Fact::Boolean(value) => Cell::Boolean(*value),
            Fact::Long(value) => Cell::Long(*value),
            Fact::Double(value) => Cell::Double(*value),
            Fact::String(text) => Cell::Text(text),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "CEL itself compares a long with a double so")]
fn fact<'e>(outcome: Outcome<'e>, kind: &ColumnType) -> Result<Fact<'e>, String> {
    match (kind, outcome) {
        (_, Outcome::Null) => Ok(Fact::Null),
        (ColumnType::Boolean, Outcome::Boolean(value)) => Ok(Fact::Boolean(value)),
        (ColumnType::Bigint, Outcome::Long(value)) => Ok(Fact::Long(value)),
        (ColumnType::Double, Outcome::Double(value)) => Ok(Fact::Double(value)),
        (ColumnType::Double, Outcome::Long(value)) => Ok(Fact::Double(value as f64)),
        (ColumnType::Text, Outcome::Text(text)) => Ok(Fact::String(text)),
        (kind, other) => Err(format!("gives {}; the label's column is {kind}", other.type_of())),
    }
}
