//! Evaluating a contract's expressions: Avro's values as CEL's, and the scope they are seen in.

use std::{collections::HashMap, sync::Arc};

use apache_avro::types::Value;
use cel::{Context, ExecutionError, Program, Value as Cel, objects::Key};
use chrono::{DateTime, FixedOffset};
use num_bigint::BigInt;
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::{Column, ColumnType, expression::Expression};
use crate::panics::caught;

/// What every event of a batch is seen against: the functions, `params` and `now`.
///
/// Building one costs more than evaluating many rules, so there is one a batch.
pub struct Scope {
    root: Context<'static, 'static>,
}

impl Scope {
    /// A scope at one instant.
    pub fn new(params: &Json, now: OffsetDateTime) -> Scope {
        let mut root = Context::default();
        root.add_variable_from_value("params", json_to_cel(params));
        root.add_variable_from_value("now", instant(now.unix_timestamp_nanos()));
        Scope { root }
    }

    /// Evaluates expressions against one event, whose fields are converted only where one of
    /// `uses` reads them. `columns` are the fields' own, which know the scale of a decimal.
    pub fn evaluate<'e, T>(
        &self,
        event: &[(String, Value)],
        columns: &[Column],
        uses: impl Iterator<Item = &'e Expression> + Clone,
        evaluate: impl FnOnce(&dyn Fn(&Expression) -> Result<Cel, ExecutionError>) -> T,
    ) -> T {
        let used = |name: &String| uses.clone().any(|e| e.whole_message || e.fields.contains(name));
        let message: HashMap<Key, Cel> = event
            .iter()
            .zip(columns)
            .filter(|((name, _), _)| used(name))
            .map(|((name, value), column)| (Key::from(name.as_str()), field(value, &column.kind)))
            .collect();
        let mut inner = self.root.new_inner_scope();
        inner.add_variable_from_value("message", message);
        evaluate(&|expression| execute(&expression.program, &inner))
    }
}

/// The library panics where a timestamp and a duration add up to an instant beyond chrono's, and
/// any event may bring such a one.
fn execute(program: &Program, context: &Context<'_, '_>) -> Result<Cel, ExecutionError> {
    let panicked = || ExecutionError::InternalError("the values are beyond CEL's".to_owned());
    caught(|| program.execute(context)).unwrap_or_else(|| Err(panicked()))
}

/// A field's value; only here is the scale of a decimal known.
fn field(value: &Value, kind: &ColumnType) -> Cel {
    match (to_cel(value), kind) {
        (Cel::Float(unscaled), ColumnType::Numeric(Some((_, scale)))) => {
            let scale = i32::try_from(*scale).unwrap_or(i32::MAX);
            Cel::Float(unscaled / 10f64.powi(scale))
        }
        (value, _) => value,
    }
}

/// An Avro value as CEL sees it.
///
/// Enums and uuids are strings; `date` and `timestamp-*` are timestamps; `time-*` is the duration
/// since midnight; a decimal is a double, unscaled unless it is a field of the event itself; Avro's
/// duration is a map of months, days and millis.
fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Boolean(value) => Cel::Bool(*value),
        Value::Int(value) => Cel::Int(i64::from(*value)),
        Value::Long(value) => Cel::Int(*value),
        Value::Float(value) => Cel::Float(f64::from(*value)),
        Value::Double(value) => Cel::Float(*value),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => Cel::Bytes(Arc::new(bytes.clone())),
        Value::String(text) | Value::Enum(_, text) => text.as_str().into(),
        Value::Uuid(uuid) => uuid.to_string().into(),
        Value::Union(_, inner) => to_cel(inner),
        Value::Array(items) => items.iter().map(to_cel).collect::<Vec<_>>().into(),
        Value::Map(entries) => {
            map(entries.iter().map(|(key, value)| (key.as_str(), to_cel(value))))
        }
        Value::Record(fields) => {
            map(fields.iter().map(|(name, value)| (name.as_str(), to_cel(value))))
        }
        Value::Date(days) => instant(i128::from(*days).saturating_mul(86_400_000_000_000)),
        Value::TimeMillis(millis) => {
            Cel::Duration(chrono::Duration::milliseconds(i64::from(*millis)))
        }
        Value::TimeMicros(micros) => Cel::Duration(chrono::Duration::microseconds(*micros)),
        Value::TimestampMillis(at) | Value::LocalTimestampMillis(at) => {
            instant(i128::from(*at).saturating_mul(1_000_000))
        }
        Value::TimestampMicros(at) | Value::LocalTimestampMicros(at) => {
            instant(i128::from(*at).saturating_mul(1_000))
        }
        Value::TimestampNanos(at) | Value::LocalTimestampNanos(at) => instant(i128::from(*at)),
        Value::Decimal(decimal) => Cel::Float(big_to_double(&BigInt::from(decimal.clone()))),
        Value::BigDecimal(decimal) => decimal.to_string().parse().map_or(Cel::Null, Cel::Float),
        Value::Duration(duration) => map([
            ("months", Cel::Int(i64::from(u32::from(duration.months())))),
            ("days", Cel::Int(i64::from(u32::from(duration.days())))),
            ("millis", Cel::Int(i64::from(u32::from(duration.millis())))),
        ]),
    }
}

/// An instant beyond CEL's range is null, so that a rule that guards against it can say so.
fn instant(unix_nanos: i128) -> Cel {
    let seconds = i64::try_from(unix_nanos.div_euclid(1_000_000_000)).ok();
    let nanos = u32::try_from(unix_nanos.rem_euclid(1_000_000_000)).ok();
    let instant = seconds.zip(nanos).and_then(|(s, n)| DateTime::from_timestamp(s, n));
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

    #[test]
    fn an_instant_that_is_beyond_cel_is_an_error_and_no_panic() {
        let schema = r#"{"type": "record", "name": "R", "fields": [
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
        let file = std::path::Path::new("r.avsc");
        let contract = crate::contract::Contract::parse(file, schema.to_owned()).unwrap();
        let fields = ["at".to_owned()];
        let source = "message.at + duration('9000h') > now";
        let later = Expression::compile(source, &fields, &Json::Null).unwrap();
        let scope = Scope::new(&Json::Null, OffsetDateTime::UNIX_EPOCH);
        // the last instant of chrono's
        let last = DateTime::<chrono::Utc>::MAX_UTC.timestamp_millis();
        let event = [("at".to_owned(), Value::TimestampMillis(last))];
        let uses = std::iter::once(&later);
        let result = scope.evaluate(&event, &contract.columns, uses, |run| run(&later));
        assert!(matches!(result, Err(ExecutionError::InternalError(_))), "{result:?}");
    }
}
