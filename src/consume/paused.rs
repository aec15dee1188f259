//! The table `breakers`, in which others see that a stream pauses. It is a note and no promise: where it
//! can't be written, the stream pauses all the same.

use std::time::Duration;

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

/// How long writing the note may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Notes that a stream pauses, and until when.
pub(super) async fn note(options: &PgConnectOptions, stream: &str, reason: &str, probe: Duration) {
    let sql = "INSERT INTO breakers (stream, reason, probe_at) \
               VALUES ($1, $2, now() + make_interval(secs => $3)) ON CONFLICT (stream) \
               DO UPDATE SET reason = excluded.reason, probe_at = excluded.probe_at";
    let query = sqlx::query(sql).bind(stream).bind(reason).bind(probe.as_secs_f64());
    run(options, stream, query).await;
}

/// Takes the note back.
pub(super) async fn forget(options: &PgConnectOptions, stream: &str) {
    let query = sqlx::query("DELETE FROM breakers WHERE stream = $1").bind(stream);
    run(options, stream, query).await;
}

async fn run(
    options: &PgConnectOptions,
    stream: &str,
    query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
) {
    let written = async {
        let mut connection = PgConnection::connect_with(options).await?;
        query.execute(&mut connection).await?;
        connection.close().await
    };
    match tokio::time::timeout(PATIENCE, written).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(stream, %error, "the table breakers can't be written"),
        Err(_) => tracing::warn!(stream, "the table breakers can't be written in time"),
    }
}
