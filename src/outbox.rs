//! Dead letters whose copy is not on their topic yet: `dlq_outbox` has their ids.
//!
//! A copy is sent with the key, value, headers and timestamp that the record had, byte for byte, and
//! with context headers behind them. It leaves the outbox only once the broker has acknowledged it:
//! publishing may repeat after a crash, and never misses.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::future::join_all;
use rdkafka::{
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use sqlx::{Connection, FromRow, PgConnection, postgres::PgConnectOptions};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{Broker, send_with_its_time},
    contract::Contract,
    failure::Failure,
    metrics,
    retry::Backoff,
    sink::headers_from_json,
    sql::{for_work, within},
};

/// How many dead letters are under way at once.
const BATCH: i64 = 2_000;

/// How long new dead letters wait for more after some were published: each pass takes a connection.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the table is looked at unasked, for what another process left behind.
const INTERVAL: Duration = Duration::from_secs(30);

/// How many bytes the context headers may have together.
const LARGEST_CONTEXT: usize = 1_000;

/// How many bytes of payload, give or take one dead letter's.
const BATCH_BYTES: i64 = 8 << 20;

/// How long publishing is tried when the stream ends.
const LAST: Duration = Duration::from_secs(15);

/// How long one pass may take to reach Postgres, and to hear from it.
const ANSWER: Duration = Duration::from_secs(120);

/// Sends copies of dead letters.
#[derive(Clone)]
pub(crate) struct DeadLetterPublisher {
    producer: FutureProducer,
}

impl DeadLetterPublisher {
    /// One producer for all streams.
    pub(crate) fn new(broker: &Broker) -> anyhow::Result<DeadLetterPublisher> {
        Ok(DeadLetterPublisher { producer: broker.producer().create()? })
    }
}

/// One stream's outbox.
pub(crate) struct Outbox {
    contract: Arc<Contract>,
    postgres: PgConnectOptions,
    publisher: DeadLetterPublisher,
}

/// A dead letter as the table has it.
#[derive(Debug, Clone, FromRow)]
struct Letter {
    id: i64,
    topic: String,
    partition: i32,
    offset: i64,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: serde_json::Value,
    record_time: Option<i64>,
    stage: String,
    reason: String,
    detail: String,
    attempts: i32,
}

impl Outbox {
    pub(crate) fn new(
        contract: Arc<Contract>,
        postgres: PgConnectOptions,
        publisher: DeadLetterPublisher,
    ) -> Outbox {
        Outbox { contract, postgres, publisher }
    }

    /// Publishes whenever it is told to, until `stop`; then once more, as well as it goes.
    pub(crate) async fn run(self, dead_letters: Arc<Notify>, stop: CancellationToken) {
        let mut backoff = Backoff::for_dependencies();
        while !stop.is_cancelled() {
            // what is given up in the middle is published again
            let published = tokio::select! {
                published = self.publish_all() => published,
                () = stop.cancelled() => break,
            };
            let delay = match published {
                Ok(()) => {
                    backoff = Backoff::for_dependencies();
                    INTERVAL
                }
                Err(failure) => {
                    self.complain(&failure);
                    backoff.next().unwrap_or(INTERVAL)
                }
            };
            let next = async {
                tokio::time::sleep(PAUSE.min(delay)).await;
                _ = timeout(delay, dead_letters.notified()).await;
            };
            tokio::select! {
                () = next => {}
                () = stop.cancelled() => {}
            }
        }
        if timeout(LAST, self.publish_at_last()).await.is_err() {
            let stream = &self.contract.stream;
            tracing::warn!(
                stream,
                "dead letters in dlq_events are copied when the stream runs again"
            );
        }
    }

    async fn publish_at_last(&self) {
        for delay in Backoff::for_dependencies() {
            match self.publish_all().await {
                Ok(()) => return,
                Err(failure) => self.complain(&failure),
            }
            tokio::time::sleep(delay).await;
        }
    }

    fn complain(&self, failure: &Failure) {
        tracing::warn!(
            stream = self.contract.stream,
            error = %failure,
            "dead letters are in dlq_events and can't be copied to their topic yet"
        );
    }

    async fn publish_all(&self) -> Result<(), Failure> {
        let name = format!("sluicegate {} outbox", self.contract.stream);
        // it waits for the broker's acknowledgement in the middle of a transaction
        let options = for_work(&self.postgres, &name, "90s");
        let connecting = async { Ok(PgConnection::connect_with(&options).await?) };
        let mut connection = within(ANSWER, connecting).await?;
        let (mut after, mut failed) = (0, None);
        loop {
            let some = self.publish_some(&mut connection, after, &mut failed);
            match within(ANSWER, some).await? {
                Some(last) => after = last,
                None => break,
            }
        }
        connection.close().await?;
        failed.map_or(Ok(()), |error: KafkaError| Err(error.into()))
    }

    /// Publishes some of those behind an id, and gives the last id; none where there are no more.
    /// One that the broker does not take is left behind, and the others go on. Other members of
    /// the group work on other rows at the same time.
    async fn publish_some(
        &self,
        connection: &mut PgConnection,
        after: i64,
        failed: &mut Option<KafkaError>,
    ) -> Result<Option<i64>, Failure> {
        let mut transaction = connection.begin().await?;
        let waiting: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM dlq_outbox WHERE stream = $1 AND id > $2 ORDER BY id LIMIT $3 \
             FOR UPDATE SKIP LOCKED",
        )
        .bind(&self.contract.stream)
        .bind(after)
        .bind(BATCH)
        .fetch_all(&mut *transaction)
        .await?;
        let letters: Vec<Letter> = sqlx::query_as(
            "SELECT id, topic, partition, \"offset\", key, payload, headers, record_time, stage, \
             reason, detail, attempts FROM (SELECT *, sum(octet_length(payload)) OVER (ORDER BY id) AS up_to \
             FROM dlq_events WHERE id = ANY($1)) AS letter \
             WHERE coalesce(up_to, 0) - coalesce(octet_length(payload), 0) < $2 ORDER BY id",
        )
        .bind(&waiting)
        .bind(BATCH_BYTES)
        .fetch_all(&mut *transaction)
        .await?;
        let sent = join_all(letters.iter().map(|letter| self.send(letter))).await;
        let mut kept = HashSet::new();
        for (letter, result) in letters.iter().zip(sent) {
            if let Err(error) = result {
                *failed = Some(error);
                kept.insert(letter.id);
            }
        }
        // where none is a letter, all were deleted by somebody, as those between letters were
        let Some(last) = letters.last().map(|letter| letter.id).or(waiting.last().copied()) else {
            return Ok(None);
        };
        let done = |id: &i64| *id <= last && !kept.contains(id);
        sqlx::query("DELETE FROM dlq_outbox WHERE stream = $1 AND id = ANY($2)")
            .bind(&self.contract.stream)
            .bind(waiting.into_iter().filter(done).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        metrics::published(&self.contract.stream, letters.len().saturating_sub(kept.len()));
        Ok(Some(last))
    }

    async fn send(&self, letter: &Letter) -> Result<(), KafkaError> {
        let record = || {
            let mut record = FutureRecord::<[u8], [u8]>::to(&self.contract.dead_letter_topic.name)
                .headers(headers(&self.contract.stream, letter));
            record.key = letter.key.as_deref();
            record.payload = letter.payload.as_deref();
            record
        };
        let producer = &self.publisher.producer;
        send_with_its_time(producer, letter.record_time, Timeout::Never, record).await
    }
}

/// The record's own headers, and behind them why it is here. Where Kafka Connect has a name for
/// something, it is Connect's.
fn headers(stream: &str, letter: &Letter) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    for (key, value) in headers_from_json(&letter.headers) {
        headers = headers.insert(Header { key: &key, value: value.as_deref() });
    }
    for (key, value) in context(stream, letter) {
        headers = headers.insert(Header { key, value: Some(&value) });
    }
    headers
}

fn context(stream: &str, letter: &Letter) -> Vec<(&'static str, String)> {
    let mut context = vec![
        ("__connect.errors.topic", letter.topic.clone()),
        ("__connect.errors.partition", letter.partition.to_string()),
        ("__connect.errors.offset", letter.offset.to_string()),
        ("__connect.errors.stage", letter.stage.clone()),
        ("sluicegate.stream", stream.to_owned()),
        ("sluicegate.reason", letter.reason.clone()),
        ("sluicegate.attempts", letter.attempts.to_string()),
        ("__connect.errors.exception.message", letter.detail.clone()),
    ];
    let all: usize = context.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum();
    let room = LARGEST_CONTEXT.saturating_sub(all.saturating_sub(letter.detail.len()));
    if let Some((_, detail)) = context.last_mut() {
        let end = (0..=room.min(detail.len())).rev().find(|end| detail.is_char_boundary(*end));
        detail.truncate(end.unwrap_or(0));
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(detail: String) -> Letter {
        Letter {
            id: 1,
            topic: "device.telemetry".into(),
            partition: 2,
            offset: 77,
            key: None,
            payload: None,
            headers: serde_json::json!([]),
            record_time: None,
            stage: "check".into(),
            reason: "rule:value_is_plausible".into(),
            detail,
            attempts: 1,
        }
    }

    #[test]
    fn context_says_where_the_record_was_and_why_it_is_here() {
        insta::assert_debug_snapshot!(context("devices", &letter("does not hold".into())), @r#"
        [
            (
                "__connect.errors.topic",
                "device.telemetry",
            ),
            (
                "__connect.errors.partition",
                "2",
            ),
            (
                "__connect.errors.offset",
                "77",
            ),
            (
                "__connect.errors.stage",
                "check",
            ),
            (
                "sluicegate.stream",
                "devices",
            ),
            (
                "sluicegate.reason",
                "rule:value_is_plausible",
            ),
            (
                "sluicegate.attempts",
                "1",
            ),
            (
                "__connect.errors.exception.message",
                "does not hold",
            ),
        ]
        "#);
    }

    #[test]
    fn context_stays_under_a_kilobyte_however_long_the_detail() {
        for detail in ["é".repeat(5_000), "x".repeat(5_000), String::new()] {
            let context = context("devices", &letter(detail));
            let size: usize = context.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(size <= LARGEST_CONTEXT, "{size}");
        }
    }
}
