//! An expression of a common shape as a small tree over an event's cells.
//!
//! It gives what the CEL library gives, or gives up: whatever only the library can tell, an error's
//! text above all, is left to it.

use std::{cmp::Ordering, collections::BTreeMap};

use cel::common::{
    types::{
        CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp,
    },
    value::Val,
};
use chrono::{DateTime, Utc};

use crate::codec::Cell;

/// A compiled expression, or a part of one.
#[derive(Debug)]
pub(super) enum Node {
    Constant(Constant),
    /// The event's cell at this index.
    Field(usize),
    /// `map[key]`
    Lookup(Box<Node>, Box<Node>),
    Equal(Box<Node>, Box<Node>),
    /// A comparison.
    Ordered(Comparison, Box<Node>, Box<Node>),
    /// `item in container`
    In(Box<Node>, Box<Node>),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    /// `condition ? this : that`
    Conditional(Box<Node>, Box<Node>, Box<Node>),
}

/// Which order of two values is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What does not depend on the event.
#[derive(Debug)]
pub(super) enum Constant {
    Scalar(Datum<'static>),
    Text(String),
    List(Vec<Constant>),
    Map(BTreeMap<String, Constant>),
}

/// A value while an expression is evaluated.
#[derive(Debug, Clone, Copy)]
pub(super) enum Datum<'e> {
    Null,
    Boolean(bool),
    Long(i64),
    Double(f64),
    Text(&'e str),
    /// Seconds since 1970, and nanoseconds into the second.
    Instant(i64, u32),
    List(&'e [Constant]),
    Map(&'e BTreeMap<String, Constant>),
    /// Something that is not null; more is for the library to tell.
    Opaque,
}

impl Node {
    /// The value for one event; none where only the library can tell.
    pub(super) fn evaluate<'e>(&'e self, event: &[Cell<'e>]) -> Option<Datum<'e>> {
        let truth = |node: &'e Node| match node.evaluate(event) {
            Some(Datum::Boolean(value)) => Some(value),
            _ => None,
        };
        let holds = match self {
            Node::Constant(_) | Node::Field(_) => return self.operand(event),
            Node::Lookup(map, key) => match (map.operand(event)?, key.operand(event)?) {
                (Datum::Map(map), Datum::Text(key)) => return map.get(key).map(Constant::datum),
                _ => return None,
            },
            Node::Conditional(condition, this, that) => {
                return if truth(condition)? { this } else { that }.evaluate(event);
            }
            Node::Equal(left, right) => left.operand(event)?.equals(right.operand(event)?)?,
            Node::Ordered(comparison, left, right) => {
                comparison.holds(left.operand(event)?.order(right.operand(event)?)?)
            }
            Node::In(item, container) => {
                container.operand(event)?.contains(item.operand(event)?)?
            }
            Node::Not(node) => !truth(node)?,
            // one side that decides is enough, whatever becomes of the other
            Node::And(left, right) => match truth(left) {
                Some(false) => false,
                left => truth(right).filter(|right| !right || left == Some(true))?,
            },
            Node::Or(left, right) => match truth(left) {
                Some(true) => true,
                left => truth(right).filter(|right| *right || left == Some(false))?,
            },
        };
        Some(Datum::Boolean(holds))
    }

    /// As [`Node::evaluate`], at once for the leaves, which most operands are. It is inlined with
    /// what it uses: an operand that goes through memory doubles what a comparison costs.
    #[inline(always)]
    fn operand<'e>(&'e self, event: &[Cell<'e>]) -> Option<Datum<'e>> {
        match self {
            Node::Constant(constant) => Some(constant.datum()),
            Node::Field(index) => event.get(*index).and_then(Datum::of),
            node => node.evaluate(event),
        }
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl<'e> Datum<'e> {
    /// A cell as the library would see it.
    #[inline(always)]
    fn of(cell: &Cell<'e>) -> Option<Datum<'e>> {
        Some(match *cell {
            Cell::Null => Datum::Null,
            Cell::Boolean(value) => Datum::Boolean(value),
            Cell::Int(value) => Datum::Long(i64::from(value)),
            Cell::Long(value) => Datum::Long(value),
            Cell::Float(value) => Datum::Double(f64::from(value)),
            Cell::Double(value) => Datum::Double(value),
            Cell::Text(text) => Datum::Text(text),
            Cell::Date(days) => Datum::instant(i64::from(days).saturating_mul(86_400), 0),
            Cell::Instant(at) => {
                let (seconds, nanos) = at.seconds();
                Datum::instant(seconds, nanos)
            }
            Cell::Bytes(_) | Cell::Uuid(_) | Cell::TimeOfDay(_) => Datum::Opaque,
            Cell::Other(_) => return None,
        })
    }

    /// Beyond the library's range there is no instant.
    fn instant(seconds: i64, nanos: u32) -> Datum<'e> {
        const FIRST: i64 = DateTime::<Utc>::MIN_UTC.timestamp();
        const LAST: i64 = DateTime::<Utc>::MAX_UTC.timestamp();
        match seconds {
            FIRST..=LAST => Datum::Instant(seconds, nanos),
            _ => Datum::Null,
        }
    }

    fn equals(self, other: Datum<'_>) -> Option<bool> {
        use Datum::{List, Map, Null, Opaque};
        match (self, other) {
            (Null, Null) => Some(true),
            (Null, _) | (_, Null) => Some(false),
            (List(_) | Map(_) | Opaque, _) | (_, List(_) | Map(_) | Opaque) => None,
            // NaN equals nothing, nor does what is of another type
            _ => Some(self.order(other) == Some(Ordering::Equal)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "CEL itself compares a long with a double so")]
    #[inline(always)]
    fn order(self, other: Datum<'_>) -> Option<Ordering> {
        use Datum::{Boolean, Double, Instant, Long, Text};
        match (self, other) {
            (Boolean(left), Boolean(right)) => Some(left.cmp(&right)),
            (Long(left), Long(right)) => Some(left.cmp(&right)),
            (Long(left), Double(right)) => (left as f64).partial_cmp(&right),
            (Double(left), Long(right)) => left.partial_cmp(&(right as f64)),
            (Double(left), Double(right)) => left.partial_cmp(&right),
            (Text(left), Text(right)) => Some(left.cmp(right)),
            (Instant(left, left_nanos), Instant(right, right_nanos)) => {
                Some((left, left_nanos).cmp(&(right, right_nanos)))
            }
            _ => None,
        }
    }

    fn contains(self, item: Datum<'_>) -> Option<bool> {
        match (self, item) {
            (Datum::Map(map), Datum::Text(key)) => Some(map.contains_key(key)),
            (Datum::List(items), _) => {
                for constant in items {
                    if constant.datum().equals(item)? {
                        return Some(true);
                    }
                }
                Some(false)
            }
            _ => None,
        }
    }
}

impl Constant {
    #[inline(always)]
    fn datum(&self) -> Datum<'_> {
        match self {
            Constant::Scalar(datum) => *datum,
            Constant::Text(text) => Datum::Text(text),
            Constant::List(items) => Datum::List(items),
            Constant::Map(entries) => Datum::Map(entries),
        }
    }

    /// A value of the library's, if it is one that events are held against.
    pub(super) fn of(value: &dyn Val) -> Option<Constant> {
        if let Some(text) = value.downcast_ref::<CelString>() {
            return Some(Constant::Text(text.inner().to_owned()));
        }
        if let Some(list) = value.downcast_ref::<CelList>() {
            let items = list.inner().iter().map(|item| Constant::of(item.as_ref()));
            return items.collect::<Option<_>>().map(Constant::List);
        }
        if let Some(map) = value.downcast_ref::<CelMap>() {
            let entries = map.inner().iter().map(|(key, value)| match key {
                CelMapKey::String(key) => {
                    Some((key.inner().to_owned(), Constant::of(value.as_ref())?))
                }
                _ => None,
            });
            return entries.collect::<Option<_>>().map(Constant::Map);
        }
        let scalar = if value.downcast_ref::<CelNull>().is_some() {
            Datum::Null
        } else if let Some(value) = value.downcast_ref::<CelBool>() {
            Datum::Boolean(*value.inner())
        } else if let Some(value) = value.downcast_ref::<CelInt>() {
            Datum::Long(*value.inner())
        } else if let Some(value) = value.downcast_ref::<CelDouble>() {
            Datum::Double(*value.inner())
        } else {
            let at = value.downcast_ref::<CelTimestamp>()?.inner();
            Datum::Instant(at.timestamp(), at.timestamp_subsec_nanos())
        };
        Some(Constant::Scalar(scalar))
    }
}

#[cfg(test)]
mod made_up;
#[cfg(test)]
mod tests;
