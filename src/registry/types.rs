//! Facts about Avro types that matter when one schema reads another's data.

use apache_avro::{
    Schema,
    schema::{DecimalSchema, FixedSchema, InnerDecimalSchema, SchemaKind, UuidSchema},
};

/// The type that is on the wire.
pub(crate) fn base(schema: &Schema) -> SchemaKind {
    match schema {
        Schema::Date | Schema::TimeMillis => SchemaKind::Int,
        Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => SchemaKind::Long,
        Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => SchemaKind::Bytes,
        Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. }) => {
            SchemaKind::Bytes
        }
        Schema::Uuid(UuidSchema::String) => SchemaKind::String,
        Schema::Decimal(_) | Schema::Uuid(_) | Schema::Duration(_) => SchemaKind::Fixed,
        other => SchemaKind::from(other),
    }
}

/// Whether a reader's type takes what was written as another.
pub(crate) fn promotes(from: SchemaKind, to: SchemaKind) -> bool {
    use SchemaKind::{Bytes, Double, Float, Int, Long, String};
    matches!(
        (from, to),
        (Int, Long | Float | Double)
            | (Long, Float | Double)
            | (Float, Double)
            | (String, Bytes)
            | (Bytes, String)
    )
}

/// A plain type says nothing about the meaning, so it goes with any logical type; two logical
/// types must be one, decimals with the same precision and scale.
pub(super) fn means_the_same(reader: &Schema, writer: &Schema) -> bool {
    match (logical(reader), logical(writer)) {
        (Some(reader), Some(writer)) => reader == writer,
        _ => true,
    }
}

fn logical(schema: &Schema) -> Option<String> {
    Some(match schema {
        Schema::Decimal(DecimalSchema { precision, scale, .. }) => {
            format!("decimal({precision},{scale})")
        }
        Schema::BigDecimal => "big-decimal".into(),
        Schema::Uuid(_) => "uuid".into(),
        Schema::Duration(_) => "duration".into(),
        Schema::Date => "date".into(),
        Schema::TimeMillis => "time-millis".into(),
        Schema::TimeMicros => "time-micros".into(),
        Schema::TimestampMillis => "timestamp-millis".into(),
        Schema::TimestampMicros => "timestamp-micros".into(),
        Schema::TimestampNanos => "timestamp-nanos".into(),
        Schema::LocalTimestampMillis => "local-timestamp-millis".into(),
        Schema::LocalTimestampMicros => "local-timestamp-micros".into(),
        Schema::LocalTimestampNanos => "local-timestamp-nanos".into(),
        _ => return None,
    })
}

/// The specification matches names without their namespace, and the reader's aliases in full.
pub(crate) fn same_name(reader: &Schema, writer: &Schema) -> bool {
    let (Some(to), Some(from)) = (reader.name(), writer.name()) else { return true };
    let is_writer = |alias: String| alias == from.fullname(None);
    let mut aliases = reader.aliases().into_iter().flatten();
    to.name() == from.name() || aliases.any(|alias| is_writer(alias.fullname(to.namespace())))
}

/// How many bytes a fixed type has.
pub(super) fn size(schema: &Schema) -> Option<usize> {
    match schema {
        Schema::Fixed(FixedSchema { size, .. })
        | Schema::Duration(FixedSchema { size, .. })
        | Schema::Uuid(UuidSchema::Fixed(FixedSchema { size, .. }))
        | Schema::Decimal(DecimalSchema {
            inner: InnerDecimalSchema::Fixed(FixedSchema { size, .. }),
            ..
        }) => Some(*size),
        _ => None,
    }
}

/// A type in the words of an error text.
pub(super) fn describe(schema: &Schema) -> String {
    let name = schema.name().map(|name| name.fullname(None));
    if let (Schema::Ref { .. }, Some(name)) = (schema, &name) {
        return name.clone();
    }
    let kind = match base(schema) {
        SchemaKind::Null => "null",
        SchemaKind::Boolean => "boolean",
        SchemaKind::Int => "int",
        SchemaKind::Long => "long",
        SchemaKind::Float => "float",
        SchemaKind::Double => "double",
        SchemaKind::Bytes => "bytes",
        SchemaKind::String => "string",
        SchemaKind::Array => "array",
        SchemaKind::Map => "map",
        SchemaKind::Record => "record",
        SchemaKind::Enum => "enum",
        SchemaKind::Fixed => "fixed",
        _ => "union",
    };
    match (name, logical(schema)) {
        (Some(name), Some(logical)) => format!("{kind} {name} ({logical})"),
        (Some(name), None) => format!("{kind} {name}"),
        (None, Some(logical)) => format!("{kind} ({logical})"),
        (None, None) => kind.to_owned(),
    }
}
