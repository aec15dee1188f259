//! Reaching Postgres, what it says, and names as it takes them.

use std::time::Duration;

use anyhow::anyhow;
use sqlx::{Connection, PgConnection, Postgres, Transaction, postgres::PgConnectOptions};

use crate::{failure::Failure, tls};

/// How long Postgres may take to answer when we start.
const ANSWER: Duration = Duration::from_secs(10);

/// The connection of a verb that does not wait for Postgres; an error says what to do.
pub async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let connecting = PgConnection::connect_with(options);
    let (error, hint) = match tokio::time::timeout(ANSWER, connecting).await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(error)) => {
            let hint = must_be_mended(&error);
            (said(&error), hint.unwrap_or("start it with `make up`, or set DATABASE_URL".into()))
        }
        Err(_) => (format!("no answer within {ANSWER:?}"), "check DATABASE_URL".into()),
    };
    let place = format!("{}:{}", options.get_host(), options.get_port());
    Err(anyhow!("can't connect to Postgres at {place}: {error}; {hint}"))
}

/// How the pipeline connects: no statement runs for ever, and a process that is frozen or gone keeps
/// no lock for longer than `idle`, such as `30s`.
pub fn for_work(options: &PgConnectOptions, name: &str, idle: &str) -> PgConnectOptions {
    options.clone().application_name(name).options([
        // the server gives up before we do, or its process would wait on behind our back
        ("statement_timeout", "110s"),
        ("idle_in_transaction_session_timeout", idle),
        ("client_connection_check_interval", "2s"),
        ("tcp_keepalives_idle", "30"),
        ("tcp_keepalives_interval", "10"),
        ("tcp_keepalives_count", "3"),
        // a plan made when a table was small would compare each of its rows with each of ours
        ("plan_cache_mode", "force_custom_plan"),
        // none of our statements runs for long enough to be worth compiling
        ("jit", "off"),
    ])
}

/// What comes of work on Postgres that may take so long; a dependency's failure where it takes
/// longer.
pub async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Failure::Dependency(anyhow!("Postgres took longer than {limit:?}")))
    })
}

/// What a person has to do about a connection that waiting does not bring; none where it may.
pub fn must_be_mended(error: &sqlx::Error) -> Option<String> {
    match error {
        // it answers, and says no
        sqlx::Error::Database(_) | sqlx::Error::Configuration(_) => {
            Some("check DATABASE_URL".into())
        }
        sqlx::Error::Tls(_) => Some("check sslmode and the certificates of DATABASE_URL".into()),
        other => {
            let ours = "sslcert and sslkey in DATABASE_URL";
            tls::what_to_do(other, "sslrootcert in DATABASE_URL", ours)
        }
    }
}

/// An error's text, said once: sqlx's own repeats its cause.
pub fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Io(error) => tls::verdict(error).unwrap_or_else(|| error.to_string()),
        sqlx::Error::Tls(error) | sqlx::Error::Configuration(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Begins a transaction that reads, and sees what was there when it began to; times are in UTC.
pub async fn begin_snapshot(
    connection: &mut PgConnection,
) -> sqlx::Result<Transaction<'_, Postgres>> {
    connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL TimeZone = 'UTC'")
        .await
}

/// Why our tables can't be read. What is missing is what most often is the matter.
pub fn unreadable(error: sqlx::Error) -> anyhow::Error {
    let hint = match &error {
        // a table or a column
        sqlx::Error::Database(database)
            if database.code().is_some_and(|code| matches!(&*code, "42P01" | "42703")) =>
        {
            "; `sluicegate migrate` creates what is missing"
        }
        _ => "",
    };
    anyhow!("{}{hint}", said(&error))
}

/// A name in double quotes, whatever it holds.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL writes it.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Several names, separated by commas.
pub fn quoted_list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}
