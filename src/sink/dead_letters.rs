//! Dead letters into `dlq_events` and `dlq_outbox`, in the transaction of their batch.

use std::collections::{HashMap, HashSet};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::ledger::Account;
use crate::{
    batch::{Batch, DeadLetter, Headers, Record},
    contract::Contract,
    failure::Failure,
};

/// The longest detail that is kept, in bytes; the rest of it says nothing new.
const LONGEST_DETAIL: usize = 4_096;

/// Writes dead letters, and gives the places of those that are new.
///
/// What was redelivered was settled before. An event that is a dead letter already and was sent
/// again, as a source does that is polled, stays as it is; one without an id is never the same, and
/// one that was replayed is over.
pub(super) async fn insert(
    connection: &mut PgConnection,
    contract: &Contract,
    records: &[Record],
    dead_letters: &[DeadLetter],
    account: &Account,
) -> Result<Vec<(i32, i64)>, Failure> {
    let letters = distinct(records, dead_letters, account);
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    fn column<'l, T>(
        letters: &[(&'l Record, &'l DeadLetter)],
        value: impl Fn(&'l Record, &'l DeadLetter) -> T,
    ) -> Vec<T> {
        letters.iter().map(|(record, letter)| value(record, letter)).collect()
    }
    // said so that each letter is looked up by its fingerprint: where the table has grown since it was
    // analyzed, Postgres would rather read all of a stream's dead letters for each batch
    let inserted = sqlx::query(
        "WITH inserted AS (\
         INSERT INTO dlq_events (stream, topic, partition, \"offset\", key, payload, headers, \
         schema_id, event_id, fingerprint, stage, reason, detail, decoded, event_time, attempts, \
         record_time) \
         SELECT $1, $2, letter.* FROM unnest($3::int[], $4::bigint[], $5::bytea[], $6::bytea[], \
         $7::jsonb[], $8::bigint[], $9::text[], $10::bigint[], $11::text[], $12::text[], $13::text[], \
         $14::text[]::jsonb[], $15::timestamptz[], $16::int[], $17::bigint[]) AS letter (partition, \"offset\", key, payload, \
         headers, schema_id, event_id, fingerprint, stage, reason, detail, decoded, event_time, attempts, \
         record_time) WHERE (SELECT count(*) FROM (SELECT FROM dlq_events AS kept \
         WHERE kept.fingerprint = letter.fingerprint \
         AND kept.event_id = letter.event_id AND kept.payload = letter.payload \
         AND kept.stream || '' = $1 AND kept.status <> 'replayed' LIMIT 1) AS known) = 0 \
         ON CONFLICT (stream, topic, partition, \"offset\") DO NOTHING \
         RETURNING id, partition, \"offset\"), \
         waiting AS (INSERT INTO dlq_outbox (stream, id) SELECT $1, id FROM inserted \
         ON CONFLICT DO NOTHING) \
         SELECT partition, \"offset\" FROM inserted",
    )
    .bind(&contract.stream)
    .bind(&contract.topic.name)
    .bind(column(&letters, |record, _| record.partition))
    .bind(column(&letters, |record, _| record.offset))
    .bind(column(&letters, |record, _| record.key.as_deref()))
    .bind(column(&letters, |record, _| record.value.as_deref()))
    .bind(column(&letters, |record, _| headers_to_json(&record.headers)))
    .bind(column(&letters, |_, letter| letter.schema_id.map(i64::from)))
    .bind(column(&letters, |_, letter| letter.event_id.as_deref().map(text)))
    .bind(column(&letters, fingerprint))
    .bind(column(&letters, |_, letter| letter.rejection.stage.name()))
    .bind(column(&letters, |_, letter| text(&letter.rejection.reason)))
    .bind(column(&letters, |_, letter| text(&letter.rejection.detail)))
    .bind(column(&letters, |_, letter| letter.decoded.as_deref().map(json_text)))
    .bind(column(&letters, |_, letter| letter.event_time))
    .bind(column(&letters, |_, letter| i32::try_from(letter.attempts).unwrap_or(i32::MAX)))
    .bind(column(&letters, |record, _| record.timestamp))
    .fetch_all(connection)
    .await?;
    inserted.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The redelivered records of a batch that are dead letters already. Decided anew, by another
/// clock or with other tunables, one of them might pass: it stays what it was.
pub(super) async fn settled(
    connection: &mut PgConnection,
    contract: &Contract,
    batch: &Batch,
    account: &Account,
) -> Result<HashSet<usize>, Failure> {
    let redelivered: HashMap<(i32, i64), usize> = (0..)
        .zip(&batch.records)
        .map(|(index, record)| ((record.partition, record.offset), index))
        .filter(|((partition, offset), _)| account.slot(*partition, *offset).is_none())
        .collect();
    if redelivered.is_empty() {
        return Ok(HashSet::new());
    }
    let (partitions, offsets): (Vec<i32>, Vec<i64>) = redelivered.keys().copied().unzip();
    let places = sqlx::query(
        "SELECT partition, \"offset\" FROM dlq_events \
         JOIN unnest($3::int[], $4::bigint[]) AS redelivered (partition, \"offset\") \
         USING (partition, \"offset\") WHERE stream = $1 AND topic = $2",
    )
    .bind(&contract.stream)
    .bind(&contract.topic.name)
    .bind(partitions)
    .bind(offsets)
    .fetch_all(connection)
    .await?;
    let record = |row: &PgRow| -> Result<Option<usize>, Failure> {
        Ok(redelivered.get(&(row.try_get(0)?, row.try_get(1)?)).copied())
    };
    places.iter().filter_map(|row| record(row).transpose()).collect()
}

/// What finds the same event among dead letters: the first eight bytes of SHA-256 of its id, as it
/// is stored, and its payload.
fn fingerprint(record: &Record, letter: &DeadLetter) -> Option<i64> {
    let id = text(letter.event_id.as_deref()?);
    let hash = Sha256::new().chain_update(id).chain_update(record.value.as_deref()?).finalize();
    hash.first_chunk().copied().map(i64::from_be_bytes)
}

/// Dead letters with their records, without those that were redelivered and those whose event is
/// among them before.
fn distinct<'b>(
    records: &'b [Record],
    dead_letters: &'b [DeadLetter],
    account: &Account,
) -> Vec<(&'b Record, &'b DeadLetter)> {
    let mut seen = HashSet::new();
    dead_letters
        .iter()
        .filter_map(|letter| Some((records.get(letter.record)?, letter)))
        .filter(|(record, _)| account.slot(record.partition, record.offset).is_some())
        .filter(|(record, letter)| {
            letter.event_id.as_ref().is_none_or(|id| seen.insert((id, &record.value)))
        })
        .collect()
}

/// Headers as `[{"name": ..., "text": ...}]`, with `"base64"` in place of `"text"` where the value
/// is not text, and neither where it is null. [`headers_from_json`] gives back the same bytes.
pub(crate) fn headers_to_json(headers: &Headers) -> Json {
    let Headers::Known(headers) = headers else { return json!([]) };
    let header = |(name, value): &(String, Option<Vec<u8>>)| match value.as_deref() {
        None => json!({"name": name}),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => json!({"name": name, "text": text}),
            _ => json!({"name": name, "base64": BASE64_STANDARD.encode(bytes)}),
        },
    };
    headers.iter().map(header).collect()
}

/// The headers that [`headers_to_json`] wrote.
pub(crate) fn headers_from_json(json: &Json) -> Vec<(String, Option<Vec<u8>>)> {
    let header = |header: &Json| {
        let name = header.get("name")?.as_str()?.to_owned();
        let text = header.get("text").and_then(Json::as_str).map(|text| text.as_bytes().to_vec());
        let base64 = header.get("base64").and_then(Json::as_str);
        Some((name, text.or_else(|| base64.and_then(|text| BASE64_STANDARD.decode(text).ok()))))
    };
    json.as_array().into_iter().flatten().filter_map(header).collect()
}

/// Text as Postgres takes it: of bounded length, and with NUL made visible.
fn text(text: &str) -> String {
    let mut end = text.len().min(LONGEST_DETAIL);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().replace('\0', "\u{2400}")
}

/// JSON as jsonb takes it: with NUL, which is an escape in it, made visible.
fn json_text(json: &str) -> String {
    // an escaped backslash may stand before the same characters
    let parts = json.split(r"\\").map(|part| part.replace(r"\u0000", "\u{2400}"));
    parts.collect::<Vec<_>>().join(r"\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_order_repetition_null_and_every_byte() {
        let headers = vec![
            ("trace".to_owned(), Some(b"abc".to_vec())),
            ("trace".to_owned(), Some(vec![0, 255, 7])),
            ("none".to_owned(), None),
            ("empty".to_owned(), Some(Vec::new())),
            ("nul".to_owned(), Some(b"a\0b".to_vec())),
        ];
        let json = headers_to_json(&Headers::Known(headers.clone()));
        assert_eq!(headers_from_json(&json), headers);
    }

    #[test]
    fn text_that_postgres_would_refuse_is_made_storable() {
        assert_eq!(text("a\0b"), "a\u{2400}b");
        assert_eq!(text(&"é".repeat(4_000)).len(), LONGEST_DETAIL);
        let json = json!({"a\0": ["b\0", "\\u0000"]}).to_string();
        assert_eq!(json_text(&json), "{\"a\u{2400}\":[\"b\u{2400}\",\"\\\\u0000\"]}");
    }
}
