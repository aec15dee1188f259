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
    broker::TopicEnds, contract::Contract, failure::Failure, metrics, notify::Target,
    retry::Backoff, sql::within,
};

/// How long one look at a stream may take.
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
    /// How long nothing must have come of a partition that is read to its end before it holds up
    /// nobody.
    pub idle: Duration,
    /// The same for one that has more, and is not read.
    pub hold: Duration,
    /// How long before now the first buckets begin that alerts look at.
    pub look_back: Duration,
    /// Who is told of alerts.
    pub targets: Vec<Target>,
}

/// Metrics and alerts of some streams.
pub struct Analytics {
    contracts: Arc<Vec<Contract>>,
    postgres: PgConnectOptions,
    ends: Arc<TopicEnds>,
    options: AnalyticsOptions,
}

impl Analytics {
    /// `ends` knows where the contracts' topics end.
    pub fn new(
        contracts: Arc<Vec<Contract>>,
        postgres: PgConnectOptions,
        ends: Arc<TopicEnds>,
        options: AnalyticsOptions,
    ) -> Analytics {
        Analytics { contracts, postgres, ends, options }
    }

    /// Looks for closed buckets until `stop` is cancelled, whenever this process is the one that does.
    /// Others stand by, and one of them takes over when it is gone. `told` is notified when there may be
    /// something to deliver.
    ///
    /// What Postgres is away for is waited for. A stream whose tables are not as its contract says is
    /// left out, and said so, until they are.
    pub async fn run(self, told: Arc<Notify>, stop: CancellationToken) {
        let mut backoff = Backoff::for_dependencies();
        // whose turn it is: a stream that takes too long does not keep the others from theirs
        let mut turn = 0;
        while !stop.is_cancelled() {
            let led = tokio::select! {
                led = self.lead(&told, &mut turn) => led,
                () = stop.cancelled() => break,
            };
            metrics::analytics::leads(false);
            let (delay, _waiting) = match led {
                Ok(()) => {
                    backoff = Backoff::for_dependencies();
                    (STAND_BY, None)
                }
                Err(failure) => {
                    tracing::warn!(error = %failure, "analytics waits for Postgres");
                    let waiting = metrics::waiting("analytics", "Postgres");
                    (backoff.next().unwrap_or(STAND_BY), Some(waiting))
                }
            };
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => {}
            }
        }
        metrics::analytics::leads(false);
    }

    /// Looks once, for all buckets that have closed so far; fails where another process leads.
    pub async fn run_once(&self) -> anyhow::Result<()> {
        let Some(mut leader) = Leader::elect(&self.postgres).await? else {
            anyhow::bail!("another `sluicegate serve` does this; stop it, or leave it to it");
        };
        self.ends.asked().await;
        self.withdraw_undeclared(&mut leader).await?;
        for contract in self.contracts.iter() {
            self.look(leader.connection(), contract).await?;
        }
        Ok(())
    }

    /// Does the work for as long as the connection lasts; returns where another process leads.
    async fn lead(&self, told: &Notify, turn: &mut usize) -> Result<(), Failure> {
        let elected = within(STAND_BY, Leader::elect(&self.postgres)).await?;
        let Some(mut leader) = elected else { return Ok(()) };
        tracing::info!("analytics: this process looks at closed buckets");
        metrics::analytics::leads(true);
        self.withdraw_undeclared(&mut leader).await?;
        let mut due = Instant::now();
        loop {
            let (began, mut sound) = (Instant::now(), true);
            for _ in 0..self.contracts.len() {
                let contract = self.contracts.iter().cycle().nth(*turn % self.contracts.len());
                *turn = turn.wrapping_add(1);
                let Some(contract) = contract else { continue };
                let looked = within(STEP, self.look(leader.connection(), contract)).await;
                if looked.is_err() {
                    metrics::analytics::step_ended(false, began.elapsed());
                }
                told.notify_waiters();
                sound &= looked?;
            }
            metrics::analytics::step_ended(sound, began.elapsed());
            // what was missed is not made up for: a look takes all that has closed
            due = (due + self.options.every).max(Instant::now());
            tokio::time::sleep_until(due).await;
        }
    }

    async fn withdraw_undeclared(&self, leader: &mut Leader) -> Result<(), Failure> {
        for contract in self.contracts.iter() {
            let targets = &self.options.targets;
            alerts::withdraw_undeclared(leader.connection(), contract, targets).await?;
        }
        Ok(())
    }

    /// One look at a stream: its alerts, and its metrics, of which there may be many to make. What can't go
    /// on leaves the rest alone; gives whether all did.
    async fn look(
        &self,
        connection: &mut PgConnection,
        contract: &Contract,
    ) -> Result<bool, Failure> {
        let options = &self.options;
        let (idle, hold) = (options.idle, options.hold);
        let read = watermark::read(connection, contract, &self.ends, idle, hold).await;
        let Some(watermark) = left_out(contract, "watermark", read)? else { return Ok(false) };
        let Some(watermark) = watermark else { return Ok(true) };
        metrics::analytics::watermark(&contract.stream, watermark);
        let closed = watermark - options.lateness;
        let mut sound = true;
        for watch in contract.alerts.iter().filter_map(|alert| Watch::new(contract, alert)) {
            let (look_back, targets) = (options.look_back, &options.targets);
            let decided = alerts::step(connection, &watch, closed, look_back, targets).await;
            sound &= left_out(contract, &watch.alert.name, decided)?.is_some();
        }
        for aggregate in contract.aggregates.iter().filter(|aggregate| aggregate.declared) {
            let made = rollup::run(connection, aggregate, closed).await;
            sound &= left_out(contract, &aggregate.table, made)?.is_some();
        }
        Ok(sound)
    }
}

/// What came of a part of the work; where a person has to mend something, it is said, and the rest goes
/// on.
fn left_out<T>(
    contract: &Contract,
    what: &str,
    done: Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(failure @ Failure::Dependency(_)) => Err(failure),
        Err(failure) => {
            let stream = &contract.stream;
            tracing::error!(stream, what, error = %failure, "analytics leaves it out");
            Ok(None)
        }
    }
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
