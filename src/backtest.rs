//! What today's rules and labels would make of what is there: rows that have landed, and dead letters
//! that wait.
//!
//! Nothing is changed. Everything is read in one transaction that reads only, a part at a time, and
//! decided as it would be at present.

mod landed;
mod report;
mod screen;

use std::sync::Arc;

use anyhow::{Context, anyhow};
use futures::TryStreamExt;
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use time::OffsetDateTime;

use self::landed::{Landed, LandedRow};
pub use self::{
    report::{Example, LabelChange, LabelChanges, Refusals, Report},
    screen::render,
};
use crate::{
    contract::{Contract, Scope},
    dlq::{Filter, Letter, Status},
    prepare::Preparer,
    registry::{Registry, RetryPolicy},
    sql::{begin_snapshot, connect, unreadable},
};

/// How many dead letters are decided together.
const BATCH: i64 = 500;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows whose event happened, and dead letters that were seen, from then on,
    pub since: OffsetDateTime,
    /// and before then, if there is an end.
    pub until: Option<OffsetDateTime>,
    /// How many examples are kept of each thing that would change.
    pub examples: usize,
}

/// Holds a contract against a stream's rows and dead letters.
pub async fn backtest(
    contract: Contract,
    postgres: &PgConnectOptions,
    registry: Registry,
    options: &Options,
) -> anyhow::Result<Report> {
    let contract = Arc::new(contract);
    // on a large table a slow statement is no news
    let mut connection = connect(&postgres.clone().disable_statement_logging()).await?;
    let mut snapshot = begin_snapshot(&mut connection).await.map_err(unreadable)?;
    let mut report = Report::new(&contract, options);
    let now = OffsetDateTime::now_utc();
    let rows = read_rows(&mut snapshot, &contract, options, now, &mut report).await;
    rows.with_context(|| format!("the rows of {} can't be read", contract.table))?;
    let preparer = Preparer::new(contract.clone(), registry, RetryPolicy::ONCE);
    read_letters(&mut snapshot, &preparer, options, now, &mut report).await?;
    Ok(report)
}

async fn read_rows(
    connection: &mut PgConnection,
    contract: &Contract,
    options: &Options,
    now: OffsetDateTime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let landed = Landed::new(connection, contract).await?;
    let scope = Scope::new(contract, now);
    let query = sqlx::query(&landed.sql);
    let query = match contract.time {
        Some(_) => query.bind(options.since).bind(options.until),
        None => query,
    };
    let mut rows = query.fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(unreadable)? {
        match landed.read(&row).map_err(unreadable)? {
            LandedRow::Event { id, event, labels } => {
                report.row(contract, &scope, id, &event, &labels);
            }
            LandedRow::Unreadable { field } => report.unreadable_row(field),
        }
    }
    Ok(())
}

async fn read_letters(
    connection: &mut PgConnection,
    preparer: &Preparer,
    options: &Options,
    now: OffsetDateTime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let filter = Filter {
        streams: vec![report.stream.clone()],
        since: Some(options.since),
        until: options.until,
        statuses: vec![Status::Pending, Status::Parked],
        ..Filter::default()
    };
    let mut after = 0;
    loop {
        let letters = Letter::page(&mut *connection, &filter, after, BATCH).await;
        let letters =
            letters.map_err(|error| anyhow!("dlq_events can't be read: {}", unreadable(error)))?;
        let Some(last) = letters.last() else { return Ok(()) };
        after = last.id;
        let records: Vec<_> = letters.iter().map(Letter::record).collect();
        let lookups = preparer.look_up(&records).await?;
        let batch = preparer.prepare(records, &lookups, now)?;
        let refused = batch.dead_letters.into_iter().map(|dead| (dead.record, dead.rejection));
        report.letters(&letters, &refused.collect());
    }
}
