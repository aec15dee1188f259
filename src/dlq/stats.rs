//! How many dead letters there are, and of what.

use serde::Serialize;
use sqlx::{FromRow, PgConnection, QueryBuilder};
use time::OffsetDateTime;

use super::{
    Filter, Status,
    screen::{columns, minute},
};
use crate::sql::unreadable;

/// What dead letters are counted by, besides stream, stage, reason and status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum By {
    /// Nothing else.
    #[default]
    Reason,
    /// The hour in which they were seen, in UTC.
    Hour,
}

/// So many dead letters have this in common.
#[derive(Debug, FromRow, Serialize)]
pub struct Count {
    /// The hour, where they are counted by it.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub hour: Option<OffsetDateTime>,
    /// The stream.
    pub stream: String,
    /// Where they failed.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// What has become of them.
    pub status: Status,
    /// How many there are.
    pub count: i64,
    /// When the newest one was seen.
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen: OffsetDateTime,
}

/// Counts dead letters; the newest hour is first, and in it what there is most of.
pub async fn stats(
    connection: &mut PgConnection,
    filter: &Filter,
    by: By,
) -> anyhow::Result<Vec<Count>> {
    let hour = match by {
        By::Reason => "NULL::timestamptz",
        By::Hour => "date_trunc('hour', letter.seen_at, 'UTC')",
    };
    let mut query = QueryBuilder::new(format!(
        "SELECT {hour} AS hour, letter.stream, letter.stage, letter.reason, letter.status, \
         count(*) AS count, max(letter.seen_at) AS last_seen FROM dlq_events AS letter WHERE "
    ));
    filter.push(&mut query);
    query.push(" GROUP BY 1, 2, 3, 4, 5 ORDER BY 1 DESC, count DESC, 2, 3, 4, 5");
    query.build_query_as().fetch_all(connection).await.map_err(unreadable)
}

/// The counts for a terminal of that many columns.
pub fn render_stats(counts: &[Count], width: usize) -> String {
    if counts.is_empty() {
        return "no such dead letters\n".into();
    }
    let most = counts.iter().map(|count| count.count.to_string().len()).max().unwrap_or(0).max(5);
    let row = |count: &Count| {
        let when = minute(count.hour.unwrap_or(count.last_seen));
        let number = format!("{:>most$}", count.count);
        let reason = match count.status {
            Status::Pending => count.reason.clone(),
            status => format!("({}) {}", status.name(), count.reason),
        };
        [when, number, count.stream.clone(), count.stage.clone(), reason]
    };
    let when = match counts.iter().any(|count| count.hour.is_some()) {
        true => "hour",
        false => "last seen",
    };
    let number = format!("{:>most$}", "count");
    let headings = [when, &number, "stream", "stage", "reason"];
    let rows: Vec<_> = counts.iter().map(row).collect();
    let mut text = columns(headings, [16, 19, 16, 6, width], &rows, width);
    if counts.len() > 1 {
        let all: i64 = counts.iter().map(|count| count.count).sum();
        text += &format!("{all} dead letters\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(hour: Option<i64>, stream: &str, reason: &str, count: i64) -> Count {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        Count {
            hour: hour.map(at),
            stream: stream.into(),
            stage: "check".into(),
            reason: reason.into(),
            status: Status::Pending,
            count,
            last_seen: at(1_777_636_859),
        }
    }

    #[test]
    fn counts_fit_a_terminal() {
        let long = "rule:".to_owned() + &"long_".repeat(20);
        let parked = count(None, "device_telemetry", "truncated_body", 3);
        let mut counts = vec![
            count(None, "device_telemetry", "rule:value_is_plausible", 1_234_567),
            count(None, "a_stream_with_a_name_that_is_longer", &long, 9),
            Count { status: Status::Parked, ..parked },
        ];
        let screen = render_stats(&counts, 80);
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        insta::assert_snapshot!(screen, @"
        last seen           count  stream            stage  reason
        2026-05-01 12:00  1234567  device_telemetry  check  rule:value_is_plausible
        2026-05-01 12:00        9  a_stream_with_a…  check  rule:long_long_long_long_lo…
        2026-05-01 12:00        3  device_telemetry  check  (parked) truncated_body
        1234579 dead letters
        ");
        counts.truncate(1);
        counts[0].hour = Some(OffsetDateTime::from_unix_timestamp(1_777_636_800).unwrap());
        insta::assert_snapshot!(render_stats(&counts, 80), @"
        hour                count  stream            stage  reason
        2026-05-01 12:00  1234567  device_telemetry  check  rule:value_is_plausible
        ");
        assert_eq!(render_stats(&[], 80), "no such dead letters\n");
    }
}
