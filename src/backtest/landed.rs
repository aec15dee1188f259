//! A row of a stream's table as the event that it was.
//!
//! Its columns become the JSON that the event's fields are read from, and that becomes Avro by the
//! contract's schema, as in [`crate::source`].

use apache_avro::{
    Schema,
    schema::{RecordField, ResolvedSchema},
    types::Value,
};
use serde_json::Value as Json;
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use crate::{
    contract::{Column, ColumnType, Contract},
    label::Fact,
    source::{Converter, Mode},
    sql::quoted,
};

/// Reads the rows of one stream's table.
pub(super) struct Landed<'c> {
    contract: &'c Contract,
    names: ResolvedSchema<'c>,
    sources: Vec<Source>,
    /// Whether the table has the label's column, in the type that the label has now.
    has_label: Vec<bool>,
    /// Selects the fields, the labels, and the id as text.
    pub(super) sql: String,
}

/// Where a field's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// In its column.
    Column,
    /// Nowhere: the column can't say, or is not there. Told whether it is null.
    Unknown,
}

/// What a row was.
pub(super) enum LandedRow {
    Event {
        id: String,
        event: Vec<(String, Value)>,
        labels: Vec<Fact<'static>>,
    },
    /// An expression reads a field that can't be told from its column.
    Unreadable {
        field: String,
    },
}

impl<'c> Landed<'c> {
    pub(super) async fn new(
        connection: &mut PgConnection,
        contract: &'c Contract,
    ) -> anyhow::Result<Landed<'c>> {
        let names = ResolvedSchema::new(&contract.schema)?;
        let live: Vec<(String, String)> = sqlx::query_as(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
             WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped",
        )
        .bind(&contract.table)
        .fetch_all(connection)
        .await?;
        let is_live = |column: &Column| {
            live.iter().any(|(name, kind)| *name == column.name && *kind == column.kind.to_string())
        };
        let mut sources = Vec::new();
        let mut selected = Vec::new();
        for (column, field) in contract.columns.iter().zip(contract.fields()) {
            let source = match is_live(column) && is_told(&field.schema, &names) {
                true => Source::Column,
                false => Source::Unknown,
            };
            selected.push(match (source, is_live(column)) {
                (Source::Column, _) => selection(column),
                (Source::Unknown, true) => format!("{} IS NULL", quoted(&column.name)),
                // a column that is added to a table is null in its rows
                (Source::Unknown, false) => column.nullable.to_string(),
            });
            sources.push(source);
        }
        let labels: Vec<Column> = contract.labels.iter().map(|label| label.column()).collect();
        let has_label: Vec<bool> = labels.iter().map(is_live).collect();
        selected.extend(labels.iter().zip(&has_label).map(|(label, is_live)| match is_live {
            true => quoted(&label.name),
            false => "NULL".to_owned(),
        }));
        selected.push(format!("{}::text", quoted(contract.id_column())));
        let (selected, table) = (selected.join(", "), quoted(&contract.table));
        let mut sql = format!("SELECT {selected} FROM {table}");
        if let Some(time) = contract.time_column().map(|time| quoted(&time.name)) {
            sql += &format!(" WHERE {time} >= $1 AND ($2::timestamptz IS NULL OR {time} < $2)");
        }
        Ok(Landed { contract, names, sources, has_label, sql })
    }

    pub(super) fn read(&self, row: &PgRow) -> sqlx::Result<LandedRow> {
        let converter = Converter::new(&self.names, Mode::Json);
        let mut event = Vec::with_capacity(self.sources.len());
        let columns = self.contract.columns.iter().zip(self.contract.fields());
        for (index, ((column, field), source)) in columns.zip(&self.sources).enumerate() {
            let value = match source {
                Source::Column => {
                    let json = json(row, index, column, field)?;
                    converter.value(&json, &field.schema).ok()
                }
                Source::Unknown if row.try_get(index)? => Some(Value::Null),
                Source::Unknown => None,
            };
            match value {
                Some(value) => event.push((field.name.clone(), value)),
                None if self.contract.reads(&field.name) => {
                    return Ok(LandedRow::Unreadable { field: field.name.clone() });
                }
                // no expression looks at it
                None => event.push((field.name.clone(), Value::Null)),
            }
        }
        let first = self.sources.len();
        let labels = self.contract.labels.iter().zip(&self.has_label).zip(first..);
        let labels = labels.map(|((label, is_live), index)| match is_live {
            true => fact(row, index, &label.kind),
            false => Ok(Fact::Null),
        });
        let labels = labels.collect::<sqlx::Result<Vec<_>>>()?;
        let id = row.try_get(first.saturating_add(labels.len()))?;
        Ok(LandedRow::Event { id, event, labels })
    }
}

/// Whether a column says all that an expression may see of a field. In `jsonb` bytes are base64,
/// like a text, and which branch of a union a value was of is not kept.
fn is_told(schema: &Schema, names: &ResolvedSchema<'_>) -> bool {
    fn inside(schema: &Schema, names: &ResolvedSchema<'_>) -> bool {
        match schema {
            Schema::Bytes | Schema::Fixed(_) => false,
            Schema::Array(array) => inside(&array.items, names),
            Schema::Map(map) => inside(&map.types, names),
            Schema::Record(record) => {
                record.fields.iter().all(|field| inside(&field.schema, names))
            }
            Schema::Ref { name } => {
                names.get_names().get(name).is_some_and(|schema| inside(schema, names))
            }
            Schema::Union(_) => match alone(schema) {
                Some(branch) => inside(branch, names),
                None => false,
            },
            _ => true,
        }
    }
    match alone(schema) {
        // in a column of its own
        Some(Schema::Bytes | Schema::Fixed(_)) => true,
        Some(Schema::Ref { name }) => match names.get_names().get(name) {
            Some(Schema::Fixed(_)) => true,
            _ => inside(schema, names),
        },
        _ => inside(schema, names),
    }
}

/// The one type of values that are not null.
fn alone(schema: &Schema) -> Option<&Schema> {
    let Schema::Union(union) = schema else { return Some(schema) };
    let mut branches = union.variants().iter().filter(|branch| !matches!(branch, Schema::Null));
    branches.next().filter(|_| branches.next().is_none())
}

/// A column in a type that nothing is lost in.
fn selection(column: &Column) -> String {
    let name = quoted(&column.name);
    match column.kind {
        ColumnType::Numeric(_) | ColumnType::Uuid => format!("{name}::text"),
        ColumnType::Date => format!("{name} - '1970-01-01'::date"),
        ColumnType::Time | ColumnType::TimestampTz | ColumnType::Timestamp => {
            format!("(extract(epoch FROM {name}) * 1000000)::bigint")
        }
        ColumnType::Interval => format!(
            "CASE WHEN {name} IS NOT NULL THEN ARRAY[\
             extract(year FROM {name}) * 12 + extract(month FROM {name}), extract(day FROM {name}), \
             extract(hour FROM {name}) * 3600000 + extract(minute FROM {name}) * 60000 \
             + extract(milliseconds FROM {name})]::bigint[] END"
        ),
        _ => name,
    }
}

/// A column as the JSON that its field is read from; numbers of an instant are in the field's unit.
fn json(row: &PgRow, index: usize, column: &Column, field: &RecordField) -> sqlx::Result<Json> {
    fn of<T: Into<Json>>(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
    Ok(match column.kind {
        ColumnType::Text | ColumnType::Uuid | ColumnType::Numeric(_) => {
            of(row.try_get::<Option<String>, _>(index)?)
        }
        ColumnType::Integer | ColumnType::Date => of(row.try_get::<Option<i32>, _>(index)?),
        ColumnType::Bigint => of(row.try_get::<Option<i64>, _>(index)?),
        ColumnType::Real => of(row.try_get::<Option<f32>, _>(index)?),
        ColumnType::Double => of(row.try_get::<Option<f64>, _>(index)?),
        ColumnType::Boolean => of(row.try_get::<Option<bool>, _>(index)?),
        ColumnType::Bytea => {
            let bytes: Option<Vec<u8>> = row.try_get(index)?;
            of(bytes.map(|bytes| bytes.into_iter().map(char::from).collect::<String>()))
        }
        ColumnType::Time | ColumnType::TimestampTz | ColumnType::Timestamp => {
            let micros: Option<i64> = row.try_get(index)?;
            of(micros.map(|micros| in_unit(micros, &field.schema)))
        }
        ColumnType::Interval => {
            let parts: Option<Vec<i64>> = row.try_get(index)?;
            of(parts.and_then(|parts| match *parts {
                [months, days, millis] => {
                    let (seconds, rest) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
                    Some(format!("P{months}M{days}DT{seconds}.{rest:03}S"))
                }
                _ => None,
            }))
        }
        ColumnType::Jsonb => row.try_get::<Option<Json>, _>(index)?.unwrap_or_default(),
    })
}

fn in_unit(micros: i64, schema: &Schema) -> i64 {
    match alone(schema) {
        Some(Schema::TimeMillis | Schema::TimestampMillis | Schema::LocalTimestampMillis) => {
            micros.div_euclid(1_000)
        }
        Some(Schema::TimestampNanos | Schema::LocalTimestampNanos) => micros.saturating_mul(1_000),
        _ => micros,
    }
}

/// A label as it was stored.
fn fact(row: &PgRow, index: usize, kind: &ColumnType) -> sqlx::Result<Fact<'static>> {
    let fact = match kind {
        ColumnType::Boolean => row.try_get::<Option<_>, _>(index)?.map(Fact::Boolean),
        ColumnType::Bigint => row.try_get::<Option<_>, _>(index)?.map(Fact::Long),
        ColumnType::Double => row.try_get::<Option<_>, _>(index)?.map(Fact::Double),
        _ => row.try_get::<Option<String>, _>(index)?.map(|text| Fact::String(text.into())),
    };
    Ok(fact.unwrap_or(Fact::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_field_told(field: &str) -> bool {
        let schema = format!(
            r#"{{"type": "record", "name": "E", "fields": [{{"name": "f", "type": {field}}}]}}"#
        );
        let schema = Schema::parse_str(&schema).unwrap();
        let Schema::Record(record) = &schema else { panic!() };
        is_told(&record.fields[0].schema, &ResolvedSchema::new(&schema).unwrap())
    }

    #[test]
    fn what_jsonb_does_not_keep_is_not_guessed() {
        for told in [
            r#""bytes""#,
            r#"["null", "bytes"]"#,
            r#"{"type": "array", "items": ["null", "double"]}"#,
            r#"{"type": "map", "values": "string"}"#,
        ] {
            assert!(is_field_told(told), "{told}");
        }
        for untold in [
            r#"["int", "double"]"#,
            r#"{"type": "array", "items": "bytes"}"#,
            r#"{"type": "map", "values": ["null", "string", "long"]}"#,
        ] {
            assert!(!is_field_told(untold), "{untold}");
        }
    }
}
