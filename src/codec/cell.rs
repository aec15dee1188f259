//! An event's fields, as everything behind the decoding sees them.

use apache_avro::types::Value;
use uuid::Uuid;

use crate::contract::{Column, ColumnType};

/// One field of an event. It borrows from the body that it was read from, or from a decoded value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'e> {
    /// No value.
    Null,
    /// `boolean`
    Boolean(bool),
    /// `int`
    Int(i32),
    /// `long`
    Long(i64),
    /// `float`
    Float(f32),
    /// `double`
    Double(f64),
    /// `bytes` and `fixed`
    Bytes(&'e [u8]),
    /// `string`, and the symbol of an `enum`
    Text(&'e str),
    /// `uuid`
    Uuid(Uuid),
    /// `date`: days since 1970
    Date(i32),
    /// `time-*`: microseconds since midnight
    TimeOfDay(i64),
    /// `timestamp-*` and `local-timestamp-*`
    Instant(Instant),
    /// What only a decoded value can hold: decimals, durations, and whatever a `jsonb` column takes,
    /// with the branch of its union.
    Other(&'e Value),
}

/// A point in time since 1970, in the unit that it was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instant {
    /// Milliseconds.
    Millis(i64),
    /// Microseconds.
    Micros(i64),
    /// Nanoseconds.
    Nanos(i64),
}

impl<'e> Cell<'e> {
    /// A decoded value in its column.
    pub fn of(value: &'e Value, kind: &ColumnType) -> Cell<'e> {
        if *kind == ColumnType::Jsonb {
            return Cell::Other(value);
        }
        match value {
            Value::Union(_, inner) => Cell::of(inner, kind),
            Value::Null => Cell::Null,
            Value::Boolean(value) => Cell::Boolean(*value),
            Value::Int(value) => Cell::Int(*value),
            Value::Long(value) => Cell::Long(*value),
            Value::Float(value) => Cell::Float(*value),
            Value::Double(value) => Cell::Double(*value),
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => Cell::Bytes(bytes),
            Value::String(text) | Value::Enum(_, text) => Cell::Text(text),
            Value::Uuid(uuid) => Cell::Uuid(*uuid),
            Value::Date(days) => Cell::Date(*days),
            Value::TimeMillis(millis) => Cell::TimeOfDay(i64::from(*millis).saturating_mul(1_000)),
            Value::TimeMicros(micros) => Cell::TimeOfDay(*micros),
            Value::TimestampMillis(at) | Value::LocalTimestampMillis(at) => {
                Cell::Instant(Instant::Millis(*at))
            }
            Value::TimestampMicros(at) | Value::LocalTimestampMicros(at) => {
                Cell::Instant(Instant::Micros(*at))
            }
            Value::TimestampNanos(at) | Value::LocalTimestampNanos(at) => {
                Cell::Instant(Instant::Nanos(*at))
            }
            Value::Decimal(_)
            | Value::BigDecimal(_)
            | Value::Duration(_)
            | Value::Array(_)
            | Value::Map(_)
            | Value::Record(_) => Cell::Other(value),
        }
    }
}

impl Instant {
    /// Seconds since 1970, and nanoseconds into the second.
    pub fn seconds(self) -> (i64, u32) {
        let (seconds, rest, nanos) = match self {
            Instant::Millis(at) => (at.div_euclid(1_000), at.rem_euclid(1_000), 1_000_000),
            Instant::Micros(at) => (at.div_euclid(1_000_000), at.rem_euclid(1_000_000), 1_000),
            Instant::Nanos(at) => (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000), 1),
        };
        (seconds, u32::try_from(rest).unwrap_or(0).saturating_mul(nanos))
    }

    /// Microseconds since 1970, where they fit; nanoseconds are cut off towards the past.
    pub fn micros(self) -> Option<i64> {
        match self {
            Instant::Millis(at) => at.checked_mul(1_000),
            Instant::Micros(at) => Some(at),
            Instant::Nanos(at) => Some(at.div_euclid(1_000)),
        }
    }
}

/// A decoded event's fields, in the order of its columns.
pub fn cells<'e>(event: &'e [(String, Value)], columns: &[Column]) -> Vec<Cell<'e>> {
    event.iter().zip(columns).map(|((_, value), column)| Cell::of(value, &column.kind)).collect()
}
