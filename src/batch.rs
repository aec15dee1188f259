//! What moves through the pipeline together: records as Kafka gave them, and what became of each.

use std::ops::Range;

use bytes::Bytes;
use time::OffsetDateTime;

use crate::failure::Rejection;

/// One record as it was on its topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// When its producer or the broker says it was written, in milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// The key's bytes.
    pub key: Option<Bytes>,
    /// The value's bytes; none for a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order; names may repeat.
    pub headers: Headers,
}

/// A record's headers, or that they can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Headers {
    /// Names and values; a value may be null.
    Known(Vec<(String, Option<Vec<u8>>)>),
    /// A name is not UTF-8, which Kafka's protocol asks of it.
    Unreadable,
}

impl Default for Headers {
    fn default() -> Self {
        Headers::Known(Vec::new())
    }
}

impl Record {
    /// What the record weighs in memory, in bytes.
    pub fn weight(&self) -> usize {
        let headers = match &self.headers {
            Headers::Known(headers) => headers
                .iter()
                .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len))
                .sum(),
            Headers::Unreadable => 0,
        };
        let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        std::mem::size_of::<Record>() + bytes(&self.key) + bytes(&self.value) + headers
    }
}

/// Why a record of a batch does not land, and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The record's index in the batch.
    pub record: usize,
    /// Why.
    pub rejection: Rejection,
    /// The id in the record's header.
    pub schema_id: Option<u32>,
    /// The event's idempotency key.
    pub event_id: Option<String>,
    /// The event as JSON, where it could be decoded.
    pub decoded: Option<String>,
    /// When the event happened; the record's own timestamp where the event can't say.
    pub event_time: Option<OffsetDateTime>,
    /// How often it was tried.
    pub attempts: u32,
}

/// One event as a row of its table. Its bytes are in [`Batch::bytes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The record's index in the batch.
    pub record: usize,
    /// Where its columns are, as COPY's binary format has them.
    pub columns: Range<usize>,
    /// Where the idempotency key is, by which rows are told apart and put in order.
    pub id: Range<usize>,
    /// When the event happened, in microseconds since 1970.
    pub time: Option<i64>,
    /// Rows of the same batch with the same id, which land only if this one is refused: the best
    /// one first.
    pub spares: Vec<Row>,
}

/// A batch that is decided: each record is a row, a dead letter, or (if it is neither) a
/// duplicate of a row in the same batch.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records, in the order in which they were polled.
    pub records: Vec<Record>,
    /// Rows with distinct ids, sorted by id, so that two sinks lock the same rows in one order.
    pub rows: Vec<Row>,
    /// The columns of all rows, one behind the other.
    pub bytes: Vec<u8>,
    /// What does not land.
    pub dead_letters: Vec<DeadLetter>,
}

impl Batch {
    /// A row's columns, each with its length.
    pub fn columns(&self, row: &Row) -> &[u8] {
        self.bytes.get(row.columns.clone()).unwrap_or_default()
    }

    /// A row's idempotency key.
    pub fn id(&self, row: &Row) -> &[u8] {
        self.bytes.get(row.id.clone()).unwrap_or_default()
    }
}
