//! The one transaction that writes a batch: rows, aggregates, dead letters, ledger.
//!
//! Rows go by binary COPY into a temporary table and from there into the stream's table, where
//! an id that has landed before is left alone. Everything is in one transaction, so that a crash
//! at any point leaves either all of a batch or nothing, and writing a batch twice changes
//! nothing the second time.

mod aggregates;
mod dead_letters;
mod ledger;
mod row;
mod statements;

use sqlx::{Connection, PgConnection, Row as _, postgres::PgConnectOptions};

pub use aggregates::aggregate_columns;
pub(crate) use dead_letters::headers_from_json;
pub use ledger::Written;
pub use row::{RowEncoder, instant_micros, is_storable_instant};

use self::{ledger::Account, statements::Statements};
use crate::{
    batch::{Batch, DeadLetter, Row},
    contract::Contract,
    failure::{Failure, Rejection},
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

/// Makes a dead letter of a record that the table refused.
pub type Refuse<'r> = dyn Fn(&Batch, usize, Rejection) -> DeadLetter + Sync + 'r;

impl Sink {
    /// Connects.
    pub async fn connect(options: &PgConnectOptions, contract: &Contract) -> Result<Sink, Failure> {
        let name = format!("sluicegate {}", contract.stream);
        let options = options.clone().application_name(&name);
        let mut connection = PgConnection::connect_with(&options).await?;
        let statements = Statements::new(contract);
        execute(&mut connection, &statements.prepare).await?;
        Ok(Sink { connection, statements })
    }

    /// Writes a batch and says how its records ended.
    ///
    /// After an error the connection may be in any state: drop the sink, and write the same batch
    /// with another. A row that the table refuses is no error: it becomes a dead letter, made by
    /// `refuse`, and its neighbours land.
    pub async fn write(
        &mut self,
        contract: &Contract,
        batch: &Batch,
        refuse: &Refuse<'_>,
    ) -> Result<Written, Failure> {
        // deferred constraints are checked row by row, while it is known which row it is
        execute(&mut self.connection, "BEGIN; SET CONSTRAINTS ALL IMMEDIATE").await?;
        if self.statements.exclusive {
            sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
                .bind(format!("sluicegate latest {}", contract.table))
                .execute(&mut self.connection)
                .await?;
        }
        let mut account = Account::open(&mut self.connection, contract, &batch.records).await?;
        let refused = self.land(batch, &mut account).await?;
        let refused: Vec<DeadLetter> = refused
            .into_iter()
            .map(|(record, rejection)| refuse(batch, record, rejection))
            .collect();
        for letters in [&batch.dead_letters, &refused] {
            let records = &batch.records;
            let new =
                dead_letters::insert(&mut self.connection, contract, records, letters).await?;
            new.into_iter()
                .for_each(|(partition, offset)| account.dead_lettered(partition, offset));
        }
        let written = account.close(&mut self.connection, contract).await?;
        execute(&mut self.connection, "COMMIT").await?;
        Ok(written)
    }

    /// Lands the rows, and gives those that the table refuses, with its reasons.
    ///
    /// A part with a bad row in it is rolled back and halved until the row stands alone, so that
    /// k bad rows among n cost O(k log n) statements.
    async fn land(
        &mut self,
        batch: &Batch,
        account: &mut Account,
    ) -> Result<Vec<(usize, Rejection)>, Failure> {
        let mut refused = Vec::new();
        let mut parts = vec![batch.rows.as_slice()];
        let mut first = true;
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            if !std::mem::take(&mut first) {
                execute(&mut self.connection, &self.statements.clear).await?;
            }
            execute(&mut self.connection, "SAVEPOINT part").await?;
            match (self.land_part(batch, part, account).await, part) {
                (Ok(inserted), _) => {
                    execute(&mut self.connection, "RELEASE SAVEPOINT part").await?;
                    inserted.into_iter().for_each(|(slot, rows)| account.inserted(slot, rows));
                }
                (Err(Failure::Record(rejection)), part) => {
                    let undo = "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part";
                    execute(&mut self.connection, undo).await?;
                    if let [row] = part {
                        refused.push((row.record, rejection));
                    } else {
                        let (front, back) = part.split_at(part.len() / 2);
                        parts.extend([back, front]);
                    }
                }
                (Err(failure), _) => return Err(failure),
            }
        }
        Ok(refused)
    }

    /// Stages and lands some rows; gives the number of new ones by partition.
    async fn land_part(
        &mut self,
        batch: &Batch,
        rows: &[Row],
        account: &Account,
    ) -> Result<Vec<(i32, i64)>, Failure> {
        let mut copy = COPY_HEADER.to_vec();
        copy.reserve(rows.iter().map(|row| row.columns.len() + 10).sum());
        for row in rows {
            let record = batch.records.get(row.record);
            let slot = record.and_then(|record| account.slot(record.partition, record.offset));
            let slot = slot.unwrap_or(NO_SLOT);
            copy.extend_from_slice(&self.statements.columns.to_be_bytes());
            copy.extend_from_slice(&4i32.to_be_bytes());
            copy.extend_from_slice(&slot.to_be_bytes());
            copy.extend_from_slice(&row.columns);
        }
        copy.extend_from_slice(&COPY_TRAILER);
        let mut staging = self.connection.copy_in_raw(&self.statements.copy).await?;
        staging.send(copy).await?;
        staging.finish().await?;
        for statement in &self.statements.before {
            execute(&mut self.connection, statement).await?;
        }
        let land = sqlx::query(sqlx::AssertSqlSafe(self.statements.land.as_str()));
        let inserted = land.fetch_all(&mut self.connection).await?;
        for statement in &self.statements.after {
            execute(&mut self.connection, statement).await?;
        }
        inserted.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// Runs statements that this program wrote, without preparing them.
async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), Failure> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
