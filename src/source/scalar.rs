//! Values without values inside: text, numbers, bytes, ids and times.
//!
//! What is accepted for each type is told in the table of [`convert`](super::convert).

use apache_avro::Decimal;
use apache_avro::schema::{
    DecimalSchema, EnumSchema, FixedSchema, InnerDecimalSchema, Schema, UuidSchema,
};
use apache_avro::types::Value;
use serde_json::Value as Json;
use uuid::Uuid;

use super::{Mode, instant, is_blank, number};

/// The value of `input` under a schema that is no array, map, record or union.
pub(super) fn scalar(input: &Json, schema: &Schema, mode: Mode) -> Result<Value, String> {
    match schema {
        Schema::Null => match mode {
            Mode::Text if is_blank(input) => Ok(Value::Null),
            _ if input.is_null() => Ok(Value::Null),
            _ => Err(unexpected("null", input)),
        },
        Schema::Boolean => boolean(input, mode).map(Value::Boolean),
        Schema::Int => number::integer(&number(input, "an int", mode)?).map(Value::Int),
        Schema::Long => number::integer(&number(input, "a long", mode)?).map(Value::Long),
        Schema::Float => number::float(&number(input, "a float", mode)?).map(Value::Float),
        Schema::Double => number::double(&number(input, "a double", mode)?).map(Value::Double),
        Schema::Decimal(schema) => decimal(input, schema, mode),
        Schema::BigDecimal => number::big_decimal(&decimal_text(input, mode)?),
        Schema::String => string(input).map(|text| Value::String(text.to_owned())),
        Schema::Enum(symbols) => symbol(string(input)?, symbols),
        Schema::Bytes => bytes(input).map(Value::Bytes),
        Schema::Fixed(fixed) => {
            sized(input, fixed.size).map(|bytes| Value::Fixed(fixed.size, bytes))
        }
        Schema::Uuid(underlying) => uuid(input, underlying, mode).map(Value::Uuid),
        Schema::Duration(FixedSchema { size, .. }) => duration(input, *size, mode),
        _ => time(input, schema, mode),
    }
}

fn boolean(input: &Json, mode: Mode) -> Result<bool, String> {
    match (mode, input) {
        (_, Json::Bool(flag)) => Ok(*flag),
        (Mode::Text, Json::String(text)) if text.trim().eq_ignore_ascii_case("true") => Ok(true),
        (Mode::Text, Json::String(text)) if text.trim().eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(unexpected("true or false", input)),
    }
}

/// A number's text, whether it was a JSON number or a string.
fn number(input: &Json, wanted: &str, mode: Mode) -> Result<String, String> {
    match (mode, input) {
        (_, Json::Number(number)) => Ok(number.to_string()),
        (Mode::Text, Json::String(text)) if !is_blank(input) => Ok(text.trim().to_owned()),
        _ => Err(unexpected(wanted, input)),
    }
}

fn decimal(input: &Json, schema: &DecimalSchema, mode: Mode) -> Result<Value, String> {
    let size = match &schema.inner {
        InnerDecimalSchema::Bytes => number::bytes_for(schema.precision),
        InnerDecimalSchema::Fixed(fixed) => fixed.size,
    };
    let bytes = match mode {
        Mode::Default => sign_extended(bytes(input)?, size),
        Mode::Json | Mode::Text => {
            let text = decimal_text(input, mode)?;
            number::decimal(&text, schema.precision, schema.scale, size)?
        }
    };
    Ok(Value::Decimal(Decimal::from(bytes)))
}

/// Defaults are written short; readers want every byte that the precision needs.
fn sign_extended(mut bytes: Vec<u8>, size: usize) -> Vec<u8> {
    let sign = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    let missing = size.saturating_sub(bytes.len());
    bytes.splice(..0, std::iter::repeat_n(sign, missing));
    bytes
}

fn decimal_text(input: &Json, mode: Mode) -> Result<String, String> {
    match input {
        Json::Number(number) if number.is_f64() && number::digits(&number.to_string()) > 15 => {
            Err(format!("{number} has more digits than a JSON number keeps; make it a string"))
        }
        Json::String(text) if !is_blank(input) => Ok(text.trim().to_owned()),
        _ => number(input, "a decimal number", mode),
    }
}

fn uuid(input: &Json, underlying: &UuidSchema, mode: Mode) -> Result<Uuid, String> {
    match (mode, underlying) {
        (Mode::Default, UuidSchema::Bytes | UuidSchema::Fixed(_)) => {
            Uuid::from_slice(&bytes(input)?).map_err(|_| unexpected("16 bytes", input))
        }
        _ => Uuid::parse_str(string(input)?.trim()).map_err(|_| unexpected("a UUID", input)),
    }
}

fn duration(input: &Json, size: usize, mode: Mode) -> Result<Value, String> {
    let duration = match mode {
        Mode::Default => <[u8; 12]>::try_from(sized(input, size)?)
            .map(apache_avro::Duration::from)
            .map_err(|_| unexpected("12 bytes", input))?,
        Mode::Json | Mode::Text => instant::duration(string(input)?.trim())?,
    };
    Ok(Value::Duration(duration))
}

fn time(input: &Json, schema: &Schema, mode: Mode) -> Result<Value, String> {
    match (mode, input) {
        (_, Json::Number(number)) => instant::from_number(&number.to_string(), schema),
        (Mode::Text, Json::String(text)) if number::is_number(text.trim()) => {
            instant::from_number(text.trim(), schema)
        }
        (_, Json::String(text)) => instant::from_text(text.trim(), schema),
        _ => Err(unexpected(&format!("a {}", kind(schema)), input)),
    }
}

fn string(input: &Json) -> Result<&str, String> {
    input.as_str().ok_or_else(|| unexpected("a string", input))
}

fn symbol(text: &str, schema: &EnumSchema) -> Result<Value, String> {
    match (0..).zip(&schema.symbols).find(|(_, symbol)| *symbol == text) {
        Some((position, symbol)) => Ok(Value::Enum(position, symbol.clone())),
        None => Err(unexpected(
            &format!("one of {}", schema.symbols.join(", ")),
            &Json::String(text.to_owned()),
        )),
    }
}

fn sized(input: &Json, size: usize) -> Result<Vec<u8>, String> {
    let bytes = bytes(input)?;
    if bytes.len() == size {
        Ok(bytes)
    } else {
        Err(format!("expected {size} bytes, found {}", bytes.len()))
    }
}

fn bytes(input: &Json) -> Result<Vec<u8>, String> {
    string(input)?.chars().map(u8::try_from).collect::<Result<_, _>>().map_err(|_| {
        unexpected("bytes, each written as one character from U+0000 to U+00FF", input)
    })
}

/// The names of Avro's specification.
pub(super) fn kind(schema: &Schema) -> &'static str {
    match schema {
        Schema::Null => "null",
        Schema::Boolean => "boolean",
        Schema::Int => "int",
        Schema::Long => "long",
        Schema::Float => "float",
        Schema::Double => "double",
        Schema::Bytes => "bytes",
        Schema::String => "string",
        Schema::Array(_) => "array",
        Schema::Map(_) => "map",
        Schema::Union(_) => "union",
        Schema::Record(_) => "record",
        Schema::Enum(_) => "enum",
        Schema::Fixed(_) => "fixed",
        Schema::Decimal(_) => "decimal",
        Schema::BigDecimal => "big-decimal",
        Schema::Uuid(_) => "uuid",
        Schema::Date => "date",
        Schema::TimeMillis => "time-millis",
        Schema::TimeMicros => "time-micros",
        Schema::TimestampMillis => "timestamp-millis",
        Schema::TimestampMicros => "timestamp-micros",
        Schema::TimestampNanos => "timestamp-nanos",
        Schema::LocalTimestampMillis => "local-timestamp-millis",
        Schema::LocalTimestampMicros => "local-timestamp-micros",
        Schema::LocalTimestampNanos => "local-timestamp-nanos",
        Schema::Duration(_) => "duration",
        Schema::Ref { .. } => "named type",
    }
}

/// The reason of a rejection; the value is shown, shortened where it is long.
pub(super) fn unexpected(wanted: &str, found: &Json) -> String {
    format!("expected {wanted}, found {}", shown(&found.to_string()))
}

/// As much of a value as fits in a message.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let more = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    text.chars().take(LONGEST).chain(more.chars()).collect()
}
