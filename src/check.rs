//! Whether an event keeps its contract's rules. Pure: event, contract and scope give the answer.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::{
    codec::Cell,
    contract::{Contract, Outcome, Scope},
    failure::{Rejection, Stage},
};

/// The first rule that the event breaks, if any. Its cells are in the order of the contract's
/// columns.
///
/// The reason is `rule:<name>` where the rule says no, and `rule_error:<name>` where it could not
/// be evaluated for this event.
pub fn check(event: &[Cell<'_>], contract: &Contract, scope: &Scope) -> Result<(), Rejection> {
    for (rule, outcome) in scope.rules(event, contract) {
        let (code, detail) = match outcome {
            Ok(Outcome::Boolean(true)) => continue,
            Ok(Outcome::Boolean(false)) => {
                ("rule", format!("does not hold: {}", rule.check.source))
            }
            Ok(other) => ("rule_error", format!("gives {}, not a boolean", other.type_of())),
            Err(error) => ("rule_error", format!("{error}, in {}", rule.check.source)),
        };
        return Err(Rejection::new(Stage::Check, format!("{code}:{}", rule.name), detail));
    }
    Ok(())
}
