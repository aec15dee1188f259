//! The one transaction that writes a batch: rows, aggregates, dead letters, ledger.
//!
//! Rows go by binary COPY into a temporary table and from there into the stream's table, where
//! an id that has landed before is left alone. Everything is in one transaction, so that a crash
//! at any point leaves either all of a batch or nothing, and writing a batch twice changes
//! nothing the second time.

mod aggregates;
mod begin;
mod dead_letters;
mod ledger;
mod numeric;
mod row;
mod statements;

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use sqlx::{
    Connection, Executor, PgConnection, Postgres, Row as _,
    postgres::{PgArguments, PgConnectOptions},
    query::Query,
};

pub(crate) use aggregates::recomputed;
pub use aggregates::{aggregate_columns, fill};
pub use begin::{OnGap, Place, begin};
pub(crate) use dead_letters::headers_from_json;
pub use ledger::{Written, has_landed};
pub use row::{EncodedRow, RowEncoder, instant_micros, is_storable_instant};

use self::{ledger::Account, statements::Statements};
use crate::{
    batch::{Batch, DeadLetter, Row},
    contract::Contract,
    failure::{Failure, Rejection},
    sql::for_work,
};

/// COPY's binary signature, with no flags and no extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Marks a staged row that no partition counts, because it was redelivered.
const NO_SLOT: i32 = -1;

/// COPY's binary trailer.
const COPY_TRAILER: [u8; 2] = (-1i16).to_be_bytes();

/// One connection that writes one stream.
pub struct Sink {
    connection: PgConnection,
    statements: Statements,
}

/// What came of writing a batch.
#[derive(Debug)]
pub enum Attempt {
    /// It can be committed.
    Ready {
        /// How its records end.
        written: Written,
        /// The dead letters of rows that the table refuses.
        refused: Vec<DeadLetter>,
    },
    /// So much of it is refused that the rest was not tried.
    Hopeless {
        /// Rows that the table took.
        landed: i64,
        /// The dead letters of those that it refused.
        refused: Vec<DeadLetter>,
    },
    /// The ledger lacks offsets before the batch: it was put back behind our back, as by restoring
    /// a backup. They have to be read again first.
    LedgerIsBehind,
}

/// Whether to try no more of a batch, after so many rows that the table took and so many that it
/// refused.
pub type Enough<'e> = dyn Fn(i64, i64) -> bool + Sync + 'e;

/// Makes a dead letter of a record that the table refused.
pub type Refuse<'r> = dyn Fn(&Batch, usize, Rejection) -> DeadLetter + Sync + 'r;

impl Sink {
    /// Connects.
    pub async fn connect(options: &PgConnectOptions, contract: &Contract) -> Result<Sink, Failure> {
        let options = for_work(options, &format!("sluicegate {}", contract.stream), "30s");
        let mut connection = PgConnection::connect_with(&options).await?;
        let statements = Statements::new(contract);
        execute(&mut connection, &statements.prepare).await?;
        Ok(Sink { connection, statements })
    }

    /// Writes a batch, all but the commit. What it gives back is in the database only once
    /// [`commit`](Self::commit) has returned; dropping the sink undoes it.
    ///
    /// After an error the connection may be in any state: drop the sink, and write the same batch
    /// with another. A row that the table refuses is no error: it becomes a dead letter, made by
    /// `refuse`, and its neighbours land.
    pub async fn write(
        &mut self,
        contract: &Contract,
        batch: &Batch,
        begins: &BTreeMap<i32, i64>,
        refuse: &Refuse<'_>,
        enough: &Enough<'_>,
    ) -> Result<Attempt, Failure> {
        // deferred constraints are checked row by row, while it is known which row it is
        execute(&mut self.connection, "BEGIN; SET CONSTRAINTS ALL IMMEDIATE").await?;
        if self.statements.exclusive {
            sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
                .bind(format!("sluicegate latest {}", contract.table))
                .execute(&mut self.connection)
                .await?;
        }
        let account = Account::open(&mut self.connection, contract, &batch.records, begins).await?;
        let Some(mut account) = account else { return Ok(Attempt::LedgerIsBehind) };
        let settled =
            dead_letters::settled(&mut self.connection, contract, batch, &account).await?;
        let (landed, refused) = self.land(batch, &settled, &mut account, enough).await?;
        let is_hopeless = enough(landed, count(refused.len()));
        let refused: Vec<DeadLetter> = refused
            .into_iter()
            .map(|(record, rejection)| refuse(batch, record, rejection))
            .collect();
        if is_hopeless {
            return Ok(Attempt::Hopeless { landed, refused });
        }
        for letters in [&batch.dead_letters, &refused] {
            let records = &batch.records;
            let new =
                dead_letters::insert(&mut self.connection, contract, records, letters, &account)
                    .await?;
            new.into_iter()
                .for_each(|(partition, offset)| account.dead_lettered(partition, offset));
        }
        let written = account.close(&mut self.connection, contract).await?;
        Ok(Attempt::Ready { written, refused })
    }

    /// Commits what was written last.
    pub async fn commit(&mut self) -> Result<(), Failure> {
        execute(&mut self.connection, "COMMIT").await
    }

    /// Lands the rows, and gives how many and those that the table refuses, with its reasons.
    ///
    /// A part with a bad row in it is rolled back and halved until the row stands alone, so that
    /// k bad rows among n cost O(k log n) statements. Where the row stands for others with its
    /// id, the next of them takes its place.
    async fn land(
        &mut self,
        batch: &Batch,
        settled: &HashSet<usize>,
        account: &mut Account,
        enough: &Enough<'_>,
    ) -> Result<(i64, Vec<(usize, Rejection)>), Failure> {
        let mut staged: Vec<Staged<'_>> =
            batch.rows.iter().filter_map(|row| Staged::first(row, settled)).collect();
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
        let mut copy = COPY_HEADER.to_vec();
        copy.reserve(rows.iter().map(|staged| staged.row.columns.len() + 18).sum());
        for (number, Staged { row, .. }) in (first..).zip(rows) {
            let record = batch.records.get(row.record);
            let slot = record.and_then(|record| account.slot(record.partition, record.offset));
            copy.extend_from_slice(&self.statements.columns.to_be_bytes());
            for value in [slot.unwrap_or(NO_SLOT), row_number(number)] {
                copy.extend_from_slice(&4i32.to_be_bytes());
                copy.extend_from_slice(&value.to_be_bytes());
            }
            copy.extend_from_slice(&row.columns);
        }
        copy.extend_from_slice(&COPY_TRAILER);
        let mut staging = self.connection.copy_in_raw(&self.statements.copy).await?;
        staging.send(copy).await?;
        staging.finish().await?;
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

/// A row that is staged, and those with the same id that take its place if it is refused.
#[derive(Clone, Copy)]
struct Staged<'b> {
    row: &'b Row,
    spares: &'b [Row],
}

impl<'b> Staged<'b> {
    /// The row, unless what became of its record is settled; then the first that takes its place.
    fn first(row: &'b Row, settled: &HashSet<usize>) -> Option<Staged<'b>> {
        let first = Staged { row, spares: &row.spares };
        if settled.contains(&row.record) { first.next(settled) } else { Some(first) }
    }

    fn next(self, settled: &HashSet<usize>) -> Option<Staged<'b>> {
        let (row, spares) = self.spares.split_first()?;
        let next = Staged { row, spares };
        if settled.contains(&row.record) { next.next(settled) } else { Some(next) }
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

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A batch has far fewer rows.
fn row_number(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Runs statements that this program wrote, without preparing them.
async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), Failure> {
    connection.execute(sql).await?;
    Ok(())
}
