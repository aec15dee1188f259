//! Sessions of ours whose client is frozen in the middle of a COPY, such as a process that was stopped.
//! Postgres takes them for busy: none of its time-outs holds while it waits for the client, and they
//! keep their locks.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

/// How often it is looked whether one keeps us waiting.
const LOOK: Duration = Duration::from_secs(10);

/// How many looks one must not have moved over to be taken for frozen.
const STILL: u32 = 2;

/// The sessions that one waits for, and that those wait for: which of them are a stream's sinks of the
/// same user that wait for their client, and how far each is with its COPY.
const KEEP_WAITING: &str = "WITH RECURSIVE blocking (pid) AS (\
        SELECT unnest(pg_blocking_pids($1)) \
        UNION SELECT unnest(pg_blocking_pids(blocking.pid)) FROM blocking) \
    SELECT activity.pid, query_start, coalesce(bytes_processed, 0) \
    FROM pg_stat_activity AS activity JOIN blocking USING (pid) \
    LEFT JOIN pg_stat_progress_copy AS copy USING (pid) \
    WHERE usename = session_user AND application_name = $2 \
    AND state = 'active' AND wait_event IN ('ClientRead', 'ClientWrite')";

/// How far a session is: with which statement, and with how many bytes of it.
type Place = (OffsetDateTime, i64);

/// How a stream's sinks are called where Postgres lists sessions.
pub(super) fn session_name(stream: &str) -> String {
    format!("sluicegate {stream}")
}

/// Does work in the session with a number, and sees meanwhile that no frozen sink of a stream keeps it
/// waiting: such a session is ended.
pub(super) async fn unless_frozen<T>(
    options: &PgConnectOptions,
    stream: &str,
    pid: i32,
    work: impl Future<Output = T>,
) -> T {
    tokio::select! {
        done = work => done,
        never = watch(options, stream, pid) => match never {},
    }
}

async fn watch(options: &PgConnectOptions, stream: &str, pid: i32) -> Infallible {
    let mut still: BTreeMap<i32, (Place, u32)> = BTreeMap::new();
    loop {
        sleep(LOOK).await;
        match timeout(LOOK, look(options, stream, pid, &mut still)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(stream, %error, "can't see whether a frozen session keeps us waiting");
            }
            Err(_) => tracing::debug!(stream, "Postgres does not say who keeps us waiting"),
        }
    }
}

async fn look(
    options: &PgConnectOptions,
    stream: &str,
    pid: i32,
    still: &mut BTreeMap<i32, (Place, u32)>,
) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect_with(options).await?;
    let blocking: Vec<(i32, OffsetDateTime, i64)> = sqlx::query_as(KEEP_WAITING)
        .bind(pid)
        .bind(session_name(stream))
        .fetch_all(&mut connection)
        .await?;
    let before = std::mem::take(still);
    for (blocking, since, bytes) in blocking {
        let place = (since, bytes);
        let looks = match before.get(&blocking) {
            Some((earlier, looks)) if *earlier == place => looks.saturating_add(1),
            _ => 0,
        };
        if looks < STILL {
            still.insert(blocking, (place, looks));
            continue;
        }
        let ended = sqlx::query_scalar("SELECT pg_terminate_backend($1)");
        let ended: bool = ended.bind(blocking).fetch_one(&mut connection).await?;
        tracing::warn!(stream, session = blocking, ended, "a frozen session kept us waiting");
    }
    // Postgres notices by itself where this fails
    _ = connection.close().await;
    Ok(())
}
