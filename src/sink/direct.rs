//! The short way: rows that are new as far as anybody knows go straight into the table.
//!
//! Postgres needs little more than half the time for it that it needs for rows that may have landed
//! before. That nothing lands twice does not rest on it: the table's key refuses a row that is not
//! new, and then the batch goes the way through [`staged`](super::staged).

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _};

use super::{
    Sink, Staged,
    copy::Copy,
    execute,
    ledger::Account,
    recent::Recent,
    statements::{Direct, Statements},
    tally::{Tally, cells},
};
use crate::{batch::Batch, failure::Failure};

impl Sink {
    /// Lands rows, and says whether it did. Undone where Postgres refuses any of them, or where
    /// it's not worth the try.
    pub(super) async fn land_directly(
        &mut self,
        batch: &Batch,
        rows: &[Staged<'_>],
        account: &mut Account,
        recent: &mut Recent,
    ) -> Result<bool, Failure> {
        let Sink { connection, statements: Statements { direct, .. }, .. } = self;
        let Some(way) = direct else { return Ok(false) };
        if rows.is_empty() {
            return Ok(true);
        }
        let (new, suspects): (Vec<Staged<'_>>, Vec<Staged<'_>>) =
            rows.iter().copied().partition(|staged| {
                staged.slot(batch, account).is_some() && !recent.has(batch.id(staged.row))
            });
        if new.len() < suspects.len() || !recent.is_trusted() {
            return Ok(false);
        }
        if !way.partials.is_empty()
            && sqlx::query_scalar(&way.is_rewritten).fetch_one(&mut *connection).await?
        {
            return Ok(false);
        }
        execute(connection, "SAVEPOINT direct").await?;
        match attempt(connection, way, batch, new, &suspects, account).await {
            Ok(Some(inserted)) => {
                execute(connection, "RELEASE SAVEPOINT direct").await?;
                recent.was_right();
                inserted.into_iter().for_each(|(slot, rows)| account.inserted(slot, rows));
                Ok(true)
            }
            // the other way finds out which row it is, or says the same
            Ok(None) | Err(Failure::Record(_)) => undo(connection, recent).await,
            // a table with row-level security, for one, takes no COPY at all
            Err(Failure::Contract(_)) => {
                *direct = None;
                undo(connection, recent).await
            }
            Err(failure) => Err(failure),
        }
    }
}

async fn undo(connection: &mut PgConnection, recent: &mut Recent) -> Result<bool, Failure> {
    execute(connection, "ROLLBACK TO SAVEPOINT direct; RELEASE SAVEPOINT direct").await?;
    recent.was_wrong();
    Ok(false)
}

/// Gives the number of new rows by partition; none where something is not as it should be.
async fn attempt(
    connection: &mut PgConnection,
    direct: &Direct,
    batch: &Batch,
    new: Vec<Staged<'_>>,
    suspects: &[Staged<'_>],
    account: &Account,
) -> Result<Option<BTreeMap<i32, i64>>, Failure> {
    let mut copy = Copy::begin(connection, &direct.copy).await?;
    for staged in &new {
        copy.row(&[], batch.columns(staged.row)).await?;
    }
    // a trigger of somebody's may have dropped some
    if usize::try_from(copy.finish().await?) != Ok(new.len()) {
        return Ok(None);
    }
    let mut landed = new;
    landed.extend(land_suspects(connection, direct, batch, suspects).await?);
    if !merge_aggregates(connection, direct, batch, &landed).await? {
        return Ok(None);
    }
    let mut inserted = BTreeMap::new();
    for slot in landed.iter().filter_map(|staged| staged.slot(batch, account)) {
        *inserted.entry(slot).or_insert(0) += 1;
    }
    Ok(Some(inserted))
}

/// Lands those that may have landed before, and gives those that had not.
async fn land_suspects<'b>(
    connection: &mut PgConnection,
    direct: &Direct,
    batch: &Batch,
    suspects: &[Staged<'b>],
) -> Result<Vec<Staged<'b>>, Failure> {
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let mut copy = Copy::begin(connection, &direct.stage).await?;
    for (number, staged) in (0..).zip(suspects) {
        copy.row(&[number], batch.columns(staged.row)).await?;
    }
    copy.finish().await?;
    let landed = sqlx::query(&direct.land_staged).fetch_all(connection).await?;
    let suspect = |row: &sqlx::postgres::PgRow| -> Result<Option<Staged<'b>>, Failure> {
        let number: i32 = row.try_get(0)?;
        Ok(usize::try_from(number).ok().and_then(|number| suspects.get(number)).copied())
    };
    landed.iter().filter_map(|row| suspect(row).transpose()).collect()
}

/// Adds rows that are new to the aggregates, and says whether it could. These are touched last and
/// in the order of their keys, so that two sinks wait for each other shortly, and over aggregates
/// never in a circle. Over rows they can, where several partitions bring the same ids: then Postgres
/// ends one of the two transactions, and its batch is written again.
async fn merge_aggregates(
    connection: &mut PgConnection,
    direct: &Direct,
    batch: &Batch,
    landed: &[Staged<'_>],
) -> Result<bool, Failure> {
    if direct.partials.is_empty() {
        return Ok(true);
    }
    let mut tallies: Vec<Tally<'_>> =
        direct.partials.iter().map(|partial| Tally::new(&partial.plan)).collect();
    let mut row = Vec::new();
    for staged in landed {
        cells(batch.columns(staged.row), &mut row);
        if tallies.iter_mut().any(|tally| tally.add(&row).is_err()) {
            return Ok(false);
        }
    }
    for (partial, tally) in direct.partials.iter().zip(&tallies) {
        let Ok(rows) = tally.rows().collect::<Result<Vec<_>, _>>() else { return Ok(false) };
        let mut copy = Copy::begin(connection, &partial.copy).await?;
        for row in &rows {
            copy.row(&[], row).await?;
        }
        copy.finish().await?;
    }
    sqlx::query(&direct.merge).execute(connection).await?;
    Ok(true)
}
