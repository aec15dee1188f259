//! One JSON value and one Avro schema become one Avro value, or the reason why they cannot.
//!
//! | Avro | JSON | text (a CSV cell) |
//! |---|---|---|
//! | null | `null` | blank |
//! | boolean | `true`, `false` | true, false, in any case |
//! | int, long | a whole number; `2.0` is one | the same |
//! | float, double | any number | any number; never NaN or infinite |
//! | decimal, big-decimal | a string, or a number of at most 15 digits | a number |
//! | string, enum | a string | as it stands |
//! | bytes, fixed | a string; each character, up to U+00FF, is a byte, as in Avro's JSON | the same |
//! | uuid | a string | a UUID |
//! | date, time-*, timestamp-* | ISO 8601, or a number in the schema's own unit | the same |
//! | duration | ISO 8601, as in `P1DT12H` | the same |
//! | array, map, record | an array, an object | JSON |
//! | union | null, or the first branch that fits | the same; blank is null |
//!
//! JSON numbers with a fraction pass through a double when the document is parsed. A decimal that
//! needs more digits than a double keeps is therefore given as a string.

use apache_avro::schema::{
    NamesRef, RecordField, RecordSchema, ResolvedSchema, Schema, UnionSchema,
};
use apache_avro::types::Value;
use serde_json::Value as Json;

use super::Rejected;
use super::scalar::{kind, scalar, unexpected};

/// Deep enough for any JSON that the parser takes (128 levels), shallow enough for the stack. It
/// also ends a schema whose default contains itself.
const MAX_DEPTH: u8 = 255;

/// How the values of the input are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// JSON: a string is never taken for a number.
    Json,
    /// Strings, parsed by the field's type, as in CSV.
    Text,
    /// A schema's own default: JSON, but decimals, UUIDs and durations that are bytes are written
    /// as bytes.
    Default,
}

/// Why a value does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The field at fault, dotted where it is nested; empty for the record as a whole.
    pub field: String,
    /// What is wrong, and what was expected.
    pub reason: String,
}

/// Converts the values of one record under its schema.
#[derive(Clone, Copy)]
pub struct Converter<'a> {
    names: &'a NamesRef<'a>,
    mode: Mode,
    depth: u8,
}

impl<'a> Converter<'a> {
    /// `names` finds the named types that the schema refers to.
    pub fn new(names: &'a ResolvedSchema<'_>, mode: Mode) -> Self {
        Self { names: names.get_names(), mode, depth: MAX_DEPTH }
    }

    /// The value of one field: what was found in the input, else the field's default, else null.
    pub fn field(self, found: Option<&Json>, field: &RecordField) -> Result<Value, Rejection> {
        let value = match (found, &field.default) {
            (Some(input), _) => self.value(input, &field.schema),
            (None, Some(default)) => {
                Self { mode: Mode::Default, ..self }.value(default, &field.schema)
            }
            (None, None) => self.value(&Json::Null, &field.schema).map_err(|_| {
                Rejection::new("is missing, and the schema has neither a default nor null for it")
            }),
        };
        value.map_err(|rejection| rejection.within(&field.name))
    }

    /// The value of `input` under `schema`.
    pub fn value(self, input: &Json, schema: &Schema) -> Result<Value, Rejection> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Err(Rejection::new("is nested too deeply"));
        };
        let inside = Self { depth, ..self };
        match schema {
            Schema::Ref { name } => match self.names.get(name) {
                Some(named) => inside.value(input, named),
                None => Err(Rejection::new(format!("the schema lacks its type {name}"))),
            },
            Schema::Union(union) => inside.union(input, union),
            Schema::Array(_) | Schema::Map(_) | Schema::Record(_) => match (self.mode, input) {
                (Mode::Text, Json::String(text)) => inside.compound_in_text(text, schema),
                _ => inside.compound(input, schema),
            },
            _ => Ok(scalar(input, schema, self.mode)?),
        }
    }

    fn union(self, input: &Json, union: &UnionSchema) -> Result<Value, Rejection> {
        let mut rejections = Vec::new();
        // a blank is null before it is an empty string
        let (nulls, others): (Vec<_>, Vec<_>) =
            (0..).zip(union.variants()).partition(|(_, branch)| matches!(branch, Schema::Null));
        for (position, branch) in nulls.iter().chain(&others) {
            match self.value(input, branch) {
                Ok(value) => return Ok(Value::Union(*position, Box::new(value))),
                Err(rejection) => rejections.push(rejection),
            }
        }
        match (others.as_slice(), rejections.pop()) {
            ([_], Some(rejection)) => Err(rejection),
            _ => {
                let kinds: Vec<_> = union.variants().iter().map(kind).collect();
                Err(unexpected(&format!("one of {}", kinds.join(", ")), input).into())
            }
        }
    }

    fn compound_in_text(self, text: &str, schema: &Schema) -> Result<Value, Rejection> {
        let json: Json = serde_json::from_str(text)
            .map_err(|_| unexpected("JSON", &Json::String(text.to_owned())))?;
        Self { mode: Mode::Json, ..self }.compound(&json, schema)
    }

    fn compound(self, input: &Json, schema: &Schema) -> Result<Value, Rejection> {
        match (schema, input) {
            (Schema::Array(array), Json::Array(items)) => {
                let item = |(position, item): (usize, &Json)| {
                    self.value(item, &array.items)
                        .map_err(|rejection| rejection.within(&position.to_string()))
                };
                items.iter().enumerate().map(item).collect::<Result<_, _>>().map(Value::Array)
            }
            (Schema::Map(map), Json::Object(members)) => {
                let member = |(key, member): (&String, &Json)| {
                    let value = self.value(member, &map.types);
                    Ok((key.clone(), value.map_err(|rejection| rejection.within(key))?))
                };
                members.iter().map(member).collect::<Result<_, _>>().map(Value::Map)
            }
            (Schema::Record(RecordSchema { fields, .. }), Json::Object(members)) => {
                let field = |field: &RecordField| {
                    Ok((field.name.clone(), self.field(members.get(&field.name), field)?))
                };
                fields.iter().map(field).collect::<Result<_, _>>().map(Value::Record)
            }
            (Schema::Array(_), _) => Err(unexpected("an array", input).into()),
            _ => Err(unexpected("an object", input).into()),
        }
    }
}

impl Rejection {
    /// A rejection of the whole value; [`within`](Self::within) says where it is.
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { field: String::new(), reason: reason.into() }
    }

    pub(super) fn within(self, outer: &str) -> Self {
        let field = match self.field.as_str() {
            "" => outer.to_owned(),
            inner => format!("{outer}.{inner}"),
        };
        Self { field, ..self }
    }

    pub(super) fn of(self, line: u64, row: Json) -> Rejected {
        Rejected { line, field: self.field, reason: self.reason, row }
    }
}

impl From<String> for Rejection {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}
