//! The Kafka key of a reading.

use apache_avro::types::Value;

/// The key's bytes: a text as it is, anything else as a person would write it.
pub(super) fn key_bytes(reading: &Value, index: usize) -> Option<Vec<u8>> {
    let Value::Record(fields) = reading else { return None };
    fn text(value: &Value) -> Option<Vec<u8>> {
        match value {
            Value::Union(_, inner) => text(inner),
            Value::String(text) | Value::Enum(_, text) => Some(text.clone().into_bytes()),
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => Some(bytes.clone()),
            Value::Uuid(uuid) => Some(uuid.to_string().into_bytes()),
            Value::Boolean(value) => Some(value.to_string().into_bytes()),
            Value::Int(number) | Value::Date(number) => Some(number.to_string().into_bytes()),
            Value::Long(number)
            | Value::TimestampMillis(number)
            | Value::TimestampMicros(number)
            | Value::TimestampNanos(number) => Some(number.to_string().into_bytes()),
            Value::Float(number) => Some(number.to_string().into_bytes()),
            Value::Double(number) => Some(number.to_string().into_bytes()),
            _ => None,
        }
    }
    fields.get(index).and_then(|(_, value)| text(value))
}
