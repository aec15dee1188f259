//! An event as JSON, for `jsonb` columns and for a person who looks at a dead letter.

use apache_avro::{
    Schema,
    schema::{RecordField, ResolvedSchema},
    types::Value,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use num_bigint::BigInt;
use serde_json::{Map, Number, Value as Json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The JSON of a decoded event's fields.
///
/// Bytes are base64; decimals are strings that keep every digit; instants are RFC 3339 where
/// that can write them and numbers of their unit elsewhere; numbers that JSON lacks are strings.
pub fn event_to_json(schema: &Schema, event: &[(String, Value)]) -> Json {
    let Schema::Record(record) = schema else { return Json::Null };
    let Ok(resolved) = ResolvedSchema::new(schema) else { return Json::Null };
    Writer { resolved: &resolved }.record(&record.fields, event)
}

/// The JSON of one value under its own schema; `resolved` knows the named types.
pub fn value_to_json(resolved: &ResolvedSchema<'_>, schema: &Schema, value: &Value) -> Json {
    Writer { resolved }.value(Some(schema), value)
}

struct Writer<'s> {
    resolved: &'s ResolvedSchema<'s>,
}

impl Writer<'_> {
    fn record(&self, fields: &[RecordField], values: &[(String, Value)]) -> Json {
        let schema = |name: &str| fields.iter().find(|field| field.name == name).map(|f| &f.schema);
        let member =
            |(name, value): &(String, Value)| (name.clone(), self.value(schema(name), value));
        Json::Object(values.iter().map(member).collect())
    }

    fn value(&self, schema: Option<&Schema>, value: &Value) -> Json {
        let schema = match schema {
            Some(Schema::Ref { name }) => self.resolved.get_names().get(name).copied(),
            other => other,
        };
        match (value, schema) {
            (Value::Null, _) => Json::Null,
            (Value::Boolean(value), _) => Json::Bool(*value),
            (Value::Int(value) | Value::TimeMillis(value), _) => (*value).into(),
            (Value::Long(value) | Value::TimeMicros(value), _) => (*value).into(),
            // by way of its text, so that 0.1 stays 0.1
            (Value::Float(value), _) => number(value.to_string().parse().unwrap_or(f64::NAN)),
            (Value::Double(value), _) => number(*value),
            (Value::Bytes(bytes) | Value::Fixed(_, bytes), _) => {
                Json::String(BASE64_STANDARD.encode(bytes))
            }
            (Value::String(text) | Value::Enum(_, text), _) => Json::String(text.clone()),
            (Value::Uuid(uuid), _) => Json::String(uuid.to_string()),
            (Value::Union(index, inner), Some(Schema::Union(union))) => {
                let branch = usize::try_from(*index).ok();
                self.value(branch.and_then(|index| union.variants().get(index)), inner)
            }
            (Value::Union(_, inner), _) => self.value(None, inner),
            (Value::Array(items), Some(Schema::Array(array))) => {
                items.iter().map(|item| self.value(Some(&array.items), item)).collect()
            }
            (Value::Array(items), _) => items.iter().map(|item| self.value(None, item)).collect(),
            (Value::Map(entries), schema) => {
                let types = match schema {
                    Some(Schema::Map(map)) => Some(&*map.types),
                    _ => None,
                };
                let member =
                    |(key, value): (&String, &Value)| (key.clone(), self.value(types, value));
                Json::Object(entries.iter().map(member).collect())
            }
            (Value::Record(values), Some(Schema::Record(record))) => {
                self.record(&record.fields, values)
            }
            (Value::Record(values), _) => self.record(&[], values),
            (Value::Date(days), _) => date(*days),
            (Value::TimestampMillis(at) | Value::LocalTimestampMillis(at), _) => {
                instant(*at, 1_000_000)
            }
            (Value::TimestampMicros(at) | Value::LocalTimestampMicros(at), _) => {
                instant(*at, 1_000)
            }
            (Value::TimestampNanos(at) | Value::LocalTimestampNanos(at), _) => instant(*at, 1),
            (Value::Decimal(decimal), schema) => {
                let scale = match schema {
                    Some(Schema::Decimal(decimal)) => decimal.scale,
                    _ => 0,
                };
                Json::String(decimal_text(&BigInt::from(decimal.clone()), scale))
            }
            (Value::BigDecimal(decimal), _) => Json::String(decimal.to_string()),
            (Value::Duration(duration), _) => Json::Object(Map::from_iter([
                ("months".to_owned(), u32::from(duration.months()).into()),
                ("days".to_owned(), u32::from(duration.days()).into()),
                ("millis".to_owned(), u32::from(duration.millis()).into()),
            ])),
        }
    }
}

fn number(value: f64) -> Json {
    Number::from_f64(value).map_or_else(|| Json::String(value.to_string()), Json::Number)
}

fn date(days: i32) -> Json {
    let instant = OffsetDateTime::from_unix_timestamp(i64::from(days).saturating_mul(86_400)).ok();
    instant.map_or_else(|| days.into(), |at| Json::String(at.date().to_string()))
}

fn instant(at: i64, nanos_per_unit: i128) -> Json {
    let nanos = i128::from(at).saturating_mul(nanos_per_unit);
    let instant = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    let text = instant.and_then(|instant| instant.format(&Rfc3339).ok());
    text.map_or_else(|| at.into(), Json::String)
}

/// An unscaled decimal with its point put in.
fn decimal_text(unscaled: &BigInt, scale: usize) -> String {
    let digits = unscaled.magnitude().to_str_radix(10);
    let sign = if unscaled.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale.saturating_add(1));
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_keeps_every_digit() {
        for (unscaled, scale, text) in
            [(12345, 2, "123.45"), (-5, 3, "-0.005"), (0, 2, "0.00"), (42, 0, "42")]
        {
            assert_eq!(decimal_text(&BigInt::from(unscaled), scale), text);
        }
    }

    #[test]
    fn an_instant_that_rfc_3339_cannot_write_is_a_number() {
        assert_eq!(instant(0, 1_000_000), Json::from("1970-01-01T00:00:00Z"));
        assert_eq!(instant(i64::MAX, 1_000_000), Json::from(i64::MAX));
    }
}
