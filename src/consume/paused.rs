//! The table `breakers`, in which others see that a stream pauses. It is a note and no promise:
//! where it can't be written, the stream pauses all the same.

use std::time::Duration;

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

/// How long writing the note may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One member's notes of one stream.
#[derive(Debug)]
pub(super) struct Paused {
    postgres: PgConnectOptions,
    stream: String,
    member: Uuid,
}

impl Paused {
    pub(super) fn new(postgres: PgConnectOptions, stream: String) -> Paused {
        Paused { postgres, stream, member: Uuid::from_u128(rand::random()) }
    }

    /// Notes that the stream pauses, and until when.
    pub(super) async fn note(&self, reason: &str, probe: Duration) {
        let sql = "INSERT INTO breakers (stream, member, reason, probe_at) \
                   VALUES ($1, $2, $3, now() + make_interval(secs => $4)) \
                   ON CONFLICT (stream, member) \
                   DO UPDATE SET reason = excluded.reason, probe_at = excluded.probe_at";
        let query = sqlx::query(sql).bind(&self.stream).bind(self.member);
        self.run(query.bind(reason).bind(probe.as_secs_f64())).await;
    }

    /// Takes the note back, and those of members that are not there any more to do so.
    pub(super) async fn forget(&self) {
        let sql = "DELETE FROM breakers WHERE stream = $1 \
                   AND (member = $2 OR probe_at < now() - interval '1 minute')";
        self.run(sqlx::query(sql).bind(&self.stream).bind(self.member)).await;
    }

    async fn run(
        &self,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) {
        let written = async {
            let mut connection = PgConnection::connect_with(&self.postgres).await?;
            query.execute(&mut connection).await?;
            connection.close().await
        };
        let stream = &self.stream;
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(stream, %error, "the table breakers can't be written");
            }
            Err(_) => tracing::warn!(stream, "the table breakers can't be written in time"),
        }
    }
}
