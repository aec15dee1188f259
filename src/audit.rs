//! Nothing lost, proven: the ledger against Kafka, the tables, the dead letters and their copies.
//!
//! Producers and consumers go on meanwhile, and are no cause for alarm. All that Postgres says is
//! of one snapshot; what Kafka says can't be of the same moment, so each of its figures is asked
//! for on that side of the snapshot on which it can't be too strict:
//!
//! | figure | asked for | because at the snapshot |
//! |---|---|---|
//! | where a partition's log begins, against what is unread | before | it began there or later |
//! | committed offsets | before | the ledger had got there |
//! | where the log ends, against what is still to be read | before | those records were there |
//! | where the log ends, against the ledger | after | it ended there or sooner |
//! | the dead-letter topic's records, against rows that left the outbox | after | they were there |
//! | the same, against rows that are missing | before | their rows were there |

mod copies;
mod figures;
mod judge;
mod kafka;
mod report;
mod snapshot;

use std::collections::BTreeMap;

use anyhow::Context;
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

pub use report::{Check, Checked, Finding, Report, State, StreamAudit, render};

use self::{
    copies::Copies,
    figures::{Figures, Log, PartitionFigures, Place},
    kafka::{Kafka, Watermarks},
    snapshot::Snapshot,
};
use crate::{broker::Broker, contract::Contract, sql::connect};

/// What is held against what.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// Consumer groups are `<prefix>.<stream>`.
    pub group_prefix: String,
    /// Whether what is still to be read or to be copied is a gap.
    pub drained: bool,
}

/// Audits the streams, one after another.
pub async fn audit(
    contracts: &[Contract],
    postgres: &PgConnectOptions,
    broker: &Broker,
    options: &AuditOptions,
) -> anyhow::Result<Report> {
    // on a large table a slow statement is no news
    let mut connection = connect(&postgres.clone().disable_statement_logging()).await?;
    let kafka = Kafka::reach(broker).await?;
    let mut streams = Vec::new();
    for contract in contracts {
        let group = format!("{}.{}", options.group_prefix, contract.stream);
        let figures = read(&mut connection, &kafka, contract, &group)
            .await
            .with_context(|| format!("{} can't be audited", contract.stream))?;
        streams.push(judge::judge(&figures, options.drained));
    }
    Ok(Report::of(streams))
}

/// Notes that a person knows of the gaps that the consumer found in a stream; gives how many are
/// new.
pub async fn accept_gaps(postgres: &PgConnectOptions, contract: &Contract) -> anyhow::Result<u64> {
    let mut connection = connect(postgres).await?;
    snapshot::accept_gaps(&mut connection, &contract.stream).await
}

/// Reads all figures of one stream.
async fn read(
    connection: &mut PgConnection,
    kafka: &Kafka<'_>,
    contract: &Contract,
    group: &str,
) -> anyhow::Result<Figures> {
    let topics = snapshot::topics(connection, contract).await?;
    let dead_letter_topic = std::slice::from_ref(&contract.dead_letter_topic.name);
    let before = kafka.watermarks(&topics)?;
    let committed = kafka.committed(group, before.keys())?;
    let copies_before = kafka.watermarks(dead_letter_topic)?;

    let mut snapshot = Snapshot::begin(connection).await?;
    let mut partitions = snapshot.partitions(contract).await?;
    let after = kafka.watermarks(&topics)?;
    let copies_after = kafka.watermarks(dead_letter_topic)?;
    for place in after.keys() {
        partitions.entry(place.clone()).or_default();
    }
    add_logs(&mut partitions, &before, &after, &committed);
    add_unread(&mut partitions, kafka)?;
    let gaps = snapshot.gaps(contract).await?;
    let rows = snapshot.rows(contract).await?;
    let buckets = snapshot.buckets(contract).await?;
    let letters = snapshot.letters(contract).await?;
    snapshot.end().await?;

    let mut copies = Copies::new(contract, letters);
    kafka.read_copies(&copies_before, &copies_after, &mut copies)?;
    let copies_kept = kafka.watermarks(dead_letter_topic)?.values().all(|marks| marks.low == 0);
    Ok(Figures {
        stream: contract.stream.clone(),
        topic: contract.topic.name.clone(),
        dead_letter_topic: contract.dead_letter_topic.name.clone(),
        table: contract.table.clone(),
        partitions,
        gaps,
        rows,
        buckets,
        copies: copies.compared(copies_kept),
    })
}

fn add_logs(
    partitions: &mut BTreeMap<Place, PartitionFigures>,
    before: &BTreeMap<Place, Watermarks>,
    after: &BTreeMap<Place, Watermarks>,
    committed: &BTreeMap<Place, i64>,
) {
    for (place, figures) in partitions {
        let Some(later) = after.get(place) else { continue };
        // one that was made in between has had nothing to lose
        let earlier = before.get(place).copied().unwrap_or_default();
        figures.log = Some(Log {
            unread_below: earlier.low,
            low: later.low,
            ready: earlier.high,
            high: later.high,
            committed: committed.get(place).copied(),
            ..Log::default()
        });
    }
}

/// Where the ledger leaves something out at either end of a log, looks whether there is a record
/// in it: what a transaction leaves behind, or a compaction has left out, takes offsets too.
fn add_unread(
    partitions: &mut BTreeMap<Place, PartitionFigures>,
    kafka: &Kafka<'_>,
) -> anyhow::Result<()> {
    let (mut heads, mut tails) = (Vec::new(), Vec::new());
    for (place, figures) in &*partitions {
        let Some(log) = &figures.log else { continue };
        if let Some(from) = figures.unread_head(log) {
            heads.push((place.clone(), from));
        }
        if let Some(from) = figures.unread_tail(log) {
            tails.push((place.clone(), from));
        }
    }
    let heads = kafka.first_records(&heads)?;
    let tails = kafka.first_records(&tails)?;
    for (place, figures) in partitions {
        if let Some(log) = &mut figures.log {
            log.head = heads.get(place).copied();
            log.tail = tails.get(place).copied();
        }
    }
    Ok(())
}
