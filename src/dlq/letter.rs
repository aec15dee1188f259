//! One dead letter, whole.

use anyhow::bail;
use serde_json::Value as Json;
use sqlx::{FromRow, PgConnection, QueryBuilder};
use time::OffsetDateTime;

use super::{Filter, Status};
use crate::{
    batch::{Headers, Record},
    sink::headers_from_json,
    sql::unreadable,
};

/// One dead letter as its table has it.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Letter {
    /// Its number.
    pub id: i64,
    /// The stream,
    pub stream: String,
    /// and where its record is on Kafka.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// The key's bytes, as they came.
    pub key: Option<Vec<u8>>,
    /// The value's bytes, as they came; none for a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The headers, each as its name and its text, or its bytes as base64.
    pub headers: Json,
    /// The record's own timestamp, in milliseconds since 1970.
    pub record_time: Option<i64>,
    /// The id in the record's header.
    pub schema_id: Option<i64>,
    /// The event's idempotency key.
    pub event_id: Option<String>,
    /// Where it went wrong: wire, decode, check, label or land.
    pub stage: String,
    /// A code to count by.
    pub reason: String,
    /// What was wrong, in words.
    pub detail: String,
    /// The event, where it could be decoded.
    pub decoded: Option<Json>,
    /// When the event happened; the record's own timestamp where the event can't say.
    pub event_time: Option<OffsetDateTime>,
    /// When it became a dead letter.
    pub seen_at: OffsetDateTime,
    /// How often it was tried before it became one.
    pub attempts: i32,
    /// How often it was replayed in vain.
    pub replays: i32,
    /// What has become of it.
    pub status: Status,
}

impl Letter {
    /// The columns, for a statement over `dlq_events` named `letter`.
    pub const COLUMNS: &str = "letter.id, letter.stream, letter.topic, letter.partition, \
        letter.\"offset\", letter.key, letter.payload, letter.headers, letter.record_time, letter.schema_id, \
        letter.event_id, letter.stage, letter.reason, letter.detail, letter.decoded, \
        letter.event_time, letter.seen_at, letter.attempts, letter.replays, letter.status";

    /// The letter with this number; that there is none is an error.
    pub async fn read(connection: &mut PgConnection, id: i64) -> anyhow::Result<Letter> {
        let sql = format!("SELECT {} FROM dlq_events AS letter WHERE id = $1", Letter::COLUMNS);
        let found = sqlx::query_as(&sql).bind(id).fetch_optional(connection).await;
        match found.map_err(unreadable)? {
            Some(letter) => Ok(letter),
            None => {
                bail!("there is no dead letter {id}; `sluicegate dlq list` lists those there are")
            }
        }
    }

    /// So many letters that a filter names and that are not purged, those with the lowest numbers behind
    /// one.
    pub(crate) async fn page(
        connection: &mut PgConnection,
        filter: &Filter,
        after: i64,
        most: i64,
    ) -> sqlx::Result<Vec<Letter>> {
        let columns = Letter::COLUMNS;
        let mut query =
            QueryBuilder::new(format!("SELECT {columns} FROM dlq_events AS letter WHERE "));
        filter.push(&mut query);
        query.push(" AND letter.purged_at IS NULL AND letter.id > ").push_bind(after);
        query.push(" ORDER BY letter.id LIMIT ").push_bind(most);
        query.build_query_as().fetch_all(connection).await
    }

    /// The record that it was.
    pub fn record(&self) -> Record {
        Record {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.record_time,
            key: self.key.clone().map(Into::into),
            value: self.payload.clone().map(Into::into),
            headers: match self.reason.as_str() {
                "unreadable_headers" => Headers::Unreadable,
                _ => Headers::Known(headers_from_json(&self.headers)),
            },
        }
    }
}
