//! Dead letters, one a line, page by page.

use serde::Serialize;
use sqlx::{FromRow, PgConnection, QueryBuilder};
use time::OffsetDateTime;

use super::{
    Filter, Status,
    screen::{columns, minute},
};
use crate::sql::unreadable;

/// Some dead letters, the newest first.
#[derive(Debug)]
pub struct Page {
    /// Each, in short.
    pub letters: Vec<Summary>,
    /// The id before which the next page begins; none on the last one.
    pub before: Option<i64>,
}

/// A dead letter without what may be long: key, payload, headers and event.
#[derive(Debug, Clone, FromRow, Serialize)]
#[expect(missing_docs, reason = "as in `Letter`")]
pub struct Summary {
    pub id: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub seen_at: OffsetDateTime,
    pub stream: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub schema_id: Option<i64>,
    pub event_id: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub event_time: Option<OffsetDateTime>,
    pub stage: String,
    pub reason: String,
    pub detail: String,
    pub status: Status,
    pub attempts: i32,
    pub replays: i32,
}

/// Reads up to `limit` dead letters with ids below `before`.
pub async fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    before: Option<i64>,
    limit: u32,
) -> anyhow::Result<Page> {
    let mut query = QueryBuilder::new(
        "SELECT letter.id, letter.seen_at, letter.stream, letter.topic, letter.partition, \
         letter.\"offset\", letter.schema_id, letter.event_id, letter.event_time, letter.stage, \
         letter.reason, letter.detail, letter.status, letter.attempts, letter.replays \
         FROM dlq_events AS letter WHERE ",
    );
    filter.push(&mut query);
    if let Some(before) = before {
        query.push(" AND letter.id < ").push_bind(before);
    }
    // one more, to know whether there is one
    query.push(" ORDER BY letter.id DESC LIMIT ").push_bind(i64::from(limit) + 1);
    let found: Result<Vec<Summary>, _> = query.build_query_as().fetch_all(connection).await;
    let mut letters = found.map_err(unreadable)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = letters.len() > limit;
    letters.truncate(limit);
    let before = letters.last().map(|last| last.id).filter(|_| more);
    Ok(Page { letters, before })
}

/// A page for a terminal of that many columns.
pub fn render_list(page: &Page, width: usize) -> String {
    if page.letters.is_empty() {
        return "no such dead letters\n".into();
    }
    let row = |letter: &Summary| {
        let (reason, detail) = (&letter.reason, &letter.detail);
        let why = match letter.status {
            Status::Pending => format!("{reason}: {detail}"),
            status => format!("({}) {reason}: {detail}", status.name()),
        };
        let place = format!("{}@{}", letter.partition, letter.offset);
        let (id, seen) = (letter.id.to_string(), minute(letter.seen_at));
        [id, seen, letter.stream.clone(), place, why]
    };
    let rows: Vec<_> = page.letters.iter().map(row).collect();
    let headings = ["id", "seen", "stream", "at", "reason: detail"];
    let mut text = columns(headings, [19, 16, 16, 26, width], &rows, width);
    if let Some(before) = page.before {
        text += &format!("more: the same with --before {before}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(id: i64, status: Status, detail: &str) -> Summary {
        Summary {
            id,
            seen_at: OffsetDateTime::from_unix_timestamp(1_777_636_859).unwrap(),
            stream: "device_telemetry".into(),
            topic: "device.telemetry".into(),
            partition: 2,
            offset: 91,
            schema_id: Some(7),
            event_id: None,
            event_time: None,
            stage: "check".into(),
            reason: "rule:value_is_plausible".into(),
            detail: detail.into(),
            status,
            attempts: 1,
            replays: 0,
        }
    }

    #[test]
    fn a_page_fits_a_terminal_and_says_how_to_go_on() {
        let letters = vec![
            letter(1_000, Status::Pending, "does not hold: message.value > -1e6"),
            letter(999, Status::Parked, "grüße\n\u{1b}[2J"),
        ];
        let mut page = Page { letters, before: Some(999) };
        insta::assert_snapshot!(render_list(&page, 80), @"
        id    seen              stream            at    reason: detail
        1000  2026-05-01 12:00  device_telemetry  2@91  rule:value_is_plausible: does n…
        999   2026-05-01 12:00  device_telemetry  2@91  (parked) rule:value_is_plausibl…
        more: the same with --before 999
        ");
        insta::assert_snapshot!(render_list(&page, 100), @r#"
        id    seen              stream            at    reason: detail
        1000  2026-05-01 12:00  device_telemetry  2@91  rule:value_is_plausible: does not hold: message.val…
        999   2026-05-01 12:00  device_telemetry  2@91  (parked) rule:value_is_plausible: grüße\n\u{1b}[2J
        more: the same with --before 999
        "#);
        page.letters.push(Summary {
            stream: "a_stream_with_a_name_that_is_longer".into(),
            partition: i32::MAX,
            offset: i64::MAX,
            ..letter(i64::MAX, Status::Pending, "d")
        });
        page.before = None;
        let screen = render_list(&page, 80);
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        assert_eq!(screen.lines().count(), 4, "{screen}");
        page.letters.clear();
        assert_eq!(render_list(&page, 80), "no such dead letters\n");
    }
}
