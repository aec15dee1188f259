//! What is done every minute: metrics of the buckets that have closed, and alerts over them.
//!
//! # Layout
//!
//! ```text
//! aggregates -> [watermark: which buckets are closed] -> rollup -> metrics
//!                                                     -> samples -> watch -> alerts -> notify
//! ```
//!
//! - `watermark`: up to where a stream has been read, by its events' own time
//! - `rollup`: metrics of the buckets that changed
//! - `alerts`: one alert's closed buckets in one transaction: `samples` reads them, `watch` decides,
//!   over `window`s of buckets and a `series` for each value of the dimensions
//! - `leader`: one process at a time
//!
//! Nothing here reads a stream's table: the aggregates are what it is made of, by their keys, so that
//! a minute costs the same however large the tables have grown.

mod alerts;
mod leader;
mod rollup;
mod samples;
mod series;
mod watch;
mod watermark;
mod window;

use std::{sync::Arc, time::Duration};

use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{leader::Leader, watch::Watch};
use crate::{
    contract::Contract, failure::Failure, metrics, notify::Target, retry::Backoff, sql::within,
};

/// How long one look at all streams may take.
const STEP: Duration = Duration::from_secs(110);

/// How long those wait who are not the leader before they ask again.
const STAND_BY: Duration = Duration::from_secs(5);

/// How analytics runs.
#[derive(Debug, Clone)]
pub struct AnalyticsOptions {
    /// How often closed buckets are looked for.
    pub every: Duration,
    /// How long after its end, by the events' time, a bucket is closed.
    pub lateness: Duration,
    /// How long nothing may be read of a partition before it holds up nobody.
    pub idle: Duration,
    /// How long before now the first buckets begin that alerts look at.
    pub look_back: Duration,
    /// Who is told of alerts.
    pub targets: Vec<Target>,
}

/// Looks for closed buckets until `stop` is cancelled, or once, whenever this process is the one that
/// does. Others stand by, and one of them takes over when it is gone. `told` is notified when there is
/// something to deliver.
///
/// What Postgres is away for is waited for. A stream whose tables are not as its contract says is left
/// out, and said so, until they are.
pub async fn run(
    contracts: Arc<Vec<Contract>>,
    postgres: PgConnectOptions,
    options: AnalyticsOptions,
    told: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::for_dependencies();
    while !stop.is_cancelled() {
        let led = tokio::select! {
            led = lead(&contracts, &postgres, &options, &told) => led,
            () = stop.cancelled() => break,
        };
        metrics::analytics::leads(false);
        let delay = match led {
            Ok(()) => {
                backoff = Backoff::for_dependencies();
                STAND_BY
            }
            Err(failure) => {
                tracing::warn!(error = %failure, "analytics waits for Postgres");
                backoff.next().unwrap_or(STAND_BY)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.cancelled() => {}
        }
    }
    metrics::analytics::leads(false);
}

/// Looks for closed buckets once, for all that have closed so far; fails where another process leads.
pub async fn run_once(
    contracts: &[Contract],
    postgres: &PgConnectOptions,
    options: &AnalyticsOptions,
) -> anyhow::Result<()> {
    let Some(mut leader) = Leader::elect(postgres).await? else {
        anyhow::bail!("another `sluicegate serve` does this; stop it, or leave it to it");
    };
    for contract in contracts {
        alerts::withdraw_undeclared(leader.connection(), contract, &options.targets).await?;
        step(leader.connection(), contract, options).await?;
    }
    Ok(())
}

/// Does the work for as long as the connection lasts; returns where another process leads.
async fn lead(
    contracts: &[Contract],
    postgres: &PgConnectOptions,
    options: &AnalyticsOptions,
    told: &Notify,
) -> Result<(), Failure> {
    let Some(mut leader) = within(STAND_BY, Leader::elect(postgres)).await? else { return Ok(()) };
    tracing::info!("analytics: this process looks at closed buckets");
    metrics::analytics::leads(true);
    for contract in contracts {
        alerts::withdraw_undeclared(leader.connection(), contract, &options.targets).await?;
    }
    let mut due = Instant::now();
    loop {
        let began = Instant::now();
        let looked = within(STEP, look(leader.connection(), contracts, options)).await;
        metrics::analytics::step_ended(looked.is_ok(), began.elapsed());
        looked?;
        told.notify_one();
        // what was missed is not made up for: a look takes all that has closed
        due = (due + options.every).max(Instant::now());
        tokio::time::sleep_until(due).await;
    }
}

/// One look at every stream. One that can't go on leaves the others alone.
async fn look(
    connection: &mut PgConnection,
    contracts: &[Contract],
    options: &AnalyticsOptions,
) -> Result<(), Failure> {
    for contract in contracts {
        match step(connection, contract, options).await {
            Err(failure @ Failure::Dependency(_)) => return Err(failure),
            Err(failure) => {
                let stream = &contract.stream;
                tracing::error!(stream, error = %failure, "analytics leaves the stream out");
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// One look at a stream: first its metrics, then its alerts.
async fn step(
    connection: &mut PgConnection,
    contract: &Contract,
    options: &AnalyticsOptions,
) -> Result<(), Failure> {
    let Some(watermark) = watermark::read(connection, contract, options.idle).await? else {
        return Ok(());
    };
    metrics::analytics::watermark(&contract.stream, watermark);
    let closed = watermark - options.lateness;
    for aggregate in contract.aggregates.iter().filter(|aggregate| aggregate.declared) {
        rollup::run(connection, aggregate, closed).await?;
    }
    for watch in contract.alerts.iter().filter_map(|alert| Watch::new(contract, alert)) {
        let (look_back, targets) = (options.look_back, &options.targets);
        alerts::step(connection, &watch, closed, look_back, targets).await?;
    }
    Ok(())
}

/// Every statement that reads or writes something as large as a stream's aggregates or metrics, for
/// whoever wants to see how Postgres goes about them: what it does, and its text.
pub fn statements(contract: &Contract) -> Vec<(String, String)> {
    let declared = contract.aggregates.iter().filter(|aggregate| aggregate.declared);
    let rollups = declared.flat_map(|aggregate| {
        let table = &aggregate.table;
        [
            (format!("clear metrics of {table}"), rollup::clear(aggregate)),
            (format!("make metrics of {table}"), rollup::fill(aggregate)),
        ]
    });
    let watches = contract.alerts.iter().filter_map(|alert| Watch::new(contract, alert));
    let samples = watches.flat_map(|watch| {
        let name = &watch.alert.name;
        [
            (format!("read buckets for {name}"), samples::query(&watch)),
            (format!("find the next bucket for {name}"), samples::next_query(&watch)),
        ]
    });
    rollups.chain(samples).collect()
}
