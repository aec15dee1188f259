//! From an expression to its compiled form, where it is of a common shape. What does not depend
//! on the event is folded, by the CEL library itself.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, EntryExpr, Expr, SelectExpr, operators},
};

use super::{
    Column,
    compiled::{Comparison, Constant, Datum, Node},
    evaluate::Library,
    expression::selection,
};

/// Makes trees of expressions.
pub(super) struct Compiler<'c> {
    /// The columns of the event's cells.
    pub(super) columns: &'c [Column],
    pub(super) library: &'c Library,
}

impl Compiler<'_> {
    /// The tree of an expression; none if it is of another shape. How deep it may be has been
    /// checked when the contract was read.
    pub(super) fn compile(&self, expression: &IdedExpr) -> Option<Node> {
        if is_constant(&expression.expr) {
            return self.library.constant(expression).map(Node::Constant);
        }
        match (&expression.expr, selection(&expression.expr)) {
            (Expr::Select(select), _) if select.test => self.presence(select),
            (_, Some(("message", path))) => match path.as_slice() {
                [field] => self.field(field).map(Node::Field),
                _ => None,
            },
            (Expr::Select(select), _) => {
                let key = Constant::Text(select.field.clone());
                let map = self.compile(&select.operand)?;
                Some(Node::Lookup(Box::new(map), Box::new(Node::Constant(key))))
            }
            (Expr::Call(call), _) if call.target.is_none() => self.call(call),
            _ => None,
        }
    }

    fn field(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// `has(message.field)`: every event has all fields.
    fn presence(&self, select: &SelectExpr) -> Option<Node> {
        match selection(&select.operand.expr) {
            Some(("message", path)) if path.is_empty() => self.field(&select.field)?,
            _ => return None,
        };
        Some(Node::Constant(Constant::Scalar(Datum::Boolean(true))))
    }

    fn call(&self, call: &CallExpr) -> Option<Node> {
        use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
        let boxed = |part: &IdedExpr| self.compile(part).map(Box::new);
        let ordered = |comparison, left: &IdedExpr, right: &IdedExpr| {
            Some(Node::Ordered(comparison, boxed(left)?, boxed(right)?))
        };
        Some(match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LESS, [left, right]) => ordered(Less, left, right)?,
            (operators::LESS_EQUALS, [left, right]) => ordered(LessOrEqual, left, right)?,
            (operators::GREATER, [left, right]) => ordered(Greater, left, right)?,
            (operators::GREATER_EQUALS, [left, right]) => ordered(GreaterOrEqual, left, right)?,
            (operators::EQUALS, [left, right]) => Node::Equal(boxed(left)?, boxed(right)?),
            (operators::NOT_EQUALS, [left, right]) => {
                Node::Not(Box::new(Node::Equal(boxed(left)?, boxed(right)?)))
            }
            (operators::IN, [item, container]) => Node::In(boxed(item)?, boxed(container)?),
            (operators::INDEX, [map, key]) => Node::Lookup(boxed(map)?, boxed(key)?),
            (operators::LOGICAL_NOT, [part]) => Node::Not(boxed(part)?),
            (operators::LOGICAL_AND, [left, right]) => Node::And(boxed(left)?, boxed(right)?),
            (operators::LOGICAL_OR, [left, right]) => Node::Or(boxed(left)?, boxed(right)?),
            (operators::CONDITIONAL, [condition, this, that]) => {
                Node::Conditional(boxed(condition)?, boxed(this)?, boxed(that)?)
            }
            _ => return None,
        })
    }
}

/// Whether an expression is the same for every event. Loops are not worth knowing.
fn is_constant(expression: &Expr) -> bool {
    match expression {
        Expr::Literal(_) => true,
        Expr::Ident(name) => name != "message",
        Expr::Select(select) => is_constant(&select.operand.expr),
        Expr::Call(call) => {
            call.target.iter().all(|target| is_constant(&target.expr))
                && call.args.iter().all(|argument| is_constant(&argument.expr))
        }
        Expr::List(list) => list.elements.iter().all(|item| is_constant(&item.expr)),
        Expr::Map(map) => map.entries.iter().all(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                is_constant(&entry.key.expr) && is_constant(&entry.value.expr)
            }
            EntryExpr::StructField(_) => false,
        }),
        Expr::Comprehension(_) | Expr::Struct(_) | Expr::Unspecified => false,
    }
}
