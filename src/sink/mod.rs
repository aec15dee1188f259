//! The one transaction that writes a batch: rows, aggregates, dead letters, ledger.
//!
//! Rows go by binary COPY: straight into the stream's table (`direct`) where none of them can have
//! landed before as far as is known, otherwise into a temporary table and on from there, where an id
//! that has landed before is left alone (`staged`). Everything is in one transaction, so that a
//! crash at any point leaves either all of a batch or nothing, and writing a batch twice changes
//! nothing the second time.

mod aggregates;
mod begin;
mod bucket;
mod changes;
mod copy;
mod dead_letters;
mod direct;
mod frozen;
mod ledger;
mod numeric;
mod recent;
mod replay;
mod row;
mod staged;
mod statements;
mod storable;
mod tally;

use std::collections::{BTreeMap, HashSet};

use sqlx::{Connection, Executor, PgConnection, postgres::PgConnectOptions};

pub(crate) use aggregates::recomputed;
pub use aggregates::{aggregate_columns, fill};
pub use begin::{OnGap, Place, begin};
pub(crate) use bucket::bucket;
pub use changes::{forget, note_unless_known};
pub(crate) use dead_letters::headers_from_json;
pub use ledger::{Written, has_landed};
pub use recent::Recent;
pub use row::{EncodedRow, RowEncoder, instant_micros};
pub use storable::{is_storable_instant, storable_instant};

use self::{
    frozen::{session_name, unless_frozen},
    ledger::Account,
    statements::Statements,
};
use crate::{
    batch::{Batch, DeadLetter, Row},
    contract::Contract,
    failure::{Failure, Rejection},
    sql::for_work,
};

/// Values of more than 2 kB are compressed by LZ4, where the server was built with it: the default of
/// Postgres before 18 takes many times as long.
const LZ4: &str = "SELECT set_config('default_toast_compression', 'lz4', false) FROM pg_settings \
                   WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)";

/// One connection that writes one stream.
pub struct Sink {
    connection: PgConnection,
    /// The number of its session,
    pid: i32,
    /// and how others of its name are made.
    options: PgConnectOptions,
    statements: Statements,
}

/// What came of writing a batch.
#[derive(Debug)]
pub enum Attempt {
    /// It can be committed.
    Ready {
        /// How its records end.
        written: Written,
        /// How its rows landed.
        way: Way,
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

/// How the rows of a batch get into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nearly all of them straight into it.
    Direct,
    /// By way of a temporary table.
    Staged,
}

impl Way {
    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Staged => "staged",
        }
    }
}

/// Whether to try no more of a batch, after so many rows that the table took and so many that it
/// refused.
pub type Enough<'e> = dyn Fn(i64, i64) -> bool + Sync + 'e;

/// Makes a dead letter of a record that the table refused.
pub type Refuse<'r> = dyn Fn(&Batch, usize, Rejection) -> DeadLetter + Sync + 'r;

impl Sink {
    /// Connects.
    pub async fn connect(options: &PgConnectOptions, contract: &Contract) -> Result<Sink, Failure> {
        let options = for_work(options, &session_name(&contract.stream), "30s");
        let mut connection = PgConnection::connect_with(&options).await?;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        let statements = Statements::new(contract);
        execute(&mut connection, LZ4).await?;
        execute(&mut connection, &statements.prepare).await?;
        Ok(Sink { connection, pid, options, statements })
    }

    /// Writes a batch, all but the commit. What it gives back is in the database only once
    /// [`commit`](Self::commit) has returned; dropping the sink undoes it.
    ///
    /// After an error the connection may be in any state: drop the sink, and write the same batch
    /// with another. A row that the table refuses is no error: it becomes a dead letter, made by
    /// `refuse`, and its neighbours land. `recent` is what the sink's owner has landed lately; once
    /// the batch is committed, its ids are to be added.
    pub async fn write(
        &mut self,
        contract: &Contract,
        batch: &Batch,
        begins: &BTreeMap<i32, i64>,
        recent: &mut Recent,
        refuse: &Refuse<'_>,
        enough: &Enough<'_>,
    ) -> Result<Attempt, Failure> {
        let (options, pid) = (self.options.clone(), self.pid);
        let writing = async {
            self.begin(contract).await?;
            let account =
                Account::open(&mut self.connection, contract, &batch.records, begins).await?;
            let Some(mut account) = account else { return Ok(Attempt::LedgerIsBehind) };
            account.note_event_times(batch);
            let settled =
                dead_letters::settled(&mut self.connection, contract, batch, &account).await?;
            let rows: Vec<Staged<'_>> =
                batch.rows.iter().filter_map(|row| Staged::first(row, &settled)).collect();
            let (way, landed, refused) =
                if self.land_directly(batch, &rows, &mut account, recent).await? {
                    (Way::Direct, count(rows.len()), Vec::new())
                } else {
                    let landing = self.land_staged(batch, rows, &settled, &mut account, enough);
                    let (landed, refused) = landing.await?;
                    (Way::Staged, landed, refused)
                };
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
                let new = dead_letters::insert(
                    &mut self.connection,
                    contract,
                    records,
                    letters,
                    &account,
                )
                .await?;
                new.into_iter()
                    .for_each(|(partition, offset)| account.dead_lettered(partition, offset));
            }
            if !self.statements.exclusive {
                let writer = begins.keys().next().copied().unwrap_or_default();
                changes::note(&mut self.connection, contract, batch, writer).await?;
            }
            let written = account.close(&mut self.connection, contract).await?;
            Ok(Attempt::Ready { written, way, refused })
        };
        unless_frozen(&options, &contract.stream, pid, writing).await
    }

    /// Opens a transaction; writers of a stream whose buckets are made again take turns.
    pub(crate) async fn begin(&mut self, contract: &Contract) -> Result<(), Failure> {
        // deferred constraints are checked row by row, while it is known which row it is
        execute(&mut self.connection, "BEGIN; SET CONSTRAINTS ALL IMMEDIATE").await?;
        if self.statements.exclusive {
            sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
                .bind(format!("sluicegate latest {}", contract.table))
                .execute(&mut self.connection)
                .await?;
        }
        Ok(())
    }

    /// Commits what was written last.
    pub async fn commit(&mut self) -> Result<(), Failure> {
        execute(&mut self.connection, "COMMIT").await
    }
}

/// A row that is to land, and those with the same id that take its place if it is refused.
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

    /// The partition that counts it; none where it was redelivered.
    fn slot(self, batch: &Batch, account: &Account) -> Option<i32> {
        let record = batch.records.get(self.row.record)?;
        account.slot(record.partition, record.offset)
    }
}

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The number of a session.
async fn session(connection: &mut PgConnection) -> Result<i32, Failure> {
    Ok(sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await?)
}

/// Runs statements that this program wrote, without preparing them.
async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), Failure> {
    connection.execute(sql).await?;
    Ok(())
}
