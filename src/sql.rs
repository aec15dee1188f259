//! Reaching Postgres, what it says, and names as it takes them.

use std::time::Duration;

use anyhow::anyhow;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

/// How long Postgres may take to answer when we start.
const ANSWER: Duration = Duration::from_secs(10);

/// The connection of a verb that does not wait for Postgres; an error says what to do.
pub async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let connecting = PgConnection::connect_with(options);
    let (error, hint) = match tokio::time::timeout(ANSWER, connecting).await {
        Ok(Ok(connection)) => return Ok(connection),
        // it answers, and says no
        Ok(Err(error @ sqlx::Error::Database(_))) => (said(&error), "check DATABASE_URL"),
        Ok(Err(error)) => (said(&error), "start it with `make up`, or set DATABASE_URL"),
        Err(_) => (format!("no answer within {ANSWER:?}"), "check DATABASE_URL"),
    };
    let place = format!("{}:{}", options.get_host(), options.get_port());
    Err(anyhow!("can't connect to Postgres at {place}: {error}; {hint}"))
}

/// An error's text, said once: sqlx's own repeats its cause.
pub fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// A name in double quotes, whatever it holds.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Several names, separated by commas.
pub fn quoted_list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}
