//! Up to where a stream has been read, by its events' own time: a bucket that ends before is closed.
//!
//! Each partition has come as far as its newest event, and the stream as far as the partition that is
//! furthest behind, so that one that catches up after an outage holds buckets open until it is done. A
//! partition that has been read to its end and got nothing for a while holds up nobody, and where that is
//! so of all, time passes as on the wall: only so does the silence of a whole stream show.

use std::time::Duration;

use sqlx::{PgConnection, Row as _};
use time::OffsetDateTime;

use crate::{
    broker::{Ends, TopicEnds, unread},
    contract::Contract,
    failure::Failure,
};

/// One partition's account.
#[derive(Debug, Clone, Copy)]
struct Partition {
    /// Its newest event's time; none while it has had none.
    event_time: Option<OffsetDateTime>,
    progress: Progress,
}

/// How a partition is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It has more than was read of it, or may have.
    Behind,
    /// Something was read of it lately.
    Flowing,
    /// All of it was read, and nothing comes.
    Idle,
}

/// Reads how far a stream has come; none while it has had no event, and where nothing can be said. A
/// partition that is behind and was not read for longer than `hold` counts as idle.
pub(super) async fn read(
    connection: &mut PgConnection,
    contract: &Contract,
    ends: &TopicEnds,
    idle: Duration,
    hold: Duration,
) -> Result<Option<OffsetDateTime>, Failure> {
    let ends = ends.of(&contract.topic.name);
    let rows = sqlx::query(
        "SELECT partition, next_offset, event_time, \
         coalesce(now() - event_seen_at < make_interval(secs => $3), false), \
         now() - updated_at < make_interval(secs => $4), now() \
         FROM ledger WHERE stream = $1 AND topic = $2",
    )
    .bind(&contract.stream)
    .bind(&contract.topic.name)
    .bind(idle.as_secs_f64())
    .bind(hold.as_secs_f64())
    .fetch_all(connection)
    .await?;
    let mut partitions = Vec::new();
    let (mut now, mut unseen, mut is_read) = (None, ends.clone().unwrap_or_default(), false);
    for row in &rows {
        let (number, next): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
        let (flows, is_held): (bool, bool) = (row.try_get(3)?, row.try_get(4)?);
        unseen.remove(&number);
        is_read |= is_held;
        let progress = match is_behind(ends.as_ref(), number, next) {
            true if is_held => Progress::Behind,
            _ if flows => Progress::Flowing,
            _ => Progress::Idle,
        };
        partitions.push(Partition { event_time: row.try_get(2)?, progress });
        now = Some(row.try_get(5)?);
    }
    // those that nobody has begun to read
    let unseen = unseen.values().filter(|ends| is_read && unread(**ends, ends.0) > 0);
    partitions.extend(unseen.map(|_| Partition { event_time: None, progress: Progress::Behind }));
    Ok(now.and_then(|now| watermark(&partitions, now, idle)))
}

/// Whether a partition has, or may have, more than what was read.
fn is_behind(ends: Option<&Ends>, partition: i32, next: i64) -> bool {
    match ends {
        // a partition that Kafka no longer has gets nothing more
        Some(ends) => ends.get(&partition).is_some_and(|ends| unread(*ends, next) > 0),
        None => true,
    }
}

fn watermark(
    partitions: &[Partition],
    now: OffsetDateTime,
    idle: Duration,
) -> Option<OffsetDateTime> {
    let newest = partitions.iter().filter_map(|partition| partition.event_time).max()?;
    let behind = |partition: &&Partition| partition.progress == Progress::Behind;
    // how far one has come that is behind and has had no event is not known
    if partitions.iter().filter(behind).any(|partition| partition.event_time.is_none()) {
        return None;
    }
    let counts = partitions.iter().filter(|partition| partition.progress != Progress::Idle);
    let slowest = counts.filter_map(|partition| partition.event_time).min();
    let reached = slowest.unwrap_or_else(|| newest.max(now - idle));
    Some(reached.min(now))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-02 12:00 UTC);
    const IDLE: Duration = Duration::from_secs(120);

    use Progress::{Behind, Flowing, Idle};

    fn minutes_ago(partitions: &[(Option<i64>, Progress)]) -> Option<i64> {
        let partitions: Vec<Partition> = partitions
            .iter()
            .map(|(ago, progress)| {
                let event_time = ago.map(|ago| NOW - time::Duration::minutes(ago));
                Partition { event_time, progress: *progress }
            })
            .collect();
        watermark(&partitions, NOW, IDLE).map(|reached| (NOW - reached).whole_minutes())
    }

    #[test]
    fn a_stream_has_come_as_far_as_its_slowest_partition_that_is_not_read_to_its_end() {
        assert_eq!(minutes_ago(&[(Some(1), Flowing), (Some(30), Flowing)]), Some(30));
        assert_eq!(minutes_ago(&[(Some(1), Flowing), (Some(30), Behind)]), Some(30));
        assert_eq!(minutes_ago(&[(Some(1), Flowing), (Some(30), Idle)]), Some(1));
        // one that nobody has begun to read may hold anything
        assert_eq!(minutes_ago(&[(Some(1), Flowing), (None, Behind)]), None);
        // one that has had dead letters only says nothing
        assert_eq!(minutes_ago(&[(Some(1), Flowing), (None, Flowing)]), Some(1));
    }

    #[test]
    fn an_outage_is_waited_for_and_where_nothing_comes_time_passes_as_on_the_wall() {
        assert_eq!(minutes_ago(&[(Some(90), Behind), (Some(91), Idle)]), Some(90));
        assert_eq!(minutes_ago(&[(Some(500), Idle), (Some(90), Idle)]), Some(2));
        // of what is read of a day of the past, that day's time counts
        assert_eq!(minutes_ago(&[(Some(500), Flowing), (Some(90), Flowing)]), Some(500));
        assert_eq!(minutes_ago(&[(Some(1), Idle)]), Some(1));
    }

    #[test]
    fn a_stream_without_events_has_come_nowhere_and_none_comes_further_than_now() {
        assert_eq!(minutes_ago(&[]), None);
        assert_eq!(minutes_ago(&[(None, Flowing)]), None);
        assert_eq!(minutes_ago(&[(Some(-500), Flowing)]), Some(0));
    }

    #[test]
    fn a_partition_is_behind_until_all_that_kafka_has_is_read() {
        let ends = Ends::from([(0, (5, 10))]);
        assert!(is_behind(Some(&ends), 0, 9) && !is_behind(Some(&ends), 0, 10));
        assert!(!is_behind(Some(&Ends::from([(0, (10, 10))])), 0, 4), "all of it has expired");
        assert!(!is_behind(Some(&ends), 1, 4), "it is not there any more");
        assert!(is_behind(None, 0, 10), "Kafka does not say");
    }
}
