//! Bodies of flat records straight to cells, with no tree of values in between.
//!
//! What is read here is a part of what apache-avro and [`resolve`](super::resolve) read, and it is
//! read as the same. A schema that is not flat has no [`Flat`]; a body that is odd in any way is
//! left to the two, which have the words for what is wrong with it.

mod plan;

use apache_avro::types::Value;
use uuid::Uuid;

use super::{Cell, Instant, LONGEST, varint};
use crate::contract::ColumnType;

/// How the bodies of one writer's schema become our cells. Built once per schema id.
#[derive(Debug)]
pub(super) struct Flat {
    /// What is in a body, in its order.
    written: Vec<Written>,
    columns: usize,
    /// The columns that nobody writes, and what is in them.
    defaults: Vec<(usize, Value)>,
}

/// One of the writer's fields.
#[derive(Debug)]
struct Written {
    read: Read,
    null: Option<Null>,
    /// The column that it is for, if there is one.
    column: Option<usize>,
}

/// Where null is in a union of two.
#[derive(Debug)]
struct Null {
    branch: i64,
    other_branch: i64,
    /// Whether the reader's type has it too.
    is_known: bool,
}

/// A type on the wire, and what it is for the reader.
#[derive(Debug)]
enum Read {
    Null,
    Boolean,
    Int(Number),
    Long(Number),
    Float,
    FloatAsDouble,
    Double,
    /// Bytes with their length in front.
    Bytes(Content),
    Fixed(usize, Content),
    /// The reader's symbols by the writer's index.
    Enum(Vec<Option<Box<str>>>),
}

/// What a whole number is for the reader.
#[derive(Debug, Clone, Copy)]
enum Number {
    Int,
    Long,
    Float,
    Double,
    Date,
    TimeMillis,
    TimeMicros,
    Millis,
    Micros,
    Nanos,
}

/// What bytes are for the reader.
#[derive(Debug, Clone, Copy)]
enum Content {
    Bytes,
    Text,
    /// Bytes that were written as text, and so have to be UTF-8.
    BytesOfText,
    Uuid,
    UuidText,
}

impl Flat {
    /// A body's cells, if there is nothing odd about it; `into` holds nothing else afterwards.
    pub(super) fn cells<'c>(&'c self, body: &'c [u8], into: &mut Vec<Cell<'c>>) -> Option<()> {
        into.clear();
        if body.len() > LONGEST {
            return None;
        }
        into.resize(self.columns, Cell::Null);
        for (column, default) in &self.defaults {
            // text for any type but jsonb, which no column of a flat record is
            *into.get_mut(*column)? = Cell::of(default, &ColumnType::Text);
        }
        let mut rest = body;
        for written in &self.written {
            let cell = written.cell(&mut rest)?;
            if let Some(column) = written.column {
                *into.get_mut(column)? = cell;
            }
        }
        rest.is_empty().then_some(())
    }
}

impl Written {
    #[inline]
    fn cell<'c>(&'c self, rest: &mut &'c [u8]) -> Option<Cell<'c>> {
        if let Some(null) = &self.null {
            let branch = varint::take(rest).ok()?;
            if branch == null.branch {
                return null.is_known.then_some(Cell::Null);
            }
            if branch != null.other_branch {
                return None;
            }
        }
        self.read.cell(rest)
    }
}

impl Read {
    #[inline]
    fn cell<'c>(&'c self, rest: &mut &'c [u8]) -> Option<Cell<'c>> {
        Some(match self {
            Read::Null => Cell::Null,
            Read::Boolean => match array(rest)? {
                [0] => Cell::Boolean(false),
                [1] => Cell::Boolean(true),
                _ => return None,
            },
            Read::Int(number) => {
                let int = i32::try_from(varint::take(rest).ok()?).ok()?;
                number.cell(i64::from(int))?
            }
            Read::Long(number) => number.cell(varint::take(rest).ok()?)?,
            Read::Float => Cell::Float(f32::from_le_bytes(array(rest)?)),
            Read::FloatAsDouble => Cell::Double(f64::from(f32::from_le_bytes(array(rest)?))),
            Read::Double => Cell::Double(f64::from_le_bytes(array(rest)?)),
            Read::Bytes(content) => {
                let length = usize::try_from(varint::take(rest).ok()?).ok()?;
                content.cell(bytes(rest, length)?)?
            }
            Read::Fixed(size, content) => content.cell(bytes(rest, *size)?)?,
            Read::Enum(symbols) => {
                let index = usize::try_from(varint::take(rest).ok()?).ok()?;
                Cell::Text(symbols.get(index)?.as_deref()?)
            }
        })
    }
}

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "Avro's own promotions lose it")]
    fn cell(self, number: i64) -> Option<Cell<'static>> {
        Some(match self {
            Number::Int => Cell::Int(i32::try_from(number).ok()?),
            Number::Long => Cell::Long(number),
            Number::Float => Cell::Float(number as f32),
            Number::Double => Cell::Double(number as f64),
            Number::Date => Cell::Date(i32::try_from(number).ok()?),
            Number::TimeMillis => Cell::TimeOfDay(number.checked_mul(1_000)?),
            Number::TimeMicros => Cell::TimeOfDay(number),
            Number::Millis => Cell::Instant(Instant::Millis(number)),
            Number::Micros => Cell::Instant(Instant::Micros(number)),
            Number::Nanos => Cell::Instant(Instant::Nanos(number)),
        })
    }
}

impl Content {
    #[inline]
    fn cell(self, bytes: &[u8]) -> Option<Cell<'_>> {
        Some(match self {
            Content::Bytes => Cell::Bytes(bytes),
            Content::Text => Cell::Text(std::str::from_utf8(bytes).ok()?),
            Content::BytesOfText => Cell::Bytes(std::str::from_utf8(bytes).ok()?.as_bytes()),
            Content::Uuid => Cell::Uuid(Uuid::from_slice(bytes).ok()?),
            Content::UuidText => Cell::Uuid(Uuid::try_parse_ascii(bytes).ok()?),
        })
    }
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*array)
}

fn bytes<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes)
}

#[cfg(test)]
mod tests;
