//! What is true of the database and of Kafka, whoever made it so: read when somebody scrapes, and
//! shown by a recorder that lives for one scrape, so that a series that is gone is gone.

mod buckets;
mod figures;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::{sync::Mutex, time::timeout};

use self::{
    buckets::{Bucket, Shown},
    figures::Figures,
};
use super::{
    describe, describe_missing,
    list::{DATABASE, DATABASE_UP, SCRAPE_ERRORS},
    recorder,
};
use crate::{broker::TopicEnds, contract::Contract, sql::said};

/// How long reading may take: Prometheus itself waits for ten seconds.
const LIMIT: Duration = Duration::from_secs(5);

/// What `serve` shows of the streams, whoever runs them.
pub struct DatabaseMetrics {
    contracts: Arc<Vec<Contract>>,
    postgres: PgConnectOptions,
    shown: Vec<Shown>,
    ends: Arc<TopicEnds>,
    most_series: usize,
    last: Mutex<Last>,
}

/// What the last scrape leaves to the next.
#[derive(Default)]
struct Last {
    connection: Option<PgConnection>,
    text: String,
    /// When the text was complete.
    at: Option<Instant>,
    /// Whether it has been said that the database can't be read.
    is_away: bool,
}

impl DatabaseMetrics {
    /// Of each aggregate at most `most_series` sets of dimensions are shown. `ends` knows where the
    /// contracts' topics end.
    pub fn new(
        contracts: Arc<Vec<Contract>>,
        postgres: PgConnectOptions,
        ends: Arc<TopicEnds>,
        most_series: usize,
    ) -> DatabaseMetrics {
        let postgres = postgres.application_name("sluicegate metrics").options([
            // the server gives up when we do
            ("statement_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("default_transaction_read_only", "on"),
            ("jit", "off"),
        ]);
        DatabaseMetrics {
            shown: buckets::shown(&contracts),
            ends,
            contracts,
            postgres,
            most_series,
            last: Mutex::default(),
        }
    }

    /// The text that Prometheus reads. Where the database can't be read in time it says so, and
    /// no more. Those who ask at the same time get the same answer.
    pub async fn render(&self) -> String {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if last.at.is_some_and(|at| at >= asked) {
            return last.text.clone();
        }
        // whoever hangs up in the middle takes the connection along
        let read = timeout(LIMIT, self.read(last.connection.take())).await;
        let read = read.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")));
        let read = match read {
            Ok((connection, figures, buckets)) => {
                last.connection = Some(connection);
                last.is_away = false;
                Some((figures, buckets))
            }
            Err(error) => {
                SCRAPE_ERRORS.counter(&[]).increment(1);
                if !std::mem::replace(&mut last.is_away, true) {
                    tracing::warn!(error, "metrics of the database are missing until it answers");
                }
                None
            }
        };
        last.text = self.text(read.as_ref());
        last.at = Some(Instant::now());
        last.text.clone()
    }

    /// Reads everything as it is at one moment.
    async fn read(
        &self,
        connection: Option<PgConnection>,
    ) -> Result<(PgConnection, Figures, Vec<Option<Bucket>>), String> {
        let read = async {
            let mut connection = match connection {
                Some(connection) => connection,
                None => PgConnection::connect_with(&self.postgres).await?,
            };
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
            let figures = Figures::read(&mut connection, &self.contracts).await?;
            let mut buckets = Vec::new();
            for shown in &self.shown {
                buckets.push(Bucket::read(&mut connection, shown, self.most_series).await?);
            }
            connection.execute("COMMIT").await?;
            Ok((connection, figures, buckets))
        };
        read.await.map_err(|error: sqlx::Error| said(&error))
    }

    fn text(&self, read: Option<&(Figures, Vec<Option<Bucket>>)>) -> String {
        let recorder = match recorder() {
            Ok(recorder) => recorder,
            Err(error) => return format!("# {error}\n"),
        };
        ::metrics::with_local_recorder(&recorder, || {
            describe(DATABASE);
            DATABASE_UP.gauge(&[]).set(f64::from(u8::from(read.is_some())));
            if let Some((figures, buckets)) = read {
                figures.show(&self.contracts, &self.ends);
                for (shown, bucket) in self.shown.iter().zip(buckets) {
                    shown.show(bucket.as_ref());
                }
            }
        });
        let mut text = recorder.handle().render();
        describe_missing(&mut text, DATABASE);
        text
    }
}
