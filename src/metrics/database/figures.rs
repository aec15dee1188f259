//! Ledger, dead letters, breakers and alerts.

use std::collections::BTreeMap;

use sqlx::{FromRow, PgConnection};

use super::super::list::{
    ALERTS_OPEN, BREAKERS, DELIVERIES_PENDING, LAG, LEDGER_NEWEST, LEDGER_OFFSETS, UNPUBLISHED,
};
use crate::{broker::TopicEnds, contract::Contract};

/// Who is told of alerts.
const TARGETS: [&str; 2] = ["topic", "webhook"];

/// What the fixed tables say.
#[derive(Debug, Default)]
pub(super) struct Figures {
    ledger: Vec<Account>,
    /// By stream.
    unpublished: BTreeMap<String, i64>,
    breakers: BTreeMap<String, i64>,
    /// By stream and name.
    alerts: BTreeMap<(String, String), i64>,
    /// By target.
    pending: BTreeMap<String, i64>,
}

/// The ledger's row of one partition.
#[derive(Debug, Default, FromRow)]
struct Account {
    stream: String,
    topic: String,
    partition: i32,
    next_offset: i64,
    inserted: i64,
    duplicate: i64,
    dead_lettered: i64,
    skipped: i64,
    expired: i64,
    newest: Option<f64>,
}

impl Figures {
    /// Reads what concerns these contracts.
    pub(super) async fn read(
        connection: &mut PgConnection,
        contracts: &[Contract],
    ) -> sqlx::Result<Figures> {
        let streams: Vec<&str> =
            contracts.iter().map(|contract| contract.stream.as_str()).collect();
        let ledger = sqlx::query_as(
            "SELECT stream, topic, partition, next_offset, inserted, duplicate, dead_lettered, \
             skipped, expired, extract(epoch FROM event_time)::double precision AS newest \
             FROM ledger WHERE stream = ANY($1)",
        );
        let ledger = ledger.bind(&streams).fetch_all(&mut *connection).await?;
        let alerts: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT stream, name, count(*) FROM alerts \
             WHERE status = 'open' AND stream = ANY($1) GROUP BY 1, 2",
        )
        .bind(&streams)
        .fetch_all(&mut *connection)
        .await?;
        let by_stream = async |connection: &mut PgConnection, table: &str| {
            let sql = format!(
                "SELECT stream, count(*) FROM {table} WHERE stream = ANY($1) GROUP BY stream"
            );
            let counts: sqlx::Result<Vec<(String, i64)>> =
                sqlx::query_as(&sql).bind(&streams).fetch_all(connection).await;
            counts.map(BTreeMap::from_iter)
        };
        let pending: Vec<(String, i64)> =
            sqlx::query_as("SELECT target, count(*) FROM alert_outbox GROUP BY target")
                .fetch_all(&mut *connection)
                .await?;
        Ok(Figures {
            ledger,
            unpublished: by_stream(connection, "dlq_outbox").await?,
            breakers: by_stream(connection, "breakers").await?,
            alerts: alerts.into_iter().map(|(stream, name, open)| ((stream, name), open)).collect(),
            pending: pending.into_iter().collect(),
        })
    }

    /// Tells the recorder in force.
    pub(super) fn show(&self, contracts: &[Contract], ends: &TopicEnds) {
        for contract in contracts {
            let stream = &*contract.stream;
            self.show_ledger(contract, ends);
            let of = |counts: &BTreeMap<String, i64>| number(counts.get(stream).copied());
            UNPUBLISHED.gauge(&[stream]).set(of(&self.unpublished));
            BREAKERS.gauge(&[stream]).set(of(&self.breakers));
            for alert in &contract.alerts {
                ALERTS_OPEN.gauge(&[stream, &alert.name]).set(0.0);
            }
        }
        for ((stream, name), open) in &self.alerts {
            ALERTS_OPEN.gauge(&[stream, name]).set(number(Some(*open)));
        }
        for target in TARGETS {
            let pending = number(self.pending.get(target).copied());
            DELIVERIES_PENDING.gauge(&[target]).set(pending);
        }
    }

    fn show_ledger(&self, contract: &Contract, ends: &TopicEnds) {
        let stream = &*contract.stream;
        let accounts = || self.ledger.iter().filter(|account| account.stream == stream);
        let mut offsets = BTreeMap::from(Account::default().outcomes());
        for (outcome, more) in accounts().flat_map(Account::outcomes) {
            *offsets.entry(outcome).or_default() += more;
        }
        for (outcome, offsets) in offsets {
            let offsets = u64::try_from(offsets).unwrap_or_default();
            LEDGER_OFFSETS.counter(&[stream, outcome]).absolute(offsets);
        }
        let newest = accounts().filter_map(|account| account.newest).reduce(f64::max);
        if let Some(newest) = newest {
            LEDGER_NEWEST.gauge(&[stream]).set(newest);
        }
        let topic = &contract.topic.name;
        let next: BTreeMap<i32, i64> = accounts()
            .filter(|account| account.topic == *topic)
            .map(|account| (account.partition, account.next_offset))
            .collect();
        if let Some(lag) = ends.behind(topic, &next) {
            LAG.gauge(&[stream]).set(number(Some(lag)));
        }
    }
}

impl Account {
    fn outcomes(&self) -> [(&'static str, i64); 5] {
        [
            ("inserted", self.inserted),
            ("duplicate", self.duplicate),
            ("dead_lettered", self.dead_lettered),
            ("skipped", self.skipped),
            ("expired", self.expired),
        ]
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody minds a record in 2^53")]
pub(super) fn number(count: Option<i64>) -> f64 {
    count.unwrap_or_default() as f64
}
