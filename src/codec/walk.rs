//! A walk through a body as its writer's schema says, which takes no memory and counts how much the
//! event would.

use apache_avro::{
    Schema,
    schema::{DecimalSchema, FixedSchema, InnerDecimalSchema, NamesRef, NamespaceRef, UuidSchema},
    types::Value,
};

use super::{
    LONGEST,
    varint::{self, NoNumber},
};

/// What an event may take however short its body is.
pub(super) const FREE: usize = 1 << 20;

/// What each byte of a body may take on top. A nullable field that is null is one byte, and takes
/// two values and its name.
const PER_BYTE: usize = 512;

/// What a value takes.
pub(super) const VALUE: usize = size_of::<Value>();

/// What an entry of a map takes without its value and key: a table of hashes has room to spare.
const ENTRY: usize = 2 * size_of::<(String, Value)>();

/// A walk through a body.
pub(super) struct Walk<'w, C> {
    names: &'w NamesRef<'w>,
    /// What has not been gone through yet.
    pub(super) rest: &'w [u8],
    /// How much was left where the last value, or count of values, began.
    pub(super) left: usize,
    /// How much more memory there is.
    room: usize,
    allowance: usize,
    pub(super) company: C,
}

/// Why the walk ends before the event does.
pub(super) enum Stop {
    /// More bytes are asked for than are left.
    Truncated,
    /// A length is none, or asks for more than is given.
    Length(String),
    /// The decoder stops here too, and has the words for it.
    Malformed,
    /// Likewise: the union has no such branch,
    NoBranch(i64),
    /// or the enum no such symbol.
    NoSymbol(i64),
}

/// Who goes along, and is told where the walk is.
pub(super) trait Company {
    /// A value that has others in it begins.
    fn open(&mut self, _schema: &Schema) {}
    /// What comes is that part of it, until `leave`.
    fn enter(&mut self, _part: Part<'_>) {}
    /// The part has been gone through.
    fn leave(&mut self) {}
    /// A value that has no others in it, and its bytes.
    fn leaf(&mut self, _schema: &Schema, _bytes: &[u8]) -> Result<(), Stop> {
        Ok(())
    }
}

/// Nobody: the walk alone.
impl Company for () {}

/// A part of a value.
pub(super) enum Part<'p> {
    Field(&'p str),
    Item,
    Entry(&'p [u8]),
}

impl<'w, C: Company> Walk<'w, C> {
    pub(super) fn new(names: &'w NamesRef<'w>, body: &'w [u8], company: C) -> Walk<'w, C> {
        let allowance = body.len().saturating_mul(PER_BYTE).saturating_add(FREE);
        Walk { names, rest: body, left: body.len(), room: allowance, allowance, company }
    }

    pub(super) fn value(&mut self, schema: &Schema, namespace: NamespaceRef) -> Result<(), Stop> {
        self.take_memory(VALUE)?;
        let before = self.rest;
        self.left = before.len();
        match schema {
            Schema::Array(_)
            | Schema::Map(_)
            | Schema::Union(_)
            | Schema::Record(_)
            | Schema::Ref { .. } => self.values(schema, namespace),
            leaf => {
                self.leaf(leaf)?;
                let length = before.len().saturating_sub(self.rest.len());
                self.company.leaf(leaf, before.get(..length).unwrap_or_default())
            }
        }
    }

    /// A value that has others in it, or is one of several types.
    fn values(&mut self, schema: &Schema, namespace: NamespaceRef) -> Result<(), Stop> {
        match schema {
            Schema::Array(array) => {
                self.company.open(schema);
                self.blocks(|walk| {
                    walk.company.enter(Part::Item);
                    walk.value(&array.items, namespace)
                })
            }
            Schema::Map(map) => {
                self.company.open(schema);
                self.blocks(|walk| {
                    walk.take_memory(ENTRY)?;
                    let key = walk.bytes()?;
                    walk.company.enter(Part::Entry(key));
                    walk.value(&map.types, namespace)
                })
            }
            Schema::Union(union) => {
                let index = self.long()?;
                let branch = usize::try_from(index).ok();
                let branch = branch.and_then(|branch| union.variants().get(branch));
                let branch = branch.ok_or(Stop::NoBranch(index))?;
                self.value(branch, namespace)
            }
            Schema::Record(record) => {
                self.company.open(schema);
                let name = record.name.fully_qualified_name(namespace);
                for field in &record.fields {
                    self.company.enter(Part::Field(&field.name));
                    self.take_memory(field.name.len().saturating_add(size_of::<String>()))?;
                    self.value(&field.schema, name.namespace())?;
                    self.company.leave();
                }
                Ok(())
            }
            Schema::Ref { name } => {
                let name = name.fully_qualified_name(namespace);
                let schema = self.names.get(&name).ok_or(Stop::Malformed)?;
                self.value(schema, name.namespace())
            }
            leaf => self.leaf(leaf),
        }
    }

    fn leaf(&mut self, schema: &Schema) -> Result<(), Stop> {
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
                let index = self.long()?;
                let symbol = usize::try_from(index).ok().and_then(|at| symbols.symbols.get(at));
                let symbol = symbol.ok_or(Stop::NoSymbol(index))?;
                self.take_memory(symbol.len())
            }
            // these are `values`
            Schema::Array(_)
            | Schema::Map(_)
            | Schema::Union(_)
            | Schema::Record(_)
            | Schema::Ref { .. } => Err(Stop::Malformed),
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
    fn bytes(&mut self) -> Result<&'w [u8], Stop> {
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
        let bytes = self.bytes()?;
        let (left, company) = (bytes.len(), ());
        let mut inside = Walk { names, rest: bytes, left, room, allowance, company };
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
            self.left = self.rest.len();
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
                self.company.leave();
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
