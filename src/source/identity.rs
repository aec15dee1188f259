//! Event ids for input that brings none: the same reading always gets the same id, so reading a
//! file twice, or polling an unchanged API again, changes nothing in the table.

use apache_avro::types::Value;
use uuid::Uuid;

/// The namespace of every derived event id: version 5 of `sluicegate` in the URL namespace.
///
/// It must never change: every id derived so far would change with it, and every reading that is
/// read again would land a second time.
pub const NAMESPACE: Uuid = uuid::uuid!("413bda21-bf38-543e-918c-1246a35463fc");

/// The id of the event that `values` identify within `stream`.
///
/// It is the version 5 UUID of the stream's name and each value's text. The text is that of the
/// value and not of the input, so an ISO 8601 string and the epoch number of the same instant give
/// the same id. It leaves out the Avro type where that may change compatibly: an `int` that became
/// a `long`, a field that became nullable and a timestamp with a finer unit keep their ids.
pub fn event_id<'v>(stream: &str, values: impl IntoIterator<Item = &'v Value>) -> Uuid {
    let mut name = String::new();
    append(&mut name, stream);
    for value in values {
        append_value(&mut name, value);
    }
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// The length goes first, so that ("a", "bc") and ("ab", "c") differ.
fn append(name: &mut String, text: &str) {
    name.push_str(&format!("{}:{text}", text.len()));
}

fn append_value(name: &mut String, value: &Value) {
    match value {
        // no length, so that null differs from every text
        Value::Null => name.push('~'),
        Value::Union(_, inner) => append_value(name, inner),
        Value::Array(items) => {
            append(name, &items.len().to_string());
            items.iter().for_each(|item| append_value(name, item));
        }
        Value::Map(members) => {
            append(name, &members.len().to_string());
            // a map has no order of its own
            let sorted: std::collections::BTreeMap<_, _> = members.iter().collect();
            for (key, value) in sorted {
                append(name, key);
                append_value(name, value);
            }
        }
        Value::Record(fields) => fields.iter().for_each(|(_, value)| append_value(name, value)),
        scalar => append(name, &text(scalar)),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Boolean(flag) => flag.to_string(),
        Value::Int(number) | Value::Date(number) => number.to_string(),
        Value::Long(number) => number.to_string(),
        // adding zero makes -0 the same as 0
        Value::Float(number) => (number + 0.0).to_string(),
        Value::Double(number) => (number + 0.0).to_string(),
        Value::TimeMillis(millis) => scaled(i64::from(*millis), 1_000_000),
        Value::TimeMicros(micros) => scaled(*micros, 1_000),
        Value::TimestampMillis(time) | Value::LocalTimestampMillis(time) => {
            scaled(*time, 1_000_000)
        }
        Value::TimestampMicros(time) | Value::LocalTimestampMicros(time) => scaled(*time, 1_000),
        Value::TimestampNanos(time) | Value::LocalTimestampNanos(time) => scaled(*time, 1),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => hexadecimal(bytes),
        Value::Decimal(unscaled) => {
            Vec::try_from(unscaled).map_or_else(|_| String::new(), |bytes| shortest(&bytes))
        }
        Value::BigDecimal(number) => number.normalized().to_scientific_notation(),
        Value::Duration(duration) => hexadecimal(&<[u8; 12]>::from(*duration)),
        Value::Uuid(uuid) => uuid.to_string(),
        Value::String(text) | Value::Enum(_, text) => text.clone(),
        // never reached: these are taken apart above
        Value::Null | Value::Union(..) | Value::Array(_) | Value::Map(_) | Value::Record(_) => {
            String::new()
        }
    }
}

/// Times are told in nanoseconds, whatever the schema's unit.
fn scaled(time: i64, nanoseconds: i128) -> String {
    (i128::from(time) * nanoseconds).to_string()
}

/// The two's complement bytes without the sign bytes in front, so that a decimal's id does not hang
/// on its precision.
fn shortest(mut bytes: &[u8]) -> String {
    while let Some((first, rest)) = bytes.split_first() {
        let Some(second) = rest.first() else { break };
        let is_sign = (*first == 0 && *second < 0x80) || (*first == 0xff && *second >= 0x80);
        if !is_sign {
            break;
        }
        bytes = rest;
    }
    hexadecimal(bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(values: &[Value]) -> Uuid {
        event_id("heartbeats", values)
    }

    fn text_of(text: &str) -> Value {
        Value::String(text.into())
    }

    #[test]
    fn the_namespace_is_derived_from_the_projects_name() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"sluicegate"));
    }

    #[test]
    fn ids_never_change() {
        let time = Value::TimestampMillis(1_479_995_939_334);
        let values = [text_of("subject-3"), time, Value::Null, Value::Double(0.5), Value::Int(-7)];
        insta::assert_snapshot!(id(&values), @"43c08a39-ec84-5412-b494-b6517aff7eff");
    }

    #[test]
    fn the_border_between_two_values_counts() {
        assert_ne!(id(&[text_of("a"), text_of("bc")]), id(&[text_of("ab"), text_of("c")]));
        assert_ne!(id(&[Value::Null]), id(&[text_of("")]));
        assert_ne!(id(&[Value::Null]), id(&[text_of("~")]));
        assert_ne!(id(&[text_of("a")]), id(&[text_of("a"), Value::Null]));
    }

    #[test]
    fn two_streams_never_share_an_id() {
        assert_ne!(event_id("events", &[text_of("1")]), event_id("traffic", &[text_of("1")]));
    }

    #[test]
    fn a_compatible_change_of_type_keeps_the_id() {
        let nullable = Value::Union(1, Box::new(Value::Long(5)));
        assert_eq!(id(&[Value::Int(5)]), id(&[nullable]));
        assert_eq!(id(&[Value::TimestampMillis(5)]), id(&[Value::TimestampMicros(5_000)]));
        assert_eq!(id(&[Value::Float(0.1)]), id(&[Value::Double(0.1)]));
        assert_eq!(id(&[Value::Double(-0.0)]), id(&[Value::Double(0.0)]));
        let (short, long) = (Value::Decimal([0xff].into()), Value::Decimal([0xff, 0xff].into()));
        assert_eq!(id(&[short]), id(&[long]));
    }
}
