//! What a person asks first: how much landed, how much did not and why, how far behind we are.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{anyhow, bail};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use serde::Serialize;
use sqlx::{PgConnection, Row as _, postgres::PgConnectOptions};

use crate::{
    broker::{Broker, no_committed_offsets, partitions, unread},
    contract::{ColumnType, Contract},
    screen::table,
    sql::{connect, quoted, said},
};

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How many values of a text label are counted one by one.
const MOST_VALUES: i64 = 20;

/// One stream's figures.
#[derive(Debug, Default, Serialize)]
pub struct StreamStats {
    /// The stream.
    pub stream: String,
    /// Rows in the table.
    pub rows: i64,
    /// Offsets that have been accounted for: rows, duplicates, dead letters, skipped and expired ones.
    pub total: i64,
    /// Events that landed for the first time.
    pub inserted: i64,
    /// Events whose id had landed, or that had become a dead letter, before.
    pub duplicates: i64,
    /// Offsets without an event.
    pub skipped: i64,
    /// Records that became dead letters.
    pub dead_lettered: i64,
    /// Offsets that Kafka deleted before they were read.
    pub expired: i64,
    /// Why the stream pauses and until when, if its breaker is open.
    pub paused: Option<String>,
    /// Dead letters by reason.
    pub dead_letters: BTreeMap<String, i64>,
    /// Rows by label and value; null is `none`.
    pub labels: BTreeMap<String, BTreeMap<String, i64>>,
    /// Records on the topic that the consumer group has not committed; none where Kafka can't say.
    pub lag: Option<i64>,
}

/// Reads the figures of each stream. Lag is left out where no broker answers or lets us in.
pub async fn stats(
    contracts: &[Contract],
    postgres: &PgConnectOptions,
    broker: &Broker,
    group_prefix: &str,
) -> anyhow::Result<Vec<StreamStats>> {
    let mut connection = connect(postgres).await?;
    let first_word = broker.metadata().await;
    if let Err(error) = &first_word {
        tracing::warn!("lag is unknown: {error:#}");
    }
    let mut kafka_answers = first_word.is_ok();
    let mut all = Vec::new();
    for contract in contracts {
        let mut stats = database_stats(&mut connection, contract).await.map_err(|error| {
            let (stream, said, hint) = (&contract.stream, said(&error), what_to_do(&error));
            anyhow!("{stream}: can't be counted: {said}{hint}")
        })?;
        let group = format!("{group_prefix}.{}", contract.stream);
        if kafka_answers {
            match tokio::task::block_in_place(|| lag(broker, &group, &contract.topic.name)) {
                Ok(lag) => stats.lag = Some(lag),
                Err(error) => {
                    // without the cause, which it has said
                    tracing::warn!(stream = contract.stream, "lag is unknown: {error}");
                    // each time-out would be as long as the first
                    kafka_answers = !error.is::<KafkaError>();
                }
            }
        }
        all.push(stats);
    }
    Ok(all)
}

/// What a person has to do about figures that can't be read, if that is known.
fn what_to_do(error: &sqlx::Error) -> &'static str {
    match error.as_database_error().and_then(|error| error.code()).as_deref() {
        // undefined_table, undefined_column
        Some("42P01" | "42703") => "; `sluicegate migrate` creates what is missing",
        // insufficient_privilege
        Some("42501") => "; grant the privilege to the user of DATABASE_URL",
        _ => "",
    }
}

async fn database_stats(
    connection: &mut PgConnection,
    contract: &Contract,
) -> sqlx::Result<StreamStats> {
    let mut stats = StreamStats { stream: contract.stream.clone(), ..StreamStats::default() };
    let ledger = sqlx::query(
        "SELECT coalesce(sum(inserted), 0)::bigint, coalesce(sum(duplicate), 0)::bigint, \
         coalesce(sum(dead_lettered), 0)::bigint, coalesce(sum(skipped), 0)::bigint, \
         coalesce(sum(expired), 0)::bigint \
         FROM ledger WHERE stream = $1",
    );
    let ledger = ledger.bind(&contract.stream).fetch_one(&mut *connection).await?;
    stats.inserted = ledger.try_get(0)?;
    stats.duplicates = ledger.try_get(1)?;
    stats.dead_lettered = ledger.try_get(2)?;
    stats.skipped = ledger.try_get(3)?;
    stats.expired = ledger.try_get(4)?;
    stats.total =
        stats.inserted + stats.duplicates + stats.dead_lettered + stats.skipped + stats.expired;
    let paused = "SELECT format('paused since %s, next attempt %s: %s', \
                  date_trunc('second', opened_at), date_trunc('second', probe_at), reason) \
                  FROM breakers WHERE stream = $1 ORDER BY opened_at LIMIT 1";
    let paused = sqlx::query_scalar(paused).bind(&contract.stream);
    stats.paused = paused.fetch_optional(&mut *connection).await?;
    let reasons = "SELECT reason, count(*) FROM dlq_events WHERE stream = $1 GROUP BY reason";
    for row in sqlx::query(reasons).bind(&contract.stream).fetch_all(&mut *connection).await? {
        stats.dead_letters.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let count = format!("SELECT count(*) FROM {}", quoted(&contract.table));
    stats.rows = sqlx::query_scalar(&count).fetch_one(&mut *connection).await?;
    for label in contract.labels.iter() {
        if matches!(label.kind, ColumnType::Boolean | ColumnType::Text) {
            let counts = label_counts(connection, contract, &label.name).await?;
            stats.labels.insert(label.name.clone(), counts);
        }
    }
    Ok(stats)
}

async fn label_counts(
    connection: &mut PgConnection,
    contract: &Contract,
    label: &str,
) -> sqlx::Result<BTreeMap<String, i64>> {
    let (table, column) = (quoted(&contract.table), quoted(label));
    let sql = format!(
        "SELECT coalesce({column}::text, 'none'), count(*) FROM {table} GROUP BY {column} \
         ORDER BY count(*) DESC LIMIT {MOST_VALUES}"
    );
    let rows = sqlx::query(&sql).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// How many records lie between the group's committed offsets and the topic's ends.
fn lag(broker: &Broker, group: &str, topic: &str) -> anyhow::Result<i64> {
    let consumer: BaseConsumer = broker.consumer(group).create()?;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let Some(partitions) = partitions(&metadata)? else {
        bail!("the topic \"{topic}\" is missing");
    };
    let mut list = TopicPartitionList::new();
    partitions.into_iter().for_each(|partition| _ = list.add_partition(topic, partition));
    let committed = consumer.committed_offsets(list, ANSWER).map_err(|error| {
        let said = no_committed_offsets(group, &error);
        anyhow::Error::new(error).context(said)
    })?;
    let mut lag = 0;
    for element in committed.elements() {
        let (low, high) = consumer.fetch_watermarks(topic, element.partition(), ANSWER)?;
        let next = match element.offset() {
            Offset::Offset(offset) => offset,
            _ => low,
        };
        lag += unread((low, high), next);
    }
    Ok(lag)
}

/// The figures as a table for a person.
pub fn render(all: &[StreamStats]) -> String {
    let header = [
        "stream",
        "rows",
        "total",
        "duplicates",
        "dead letters",
        "lag",
        "labels",
        "dead letters by reason",
    ];
    let mut table = table(header, 1..=5);
    for stats in all {
        let counts = |counts: &BTreeMap<String, i64>| {
            counts.iter().map(|(name, count)| format!("{name}: {count}")).collect::<Vec<_>>()
        };
        let labels: Vec<String> = stats
            .labels
            .iter()
            .map(|(label, values)| format!("{label} {}", counts(values).join(", ")))
            .collect();
        table.add_row([
            stats.stream.clone(),
            stats.rows.to_string(),
            stats.total.to_string(),
            stats.duplicates.to_string(),
            stats.dead_lettered.to_string(),
            stats.lag.map_or_else(|| "?".to_owned(), |lag| lag.to_string()),
            labels.join("\n"),
            counts(&stats.dead_letters).join("\n"),
        ]);
    }
    let notes = all.iter().flat_map(|stats| {
        let expired = (stats.expired > 0).then(|| {
            format!("{} offsets were deleted by Kafka before they were read", stats.expired)
        });
        let notes = stats.paused.iter().cloned().chain(expired);
        notes.map(|note| format!("\n{}: {note}", stats.stream))
    });
    table.to_string() + &notes.collect::<String>()
}
