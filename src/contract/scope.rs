//! What every event of a batch is seen against, and what the contract's expressions give there.

use std::{borrow::Cow, cell::OnceCell};

use cel::{ExecutionError, Value as Cel, objects::ValueType};
use time::OffsetDateTime;

use super::{
    Contract, Expression, Label, Rule,
    compile::Compiler,
    compiled::{Datum, Node},
    evaluate::{Library, execute},
};
use crate::codec::Cell;

/// The functions, `params` and `now`, and a contract's expressions made ready for them.
///
/// Building one costs more than evaluating many rules, so there is one a batch.
pub struct Scope {
    library: Library,
    /// One a rule of the contract; none for what only the library can evaluate.
    rules: Vec<Option<Node>>,
    /// One a label.
    labels: Vec<Option<Node>>,
}

/// What an expression gives for one event.
#[derive(Debug)]
pub(crate) enum Outcome<'e> {
    Null,
    Boolean(bool),
    Long(i64),
    Double(f64),
    Text(Cow<'e, str>),
    /// Nothing that a rule or a label may give.
    Other(ValueType),
}

impl Scope {
    /// A contract's scope at one instant.
    pub fn new(contract: &Contract, now: OffsetDateTime) -> Scope {
        let library = Library::new(&contract.params, now);
        let compiler = Compiler { columns: &contract.columns, library: &library };
        let compile = |expression: &Expression| compiler.compile(expression.program.expression());
        let rules = contract.rules.iter().map(|rule| compile(&rule.check)).collect();
        let labels = contract.labels.iter().map(|label| compile(&label.value)).collect();
        Scope { library, rules, labels }
    }

    /// The rules, each with what it gives for an event; evaluated one after the other.
    pub(crate) fn rules<'e>(
        &'e self,
        event: &'e [Cell<'e>],
        contract: &'e Contract,
    ) -> impl Iterator<Item = (&'e Rule, Result<Outcome<'e>, ExecutionError>)> {
        let checks = contract.rules.iter().map(|rule| &rule.check);
        contract.rules.iter().zip(self.evaluate(event, contract, checks, &self.rules))
    }

    /// The labels, each with what it gives for an event.
    pub(crate) fn labels<'e>(
        &'e self,
        event: &'e [Cell<'e>],
        contract: &'e Contract,
    ) -> impl Iterator<Item = (&'e Label, Result<Outcome<'e>, ExecutionError>)> {
        let values = contract.labels.iter().map(|label| &label.value);
        contract.labels.iter().zip(self.evaluate(event, contract, values, &self.labels))
    }

    /// As compiled, or else by the library; its view of the event is made for the first expression
    /// that needs it.
    fn evaluate<'e>(
        &'e self,
        event: &'e [Cell<'e>],
        contract: &'e Contract,
        expressions: impl Iterator<Item = &'e Expression> + Clone,
        compiled: &'e [Option<Node>],
    ) -> impl Iterator<Item = Result<Outcome<'e>, ExecutionError>> {
        let seen = OnceCell::new();
        expressions.clone().zip(compiled).map(move |(expression, compiled)| {
            let datum = compiled.as_ref().and_then(|node| node.evaluate(event));
            if let Some(outcome) = datum.and_then(Outcome::of) {
                return Ok(outcome);
            }
            let see = || self.library.see(event, &contract.columns, expressions.clone());
            execute(expression, seen.get_or_init(see)).map(Outcome::from)
        })
    }
}

impl<'e> Outcome<'e> {
    /// What a compiled expression gives; none where the library has the name of the type.
    pub(super) fn of(datum: Datum<'e>) -> Option<Outcome<'e>> {
        match datum {
            Datum::Null => Some(Outcome::Null),
            Datum::Boolean(value) => Some(Outcome::Boolean(value)),
            Datum::Long(value) => Some(Outcome::Long(value)),
            Datum::Double(value) => Some(Outcome::Double(value)),
            Datum::Text(text) => Some(Outcome::Text(Cow::Borrowed(text))),
            Datum::Instant(..) | Datum::List(_) | Datum::Map(_) | Datum::Opaque => None,
        }
    }

    /// The type's name, for whoever wrote the expression.
    pub(crate) fn type_of(&self) -> ValueType {
        match self {
            Outcome::Null => ValueType::Null,
            Outcome::Boolean(_) => ValueType::Bool,
            Outcome::Long(_) => ValueType::Int,
            Outcome::Double(_) => ValueType::Float,
            Outcome::Text(_) => ValueType::String,
            Outcome::Other(kind) => *kind,
        }
    }
}

impl From<Cel> for Outcome<'_> {
    fn from(value: Cel) -> Self {
        match value {
            Cel::Null => Outcome::Null,
            Cel::Bool(value) => Outcome::Boolean(value),
            Cel::Int(value) => Outcome::Long(value),
            Cel::Float(value) => Outcome::Double(value),
            Cel::String(text) => Outcome::Text(Cow::Owned(std::sync::Arc::unwrap_or_clone(text))),
            other => Outcome::Other(other.type_of()),
        }
    }
}
