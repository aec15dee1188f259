//! What refused an event: a rule or a label with what it saw, or the table's constraint.

use serde::Serialize;
use serde_json::Value as Json;
use sqlx::PgConnection;

use crate::{
    contract::{self, Contract},
    dlq::{Letter, preview::shown},
    sql::{quoted, unreadable},
};

/// A rule or a label, and what it saw.
#[derive(Debug, Serialize)]
pub struct Expression {
    /// Its name.
    pub name: String,
    /// Its text, as the contract has it today; none where it has it no more.
    pub source: Option<String>,
    /// The parameters that it reads, as they are today.
    pub params: Vec<(String, Json)>,
    /// The fields that it reads, as they are in the event.
    pub values: Vec<(String, Json)>,
}

/// What the table asks for.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Constraint {
    /// Its name.
    pub name: String,
    /// What it says, as the table has it today; none where it has it no more.
    pub definition: Option<String>,
}

/// The rule or the label that a letter's reason names.
pub(super) fn expression(contract: &Contract, letter: &Letter) -> Option<Expression> {
    let (kind, name) = letter.reason.split_once(':')?;
    let found = match kind {
        "rule" | "rule_error" => {
            contract.rules.iter().find(|rule| rule.name == name).map(|rule| &rule.check)
        }
        "label_error" => {
            contract.labels.iter().find(|label| label.name == name).map(|label| &label.value)
        }
        _ => return None,
    };
    let event = letter.decoded.clone().map(|event| shown(Some(contract), event));
    let values = |found: &contract::Expression| {
        let event = event.as_ref().and_then(Json::as_object);
        let read = event.into_iter().flatten().filter(|(name, _)| found.reads(name));
        read.map(|(name, value)| (format!("message.{name}"), value.clone())).collect()
    };
    Some(Expression {
        name: name.to_owned(),
        source: found.map(|found| found.source.clone()),
        params: found.map_or_else(Vec::new, |found| found.parameters(&contract.params)),
        values: found.map_or_else(Vec::new, values),
    })
}

/// The constraint that a letter's detail names, in Postgres's words.
pub(super) async fn constraint(
    connection: &mut PgConnection,
    contract: &Contract,
    letter: &Letter,
) -> anyhow::Result<Option<Constraint>> {
    if letter.stage != "land" {
        return Ok(None);
    }
    let Some(name) = constraint_name(&letter.detail) else { return Ok(None) };
    // a unique index need not be a constraint
    let definition = sqlx::query_scalar(
        "SELECT coalesce((SELECT pg_get_constraintdef(oid) FROM pg_constraint \
         WHERE conname = $1 AND conrelid = to_regclass($2)), \
         (SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON indexrelid = oid \
         WHERE relname = $1 AND indrelid = to_regclass($2)))",
    )
    .bind(name)
    .bind(quoted(&contract.table))
    .fetch_one(connection)
    .await
    .map_err(unreadable)?;
    Ok(Some(Constraint { name: name.to_owned(), definition }))
}

/// What stands in quotes behind the last word `constraint`.
fn constraint_name(detail: &str) -> Option<&str> {
    let (_, rest) = detail.rsplit_once("constraint \"")?;
    rest.split_once('"').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_is_named_by_what_postgres_said() {
        let named = "new row for relation \"r\" violates check constraint \"a_check\" (23514)";
        assert_eq!(constraint_name(named), Some("a_check"));
        assert_eq!(
            constraint_name("null value in column \"c\" violates not-null constraint"),
            None
        );
    }
}
