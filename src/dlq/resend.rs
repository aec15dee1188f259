//! Dead letters onto their topic once more, as they were: for those whose other readers need them too.
//!
//! Every consumer group of the topic gets them. Being sent may repeat after a crash, and never misses.

use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::future::join_all;
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use sqlx::{Connection, PgConnection, QueryBuilder};

use super::{Filter, Letter, Status, deeds};
use crate::{broker::Broker, contract::Contract, sink::headers_from_json, sql::said};

/// How many are under way at once.
const BATCH: i64 = 500;

/// How long one may take to be acknowledged.
const ACKNOWLEDGED: Duration = Duration::from_secs(60);

/// Sends the letters of a stream that a filter names, the oldest first, and takes them for replayed; gives
/// how many there were.
pub async fn resend(
    connection: &mut PgConnection,
    contract: &Contract,
    broker: &Broker,
    filter: &Filter,
    who: &str,
) -> anyhow::Result<usize> {
    let producer: FutureProducer =
        broker.producer().create().context("librdkafka refuses its properties")?;
    let mut filter = filter.clone();
    filter.streams = vec![contract.stream.clone()];
    if filter.statuses.is_empty() {
        filter.statuses = vec![Status::Pending];
    }
    filter.statuses.retain(|status| *status != Status::Replayed);
    let failed = |error: sqlx::Error| anyhow!("dlq_events can't be read: {}", said(&error));
    let (mut sent, mut after) = (0, 0);
    while !filter.statuses.is_empty() {
        let mut transaction = connection.begin().await.map_err(failed)?;
        let mut query = QueryBuilder::new(format!(
            "SELECT {} FROM dlq_events AS letter WHERE letter.purged_at IS NULL AND ",
            Letter::COLUMNS
        ));
        filter.push(&mut query);
        query.push(" AND letter.id > ").push_bind(after);
        query.push(" ORDER BY letter.id LIMIT ").push_bind(BATCH);
        query.push(" FOR UPDATE SKIP LOCKED");
        let letters: Vec<Letter> =
            query.build_query_as().fetch_all(&mut *transaction).await.map_err(failed)?;
        let Some(last) = letters.last() else { break };
        after = last.id;
        let topic = &contract.topic.name;
        for delivered in join_all(letters.iter().map(|letter| send(&producer, topic, letter))).await
        {
            delivered?;
        }
        let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
        sqlx::query("UPDATE dlq_events SET status = 'replayed' WHERE id = ANY ($1)")
            .bind(&ids)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        let notes = vec![format!("sent to {topic}"); ids.len()];
        deeds::note(&mut transaction, &ids, "replayed", who, &notes).await?;
        transaction.commit().await.map_err(failed)?;
        sent += ids.len();
    }
    Ok(sent)
}

/// To the partition that it was on, where that is the topic's, so that what follows it follows it still.
async fn send(producer: &FutureProducer, topic: &str, letter: &Letter) -> anyhow::Result<()> {
    let mut headers = OwnedHeaders::new();
    for (key, value) in headers_from_json(&letter.headers) {
        headers = headers.insert(Header { key: &key, value: value.as_deref() });
    }
    let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers);
    record.key = letter.key.as_deref();
    record.payload = letter.payload.as_deref();
    record.timestamp = letter.record_time;
    record.partition = (letter.topic == topic).then_some(letter.partition);
    let sent = producer.send(record, Timeout::After(ACKNOWLEDGED)).await;
    sent.map_err(|(error, _)| anyhow!("letter {} was not delivered: {error}", letter.id))?;
    Ok(())
}
