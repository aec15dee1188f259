//! What has come of it so far, as the database has it.

use std::collections::BTreeMap;

use anyhow::Context;
use sqlx::{PgConnection, postgres::PgConnectOptions};

use crate::sql::{connect, unreadable};

/// What has come of one stream's records.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StreamFigures {
    pub(super) seen: i64,
    pub(super) landed: i64,
    pub(super) duplicates: i64,
    pub(super) dead_letters: i64,
}

/// What has come of all.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) streams: BTreeMap<String, StreamFigures>,
    /// Dead letters by reason, what there is most of first.
    pub(super) reasons: Vec<(String, i64)>,
    /// Dead letters without a copy on their topic.
    pub(super) unpublished: i64,
    /// Alerts by name: how many opened, and how many of them have been resolved.
    pub(super) alerts: Vec<(String, i64, i64)>,
}

impl Snapshot {
    /// How many records have been accounted for.
    pub(super) fn seen(&self) -> u64 {
        let seen: i64 = self.streams.values().map(|stream| stream.seen).sum();
        u64::try_from(seen).unwrap_or_default()
    }
}

/// Reads them again and again.
pub(super) struct Figures(PgConnection);

impl Figures {
    pub(super) async fn connect(postgres: &PgConnectOptions) -> anyhow::Result<Figures> {
        Ok(Figures(connect(postgres).await?))
    }

    /// Those of this moment.
    pub(super) async fn read(&mut self) -> anyhow::Result<Snapshot> {
        snapshot(&mut self.0)
            .await
            .map_err(unreadable)
            .context("the private Postgres can't be asked what has landed")
    }
}

async fn snapshot(connection: &mut PgConnection) -> sqlx::Result<Snapshot> {
    let streams: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT stream, sum(next_offset - first_offset)::bigint, sum(inserted)::bigint, \
         sum(duplicate)::bigint, sum(dead_lettered)::bigint FROM ledger GROUP BY stream",
    )
    .fetch_all(&mut *connection)
    .await?;
    let figures = |(stream, seen, landed, duplicates, dead_letters)| {
        (stream, StreamFigures { seen, landed, duplicates, dead_letters })
    };
    let reasons = sqlx::query_as(
        "SELECT reason, count(*) FROM dlq_events GROUP BY reason ORDER BY count(*) DESC, reason",
    );
    let unpublished = sqlx::query_scalar("SELECT count(*) FROM dlq_outbox");
    let alerts = sqlx::query_as(
        "SELECT name, count(*), count(resolved_at) FROM alerts GROUP BY name ORDER BY name",
    );
    Ok(Snapshot {
        streams: streams.into_iter().map(figures).collect(),
        reasons: reasons.fetch_all(&mut *connection).await?,
        unpublished: unpublished.fetch_one(&mut *connection).await?,
        alerts: alerts.fetch_all(&mut *connection).await?,
    })
}
