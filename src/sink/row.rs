//! An event as a row, in the binary format of Postgres's COPY.
//!
//! Pure. What Avro can say and Postgres can't store is refused ([`storable`](super::storable)). The
//! formats are those of Postgres's own `*_recv` functions.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::ops::Range;

use apache_avro::{Schema, schema::ResolvedSchema, types::Value};
use num_bigint::BigInt;
use uuid::Uuid;

use super::{
    numeric::numeric,
    storable::{Refusal, date, finite, interval, storable, time_of_day, timestamp, without_nul},
};
use crate::{
    codec::{Cell, value_to_json},
    contract::{ColumnType, Contract, Identity},
    failure::{Rejection, Stage},
};

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
            let field = format!("\"{}\"", place.name);
            Rejection::new(Stage::Land, reason, format!("{field}: {detail}")).about(field)
        })
    }

    fn put_value(
        &self,
        row: &mut Vec<u8>,
        place: &Place<'_>,
        cell: Cell<'_>,
    ) -> Result<(), Refusal> {
        match cell {
            Cell::Null => put_null(row),
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
            put_null(row);
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

/// A column that is not null: its length and its bytes. A Kafka record is far smaller than 2 GiB.
pub(super) fn put(row: &mut Vec<u8>, bytes: &[u8]) {
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    row.reserve(bytes.len().saturating_add(4));
    row.extend_from_slice(&length.to_be_bytes());
    row.extend_from_slice(bytes);
}

/// A column that is null.
pub(super) fn put_null(row: &mut Vec<u8>) {
    row.extend_from_slice(&(-1i32).to_be_bytes());
}

/// The bytes of the column that starts at `column` and is the last one; none of a null.
fn behind_length(column: usize, row: &[u8]) -> Range<usize> {
    column.saturating_add(4)..row.len()
}
