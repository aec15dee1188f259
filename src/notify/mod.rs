//! Telling others of alerts: an Avro topic and a webhook.
//!
//! Who has to be told of what is in `alert_outbox`, written in the transaction that decided it. A row
//! leaves it once its target has acknowledged: being told may repeat after a crash, and never misses.
//! Of one alert and its dimensions, a target hears in order.

mod notice;
mod topic;
mod webhook;

use std::{sync::Arc, time::Duration};

use futures::future::{join_all, try_join_all};
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

/// How many messages a target is told at once; so many are taken.
const CONCURRENTLY: i64 = 8;

/// For how long who took a row has it to themselves, in seconds: longer than telling of any takes.
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
        "INSERT INTO alert_outbox (alert_id, status, target, series) \
         SELECT id, $2, unnest($3::text[]), \
         concat_ws('/', stream, name, md5(dimensions::text)) FROM alerts WHERE id = $1",
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
    /// How many were refused, and are given up.
    pub refused: usize,
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

    /// Delivers whenever it is told to, and what is due again, until `stop`. A target that is slow keeps
    /// no other waiting.
    pub async fn run(self, told: Arc<Notify>, stop: CancellationToken) {
        let targets = self.targets();
        join_all(targets.into_iter().map(|target| self.run_for(target, &told, &stop))).await;
    }

    async fn run_for(&self, target: Target, told: &Notify, stop: &CancellationToken) {
        let mut backoff = Backoff::for_dependencies();
        loop {
            let delivered = tokio::select! {
                // what is given up in the middle is delivered again
                delivered = self.deliver_to(target) => delivered,
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
        let targets = self.targets();
        let all = try_join_all(targets.into_iter().map(|target| self.deliver_to(target))).await?;
        let sum = |of: fn(&Delivered) -> usize| all.iter().map(of).sum();
        Ok(Delivered {
            delivered: sum(|all| all.delivered),
            failed: sum(|all| all.failed),
            refused: sum(|all| all.refused),
        })
    }

    async fn deliver_to(&self, target: Target) -> Result<Delivered, Failure> {
        let mut all = Delivered::default();
        let mut connection = PgConnection::connect_with(&self.postgres).await?;
        loop {
            let claimed = claim(&mut connection, target).await?;
            if claimed.is_empty() {
                return Ok(all);
            }
            let outcomes = claimed.iter().map(|claimed| self.deliver(claimed));
            let outcomes = join_all(outcomes).await;
            for (claimed, outcome) in claimed.iter().zip(outcomes) {
                match &outcome {
                    Ok(()) => all.delivered += 1,
                    Err(Undelivered::Away { .. }) => all.failed += 1,
                    Err(Undelivered::Refused(_)) => all.refused += 1,
                }
                settle(&mut connection, claimed, outcome).await?;
            }
        }
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

/// Takes rows that are due and that nothing of the same series comes before.
async fn claim(connection: &mut PgConnection, target: Target) -> Result<Vec<Claimed>, Failure> {
    let claimed = sqlx::query_as(
        "WITH claimed AS (UPDATE alert_outbox SET attempts = attempts + 1, \
         next_at = now() + make_interval(secs => $3) WHERE id IN (\
           SELECT id FROM alert_outbox AS due WHERE next_at <= now() AND target = $1 \
           AND NOT EXISTS (SELECT FROM alert_outbox AS earlier WHERE earlier.target = $1 \
             AND earlier.series = due.series AND earlier.id < due.id) \
           ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) \
         RETURNING id AS outbox_id, alert_id, status, target, attempts) \
         SELECT outbox_id, target, attempts, alert_id, stream, name, dimensions, claimed.status, \
         since, opened_at, measured, \
         CASE WHEN claimed.status = 'resolved' THEN resolved_at END AS resolved_at, \
         CASE WHEN claimed.status = 'resolved' THEN resolution END AS resolution \
         FROM claimed JOIN alerts ON alerts.id = alert_id ORDER BY outbox_id",
    )
    .bind(target.name())
    .bind(CONCURRENTLY)
    .bind(LEASE)
    .fetch_all(connection)
    .await?;
    Ok(claimed)
}

/// Takes a row out of the outbox, or says when it is due again, unless somebody else has it by now.
async fn settle(
    connection: &mut PgConnection,
    claimed: &Claimed,
    outcome: Result<(), Undelivered>,
) -> Result<(), Failure> {
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
            "UPDATE alert_outbox SET next_at = now() + make_interval(secs => $3) \
             WHERE id = $1 AND attempts = $2",
        )
        .bind(outbox_id)
        .bind(attempts)
        .bind(pause(*attempts).max(asked).as_secs_f64())
        .execute(connection)
        .await?;
        return Ok(());
    }
    sqlx::query("DELETE FROM alert_outbox WHERE id = $1 AND attempts = $2")
        .bind(outbox_id)
        .bind(attempts)
        .execute(connection)
        .await?;
    Ok(())
}

/// How long to wait after so many attempts: twice as long each time, and not all at once.
fn pause(attempts: i32) -> Duration {
    let longest = 2f64.powi(attempts.min(16)).min(LONGEST_PAUSE);
    Duration::from_secs_f64(longest * rand::rng().random_range(0.5..=1.0))
}
