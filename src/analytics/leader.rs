//! One process at a time: whoever holds an advisory lock of the database.
//!
//! The lock belongs to the session whose transactions do the work, so that who has lost one has lost the
//! other: two leaders can't both commit.

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::{failure::Failure, sql::for_work};

/// The session that holds the lock.
pub(super) struct Leader(PgConnection);

impl Leader {
    /// Connects and tries to get the lock; none where another process has it.
    pub(super) async fn elect(postgres: &PgConnectOptions) -> Result<Option<Leader>, Failure> {
        let options = for_work(postgres, "sluicegate analytics", "60s");
        let mut connection = PgConnection::connect_with(&options).await?;
        // of this schema: another is another installation
        let elected: bool = sqlx::query_scalar(
            "SELECT pg_try_advisory_lock(hashtextextended(\
             'sluicegate analytics ' || coalesce(current_schema(), ''), 0))",
        )
        .fetch_one(&mut connection)
        .await?;
        Ok(elected.then_some(Leader(connection)))
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
