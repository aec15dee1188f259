//! Up to where a stream has been read, by its events' own time: a bucket that ends before is closed.
//!
//! Each partition has come as far as its newest event, and the stream as far as the partition that is
//! furthest behind, so that one that catches up after an outage holds buckets open until it is done. A
//! partition on which nothing was read for a while holds up nobody, and where nothing is read at all,
//! time passes as on the wall: only so does the silence of a whole stream show.

use std::time::Duration;

use sqlx::{PgConnection, Row as _};
use time::OffsetDateTime;

use crate::{contract::Contract, failure::Failure};

/// One partition's account.
#[derive(Debug, Clone, Copy)]
struct Partition {
    /// Its newest event's time; none while it has had none.
    event_time: Option<OffsetDateTime>,
    /// Whether anything was read of it lately.
    flows: bool,
}

/// Reads how far a stream has come; none while it has had no event.
pub(super) async fn read(
    connection: &mut PgConnection,
    contract: &Contract,
    idle: Duration,
) -> Result<Option<OffsetDateTime>, Failure> {
    let rows = sqlx::query(
        "SELECT event_time, updated_at > now() - make_interval(secs => $3), now() \
         FROM ledger WHERE stream = $1 AND topic = $2",
    )
    .bind(&contract.stream)
    .bind(&contract.topic.name)
    .bind(idle.as_secs_f64())
    .fetch_all(connection)
    .await?;
    let mut partitions = Vec::new();
    let mut now = None;
    for row in &rows {
        partitions.push(Partition { event_time: row.try_get(0)?, flows: row.try_get(1)? });
        now = Some(row.try_get(2)?);
    }
    Ok(now.and_then(|now| watermark(&partitions, now, idle)))
}

fn watermark(
    partitions: &[Partition],
    now: OffsetDateTime,
    idle: Duration,
) -> Option<OffsetDateTime> {
    let newest = partitions.iter().filter_map(|partition| partition.event_time).max()?;
    let flowing = partitions.iter().filter(|partition| partition.flows);
    let slowest = flowing.filter_map(|partition| partition.event_time).min();
    let reached = slowest.unwrap_or_else(|| newest.max(now - idle));
    // a clock that runs ahead closes nothing early
    Some(reached.min(now))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-02 12:00 UTC);
    const IDLE: Duration = Duration::from_secs(120);

    fn minutes_ago(partitions: &[(Option<i64>, bool)]) -> Option<i64> {
        let partitions: Vec<Partition> = partitions
            .iter()
            .map(|(ago, flows)| {
                let event_time = ago.map(|ago| NOW - time::Duration::minutes(ago));
                Partition { event_time, flows: *flows }
            })
            .collect();
        watermark(&partitions, NOW, IDLE).map(|reached| (NOW - reached).whole_minutes())
    }

    #[test]
    fn a_stream_has_come_as_far_as_its_slowest_partition_that_flows() {
        assert_eq!(minutes_ago(&[(Some(1), true), (Some(30), true)]), Some(30));
        assert_eq!(minutes_ago(&[(Some(1), true), (Some(30), false)]), Some(1));
        assert_eq!(minutes_ago(&[(Some(1), true), (None, true)]), Some(1));
    }

    #[test]
    fn where_nothing_flows_time_passes_as_on_the_wall() {
        assert_eq!(minutes_ago(&[(Some(500), false), (Some(90), false)]), Some(2));
        // of what is read of a day of the past, that day's time counts
        assert_eq!(minutes_ago(&[(Some(500), true), (Some(90), true)]), Some(500));
        assert_eq!(minutes_ago(&[(Some(1), false)]), Some(1));
    }

    #[test]
    fn a_stream_without_events_has_come_nowhere_and_none_comes_further_than_now() {
        assert_eq!(minutes_ago(&[]), None);
        assert_eq!(minutes_ago(&[(None, true)]), None);
        assert_eq!(minutes_ago(&[(Some(-500), true)]), Some(0));
    }
}
