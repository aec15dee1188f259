//! A body's measure: how much memory its event takes, found without taking any.
//!
//! apache-avro believes a length up to a limit, and reserves for all the items that a count
//! announces. A few bytes can ask for any number of values that have no bytes themselves (nulls,
//! empty records), and for the sixteen-mebibyte limit over and over where arrays are nested. So
//! a body is gone through before, as its writer's schema says, and refused where it lies.

use apache_avro::{
    Schema,
    schema::{DecimalSchema, FixedSchema, InnerDecimalSchema, NamesRef, NamespaceRef, UuidSchema},
    types::Value,
};

use super::{
    LONGEST,
    varint::{self, NoNumber},
};
use crate::failure::{Rejection, Stage};

/// What an event may take however short its body is.
const FREE: usize = 1 << 20;

/// What each byte of a body may take on top. A nullable field that is null is one byte, and takes
/// two values and its name.
const PER_BYTE: usize = 512;

/// What a value takes.
const VALUE: usize = size_of::<Value>();

/// What an entry of a map takes without its value and key: a table of hashes has room to spare.
const ENTRY: usize = 2 * size_of::<(String, Value)>();

/// Goes through a body that was written with `schema`, whose types end within some depth.
pub(super) fn measure(schema: &Schema, names: &NamesRef<'_>, body: &[u8]) -> Result<(), Rejection> {
    let allowance = body.len().saturating_mul(PER_BYTE).saturating_add(FREE);
    let mut walk = Walk { names, rest: body, room: allowance, allowance };
    match walk.value(schema, None) {
        Ok(()) | Err(Stop::Malformed) => Ok(()),
        Err(Stop::Truncated) => {
            let detail = "the body ends before the event does";
            Err(Rejection::new(Stage::Decode, "truncated_body", detail))
        }
        Err(Stop::Length(detail)) => {
            Err(Rejection::new(Stage::Decode, "length_out_of_bounds", detail))
        }
    }
}

/// Whether every body of a record of these fields may be read, for all that it takes. They have no
/// values inside, or one branch beside null; texts and bytes are a part of the body.
pub(super) fn is_free<'s>(fields: impl IntoIterator<Item = (&'s str, &'s Schema)>) -> bool {
    let takes = |(name, schema): (&str, &Schema)| {
        let symbols = match schema {
            Schema::Enum(symbols) => symbols.symbols.iter().map(String::len).max().unwrap_or(0),
            _ => 0,
        };
        [size_of::<String>(), 2_usize.saturating_mul(VALUE), symbols]
            .into_iter()
            .fold(name.len(), usize::saturating_add)
    };
    fields.into_iter().map(takes).fold(VALUE, usize::saturating_add) <= FREE
}

/// Why the walk ends before the event does.
enum Stop {
    /// More bytes are asked for than are left.
    Truncated,
    /// A length is none, or asks for more than is given.
    Length(String),
    /// The decoder stops here too, and has the words for it.
    Malformed,
}

struct Walk<'w> {
    names: &'w NamesRef<'w>,
    rest: &'w [u8],
    /// How much more memory there is.
    room: usize,
    allowance: usize,
}

impl Walk<'_> {
    fn value(&mut self, schema: &Schema, namespace: NamespaceRef) -> Result<(), Stop> {
        self.take_memory(VALUE)?;
        match schema {
            Schema::Null => Ok(()),
            Schema::Boolean => self.skip(1),
            Schema::Int
            | Schema::Date
            | Schema::TimeMillis
            | Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => self.long().map(drop),
            Schema::Float => self.skip(4),
            Schema::Double => self.skip(8),
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. })
            | Schema::Uuid(UuidSchema::Fixed(fixed)) => self.fixed(fixed),
            Schema::Bytes
            | Schema::String
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. })
            | Schema::Uuid(UuidSchema::Bytes | UuidSchema::String) => self.bytes().map(drop),
            Schema::BigDecimal => self.big_decimal(),
            Schema::Enum(symbols) => {
                let index = usize::try_from(self.long()?).map_err(|_| Stop::Malformed)?;
                let symbol = symbols.symbols.get(index).ok_or(Stop::Malformed)?;
                self.take_memory(symbol.len())
            }
            Schema::Array(array) => self.blocks(|walk| walk.value(&array.items, namespace)),
            Schema::Map(map) => self.blocks(|walk| {
                walk.take_memory(ENTRY)?;
                walk.bytes()?;
                walk.value(&map.types, namespace)
            }),
            Schema::Union(union) => {
                let branch = usize::try_from(self.long()?).map_err(|_| Stop::Malformed)?;
                let branch = union.variants().get(branch).ok_or(Stop::Malformed)?;
                self.value(branch, namespace)
            }
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                for field in &record.fields {
                    self.take_memory(field.name.len().saturating_add(size_of::<String>()))?;
                    self.value(&field.schema, name.namespace())?;
                }
                Ok(())
            }
            Schema::Ref { name } => {
                let name = name.fully_qualified_name(namespace);
                let schema = self.names.get(&name).ok_or(Stop::Malformed)?;
                self.value(schema, name.namespace())
            }
        }
    }

    fn take_memory(&mut self, bytes: usize) -> Result<(), Stop> {
        self.room = self.room.checked_sub(bytes).ok_or_else(|| {
            let allowance = self.allowance;
            Stop::Length(format!(
                "the event asks for more than {allowance} bytes of memory, which is more than its \
                 body can be worth"
            ))
        })?;
        Ok(())
    }

    fn skip(&mut self, length: usize) -> Result<(), Stop> {
        self.rest = self.rest.get(length..).ok_or(Stop::Truncated)?;
        Ok(())
    }

    fn fixed(&mut self, fixed: &FixedSchema) -> Result<(), Stop> {
        self.skip(fixed.size)?;
        self.take_memory(fixed.size)
    }

    /// A length and as many bytes.
    fn bytes(&mut self) -> Result<&[u8], Stop> {
        let length = self.long()?;
        let length =
            usize::try_from(length).map_err(|_| Stop::Length(format!("{length} is no length")))?;
        let Some((bytes, rest)) = self.rest.split_at_checked(length) else {
            return Err(too_long(length));
        };
        self.rest = rest;
        self.take_memory(length)?;
        Ok(bytes)
    }

    /// Bytes that have a length and bytes in them, and a scale behind.
    fn big_decimal(&mut self) -> Result<(), Stop> {
        let (names, room, allowance) = (self.names, self.room, self.allowance);
        let mut inside = Walk { names, rest: self.bytes()?, room, allowance };
        let unscaled = inside.bytes().map(<[u8]>::len);
        // that the inside ends too early is no end of the body
        let unscaled = unscaled.map_err(|stop| match stop {
            Stop::Truncated => Stop::Length("a decimal's length is more than its bytes".into()),
            other => other,
        })?;
        self.take_memory(unscaled)
    }

    /// The items of an array or map: blocks of some, until there is one of none.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Stop>) -> Result<(), Stop> {
        loop {
            let announced = self.long()?;
            let count = match announced {
                0 => return Ok(()),
                1.. => announced.unsigned_abs(),
                _ => {
                    // the block's size in bytes, for readers that skip it
                    self.long()?;
                    announced.checked_neg().ok_or(Stop::Malformed)?.unsigned_abs()
                }
            };
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            if count.saturating_mul(VALUE) > self.room {
                return Err(beyond(count));
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    fn long(&mut self) -> Result<i64, Stop> {
        varint::take(&mut self.rest).map_err(|no_number| match no_number {
            NoNumber::Truncated => Stop::Truncated,
            NoNumber::Malformed => Stop::Malformed,
        })
    }
}

/// A length beyond the body: one that nobody would write is wrong, another one is cut off.
fn too_long(length: usize) -> Stop {
    if length > LONGEST { beyond(length) } else { Stop::Truncated }
}

fn beyond(length: usize) -> Stop {
    Stop::Length(format!("a length says {length}, which is more than there is"))
}
