//! The condition of an alert: CEL over what an aggregate says of one bucket.
//!
//! `avg(speed_kmh) < 0.2 * avg_before(speed_kmh)` is CEL but for its measures, which are calls with
//! the name of a field in them. Each is taken out of the expression when the contract is read and
//! put back as a variable of the same text, so that the library evaluates the rest.

use cel::{
    IdedExpr, Value as Cel,
    common::ast::{EntryExpr, Expr},
};
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::{Expression, evaluate::Library};
use crate::panics::caught;

/// What is appended to a function's name to ask of the buckets before.
const BEFORE: &str = "_before";

/// A condition that gives a boolean.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The text, as written in the contract.
    pub source: String,
    /// The expression, with variables for measures.
    expression: IdedExpr,
    /// What it asks for, each once.
    pub measures: Vec<Measure>,
}

/// A number that a condition asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// What is asked for.
    pub function: Function,
    /// Of which field or label; none for a count.
    pub of: Option<String>,
    /// Of the buckets before the one that is looked at.
    pub before: bool,
}

/// What may be asked of the events of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// How many there are.
    Count,
    /// A number field's sum,
    Sum,
    /// mean,
    Average,
    /// smallest
    Min,
    /// and largest value.
    Max,
    /// The share of events for which a boolean is true, or a text is there.
    Share,
}

/// Whether a condition is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It is.
    True,
    /// It is not.
    False,
    /// The bucket does not say: a measure of no events has no value.
    Unknown,
}

/// The functions and `params`, which conditions are evaluated against.
pub struct ConditionScope(Library);

impl Condition {
    /// Compiles a condition; gives everything that is wrong with it.
    pub(super) fn compile(source: &str, params: &Json) -> Result<Condition, Vec<String>> {
        let compiled = Expression::compile(source, &[], params)?;
        let mut taking = Taking::default();
        let mut expression = compiled.program.expression().clone();
        taking.take(&mut expression);
        if !taking.wrong.is_empty() {
            return Err(taking.wrong);
        }
        if taking.measures.is_empty() {
            return Err(vec![format!("asks nothing of the events; expected one of {FUNCTIONS}")]);
        }
        Ok(Condition { source: source.to_owned(), expression, measures: taking.measures })
    }

    /// What the condition comes to, with a value for each of its measures.
    pub fn judge(&self, scope: &ConditionScope, value: impl Fn(&Measure) -> Option<f64>) -> Truth {
        match self.evaluate(scope, value) {
            Some(Cel::Bool(true)) => Truth::True,
            Some(Cel::Bool(false)) => Truth::False,
            _ => Truth::Unknown,
        }
    }

    /// Everything wrong that shows when it is evaluated: the library has no type check.
    pub(super) fn wrong(&self, params: &Json) -> Option<String> {
        let scope = ConditionScope::new(params);
        [0.0, 0.5, 1.0, 1e6].into_iter().find_map(|number| {
            match self.run(&scope, |_| Some(number)) {
                Ok(Cel::Bool(_)) => None,
                Ok(other) => Some(format!("gives {}; expected a boolean", other.type_of())),
                Err(error) => Some(format!("can't be evaluated: {error}")),
            }
        })
    }

    fn evaluate(
        &self,
        scope: &ConditionScope,
        value: impl Fn(&Measure) -> Option<f64>,
    ) -> Option<Cel> {
        caught(|| self.run(scope, value).ok()).flatten()
    }

    fn run(
        &self,
        scope: &ConditionScope,
        value: impl Fn(&Measure) -> Option<f64>,
    ) -> Result<Cel, cel::ExecutionError> {
        let mut inner = scope.0.root().new_inner_scope();
        for measure in &self.measures {
            let value = value(measure).map_or(Cel::Null, Cel::Float);
            inner.add_variable_from_value(measure.to_string(), value);
        }
        Cel::resolve(&self.expression, &inner)
    }
}

impl ConditionScope {
    /// With a contract's tunables.
    pub fn new(params: &Json) -> ConditionScope {
        ConditionScope(Library::new(params, OffsetDateTime::UNIX_EPOCH))
    }
}

impl std::fmt::Display for Measure {
    /// As it is written in a condition.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let before = if self.before { BEFORE } else { "" };
        let of = self.of.as_deref().unwrap_or_default();
        write!(f, "{}{before}({of})", self.function.name())
    }
}

/// What a condition may ask for, for whoever wrote something else.
const FUNCTIONS: &str =
    "count(), sum(FIELD), avg(FIELD), min(FIELD), max(FIELD), share(LABEL) and their _before";

impl Function {
    /// The name, as written.
    fn name(self) -> &'static str {
        match self {
            Function::Count => "count",
            Function::Sum => "sum",
            Function::Average => "avg",
            Function::Min => "min",
            Function::Max => "max",
            Function::Share => "share",
        }
    }

    fn named(name: &str) -> Option<Function> {
        use Function::{Average, Count, Max, Min, Share, Sum};
        [Count, Sum, Average, Min, Max, Share].into_iter().find(|f| f.name() == name)
    }
}

/// Takes measures out of an expression.
#[derive(Default)]
struct Taking {
    measures: Vec<Measure>,
    wrong: Vec<String>,
}

impl Taking {
    /// How deep an expression may be was checked when it was compiled.
    fn take(&mut self, expression: &mut IdedExpr) {
        let before = self.wrong.len();
        if let Some(measure) = self.measure(&expression.expr) {
            expression.expr = Expr::Ident(measure.to_string());
            if !self.measures.contains(&measure) {
                self.measures.push(measure);
            }
            return;
        }
        if self.wrong.len() > before {
            return;
        }
        match &mut expression.expr {
            Expr::Select(select) => self.take(&mut select.operand),
            Expr::Call(call) => {
                call.target.iter_mut().for_each(|target| self.take(target));
                call.args.iter_mut().for_each(|argument| self.take(argument));
            }
            Expr::List(list) => list.elements.iter_mut().for_each(|item| self.take(item)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.take(&mut entry.key);
                        self.take(&mut entry.value);
                    }
                }
            }
            Expr::Ident(name) if name != "params" => {
                let message = format!("\"{name}\" is not known here; expected {FUNCTIONS}");
                self.wrong.push(message);
            }
            Expr::Comprehension(_) | Expr::Struct(_) => {
                self.wrong.push("uses a macro or a message, which conditions can't".to_owned());
            }
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    /// The measure that a part of the expression is, if it is one.
    fn measure(&mut self, expression: &Expr) -> Option<Measure> {
        let Expr::Call(call) = expression else { return None };
        let name = call.func_name.as_str();
        let (function, before) = match name.strip_suffix(BEFORE) {
            Some(function) => (Function::named(function)?, true),
            None => (Function::named(name)?, false),
        };
        let of = match call.args.as_slice() {
            [] => None,
            [IdedExpr { expr: Expr::Ident(of), .. }] => Some(of.clone()),
            // not ours: the library knows it, or says that it does not
            _ => return None,
        };
        if of.is_none() != (function == Function::Count) || call.target.is_some() {
            self.wrong.push(format!("\"{name}\" is used wrongly; expected {FUNCTIONS}"));
            return None;
        }
        Some(Measure { function, of, before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compile(source: &str) -> Result<Condition, Vec<String>> {
        Condition::compile(source, &json!({"slow": 20, "limits": {"a": 0.5}}))
    }

    fn judge(source: &str, value: impl Fn(&Measure) -> Option<f64>) -> Truth {
        let scope = ConditionScope::new(&json!({"slow": 20, "limits": {"a": 0.5}}));
        compile(source).unwrap().judge(&scope, value)
    }

    #[test]
    fn a_condition_is_cel_over_measures() {
        let measures = |source: &str| {
            let condition = compile(source).unwrap();
            condition.measures.iter().map(Measure::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            measures("avg(v) < 0.2 * avg_before(v) && count() > 3"),
            "avg(v) avg_before(v) count()"
        );
        assert_eq!(measures("share(a) > params.limits.a || share(a) > 0.9"), "share(a)");
        let of = |number: f64| move |_: &Measure| Some(number);
        assert_eq!(judge("avg(v) < params.slow", of(19.9)), Truth::True);
        assert_eq!(judge("avg(v) < params.slow", of(20.0)), Truth::False);
        assert_eq!(judge("count() == 0", of(0.0)), Truth::True);
        let drop = |measure: &Measure| Some(if measure.before { 50.0 } else { 9.0 });
        assert_eq!(judge("avg(v) < 0.2 * avg_before(v)", drop), Truth::True);
    }

    #[test]
    fn what_has_no_value_decides_nothing_unless_the_condition_says_so() {
        let none = |_: &Measure| None;
        assert_eq!(judge("avg(v) < 20.0", none), Truth::Unknown);
        assert_eq!(judge("!(avg(v) < 20.0)", none), Truth::Unknown);
        assert_eq!(judge("avg(v) == null || avg(v) < 20.0", none), Truth::True);
        let empty = |measure: &Measure| (measure.function == Function::Count).then_some(0.0);
        assert_eq!(judge("count() == 0 || avg(v) > 5.0", empty), Truth::True);
    }

    #[test]
    fn what_is_not_a_condition_is_named() {
        for (source, expected) in [
            ("avg() > 1.0", "\"avg\" is used wrongly"),
            ("count(v) > 1.0", "\"count\" is used wrongly"),
            ("v > 1.0", "\"v\" is not known here"),
            ("1 > 0", "asks nothing of the events"),
            ("avg(v) > params.fast", "\"params.fast\" is not in params"),
            ("[1.0].exists(x, x < avg(v))", "uses a macro"),
            ("avg(v) >", "is not valid CEL"),
        ] {
            let wrong = compile(source).unwrap_err();
            assert!(wrong.iter().any(|wrong| wrong.starts_with(expected)), "{source}: {wrong:?}");
        }
        let wrong = |source: &str| compile(source).unwrap().wrong(&json!({})).unwrap();
        assert_eq!(wrong("avg(v) + 1.0"), "gives float; expected a boolean");
        assert!(wrong("avg(v) > 'x'").starts_with("can't be evaluated: "));
        assert!(wrong("median(avg(v)) > 1.0").starts_with("can't be evaluated: "));
    }
}
