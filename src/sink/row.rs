//! An event as a row, in the binary format of Postgres's COPY.
//!
//! Pure. What Avro can say and Postgres can't store is refused here, each with its own reason.
//! The formats are those of Postgres's own `*_recv` functions.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::ops::Range;

use apache_avro::{Schema, schema::ResolvedSchema, types::Value};
use num_bigint::BigInt;
use uuid::Uuid;

use super::numeric::numeric;
use crate::{
    codec::{Cell, Instant, value_to_json},
    contract::{ColumnType, Contract, Identity},
    failure::{Rejection, Stage},
};

/// Microseconds from 1970 to 2000, where Postgres's clock starts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Days from 1970 to 2000.
const EPOCH_DAYS: i32 = 10_957;

/// What Postgres's timestamps reach, in microseconds since 2000: 4713 BC up to 294277 AD.
pub(super) const TIMESTAMPS: Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// What its dates reach, in days since 2000: 4713 BC up to 5874898 AD.
const DATES: Range<i32> = -2_451_545..2_145_031_949;

/// Turns events of one stream into rows.
pub struct RowEncoder<'c> {
    fields: Vec<Place<'c>>,
    labels: Vec<Place<'c>>,
    /// The field that holds the idempotency key, if the schema has one.
    id: Option<usize>,
    time: Option<usize>,
    names: ResolvedSchema<'c>,
}

/// What is known of a column before there is an event.
struct Place<'c> {
    name: &'c str,
    kind: &'c ColumnType,
    /// A field's own, which a `jsonb` column's values are told with.
    schema: &'c Schema,
}

/// Where a row is in the buffer that it was appended to, with what the sink needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRow {
    /// The columns, each with its length.
    pub columns: Range<usize>,
    /// The idempotency key's bytes.
    pub id: Range<usize>,
    /// When the event happened, in microseconds since 1970.
    pub time: Option<i64>,
}

/// A reason code and what is wrong.
pub(super) type Refusal = (&'static str, String);

impl<'c> RowEncoder<'c> {
    /// An encoder for one contract.
    pub fn new(contract: &'c Contract) -> anyhow::Result<RowEncoder<'c>> {
        let fields = contract.columns.iter().zip(contract.fields());
        let fields = fields.map(|(column, field)| Place {
            name: &column.name,
            kind: &column.kind,
            schema: &field.schema,
        });
        let labels = contract.labels.iter().map(|label| Place {
            name: &label.name,
            kind: &label.kind,
            schema: &Schema::Null,
        });
        let id = match contract.identity {
            Identity::Field(index) => Some(index),
            Identity::Coordinates => None,
        };
        Ok(RowEncoder {
            fields: fields.collect(),
            labels: labels.collect(),
            id,
            time: contract.time,
            names: ResolvedSchema::new(&contract.schema)?,
        })
    }

    /// Appends a row to `into`, or nothing where it is refused; `coordinates` is the id of an event
    /// whose schema has none.
    pub fn encode<'l>(
        &self,
        cells: &[Cell<'_>],
        labels: impl IntoIterator<Item = Cell<'l>>,
        coordinates: Uuid,
        into: &mut Vec<u8>,
    ) -> Result<EncodedRow, Rejection> {
        let start = into.len();
        let row = self.put_fields(cells, coordinates, into).and_then(|row| {
            let mut labels = self.labels.iter().zip(labels);
            labels.try_for_each(|(place, cell)| self.put_cell(into, place, cell))?;
            Ok(EncodedRow { columns: start..into.len(), ..row })
        });
        if row.is_err() {
            into.truncate(start);
        }
        row
    }

    fn put_fields(
        &self,
        cells: &[Cell<'_>],
        coordinates: Uuid,
        into: &mut Vec<u8>,
    ) -> Result<EncodedRow, Rejection> {
        let start = into.len();
        let mut row = EncodedRow { columns: start..start, id: start..start, time: None };
        if self.id.is_none() {
            put(into, coordinates.as_bytes());
            row.id = behind_length(start, into);
        }
        for (index, (place, cell)) in self.fields.iter().zip(cells).enumerate() {
            let column = into.len();
            self.put_cell(into, place, *cell)?;
            if self.id == Some(index) {
                row.id = behind_length(column, into);
            }
            if self.time == Some(index)
                && let Cell::Instant(instant) = cell
            {
                row.time = instant.micros();
            }
        }
        Ok(row)
    }

    fn put_cell(
        &self,
        row: &mut Vec<u8>,
        place: &Place<'_>,
        cell: Cell<'_>,
    ) -> Result<(), Rejection> {
        self.put_value(row, place, cell).map_err(|(reason, detail)| {
            Rejection::new(Stage::Land, reason, format!("\"{}\": {detail}", place.name))
        })
    }

    fn put_value(
        &self,
        row: &mut Vec<u8>,
        place: &Place<'_>,
        cell: Cell<'_>,
    ) -> Result<(), Refusal> {
        match cell {
            Cell::Null => row.extend_from_slice(&(-1i32).to_be_bytes()),
            Cell::Boolean(value) => put(row, &[u8::from(value)]),
            Cell::Int(value) => put(row, &value.to_be_bytes()),
            Cell::Long(value) => put(row, &value.to_be_bytes()),
            Cell::Float(value) => put(row, &finite(value, value.is_finite())?.to_be_bytes()),
            Cell::Double(value) => put(row, &finite(value, value.is_finite())?.to_be_bytes()),
            Cell::Bytes(bytes) => put(row, bytes),
            Cell::Text(text) => put(row, without_nul(text)?.as_bytes()),
            Cell::Uuid(uuid) => put(row, uuid.as_bytes()),
            Cell::Date(days) => put(row, &date(days)?.to_be_bytes()),
            Cell::TimeOfDay(micros) => put(row, &time_of_day(micros)?.to_be_bytes()),
            Cell::Instant(instant) => put(row, &timestamp(instant)?.to_be_bytes()),
            Cell::Other(value) => return self.put_other(row, place, value),
        }
        Ok(())
    }

    fn put_other(
        &self,
        row: &mut Vec<u8>,
        place: &Place<'_>,
        value: &Value,
    ) -> Result<(), Refusal> {
        match (place.kind, value) {
            (ColumnType::Jsonb, _) => return self.put_json(row, place.schema, value),
            (ColumnType::Numeric(Some((precision, scale))), Value::Decimal(decimal)) => {
                let unscaled = BigInt::from(decimal.clone());
                let scale = i64::try_from(*scale).unwrap_or(0);
                put(row, &numeric(&unscaled, scale, Some(*precision))?);
            }
            (_, Value::Decimal(_)) => {
                return Err(("undecodable", "a decimal without a scale".into()));
            }
            (_, Value::BigDecimal(decimal)) => {
                let (unscaled, scale) = decimal.as_bigint_and_exponent();
                put(row, &numeric(&unscaled, scale, None)?);
            }
            (_, Value::Duration(duration)) => put(row, &interval(duration)?),
            (kind, _) => {
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
        serde_json::to_writer(&mut json, &value_to_json(&self.names, schema, value))
            .map_err(|error| ("undecodable", error.to_string()))?;
        put(row, &json);
        Ok(())
    }
}

/// When a value is an instant: microseconds since 1970.
pub fn instant_micros(value: &Value) -> Option<i64> {
    match Cell::of(value, &ColumnType::TimestampTz) {
        Cell::Instant(instant) => instant.micros(),
        _ => None,
    }
}

/// Whether Postgres can hold an instant, in microseconds since 1970.
pub fn is_storable_instant(micros: i64) -> bool {
    micros.checked_sub(EPOCH_MICROS).is_some_and(|micros| TIMESTAMPS.contains(&micros))
}

/// A column that is not null: its length and its bytes. A Kafka record is far smaller than 2 GiB.
fn put(row: &mut Vec<u8>, bytes: &[u8]) {
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    row.reserve(bytes.len().saturating_add(4));
    row.extend_from_slice(&length.to_be_bytes());
    row.extend_from_slice(bytes);
}

/// The bytes of the column that starts at `column` and is the last one; none of a null.
fn behind_length(column: usize, row: &[u8]) -> Range<usize> {
    column.saturating_add(4)..row.len()
}

fn without_nul(text: &str) -> Result<&str, Refusal> {
    match memchr::memchr(0, text.as_bytes()) {
        Some(at) => {
            Err(("nul_character", format!("has a NUL at byte {at}, which text can't hold")))
        }
        None => Ok(text),
    }
}

/// NaN and the infinities would spread into every sum they meet.
fn finite<T: std::fmt::Display>(value: T, is_finite: bool) -> Result<T, Refusal> {
    if is_finite { Ok(value) } else { Err(("not_finite", format!("is {value}"))) }
}

/// Whether every text and number inside a nested value can be in jsonb.
fn storable(value: &Value) -> Result<(), Refusal> {
    match value {
        Value::String(text) | Value::Enum(_, text) => without_nul(text).map(drop),
        Value::Float(value) => finite(*value, value.is_finite()).map(drop),
        Value::Double(value) => finite(*value, value.is_finite()).map(drop),
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

fn timestamp(instant: Instant) -> Result<i64, Refusal> {
    let micros = instant.micros().and_then(|micros| micros.checked_sub(EPOCH_MICROS));
    micros.filter(|micros| TIMESTAMPS.contains(micros)).ok_or_else(|| {
        let (number, unit) = match instant {
            Instant::Millis(at) => (at, "ms"),
            Instant::Micros(at) => (at, "us"),
            Instant::Nanos(at) => (at, "ns"),
        };
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
        assert!(timestamp(Instant::Millis(first)).is_ok());
        assert!(timestamp(Instant::Micros(i64::MAX)).is_ok());
        for value in [first - 1, i64::MIN, i64::MAX] {
            let refusal = timestamp(Instant::Millis(value)).unwrap_err();
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
