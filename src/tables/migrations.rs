//! refinery's migrations over a sqlx connection, so that there is one Postgres driver.

use std::error::Error;

use anyhow::anyhow;
use refinery::Migration;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use sqlx::{Connection, Executor, PgConnection, Row as _};
use time::OffsetDateTime;

use crate::sql::said;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Applies what has not been applied, and gives its names; with `dry_run` only gives them.
///
/// A migration that was edited after it was applied is an error.
pub(super) async fn run(
    connection: &mut PgConnection,
    dry_run: bool,
) -> anyhow::Result<Vec<String>> {
    let runner = embedded::migrations::runner();
    let names = |migrations: &[Migration]| migrations.iter().map(Migration::to_string).collect();
    if dry_run {
        let table: Option<String> =
            sqlx::query_scalar("SELECT to_regclass('refinery_schema_history')::text")
                .fetch_one(&mut *connection)
                .await?;
        let applied: Vec<i32> = match table {
            None => Vec::new(),
            Some(_) => {
                let sql = "SELECT version FROM refinery_schema_history";
                sqlx::query_scalar(sql).fetch_all(&mut *connection).await?
            }
        };
        let pending = runner.get_migrations().iter().filter(|m| !applied.contains(&m.version()));
        return Ok(names(&pending.cloned().collect::<Vec<_>>()));
    }
    let report = runner
        .run_async(&mut Refinery(connection))
        .await
        .map_err(|error| anyhow!("the fixed tables can't be migrated: {}", reason(&error)))?;
    Ok(names(report.applied_migrations()))
}

/// What Postgres says, where it is Postgres that says something: refinery says it three times.
fn reason(error: &refinery::Error) -> String {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            return said(error);
        }
        source = error.source();
    }
    error.to_string()
}

/// Lends a sqlx connection to refinery.
struct Refinery<'c>(&'c mut PgConnection);

impl AsyncTransaction for Refinery<'_> {
    type Error = sqlx::Error;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let mut transaction = self.0.begin().await?;
        let mut count = 0;
        for query in queries {
            transaction.execute(query).await?;
            count += 1;
        }
        transaction.commit().await?;
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for Refinery<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
        let rows = self.0.fetch_all(query).await?;
        let migration = |row: &sqlx::postgres::PgRow| {
            let wrong = |error: String| sqlx::Error::Decode(error.into());
            let applied_on: String = row.try_get(2)?;
            let format = &time::format_description::well_known::Rfc3339;
            let applied_on = OffsetDateTime::parse(&applied_on, format)
                .map_err(|error| wrong(error.to_string()))?;
            let checksum: String = row.try_get(3)?;
            let checksum =
                checksum.parse().map_err(|_| wrong("the checksum is no number".into()))?;
            Ok(Migration::applied(row.try_get(0)?, row.try_get(1)?, applied_on, checksum))
        };
        rows.iter().map(migration).collect()
    }
}

impl AsyncMigrate for Refinery<'_> {}
