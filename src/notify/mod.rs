//! Telling others of alerts: an Avro topic and a webhook.
//!
//! Who has to be told of what is in `alert_outbox`, written in the transaction that decided it. A row
//! leaves it once its target has acknowledged: being told may repeat after a crash, and never misses.
//! Of one alert, a target hears in order.

mod notice;
mod topic;
mod webhook;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use rand::RngExt;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

pub use notice::{Notice, Status};
pub use topic::AlertTopic;
pub use webhook::Webhook;

use crate::{
    failure::Failure,
    metrics::{self, analytics::Delivery},
    retry::Backoff,
    sql::for_work,
};

/// How many are told at once.
const CONCURRENTLY: usize = 8;

/// How many are taken at once.
const BATCH: i64 = 100;

/// For how long who took a row has it to themselves, in seconds.
const LEASE: i32 = 300;

/// How often the outbox is looked at unasked: for what is due again, or another left behind.
const INTERVAL: Duration = Duration::from_secs(5);

/// The longest pause between two attempts, in seconds.
const LONGEST_PAUSE: f64 = 300.0;

/// The longest that a target is left alone because it asks for it.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);

/// Who is told of alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A topic of Kafka's.
    Topic,
    /// An HTTP endpoint.
    Webhook,
}

impl Target {
    /// Its name in the outbox and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Target::Topic => "topic",
            Target::Webhook => "webhook",
        }
    }
}

/// Why a target was not told.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// It is away: to be tried again, no sooner than it asks for.
    #[error("{error:#}")]
    Away {
        /// What is wrong.
        error: anyhow::Error,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It says no, and would again.
    #[error("{0:#}")]
    Refused(anyhow::Error),
}

/// Puts an alert into the outbox, once a target.
pub(crate) async fn enqueue(
    connection: &mut PgConnection,
    alert: i64,
    status: Status,
    targets: &[Target],
) -> Result<(), Failure> {
    let targets: Vec<&str> = targets.iter().map(|target| target.name()).collect();
    sqlx::query(
        "INSERT INTO alert_outbox (alert_id, status, target) SELECT $1, $2, unnest($3::text[])",
    )
    .bind(alert)
    .bind(status.name())
    .bind(targets)
    .execute(connection)
    .await?;
    Ok(())
}

/// Delivers what is in the outbox.
pub struct Notifier {
    postgres: PgConnectOptions,
    topic: Option<AlertTopic>,
    webhook: Option<Webhook>,
}

/// A row of the outbox that is ours for a while.
#[derive(Debug, sqlx::FromRow)]
struct Claimed {
    outbox_id: i64,
    target: String,
    attempts: i32,
    #[sqlx(flatten)]
    notice: Notice,
}

/// What one look at the outbox came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    /// How many were told.
    pub delivered: usize,
    /// How many have to be told again.
    pub failed: usize,
}

impl Notifier {
    /// For the targets that there are.
    pub fn new(
        postgres: &PgConnectOptions,
        topic: Option<AlertTopic>,
        webhook: Option<Webhook>,
    ) -> Notifier {
        let postgres = for_work(postgres, "sluicegate notify", "30s");
        Notifier { postgres, topic, webhook }
    }

    /// The targets that there are.
    pub fn targets(&self) -> Vec<Target> {
        let topic = self.topic.as_ref().map(|_| Target::Topic);
        topic.into_iter().chain(self.webhook.as_ref().map(|_| Target::Webhook)).collect()
    }

    /// Delivers whenever it is told to, and what is due again, until `stop`.
    pub async fn run(self, told: Arc<Notify>, stop: CancellationToken) {
        let mut backoff = Backoff::for_dependencies();
        loop {
            let delivered = tokio::select! {
                // what is given up in the middle is delivered again
                delivered = self.deliver_due() => delivered,
                () = stop.cancelled() => return,
            };
            let delay = match delivered {
                Ok(_) => {
                    backoff = Backoff::for_dependencies();
                    INTERVAL
                }
                Err(failure) => {
                    tracing::warn!(error = %failure, "alerts wait for Postgres to be delivered");
                    backoff.next().unwrap_or(INTERVAL)
                }
            };
            tokio::select! {
                _ = timeout(delay, told.notified()) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Delivers all that is due.
    pub async fn deliver_due(&self) -> Result<Delivered, Failure> {
        let mut all = Delivered::default();
        let mut connection = PgConnection::connect_with(&self.postgres).await?;
        loop {
            let claimed = self.claim(&mut connection).await?;
            if claimed.is_empty() {
                return Ok(all);
            }
            let mut outcomes = stream::iter(claimed)
                .map(async |claimed| (self.deliver(&claimed).await, claimed))
                .buffer_unordered(CONCURRENTLY);
            while let Some((outcome, claimed)) = outcomes.next().await {
                match settle(&mut connection, &claimed, outcome).await? {
                    true => all.delivered += 1,
                    false => all.failed += 1,
                }
            }
        }
    }

    /// Takes rows that are due and that nothing of the same alert comes before.
    async fn claim(&self, connection: &mut PgConnection) -> Result<Vec<Claimed>, Failure> {
        let targets: Vec<&str> = self.targets().iter().map(|target| target.name()).collect();
        let claimed = sqlx::query_as(
            "WITH claimed AS (UPDATE alert_outbox SET attempts = attempts + 1, \
             next_at = now() + make_interval(secs => $3) WHERE id IN (\
               SELECT id FROM alert_outbox AS due WHERE next_at <= now() AND target = ANY ($1) \
               AND NOT EXISTS (SELECT FROM alert_outbox AS earlier \
                 WHERE (earlier.alert_id, earlier.target) = (due.alert_id, due.target) \
                 AND earlier.id < due.id) \
               ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) \
             RETURNING id AS outbox_id, alert_id, status, target, attempts) \
             SELECT outbox_id, target, attempts, alert_id, stream, name, dimensions, claimed.status, \
             since, opened_at, measured, \
             CASE WHEN claimed.status = 'resolved' THEN resolved_at END AS resolved_at, \
             CASE WHEN claimed.status = 'resolved' THEN resolution END AS resolution \
             FROM claimed JOIN alerts ON alerts.id = alert_id ORDER BY outbox_id",
        )
        .bind(targets)
        .bind(BATCH)
        .bind(LEASE)
        .fetch_all(connection)
        .await?;
        Ok(claimed)
    }

    async fn deliver(&self, claimed: &Claimed) -> Result<(), Undelivered> {
        match (&self.topic, &self.webhook) {
            (Some(topic), _) if claimed.target == Target::Topic.name() => {
                topic.deliver(&claimed.notice).await
            }
            (_, Some(webhook)) if claimed.target == Target::Webhook.name() => {
                webhook.deliver(&claimed.notice).await
            }
            // only what is for these was taken
            _ => Ok(()),
        }
    }
}

/// Takes a row out of the outbox, or says when it is due again; whether it was delivered.
async fn settle(
    connection: &mut PgConnection,
    claimed: &Claimed,
    outcome: Result<(), Undelivered>,
) -> Result<bool, Failure> {
    let Claimed { outbox_id, target, attempts, notice } = claimed;
    let (stream, alert, id) = (&notice.stream, &notice.name, notice.alert_id);
    let delivery = match &outcome {
        Ok(()) => Delivery::Delivered,
        Err(Undelivered::Away { error, .. }) => {
            let error = format!("{error:#}");
            tracing::warn!(
                stream,
                alert,
                id,
                target,
                attempts,
                error,
                "an alert waits to be delivered"
            );
            Delivery::Failed
        }
        Err(Undelivered::Refused(error)) => {
            let error = format!("{error:#}");
            tracing::error!(stream, alert, id, target, error, "an alert is refused, and given up");
            Delivery::GivenUp
        }
    };
    metrics::analytics::told(target, delivery);
    if let Err(Undelivered::Away { retry_after, .. }) = &outcome {
        let asked = retry_after.unwrap_or_default().min(LONGEST_ASKED);
        sqlx::query(
            "UPDATE alert_outbox SET next_at = now() + make_interval(secs => $2) WHERE id = $1",
        )
        .bind(outbox_id)
        .bind(pause(*attempts).max(asked).as_secs_f64())
        .execute(connection)
        .await?;
        return Ok(false);
    }
    sqlx::query("DELETE FROM alert_outbox WHERE id = $1")
        .bind(outbox_id)
        .execute(connection)
        .await?;
    Ok(outcome.is_ok())
}

/// How long to wait after so many attempts: twice as long each time, and not all at once.
fn pause(attempts: i32) -> Duration {
    let longest = 2f64.powi(attempts.min(16)).min(LONGEST_PAUSE);
    Duration::from_secs_f64(longest * rand::rng().random_range(0.5..=1.0))
}
