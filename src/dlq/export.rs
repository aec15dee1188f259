//! Dead letters out of the database, byte for byte.

use std::{io::Write, path::Path};

use anyhow::{Context, anyhow};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::TryStreamExt;
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, QueryBuilder};
use time::format_description::well_known::Rfc3339;

use super::{Filter, Letter};
use crate::sql::said;

/// Writes the letters that a filter names as JSON lines, the oldest first, with key and payload in
/// base64; and, where there is a folder, each payload as `ID.bin` and each key as `ID.key` in it. Gives
/// how many there were. Nothing is masked.
pub async fn export(
    connection: &mut PgConnection,
    filter: &Filter,
    lines: &mut impl Write,
    raw: Option<&Path>,
) -> anyhow::Result<usize> {
    if let Some(folder) = raw {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} can't be made", folder.display()))?;
    }
    let mut query = QueryBuilder::new(format!(
        "SELECT {} FROM dlq_events AS letter WHERE letter.purged_at IS NULL AND ",
        Letter::COLUMNS
    ));
    filter.push(&mut query);
    query.push(" ORDER BY letter.id");
    let mut letters = query.build_query_as::<Letter>().fetch(connection);
    let mut count = 0;
    let unreadable = |error: sqlx::Error| anyhow!("dlq_events can't be read: {}", said(&error));
    while let Some(letter) = letters.try_next().await.map_err(unreadable)? {
        writeln!(lines, "{}", line(&letter))?;
        for (bytes, kind) in [(&letter.payload, "bin"), (&letter.key, "key")] {
            if let (Some(folder), Some(bytes)) = (raw, bytes) {
                let path = folder.join(format!("{}.{kind}", letter.id));
                std::fs::write(&path, bytes)
                    .with_context(|| format!("{} can't be written", path.display()))?;
            }
        }
        count += 1;
    }
    lines.flush()?;
    Ok(count)
}

/// A letter as one line of JSON.
fn line(letter: &Letter) -> Json {
    let base64 =
        |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| BASE64_STANDARD.encode(bytes));
    let moment = |moment: time::OffsetDateTime| moment.format(&Rfc3339).ok();
    json!({
        "id": letter.id,
        "stream": letter.stream,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.record_time,
        "key": base64(&letter.key),
        "payload": base64(&letter.payload),
        "headers": letter.headers,
        "schema_id": letter.schema_id,
        "event_id": letter.event_id,
        "stage": letter.stage,
        "reason": letter.reason,
        "detail": letter.detail,
        "decoded": letter.decoded,
        "event_time": letter.event_time.and_then(moment),
        "seen_at": moment(letter.seen_at),
        "attempts": letter.attempts,
        "replays": letter.replays,
        "status": letter.status,
    })
}
