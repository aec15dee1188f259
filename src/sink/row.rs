//! An event as a row, in the binary format of Postgres's COPY.
//!
//! Pure. What Avro can say and Postgres can't store is refused here, each with its own reason.
//! The formats are those of Postgres's own `*_recv` functions.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use apache_avro::{Schema, schema::ResolvedSchema, types::Value};
use num_bigint::BigInt;
use uuid::Uuid;

use super::numeric::numeric;
use crate::{
    codec::value_to_json,
    contract::{ColumnType, Contract, Identity},
    failure::{Rejection, Stage},
    label::Fact,
};

/// Microseconds from 1970 to 2000, where Postgres's clock starts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Days from 1970 to 2000.
const EPOCH_DAYS: i32 = 10_957;

/// What Postgres's timestamps reach, in microseconds since 2000: 4713 BC up to 294277 AD.
pub(super) const TIMESTAMPS: std::ops::Range<i64> =
    -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// What its dates reach, in days since 2000: 4713 BC up to 5874898 AD.
const DATES: std::ops::Range<i32> = -2_451_545..2_145_031_949;

/// Turns events of one stream into rows.
pub struct RowEncoder<'c> {
    contract: &'c Contract,
    resolved: ResolvedSchema<'c>,
}

/// A row's columns, with what the sink needs to know of them.
#[derive(Debug, PartialEq, Eq)]
pub struct EncodedRow {
    /// The columns, each with its length.
    pub columns: Vec<u8>,
    /// The idempotency key's bytes.
    pub id: Vec<u8>,
    /// When the event happened, in microseconds since 1970.
    pub time: Option<i64>,
}

/// A reason code and what is wrong.
pub(super) type Refusal = (&'static str, String);

impl<'c> RowEncoder<'c> {
    /// An encoder for one contract.
    pub fn new(contract: &'c Contract) -> anyhow::Result<RowEncoder<'c>> {
        Ok(RowEncoder { contract, resolved: ResolvedSchema::new(&contract.schema)? })
    }

    /// A row; `coordinates` is the id of an event whose schema has none.
    pub fn encode(
        &self,
        event: &[(String, Value)],
        labels: &[Fact<'_>],
        coordinates: Uuid,
    ) -> Result<EncodedRow, Rejection> {
        let mut row = EncodedRow { columns: Vec::with_capacity(128), id: Vec::new(), time: None };
        if self.contract.identity == Identity::Coordinates {
            row.id = coordinates.as_bytes().to_vec();
            put(&mut row.columns, coordinates.as_bytes());
        }
        let fields = event.iter().zip(self.contract.fields()).zip(&self.contract.columns);
        for (index, (((name, value), field), column)) in fields.enumerate() {
            let start = row.columns.len().saturating_add(4);
            self.put_value(&mut row.columns, &column.kind, &field.schema, value)
                .map_err(|(reason, detail)| refused(reason, name, &detail))?;
            if self.contract.identity == Identity::Field(index) {
                row.id = row.columns.get(start..).unwrap_or_default().to_vec();
            }
            if self.contract.time == Some(index) {
                row.time = instant_micros(value);
            }
        }
        for (label, fact) in self.contract.labels.iter().zip(labels) {
            put_fact(&mut row.columns, fact)
                .map_err(|(reason, detail)| refused(reason, &label.name, &detail))?;
        }
        Ok(row)
    }

    fn put_value(
        &self,
        row: &mut Vec<u8>,
        kind: &ColumnType,
        schema: &Schema,
        value: &Value,
    ) -> Result<(), Refusal> {
        if *kind == ColumnType::Jsonb {
            return self.put_json(row, schema, value);
        }
        match value {
            Value::Union(_, inner) => return self.put_value(row, kind, schema, inner),
            Value::Null => row.extend_from_slice(&(-1i32).to_be_bytes()),
            Value::Boolean(value) => put(row, &[u8::from(*value)]),
            Value::Int(value) => put(row, &value.to_be_bytes()),
            Value::Long(value) => put(row, &value.to_be_bytes()),
            Value::Float(value) => put(row, &finite(value, value.is_finite())?.to_be_bytes()),
            Value::Double(value) => put(row, &finite(value, value.is_finite())?.to_be_bytes()),
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => put(row, bytes),
            Value::String(text) | Value::Enum(_, text) => put(row, without_nul(text)?.as_bytes()),
            Value::Uuid(uuid) => put(row, uuid.as_bytes()),
            Value::Date(days) => put(row, &date(*days)?.to_be_bytes()),
            Value::TimeMillis(millis) => {
                put(row, &time_of_day(i64::from(*millis).saturating_mul(1_000))?.to_be_bytes());
            }
            Value::TimeMicros(micros) => put(row, &time_of_day(*micros)?.to_be_bytes()),
            Value::TimestampMillis(_)
            | Value::TimestampMicros(_)
            | Value::TimestampNanos(_)
            | Value::LocalTimestampMillis(_)
            | Value::LocalTimestampMicros(_)
            | Value::LocalTimestampNanos(_) => put(row, &timestamp(value)?.to_be_bytes()),
            Value::Decimal(decimal) => {
                let ColumnType::Numeric(Some((precision, scale))) = kind else {
                    return Err(("undecodable", "a decimal without a scale".into()));
                };
                let unscaled = BigInt::from(decimal.clone());
                put(
                    row,
                    &numeric(&unscaled, i64::try_from(*scale).unwrap_or(0), Some(*precision))?,
                );
            }
            Value::BigDecimal(decimal) => {
                let (unscaled, scale) = decimal.as_bigint_and_exponent();
                put(row, &numeric(&unscaled, scale, None)?);
            }
            Value::Duration(duration) => put(row, &interval(duration)?),
            Value::Array(_) | Value::Map(_) | Value::Record(_) => {
                return Err(("undecodable", format!("a nested value in a column of {kind}")));
            }
        }
        Ok(())
    }

    /// jsonb's binary format is a version, 1, and the text.
    fn put_json(&self, row: &mut Vec<u8>, schema: &Schema, value: &Value) -> Result<(), Refusal> {
        if matches!(value, Value::Null)
            || matches!(value, Value::Union(_, inner) if **inner == Value::Null)
        {
            row.extend_from_slice(&(-1i32).to_be_bytes());
            return Ok(());
        }
        storable(value)?;
        let mut json = vec![1];
        serde_json::to_writer(&mut json, &value_to_json(&self.resolved, schema, value))
            .map_err(|error| ("undecodable", error.to_string()))?;
        put(row, &json);
        Ok(())
    }
}

fn put_fact(row: &mut Vec<u8>, fact: &Fact<'_>) -> Result<(), Refusal> {
    match fact {
        Fact::Null => row.extend_from_slice(&(-1i32).to_be_bytes()),
        Fact::Boolean(value) => put(row, &[u8::from(*value)]),
        Fact::Long(value) => put(row, &value.to_be_bytes()),
        Fact::Double(value) => put(row, &finite(value, value.is_finite())?.to_be_bytes()),
        Fact::String(text) => put(row, without_nul(text)?.as_bytes()),
    }
    Ok(())
}

/// When a value is an instant: microseconds since 1970.
pub fn instant_micros(value: &Value) -> Option<i64> {
    match instant(value)? {
        (at, "ms") => at.checked_mul(1_000),
        (at, "ns") => Some(at.div_euclid(1_000)),
        (at, _) => Some(at),
    }
}

/// An instant's number and its unit.
fn instant(value: &Value) -> Option<(i64, &'static str)> {
    match value {
        Value::Union(_, inner) => instant(inner),
        Value::TimestampMillis(at) | Value::LocalTimestampMillis(at) => Some((*at, "ms")),
        Value::TimestampMicros(at) | Value::LocalTimestampMicros(at) => Some((*at, "us")),
        Value::TimestampNanos(at) | Value::LocalTimestampNanos(at) => Some((*at, "ns")),
        _ => None,
    }
}

/// Whether Postgres can hold an instant, in microseconds since 1970.
pub fn is_storable_instant(micros: i64) -> bool {
    micros.checked_sub(EPOCH_MICROS).is_some_and(|micros| TIMESTAMPS.contains(&micros))
}

fn refused(reason: &'static str, column: &str, detail: &str) -> Rejection {
    Rejection::new(Stage::Land, reason, format!("\"{column}\": {detail}"))
}

/// A column that is not null: its length and its bytes. A Kafka record is far smaller than 2 GiB.
fn put(row: &mut Vec<u8>, bytes: &[u8]) {
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    row.extend_from_slice(&length.to_be_bytes());
    row.extend_from_slice(bytes);
}

fn without_nul(text: &str) -> Result<&str, Refusal> {
    match text.find('\0') {
        Some(at) => {
            Err(("nul_character", format!("has a NUL at byte {at}, which text can't hold")))
        }
        None => Ok(text),
    }
}

/// NaN and the infinities would spread into every sum they meet.
fn finite<T: std::fmt::Display + Copy>(value: &T, is_finite: bool) -> Result<T, Refusal> {
    if is_finite { Ok(*value) } else { Err(("not_finite", format!("is {value}"))) }
}

/// Whether every text and number inside a nested value can be in jsonb.
fn storable(value: &Value) -> Result<(), Refusal> {
    match value {
        Value::String(text) | Value::Enum(_, text) => without_nul(text).map(drop),
        Value::Float(value) => finite(value, value.is_finite()).map(drop),
        Value::Double(value) => finite(value, value.is_finite()).map(drop),
        Value::Union(_, inner) => storable(inner),
        Value::Array(items) => items.iter().try_for_each(storable),
        Value::Record(fields) => fields.iter().try_for_each(|(_, value)| storable(value)),
        Value::Map(entries) => entries.iter().try_for_each(|(key, value)| {
            without_nul(key)?;
            storable(value)
        }),
        _ => Ok(()),
    }
}

fn timestamp(value: &Value) -> Result<i64, Refusal> {
    instant_micros(value)
        .and_then(|micros| micros.checked_sub(EPOCH_MICROS))
        .filter(|micros| TIMESTAMPS.contains(micros))
        .ok_or_else(|| {
            let (number, unit) = instant(value).unwrap_or_default();
            let detail =
                format!("is {number} {unit} from 1970; Postgres goes from 4713 BC to 294276 AD");
            ("timestamp_out_of_range", detail)
        })
}

fn date(days: i32) -> Result<i32, Refusal> {
    days.checked_sub(EPOCH_DAYS).filter(|days| DATES.contains(days)).ok_or_else(|| {
        let detail = format!("is day {days} since 1970; Postgres goes from 4713 BC to 5874897 AD");
        ("date_out_of_range", detail)
    })
}

fn time_of_day(micros: i64) -> Result<i64, Refusal> {
    if (0..=86_400_000_000).contains(&micros) {
        return Ok(micros);
    }
    Err((
        "time_out_of_range",
        format!("is {micros} microseconds after midnight; a day has 86400000000"),
    ))
}

fn interval(duration: &apache_avro::Duration) -> Result<Vec<u8>, Refusal> {
    let count = |what, count: u32| {
        let detail = || format!("has {count} {what}; Postgres counts up to {}", i32::MAX);
        i32::try_from(count).map_err(|_| ("interval_out_of_range", detail()))
    };
    let days = count("days", duration.days().into())?;
    let months = count("months", duration.months().into())?;
    let micros = i64::from(u32::from(duration.millis())).saturating_mul(1_000);
    Ok([&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_beyond_postgres_are_refused() {
        let first = TIMESTAMPS.start / 1_000 + EPOCH_MICROS / 1_000;
        assert!(timestamp(&Value::TimestampMillis(first)).is_ok());
        assert!(timestamp(&Value::TimestampMicros(i64::MAX)).is_ok());
        for value in [first - 1, i64::MIN, i64::MAX] {
            let refusal = timestamp(&Value::TimestampMillis(value)).unwrap_err();
            assert_eq!(refusal.0, "timestamp_out_of_range");
        }
    }

    #[test]
    fn what_json_or_text_cannot_hold_is_refused_at_any_depth() {
        let nested = |value| Value::Array(vec![Value::Map([("a".to_owned(), value)].into())]);
        assert_eq!(storable(&nested(Value::Double(f64::NAN))).unwrap_err().0, "not_finite");
        assert_eq!(storable(&nested(Value::String("a\0".into()))).unwrap_err().0, "nul_character");
        assert!(storable(&nested(Value::String("a".into()))).is_ok());
    }
}
