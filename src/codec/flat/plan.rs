//! Two schemas side by side, as [`resolve`](super::super::resolve) goes through them for each
//! value; here once, where the records are flat.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{
        EnumSchema, FixedSchema, NamesRef, RecordField, RecordSchema, ResolvedSchema, SchemaKind,
        UuidSchema,
    },
};

use super::{Content, Flat, Null, Number, Read, Written};
use crate::{
    codec::measure::is_free,
    registry::{base, promotes, same_name},
    source::{Converter, Mode},
};

impl Flat {
    /// A plan, if both records are flat and every difference between them is one that it knows.
    /// The two have been found compatible.
    pub(in crate::codec) fn new(writer: &Schema, reader: &Schema) -> Option<Flat> {
        let (writers, readers) =
            (ResolvedSchema::new(writer).ok()?, ResolvedSchema::new(reader).ok()?);
        let (Schema::Record(from), Schema::Record(to)) = (writer, reader) else { return None };
        let converter = Converter::new(&readers, Mode::Default);
        let mut sources: HashMap<&str, (usize, Type<'_>)> = HashMap::new();
        let mut defaults = Vec::new();
        for (column, field) in to.fields.iter().enumerate() {
            let readers_type = Type::of(field, to, readers.get_names())?;
            // a column that borrows from no value
            read(readers_type.schema, readers_type.schema)?;
            match source(field, from, &sources) {
                Some(name) => _ = sources.insert(name, (column, readers_type)),
                None => defaults.push((column, converter.field(None, field).ok()?)),
            }
        }
        let mut written = Vec::new();
        let mut weighed = Vec::new();
        for field in &from.fields {
            let writers_type = Type::of(field, from, writers.get_names())?;
            let to = sources.get(field.name.as_str());
            written.push(writers_type.read_as(to)?);
            weighed.push((field.name.as_str(), writers_type.schema));
        }
        let columns = to.fields.len();
        is_free(weighed).then_some(Flat { written, columns, defaults })
    }
}

/// The writer's field that one of the reader's is read from: each is read once.
fn source<'s>(
    field: &RecordField,
    from: &'s RecordSchema,
    taken: &HashMap<&str, (usize, Type<'_>)>,
) -> Option<&'s str> {
    let mut names = std::iter::once(&field.name).chain(&field.aliases);
    names.find_map(|name| {
        let mut written = from.fields.iter().map(|field| field.name.as_str());
        written.find(|written| written == name && !taken.contains_key(written))
    })
}

/// A field's type without the union around it.
struct Type<'s> {
    schema: &'s Schema,
    /// Which branch null is, in a union of two.
    null: Option<i64>,
}

impl<'s> Type<'s> {
    fn of(field: &'s RecordField, record: &RecordSchema, names: &NamesRef<'s>) -> Option<Type<'s>> {
        let (schema, null) = match &field.schema {
            Schema::Union(union) => match union.variants() {
                [Schema::Null, other] => (other, Some(0)),
                [other, Schema::Null] => (other, Some(1)),
                _ => return None,
            },
            schema => (schema, None),
        };
        let schema = match schema {
            Schema::Ref { name } => {
                // a name that has to be completed may be found as two
                let is_whole = *name.fully_qualified_name(record.name.namespace()) == *name;
                names.get(name).copied().filter(|_| is_whole)?
            }
            schema => schema,
        };
        Some(Type { schema, null })
    }

    /// How a writer's field is read, for a column or to be skipped.
    fn read_as(&self, to: Option<&(usize, Type<'_>)>) -> Option<Written> {
        let column = to.map(|(column, _)| *column);
        let (readers_schema, takes_null) = match to {
            Some((_, to)) => (to.schema, to.null.is_some()),
            None => (self.schema, true),
        };
        if matches!(self.schema, Schema::Null) {
            return takes_null.then_some(Written { read: Read::Null, null: None, column });
        }
        let null = self.null.map(|branch| Null {
            branch,
            other_branch: i64::from(branch == 0),
            is_known: takes_null,
        });
        Some(Written { read: read(self.schema, readers_schema)?, null, column })
    }
}

/// A writer's type as a reader's; none where there is a difference that is not known here.
fn read(from: &Schema, to: &Schema) -> Option<Read> {
    let (on_wire, wanted) = (base(from), base(to));
    let is_own = on_wire == wanted && same_name(to, from);
    (is_own || promotes(on_wire, wanted)).then_some(())?;
    Some(match (on_wire, to) {
        (SchemaKind::Boolean, Schema::Boolean) => Read::Boolean,
        (SchemaKind::Int, to) => Read::Int(number(to)?),
        (SchemaKind::Long, to) => Read::Long(number(to)?),
        (SchemaKind::Float, Schema::Float) => Read::Float,
        (SchemaKind::Float, Schema::Double) => Read::FloatAsDouble,
        (SchemaKind::Double, Schema::Double) => Read::Double,
        (SchemaKind::Bytes, Schema::Bytes) => Read::Bytes(Content::Bytes),
        (SchemaKind::Bytes | SchemaKind::String, Schema::String) => Read::Bytes(Content::Text),
        (SchemaKind::Bytes, Schema::Uuid(UuidSchema::Bytes)) => Read::Bytes(Content::Uuid),
        (SchemaKind::String, Schema::Bytes) => Read::Bytes(Content::BytesOfText),
        (SchemaKind::String, Schema::Uuid(UuidSchema::String)) => Read::Bytes(Content::UuidText),
        (SchemaKind::Fixed, Schema::Fixed(to)) => fixed(from, to, Content::Bytes)?,
        (SchemaKind::Fixed, Schema::Uuid(UuidSchema::Fixed(to))) => fixed(from, to, Content::Uuid)?,
        (SchemaKind::Enum, Schema::Enum(to)) => {
            let Schema::Enum(from) = from else { return None };
            Read::Enum(symbols(from, to))
        }
        _ => return None,
    })
}

fn number(to: &Schema) -> Option<Number> {
    Some(match to {
        Schema::Int => Number::Int,
        Schema::Long => Number::Long,
        Schema::Float => Number::Float,
        Schema::Double => Number::Double,
        Schema::Date => Number::Date,
        Schema::TimeMillis => Number::TimeMillis,
        Schema::TimeMicros => Number::TimeMicros,
        Schema::TimestampMillis | Schema::LocalTimestampMillis => Number::Millis,
        Schema::TimestampMicros | Schema::LocalTimestampMicros => Number::Micros,
        Schema::TimestampNanos | Schema::LocalTimestampNanos => Number::Nanos,
        _ => return None,
    })
}

fn fixed(from: &Schema, to: &FixedSchema, content: Content) -> Option<Read> {
    let size = match from {
        Schema::Fixed(from) | Schema::Uuid(UuidSchema::Fixed(from)) => from.size,
        _ => return None,
    };
    (size == to.size).then_some(Read::Fixed(size, content))
}

/// The reader's symbol for each of the writer's: the same, or the default.
fn symbols(from: &EnumSchema, to: &EnumSchema) -> Vec<Option<Box<str>>> {
    let known = |wanted: &String| to.symbols.iter().find(|symbol| *symbol == wanted);
    let symbol = |written: &String| {
        let symbol = known(written).or_else(|| to.default.as_ref().and_then(known))?;
        Some(symbol.as_str().into())
    };
    from.symbols.iter().map(symbol).collect()
}
