//! Sessions of ours whose client is frozen in the middle of a COPY, such as a process that was stopped,
//! or one on a machine that is gone. Postgres takes them for busy: none of its time-outs holds while it
//! reads, and they keep their locks.

use std::{pin::pin, time::Duration};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};

/// How often it is looked whether one keeps us waiting.
const LOOK: Duration = Duration::from_secs(10);

/// Ends the sessions that the one with a number waits for, where they have waited for more rows of one
/// COPY for too long.
const SEND_AWAY: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE pid = ANY (pg_blocking_pids($1)) AND usename = current_user \
    AND application_name = current_setting('application_name') \
    AND state = 'active' AND wait_event = 'ClientRead' AND query_start < now() - interval '30s'";

/// Does work in the session with a number, and sees meanwhile that none that is frozen, of the same name,
/// keeps it waiting.
pub(super) async fn unless_frozen<T>(
    options: &PgConnectOptions,
    pid: i32,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = sleep(LOOK) => {}
        }
        // who can't look now looks again
        if let Ok(Ok(sent_away @ 1..)) = timeout(LOOK, send_away(options, pid)).await {
            tracing::warn!(sent_away, "a frozen session kept us waiting, and was ended");
        }
    }
}

async fn send_away(options: &PgConnectOptions, pid: i32) -> sqlx::Result<i64> {
    let mut connection = PgConnection::connect_with(options).await?;
    let sent_away = sqlx::query_scalar(SEND_AWAY).bind(pid).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(sent_away)
}
