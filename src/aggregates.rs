//! Aggregates held against what the rows of their stream's table make, by Postgres itself.
//!
//! Consumers go on meanwhile: all that is read of a stream is of one snapshot.

mod buckets;

use anyhow::Context;
use serde::Serialize;
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

use crate::{
    contract::{Aggregate, Contract},
    screen::table,
    sql::{begin_snapshot, connect, quoted, unreadable},
};

/// All aggregates of some streams.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every bucket is what the rows make.
    pub equal: bool,
    /// Each aggregate.
    pub aggregates: Vec<Buckets>,
}

/// One aggregate against its stream's table.
#[derive(Debug, Default, Serialize)]
pub struct Buckets {
    /// The stream.
    pub stream: String,
    /// The stream's table.
    pub rows_of: String,
    /// The aggregate's table.
    pub table: String,
    /// How many buckets it has.
    pub kept: i64,
    /// How many differ.
    pub differing: i64,
    /// The first of these, in words.
    pub first: Vec<String>,
    /// Columns that were added later, and count from then on.
    pub late: Vec<String>,
}

/// Makes every aggregate of the streams again from the rows, one stream after another, and says what
/// differs.
pub async fn verify(contracts: &[Contract], postgres: &PgConnectOptions) -> anyhow::Result<Report> {
    // on a large table a slow statement is no news
    let mut connection = connect(&postgres.clone().disable_statement_logging()).await?;
    let mut aggregates = Vec::new();
    for contract in contracts {
        let of_stream = snapshot_of(&mut connection, contract).await;
        let failed = || format!("the aggregates of {} can't be verified", contract.stream);
        aggregates.extend(of_stream.with_context(failed)?);
    }
    let equal = aggregates.iter().all(|buckets| buckets.differing == 0);
    Ok(Report { equal, aggregates })
}

async fn snapshot_of(
    connection: &mut PgConnection,
    contract: &Contract,
) -> anyhow::Result<Vec<Buckets>> {
    let mut snapshot = begin_snapshot(connection).await.map_err(unreadable)?;
    let all = compare(&mut snapshot, contract).await.map_err(unreadable)?;
    snapshot.commit().await.map_err(unreadable)?;
    Ok(all)
}

/// Holds each aggregate of a stream against its table; where anybody writes meanwhile, that has to be
/// in a snapshot.
pub(crate) async fn compare(
    connection: &mut PgConnection,
    contract: &Contract,
) -> sqlx::Result<Vec<Buckets>> {
    let mut all = Vec::new();
    for aggregate in &contract.aggregates {
        let count = format!("SELECT count(*) FROM {}", quoted(&aggregate.table));
        let kept = sqlx::query_scalar(&count).fetch_one(&mut *connection).await?;
        let late = late(connection, aggregate).await?;
        let differing = buckets::differing(contract, aggregate, &late);
        let rows = sqlx::query(&differing).fetch_all(&mut *connection).await?;
        let (differing, first) = buckets::described(aggregate, &rows)?;
        let (stream, rows_of) = (contract.stream.clone(), contract.table.clone());
        let table = aggregate.table.clone();
        all.push(Buckets { stream, rows_of, table, kept, differing, first, late });
    }
    Ok(all)
}

/// The columns of an aggregate that came later.
async fn late(connection: &mut PgConnection, aggregate: &Aggregate) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT attname::text, attnotnull FROM pg_attribute \
               WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 ORDER BY attnum";
    let columns = sqlx::query_as(sql).bind(&aggregate.table).fetch_all(connection).await?;
    Ok(buckets::late(aggregate, &columns))
}

impl Buckets {
    /// How many differ and what to do about it, if any do.
    pub(crate) fn difference(&self) -> Option<String> {
        let (table, rows_of) = (quoted(&self.table), quoted(&self.rows_of));
        let what = counted(self.differing, "bucket");
        (self.differing > 0).then(|| {
            format!(
                "{what} of {table} not what the rows of {rows_of} make; to make it again: DROP TABLE \
                 {table}; and `sluicegate migrate`"
            )
        })
    }

    /// What could not be compared, if anything.
    pub(crate) fn note(&self) -> Option<String> {
        let (table, columns) = (quoted(&self.table), self.late.join(", "));
        (!self.late.is_empty()).then(|| {
            format!("not compared, as they count from when they were added to {table}: {columns}")
        })
    }
}

/// For a person: a table with a line an aggregate, what differs, and what it comes to.
pub fn render(report: &Report) -> String {
    let mut table = table(["stream", "aggregate", "buckets", "differing"], 2..=3);
    for buckets in &report.aggregates {
        let numbers = [buckets.kept, buckets.differing].map(|number| number.to_string());
        let [kept, differing] = numbers;
        table.add_row([buckets.stream.clone(), buckets.table.clone(), kept, differing]);
    }
    let mut text = format!("{table}\n");
    for buckets in &report.aggregates {
        let stream = &buckets.stream;
        if let Some(difference) = buckets.difference() {
            text.push_str(&format!("{stream}: {difference}\n"));
        }
        for example in &buckets.first {
            text.push_str(&format!("  {example}\n"));
        }
        if let Some(note) = buckets.note() {
            text.push_str(&format!("{stream}: {note}\n"));
        }
    }
    let differing = report.aggregates.iter().map(|buckets| buckets.differing).sum();
    text.push_str(&match differing {
        0 => "every bucket is what the rows make".to_owned(),
        1 => "1 bucket is not what the rows make".to_owned(),
        differing => format!("{differing} buckets are not what the rows make"),
    });
    text
}

/// A number of things.
pub(crate) fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_and_what_was_not_compared_is_below_the_table() {
        let equal = Buckets {
            stream: "readings".into(),
            rows_of: "readings".into(),
            table: "agg_readings_minute".into(),
            kept: 12_345,
            late: vec!["value_last".into(), "value_last_at".into()],
            ..Buckets::default()
        };
        let differing = Buckets {
            stream: "events".into(),
            rows_of: "raw_events".into(),
            table: "agg_events_minute".into(),
            kept: 3,
            differing: 2,
            first: vec!["minute 1: is missing".into(), "minute 2: is missing".into()],
            late: Vec::new(),
        };
        let report = Report { equal: false, aggregates: vec![equal, differing] };
        insta::assert_snapshot!(render(&report), @r#"
        ┌──────────────────────────────────────────────────────┐
        │ stream     aggregate             buckets   differing │
        ╞══════════════════════════════════════════════════════╡
        │ readings   agg_readings_minute     12345           0 │
        │ events     agg_events_minute           3           2 │
        └──────────────────────────────────────────────────────┘
        readings: not compared, as they count from when they were added to "agg_readings_minute": value_last, value_last_at
        events: 2 buckets of "agg_events_minute" not what the rows of "raw_events" make; to make it again: DROP TABLE "agg_events_minute"; and `sluicegate migrate`
          minute 1: is missing
          minute 2: is missing
        2 buckets are not what the rows make
        "#);
        let nothing = Report { equal: true, aggregates: Vec::new() };
        assert!(render(&nothing).ends_with("every bucket is what the rows make"));
    }
}
