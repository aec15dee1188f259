//! Dead letters that land after all: the rows and aggregates of a batch, without a ledger to move on.

use std::collections::HashSet;

use sqlx::PgConnection;

use super::{Sink, Staged, changes, execute, frozen::unless_frozen, ledger::Account};
use crate::{
    batch::Batch,
    contract::Contract,
    failure::{Failure, Rejection},
};

/// What came of the rows of dead letters.
#[derive(Debug)]
pub(crate) struct Landed {
    /// How many are new in the table; of the others, the events had landed before.
    pub(crate) inserted: i64,
    /// The records that the table refuses, and why.
    pub(crate) refused: Vec<(usize, Rejection)>,
}

impl Sink {
    /// Lands the rows of a batch of dead letters of one topic, in the transaction that
    /// [`begin`](Sink::begin) has opened. The ledger's rows of their partitions are locked before the
    /// stream's, as consumers do, which wait meanwhile.
    pub(crate) async fn land_dead_letters(
        &mut self,
        contract: &Contract,
        topic: &str,
        batch: &Batch,
    ) -> Result<Landed, Failure> {
        let (options, pid) = (self.options.clone(), self.pid);
        let landing = self.land_letters(contract, topic, batch);
        unless_frozen(&options, &contract.stream, pid, landing).await
    }

    async fn land_letters(
        &mut self,
        contract: &Contract,
        topic: &str,
        batch: &Batch,
    ) -> Result<Landed, Failure> {
        let records = &batch.records;
        let mut account =
            Account::of_dead_letters(&mut self.connection, contract, topic, records).await?;
        account.note_event_times(batch);
        let settled = HashSet::new();
        let rows = batch.rows.iter().filter_map(|row| Staged::first(row, &settled)).collect();
        let all = |_, _| false;
        let landing = self.land_staged(batch, rows, &settled, &mut account, &all);
        let (_, refused) = landing.await?;
        if !self.statements.exclusive {
            let writer = records.iter().map(|record| record.partition).min().unwrap_or_default();
            changes::note(&mut self.connection, contract, batch, writer).await?;
        }
        let inserted = account.replayed(&mut self.connection, contract, topic).await?;
        Ok(Landed { inserted, refused })
    }

    /// The connection, for what belongs into the same transaction.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Undoes what was written since the transaction began.
    pub(crate) async fn roll_back(&mut self) -> Result<(), Failure> {
        execute(&mut self.connection, "ROLLBACK").await
    }
}
