//! The way through a temporary table: rows that may have landed before, or that Postgres refuses.

use std::{collections::HashSet, ops::Range};

use sqlx::{Postgres, Row as _, postgres::PgArguments, query::Query};

use super::{
    Enough, Sink, Staged, copy::Copy, count, execute, ledger::Account, statements::Statements,
};
use crate::{
    batch::Batch,
    failure::{Failure, Rejection},
};

/// Marks a staged row that no partition counts, because it was redelivered.
const NO_SLOT: i32 = -1;

impl Sink {
    /// Lands rows, and gives how many and those that the table refuses, with its reasons.
    ///
    /// A part with a bad row in it is rolled back and halved until the row stands alone, so that
    /// k bad rows among n cost O(k log n) statements. Where the row stands for others with its
    /// id, the next of them takes its place.
    pub(super) async fn land_staged(
        &mut self,
        batch: &Batch,
        mut staged: Vec<Staged<'_>>,
        settled: &HashSet<usize>,
        account: &mut Account,
        enough: &Enough<'_>,
    ) -> Result<(i64, Vec<(usize, Rejection)>), Failure> {
        self.stage(batch, &staged, 0, account).await?;
        let (mut taken, mut refused) = (0, Vec::new());
        let whole = 0..staged.len();
        let mut parts = vec![whole.clone()];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            if enough(taken, count(refused.len())) {
                break;
            }
            execute(&mut self.connection, "SAVEPOINT part").await?;
            let landed = self.land_part((part != whole).then_some(&part)).await;
            match landed {
                Ok(inserted) => {
                    execute(&mut self.connection, "RELEASE SAVEPOINT part").await?;
                    inserted.into_iter().for_each(|(slot, rows)| account.inserted(slot, rows));
                    taken += count(part.len());
                    continue;
                }
                Err(Failure::Record(rejection)) => {
                    let undo = "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part";
                    execute(&mut self.connection, undo).await?;
                    if part == whole {
                        execute(&mut self.connection, &self.statements.prepare_parts).await?;
                    }
                    if part.len() > 1 {
                        let middle = part.start + part.len() / 2;
                        parts.extend([middle..part.end, part.start..middle]);
                        continue;
                    }
                    let Some(row) = staged.get(part.start).copied() else { continue };
                    refused.push((row.row.record, rejection));
                    if let Some(next) = row.next(settled) {
                        let number = staged.len();
                        staged.push(next);
                        self.stage(batch, &[next], number, account).await?;
                        parts.push(number..number + 1);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok((taken, refused))
    }

    /// Copies rows into the staging table, numbered from `first` on.
    async fn stage(
        &mut self,
        batch: &Batch,
        rows: &[Staged<'_>],
        first: usize,
        account: &Account,
    ) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut copy = Copy::begin(&mut self.connection, &self.statements.stage).await?;
        for (number, staged) in (first..).zip(rows) {
            let slot = staged.slot(batch, account).unwrap_or(NO_SLOT);
            copy.row(&[slot, row_number(number)], batch.columns(staged.row)).await?;
        }
        copy.finish().await?;
        Ok(())
    }

    /// Lands all that is staged, or a part of it; gives the number of new rows by partition.
    async fn land_part(&mut self, part: Option<&Range<usize>>) -> Result<Vec<(i32, i64)>, Failure> {
        let Statements { all, part: by_number, after, .. } = &self.statements;
        let landing = if part.is_some() { by_number } else { all };
        for statement in &landing.before {
            numbered(statement, part).execute(&mut self.connection).await?;
        }
        let inserted = numbered(&landing.land, part).fetch_all(&mut self.connection).await?;
        for statement in after {
            execute(&mut self.connection, statement).await?;
        }
        inserted.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// A statement, for all that is staged or for a part of it.
fn numbered<'q>(sql: &'q str, part: Option<&Range<usize>>) -> Query<'q, Postgres, PgArguments> {
    let query = sqlx::query(sql);
    match part {
        Some(part) => {
            query.bind(row_number(part.start)).bind(row_number(part.end.saturating_sub(1)))
        }
        None => query,
    }
}

/// A batch has far fewer rows.
fn row_number(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
