//! A CEL expression of a rule or a label: compiled once, and known by the fields it uses.

use std::{collections::BTreeSet, sync::Arc};

use cel::{
    Program,
    common::ast::{EntryExpr, Expr, LiteralValue},
};
use serde_json::Value as Json;

/// How long an expression may be, in bytes: what is read and dropped by recursion gets only so
/// deep.
const LONGEST: usize = 4_096;

/// How deep it may be nested, which is how deep evaluating it gets. A chain of operators is as deep
/// as it is long.
const DEEPEST: usize = 128;

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Expression {
    /// The text, as written in the contract.
    pub source: String,
    pub(super) program: Arc<Program>,
    /// The fields of `message` that it reads.
    pub(super) fields: BTreeSet<String>,
    /// The parameters that it reads, each as its path in `params`.
    params: BTreeSet<Vec<String>>,
    /// Whether it reads `message` as a whole, and so every field.
    pub(super) whole_message: bool,
}

impl Expression {
    /// Compiles an expression, and reports every use of a field that is not in `fields` and of a
    /// parameter that is not in `params`.
    pub(super) fn compile(
        source: &str,
        fields: &[String],
        params: &Json,
    ) -> Result<Expression, Vec<String>> {
        if source.len() > LONGEST {
            let length = source.len();
            return Err(vec![format!("is {length} bytes long; expected up to {LONGEST}")]);
        }
        let program = Program::compile(source).map_err(|errors| vec![parse_errors(&errors)])?;
        let mut uses = Uses::default();
        uses.walk(&program.expression().expr);
        let mut wrong = Vec::new();
        if uses.too_deep {
            wrong.push(format!("is nested deeper than {DEEPEST} levels; make it simpler"));
        }
        for field in uses.fields.iter().filter(|field| !fields.contains(field)) {
            let known = fields.join(", ");
            wrong.push(format!("the record has no field \"{field}\"; expected one of {known}"));
        }
        for path in uses.params.iter().filter(|path| !has_path(params, path)) {
            wrong.push(format!("\"params.{}\" is not in params", path.join(".")));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let Uses { fields, params, whole_message, .. } = uses;
        let (source, program) = (source.to_owned(), Arc::new(program));
        Ok(Expression { source, program, fields, params, whole_message })
    }

    /// Whether it reads this field of `message`.
    pub(crate) fn reads(&self, field: &str) -> bool {
        self.whole_message || self.fields.contains(field)
    }

    /// The parameters that it reads by name, each as `params.a.b`, with their values.
    pub(crate) fn parameters(&self, params: &Json) -> Vec<(String, Json)> {
        let value = |path: &Vec<String>| {
            let value = path.iter().try_fold(params, |json, key| json.get(key))?;
            Some((format!("params.{}", path.join(".")), value.clone()))
        };
        self.params.iter().filter_map(value).collect()
    }
}

/// One line, without the source that the parser draws under its message.
fn parse_errors(errors: &cel::ParseErrors) -> String {
    let texts = errors.errors.iter().map(|error| error.msg.trim().replace('\n', " "));
    format!("is not valid CEL: {}", texts.collect::<Vec<_>>().join("; "))
}

fn has_path(json: &Json, path: &[String]) -> bool {
    path.iter().try_fold(json, |json, key| json.get(key)).is_some()
}

/// What an expression refers to.
#[derive(Default)]
struct Uses {
    fields: BTreeSet<String>,
    params: BTreeSet<Vec<String>>,
    whole_message: bool,
    /// How many levels are above the part that is looked at.
    depth: usize,
    too_deep: bool,
}

impl Uses {
    fn walk(&mut self, expression: &Expr) {
        if self.depth >= DEEPEST {
            self.too_deep = true;
            return;
        }
        self.depth = self.depth.saturating_add(1);
        self.walk_parts(expression);
        self.depth = self.depth.saturating_sub(1);
    }

    fn walk_parts(&mut self, expression: &Expr) {
        if let Some((root, path)) = selection(expression) {
            self.too_deep |= path.len() > DEEPEST;
            match (root, path.as_slice()) {
                ("message", [field, ..]) => _ = self.fields.insert(field.clone()),
                ("message", []) => self.whole_message = true,
                ("params", [_, ..]) => _ = self.params.insert(path),
                _ => {}
            }
            return;
        }
        match expression {
            Expr::Select(select) => self.walk(&select.operand.expr),
            Expr::Call(call) => {
                call.target.iter().for_each(|target| self.walk(&target.expr));
                call.args.iter().for_each(|argument| self.walk(&argument.expr));
            }
            Expr::List(list) => list.elements.iter().for_each(|item| self.walk(&item.expr)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.walk_entry(&entry.expr)),
            Expr::Struct(built) => {
                built.entries.iter().for_each(|entry| self.walk_entry(&entry.expr));
            }
            Expr::Comprehension(all) => {
                for part in
                    [&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result]
                {
                    self.walk(&part.expr);
                }
            }
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn walk_entry(&mut self, entry: &EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.walk(&field.value.expr),
            EntryExpr::MapEntry(entry) => {
                self.walk(&entry.key.expr);
                self.walk(&entry.value.expr);
            }
        }
    }
}

/// `message.a.b` and `message["a"].b` as `("message", ["a", "b"])`.
pub(super) fn selection(expression: &Expr) -> Option<(&str, Vec<String>)> {
    match expression {
        Expr::Ident(name) => Some((name, Vec::new())),
        Expr::Select(select) => {
            let (root, mut path) = selection(&select.operand.expr)?;
            path.push(select.field.clone());
            Some((root, path))
        }
        Expr::Call(call) if call.func_name == "_[_]" => match call.args.as_slice() {
            [operand, key] => {
                let Expr::Literal(LiteralValue::String(key)) = &key.expr else { return None };
                let (root, mut path) = selection(&operand.expr)?;
                path.push(key.inner().to_owned());
                Some((root, path))
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compile(source: &str) -> Result<Expression, Vec<String>> {
        let fields = ["kpi".to_owned(), "value".to_owned()];
        Expression::compile(source, &fields, &json!({"limits": {"heat": 1}}))
    }

    #[test]
    fn an_expression_knows_the_fields_it_reads() {
        let expression = compile("message.value > params.limits[message.kpi]").unwrap();
        assert_eq!(expression.fields, BTreeSet::from(["kpi".into(), "value".into()]));
        assert!(!expression.whole_message);
        let params = json!({"limits": {"heat": 1}, "other": 2});
        let read = expression.parameters(&params);
        assert_eq!(read, [("params.limits".to_owned(), json!({"heat": 1}))]);
        assert!(expression.reads("kpi") && !expression.reads("other"));
        assert!(compile("size(message) > 1").unwrap().whole_message);
        assert!(
            compile("[1, 2].exists(x, x == message['value'])").unwrap().fields.contains("value")
        );
    }

    #[test]
    fn missing_fields_and_parameters_are_named() {
        let wrong = compile("message.valu > params.limits.cold").unwrap_err();
        insta::assert_debug_snapshot!(wrong, @r#"
        [
            "the record has no field \"valu\"; expected one of kpi, value",
            "\"params.limits.cold\" is not in params",
        ]
        "#);
    }

    #[test]
    fn a_syntax_error_is_one_line() {
        let wrong = compile("message.value >").unwrap_err();
        assert!(wrong[0].starts_with("is not valid CEL: "), "{wrong:?}");
        assert!(!wrong[0].contains('\n'));
    }
}
