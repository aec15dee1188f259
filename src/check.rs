//! Whether an event keeps its contract's rules. Pure: event, contract and scope give the answer.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use apache_avro::types::Value;
use cel::Value as Cel;

use crate::{
    contract::{Contract, Scope},
    failure::{Rejection, Stage},
};

/// The first rule that the event breaks, if any.
///
/// The reason is `rule:<name>` where the rule says no, and `rule_error:<name>` where it could not
/// be evaluated for this event.
pub fn check(
    event: &[(String, Value)],
    contract: &Contract,
    scope: &Scope,
) -> Result<(), Rejection> {
    if contract.rules.is_empty() {
        return Ok(());
    }
    let uses = contract.rules.iter().map(|rule| &rule.check);
    scope.evaluate(event, &contract.columns, uses, |run| {
        for rule in &contract.rules {
            let (code, detail) = match run(&rule.check) {
                Ok(Cel::Bool(true)) => continue,
                Ok(Cel::Bool(false)) => ("rule", format!("does not hold: {}", rule.check.source)),
                Ok(other) => ("rule_error", format!("gives {}, not a boolean", other.type_of())),
                Err(error) => ("rule_error", format!("{error}, in {}", rule.check.source)),
            };
            let reason = format!("{code}:{}", rule.name);
            return Err(Rejection::new(Stage::Check, reason, detail));
        }
        Ok(())
    })
}
