//! Dead letters onto their topic once more, as they were: for those whose other readers need them too.
//!
//! Every consumer group of the topic gets them. Being sent may repeat after a crash, and never misses.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::join_all;
use rdkafka::{
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use sqlx::{Connection, PgConnection, QueryBuilder};

use super::{Filter, Letter, deeds};
use crate::{
    broker::{Broker, send_with_its_time},
    contract::Contract,
    sink::headers_from_json,
    sql::unreadable,
};

/// How many are under way at once.
const BATCH: i64 = 500;

/// How long one may take to be acknowledged.
const ACKNOWLEDGED: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resent {
    /// How many were sent, and are taken for replayed.
    pub sent: usize,
    /// Those that the broker did not take, and why.
    pub unsent: Vec<String>,
}

/// Sends the letters of a stream that a filter names, the oldest first, one process at a time. What the
/// broker does not take stays as it is.
pub async fn resend(
    connection: &mut PgConnection,
    contract: &Contract,
    broker: &Broker,
    filter: &Filter,
    who: &str,
) -> anyhow::Result<Resent> {
    let producer: FutureProducer =
        broker.producer().create().context("librdkafka refuses its properties")?;
    let filter = filter.to_be_replayed(&contract.stream);
    let (mut resent, mut after) = (Resent::default(), 0);
    // the session's end gives it back
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
        .bind(format!("sluicegate resend {}", contract.table))
        .fetch_one(&mut *connection)
        .await
        .map_err(unreadable)?;
    if !alone {
        bail!("another process sends dead letters of \"{}\"; let it end", contract.stream);
    }
    while !filter.statuses.is_empty() {
        let letters = take(connection, &filter, after).await?;
        let Some(last) = letters.last() else { break };
        after = last.id;
        let topic = &contract.topic.name;
        let outcomes = join_all(letters.iter().map(|letter| send(&producer, topic, letter))).await;
        let mut sent = Vec::new();
        for (letter, outcome) in letters.iter().zip(outcomes) {
            match outcome {
                Ok(()) => sent.push(letter.id),
                Err(error) => resent.unsent.push(format!("letter {}: {error}", letter.id)),
            }
        }
        resent.sent += sent.len();
        let mut transaction = connection.begin().await.map_err(unreadable)?;
        sqlx::query("UPDATE dlq_events SET status = 'replayed' WHERE id = ANY ($1)")
            .bind(&sent)
            .execute(&mut *transaction)
            .await
            .map_err(unreadable)?;
        let notes = vec![format!("sent to {topic}"); sent.len()];
        deeds::note(&mut transaction, &sent, "replayed", who, &notes).await?;
        transaction.commit().await.map_err(unreadable)?;
    }
    Ok(resent)
}

/// Takes letters that are to be sent. From then on they are not what a copy of theirs is the same again
/// as: one that is refused again before we hear of its being sent is a letter of its own.
async fn take(
    connection: &mut PgConnection,
    filter: &Filter,
    after: i64,
) -> anyhow::Result<Vec<Letter>> {
    let mut query = QueryBuilder::new(
        "WITH taken AS (UPDATE dlq_events SET fingerprint = NULL WHERE id IN (\
         SELECT letter.id FROM dlq_events AS letter WHERE letter.purged_at IS NULL AND ",
    );
    filter.push(&mut query);
    query.push(" AND letter.id > ").push_bind(after);
    query.push(" ORDER BY letter.id LIMIT ").push_bind(BATCH);
    query.push(format!(
        " FOR UPDATE SKIP LOCKED) RETURNING *) SELECT {} FROM taken AS letter ORDER BY letter.id",
        Letter::COLUMNS
    ));
    query.build_query_as().fetch_all(connection).await.map_err(unreadable)
}

/// To the partition that it was on, where that is the topic's, so that what follows it follows it still.
async fn send(producer: &FutureProducer, topic: &str, letter: &Letter) -> Result<(), KafkaError> {
    let record = || {
        let mut headers = OwnedHeaders::new();
        for (key, value) in headers_from_json(&letter.headers) {
            headers = headers.insert(Header { key: &key, value: value.as_deref() });
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers);
        record.key = letter.key.as_deref();
        record.payload = letter.payload.as_deref();
        record.partition = (letter.topic == topic).then_some(letter.partition);
        record
    };
    send_with_its_time(producer, letter.record_time, Timeout::After(ACKNOWLEDGED), record).await
}
