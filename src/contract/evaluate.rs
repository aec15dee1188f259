//! The CEL library: what evaluates every expression, and is the reference for those compiled.

use std::{collections::HashMap, sync::Arc};

use apache_avro::types::Value;
use cel::{Context, ExecutionError, IdedExpr, Value as Cel, objects::Key};
use chrono::{DateTime, FixedOffset};
use num_bigint::BigInt;
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::{Column, ColumnType, compiled::Constant, expression::Expression};
use crate::{codec::Cell, panics::caught};

/// The library's functions, with `params` and `now`.
pub(super) struct Library {
    root: Context<'static, 'static>,
}

impl Library {
    /// The library at one instant.
    pub(super) fn new(params: &Json, now: OffsetDateTime) -> Library {
        let mut root = Context::default();
        root.add_variable_from_value("params", json_to_cel(params));
        root.add_variable_from_value("now", instant(now.unix_timestamp(), now.nanosecond()));
        Library { root }
    }

    /// What a scope of one's own is made of.
    pub(super) fn root(&self) -> &Context<'static, 'static> {
        &self.root
    }

    /// One event as `message`. Its fields are converted only where one of `uses` reads them;
    /// `columns` are the fields' own, which know their names and the scale of a decimal.
    pub(super) fn see<'e>(
        &self,
        event: &[Cell<'_>],
        columns: &[Column],
        uses: impl Iterator<Item = &'e Expression> + Clone,
    ) -> Context<'_, 'static> {
        let used = |name: &String| uses.clone().any(|expression| expression.reads(name));
        let message: HashMap<Key, Cel> = event
            .iter()
            .zip(columns)
            .filter(|(_, column)| used(&column.name))
            .map(|(cell, column)| (Key::from(column.name.as_str()), field(cell, &column.kind)))
            .collect();
        let mut inner = self.root.new_inner_scope();
        inner.add_variable_from_value("message", message);
        inner
    }

    /// The value of an expression that reads no event, if there is one to compile.
    pub(super) fn constant(&self, expression: &IdedExpr) -> Option<Constant> {
        let value = || Constant::of(Cel::resolve_val(expression, &self.root).ok()?.as_ref());
        caught(value).flatten()
    }
}

/// Evaluates an expression against one event.
///
/// The library panics where a timestamp and a duration add up to an instant beyond chrono's, and
/// any event may bring such a one.
pub(super) fn execute(
    expression: &Expression,
    event: &Context<'_, '_>,
) -> Result<Cel, ExecutionError> {
    let panicked = || ExecutionError::InternalError("the values are beyond CEL's".to_owned());
    caught(|| expression.program.execute(event)).unwrap_or_else(|| Err(panicked()))
}

/// A field as CEL sees it; only here is the scale of a decimal known.
///
/// Enums and uuids are strings; `date` and `timestamp-*` are timestamps; `time-*` is the duration
/// since midnight; a decimal is a double, unscaled unless it is a field of the event itself; Avro's
/// duration is a map of months, days and millis.
fn field(cell: &Cell<'_>, kind: &ColumnType) -> Cel {
    match *cell {
        Cell::Null => Cel::Null,
        Cell::Boolean(value) => Cel::Bool(value),
        Cell::Int(value) => Cel::Int(i64::from(value)),
        Cell::Long(value) => Cel::Int(value),
        Cell::Float(value) => Cel::Float(f64::from(value)),
        Cell::Double(value) => Cel::Float(value),
        Cell::Bytes(bytes) => Cel::Bytes(Arc::new(bytes.to_vec())),
        Cell::Text(text) => text.into(),
        Cell::Uuid(uuid) => uuid.to_string().into(),
        Cell::Date(days) => instant(i64::from(days).saturating_mul(86_400), 0),
        Cell::TimeOfDay(micros) => Cel::Duration(chrono::Duration::microseconds(micros)),
        Cell::Instant(at) => {
            let (seconds, nanos) = at.seconds();
            instant(seconds, nanos)
        }
        Cell::Other(value) => match (to_cel(value), kind) {
            (Cel::Float(unscaled), ColumnType::Numeric(Some((_, scale)))) => {
                let scale = i32::try_from(*scale).unwrap_or(i32::MAX);
                Cel::Float(unscaled / 10f64.powi(scale))
            }
            (value, _) => value,
        },
    }
}

/// A value that only the library can see into.
fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Union(_, inner) => to_cel(inner),
        Value::Array(items) => items.iter().map(to_cel).collect::<Vec<_>>().into(),
        Value::Map(entries) => {
            map(entries.iter().map(|(key, value)| (key.as_str(), to_cel(value))))
        }
        Value::Record(fields) => {
            map(fields.iter().map(|(name, value)| (name.as_str(), to_cel(value))))
        }
        Value::Decimal(decimal) => Cel::Float(big_to_double(&BigInt::from(decimal.clone()))),
        Value::BigDecimal(decimal) => decimal.to_string().parse().map_or(Cel::Null, Cel::Float),
        Value::Duration(duration) => map([
            ("months", Cel::Int(i64::from(u32::from(duration.months())))),
            ("days", Cel::Int(i64::from(u32::from(duration.days())))),
            ("millis", Cel::Int(i64::from(u32::from(duration.millis())))),
        ]),
        scalar => field(&Cell::of(scalar, &ColumnType::Text), &ColumnType::Text),
    }
}

/// An instant beyond CEL's range is null, so that a rule that guards against it can say so.
fn instant(seconds: i64, nanos: u32) -> Cel {
    let instant = DateTime::from_timestamp(seconds, nanos);
    instant.map_or(Cel::Null, |instant| Cel::Timestamp(DateTime::<FixedOffset>::from(instant)))
}

fn big_to_double(value: &BigInt) -> f64 {
    value.to_string().parse().unwrap_or(f64::NAN)
}

fn map<'k>(entries: impl IntoIterator<Item = (&'k str, Cel)>) -> Cel {
    let entries = entries.into_iter().map(|(key, value)| (Key::from(key), value));
    entries.collect::<HashMap<_, _>>().into()
}

fn json_to_cel(json: &Json) -> Cel {
    match json {
        Json::Null => Cel::Null,
        Json::Bool(value) => Cel::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Cel::Int(integer),
            (None, Some(double)) => Cel::Float(double),
            (None, None) => Cel::Null,
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(json_to_cel).collect::<Vec<_>>().into(),
        Json::Object(entries) => {
            map(entries.iter().map(|(key, value)| (key.as_str(), json_to_cel(value))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Instant;

    #[test]
    fn an_instant_that_is_beyond_cel_is_an_error_and_no_panic() {
        let columns =
            [Column { name: "at".into(), kind: ColumnType::TimestampTz, nullable: false }];
        let source = "message.at + duration('9000h') > now";
        let later = Expression::compile(source, &["at".to_owned()], &Json::Null).unwrap();
        let library = Library::new(&Json::Null, OffsetDateTime::UNIX_EPOCH);
        // the last instant of chrono's
        let last = DateTime::<chrono::Utc>::MAX_UTC.timestamp_millis();
        let event = [Cell::Instant(Instant::Millis(last))];
        let result = execute(&later, &library.see(&event, &columns, std::iter::once(&later)));
        assert!(matches!(result, Err(ExecutionError::InternalError(_))), "{result:?}");
    }
}
