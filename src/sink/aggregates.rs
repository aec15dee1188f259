//! The statements that keep aggregates: added to by new rows, or made again from the table.

use super::bucket::ORIGIN_SQL;
use crate::{
    contract::{Aggregate, Column, ColumnType, Contract},
    sql::{quoted, quoted_list},
};

/// What [`grouped`] calls the event's time.
const TIME: &str = "sluicegate_time";

/// Adds the rows of `from`, named `fresh`, to an aggregate, in the order of its keys.
pub(super) fn add(contract: &Contract, aggregate: &Aggregate, from: &str) -> String {
    merge(aggregate, &grouped(contract, aggregate, from))
}

/// Adds rows of the aggregate that are in another table.
pub(super) fn add_partial(aggregate: &Aggregate, table: &str) -> String {
    let columns = aggregate_columns(aggregate);
    let names = quoted_list(columns.iter().map(|column| column.name.as_str()));
    merge(aggregate, &format!("SELECT {names} FROM {table}"))
}

/// Adds the rows of a query with the aggregate's columns, one a key, to the aggregate.
fn merge(aggregate: &Aggregate, query: &str) -> String {
    let (agg, keys) = (quoted(&aggregate.table), keys(aggregate));
    let sums = sums(aggregate);
    let columns: Vec<&str> = sums.iter().map(|sum| sum.column.as_str()).collect();
    let merged: Vec<String> =
        sums.iter().map(|sum| format!("{} = {}", sum.column, sum.merged)).collect();
    format!(
        "INSERT INTO {agg} AS kept ({keys}, {}) {query} ORDER BY {} ON CONFLICT ({keys}) DO UPDATE SET {}",
        columns.join(", "),
        key_positions(aggregate),
        merged.join(", ")
    )
}

/// Fills an empty aggregate from its stream's table.
pub fn fill(contract: &Contract, aggregate: &Aggregate) -> String {
    let sums = sums(aggregate);
    let columns: Vec<&str> = sums.iter().map(|sum| sum.column.as_str()).collect();
    let rows = format!("{} AS fresh", quoted(&contract.table));
    format!(
        "INSERT INTO {} ({}, {}) {}",
        quoted(&aggregate.table),
        keys(aggregate),
        columns.join(", "),
        grouped(contract, aggregate, &rows)
    )
}

/// An aggregate as the stream's table makes it: the query for its rows, columns in their order.
pub(crate) fn recomputed(contract: &Contract, aggregate: &Aggregate) -> String {
    grouped(contract, aggregate, &format!("{} AS fresh", quoted(&contract.table)))
}

/// Remembers the buckets that change: those of the rows that are new or newer, and those of the
/// rows that they replace. A minimum can't be taken back out of an aggregate, so [`remake`] makes
/// these buckets again.
pub(super) fn touch(
    contract: &Contract,
    aggregate: &Aggregate,
    index: usize,
    staged: &str,
) -> String {
    let (table, id) = (quoted(&contract.table), quoted(contract.id_column()));
    let values = key_values(contract, aggregate, "fresh");
    let time = |rows| event_time(contract, rows);
    format!(
        "INSERT INTO {} SELECT {values} FROM {table} AS fresh JOIN {staged} AS newer USING ({id}) \
         WHERE {} > {} \
         UNION SELECT {values} FROM {staged} AS fresh LEFT JOIN {table} AS kept USING ({id}) \
         WHERE {} > {} OR (kept.{id} IS NULL AND {} IS NOT NULL)",
        touched(index),
        time("newer"),
        time("fresh"),
        time("fresh"),
        time("kept"),
        time("fresh"),
    )
}

/// Makes the touched buckets again from the table's rows.
pub(super) fn remake(contract: &Contract, aggregate: &Aggregate, index: usize) -> [String; 2] {
    let (agg, keys, touched) = (quoted(&aggregate.table), keys(aggregate), touched(index));
    let sums = sums(aggregate);
    let columns: Vec<&str> = sums.iter().map(|sum| sum.column.as_str()).collect();
    let bucket = quoted(aggregate.bucket_column());
    let time = event_time(contract, "fresh");
    // the plain comparison of times is what an index can answer
    let mut matches = vec![
        format!("{time} >= touched.{bucket}"),
        format!("{time} < touched.{bucket} + {}", width(aggregate)),
    ];
    matches.extend(aggregate.by.iter().map(|column| same("fresh", column)));
    let mut kept = vec![format!("kept.{bucket} = touched.{bucket}")];
    kept.extend(aggregate.by.iter().map(|column| same("kept", column)));
    let from = format!(
        "{touched} AS touched JOIN {} AS fresh ON {}",
        quoted(&contract.table),
        matches.join(" AND ")
    );
    [
        format!(
            "DELETE FROM {agg} AS kept USING {touched} AS touched WHERE {}",
            kept.join(" AND ")
        ),
        format!(
            "INSERT INTO {agg} ({keys}, {}) {}",
            columns.join(", "),
            grouped(contract, aggregate, &from)
        ),
    ]
}

/// That a row has a touched bucket's dimension; the plain comparison is what an index can answer.
fn same(rows: &str, column: &Column) -> String {
    let name = quoted(&column.name);
    let equals = if column.nullable { "IS NOT DISTINCT FROM" } else { "=" };
    format!("{rows}.{name} {equals} touched.{name}")
}

/// The table's rows, named `fresh`, summed up by an aggregate's keys. A window finds the newest ones:
/// it needs no more memory for a bucket of many rows than for one of few, as an array would.
fn grouped(contract: &Contract, aggregate: &Aggregate, from: &str) -> String {
    let (keys, time) = (key_values(contract, aggregate, "fresh"), event_time(contract, "fresh"));
    let newest = aggregate.of.iter().enumerate().map(|(index, of)| {
        let (of, newest) = (quoted(&of.name), newest(index));
        format!("max({time}) FILTER (WHERE fresh.{of} IS NOT NULL) OVER bucket AS {newest}")
    });
    let columns = ["fresh.*".to_owned(), format!("{time} AS {TIME}")];
    let columns: Vec<String> = columns.into_iter().chain(newest).collect();
    let values: Vec<String> = sums(aggregate).into_iter().map(|sum| sum.value).collect();
    format!(
        "SELECT {keys}, {} FROM (SELECT {} FROM {from} WHERE {time} IS NOT NULL \
         WINDOW bucket AS (PARTITION BY {keys})) AS fresh GROUP BY {}",
        values.join(", "),
        columns.join(", "),
        key_positions(aggregate)
    )
}

/// What [`grouped`] calls the time of the newest row of a bucket that has a field of `of`.
fn newest(index: usize) -> String {
    format!("sluicegate_newest_{index}")
}

/// The keys' places in a list of [`key_values`].
fn key_positions(aggregate: &Aggregate) -> String {
    (1..=aggregate.by.len() + 1).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
}

/// An aggregate's columns: the bucket, the dimensions, then `count` and the sums.
pub fn aggregate_columns(aggregate: &Aggregate) -> Vec<Column> {
    let bucket = Column {
        name: aggregate.bucket_column().to_owned(),
        kind: ColumnType::TimestampTz,
        nullable: false,
    };
    let sums = sums(aggregate).into_iter().map(|sum| Column {
        name: sum.column.trim_matches('"').replace("\"\"", "\""),
        kind: sum.kind,
        nullable: sum.nullable,
    });
    std::iter::once(bucket).chain(aggregate.by.iter().cloned()).chain(sums).collect()
}

/// One column of an aggregate that is not part of its key.
struct Sum {
    /// Its quoted name.
    column: String,
    kind: ColumnType,
    nullable: bool,
    /// From the rows named `fresh`.
    value: String,
    /// From the rows named `kept` and `excluded`.
    merged: String,
}

fn sums(aggregate: &Aggregate) -> Vec<Sum> {
    let count = |name: &str, of: &str| {
        let column = quoted(name);
        // a column that came later is null in the buckets that were there before
        let merged = format!("coalesce(kept.{column}, 0) + excluded.{column}");
        let value = format!("count({of})");
        Sum { column, kind: ColumnType::Bigint, nullable: false, value, merged }
    };
    let mut sums = vec![count("count", "*")];
    for (index, of) in aggregate.of.iter().enumerate() {
        let (from, nullable) = (format!("fresh.{}", quoted(&of.name)), of.nullable);
        if nullable {
            sums.push(count(&format!("{}_count", of.name), &from));
        }
        sums.extend(last(of, index));
        let column = quoted(&format!("{}_sum", of.name));
        let kind = of.kind.sum();
        // a sum over nothing but nulls is null, and null plus a number would be null
        let merged = format!(
            "CASE WHEN kept.{column} IS NULL THEN excluded.{column} \
             WHEN excluded.{column} IS NULL THEN kept.{column} \
             ELSE kept.{column} + excluded.{column} END"
        );
        let value = match kind {
            ColumnType::Double => format!("sum({from}::{kind})"),
            _ => format!("sum({from})::{kind}"),
        };
        sums.push(Sum { column, value, kind, nullable, merged });
        for (name, function) in [("min", "least"), ("max", "greatest")] {
            let column = quoted(&format!("{}_{name}", of.name));
            let merged = format!("{function}(kept.{column}, excluded.{column})");
            let value = format!("{name}({from})");
            sums.push(Sum { column, kind: of.kind.clone(), nullable, value, merged });
        }
    }
    sums
}

/// The value of the newest event, and that event's time. Of equal times the greater value stands, so
/// that the order in which events land does not matter.
///
/// They come before the sum: where they came later, `ALTER TABLE` put them behind it, and by that the
/// audit knows them.
fn last(of: &Column, index: usize) -> [Sum; 2] {
    let (from, newest, nullable) = (quoted(&of.name), newest(index), of.nullable);
    let (last, at) =
        (quoted(&format!("{}_last", of.name)), quoted(&format!("{}_last_at", of.name)));
    [
        Sum {
            kind: of.kind.clone(),
            nullable,
            value: format!("max(fresh.{from}) FILTER (WHERE fresh.{TIME} = fresh.{newest})"),
            merged: format!(
                "CASE WHEN excluded.{at} > kept.{at} OR kept.{at} IS NULL THEN excluded.{last} \
                 WHEN excluded.{at} = kept.{at} THEN greatest(kept.{last}, excluded.{last}) \
                 ELSE kept.{last} END"
            ),
            column: last,
        },
        Sum {
            kind: ColumnType::TimestampTz,
            nullable,
            value: format!("max(fresh.{newest})"),
            merged: format!("greatest(kept.{at}, excluded.{at})"),
            column: at,
        },
    ]
}

/// The bucket and the dimensions, as an aggregate's table names them.
fn keys(aggregate: &Aggregate) -> String {
    let by = aggregate.by.iter().map(|column| column.name.as_str());
    quoted_list(std::iter::once(aggregate.bucket_column()).chain(by))
}

/// The bucket and the dimensions, from rows of the stream's columns.
fn key_values(contract: &Contract, aggregate: &Aggregate, rows: &str) -> String {
    let (width, time) = (width(aggregate), event_time(contract, rows));
    let bucket = format!("date_bin({width}, {time}, {ORIGIN_SQL})");
    let by = aggregate.by.iter().map(|column| format!("{rows}.{}", quoted(&column.name)));
    std::iter::once(bucket).chain(by).collect::<Vec<_>>().join(", ")
}

fn event_time(contract: &Contract, rows: &str) -> String {
    // an aggregate without an event time does not pass the contract's reading
    contract.time_column().map_or_else(|| "NULL".into(), |c| format!("{rows}.{}", quoted(&c.name)))
}

fn width(aggregate: &Aggregate) -> String {
    format!("interval '{} seconds'", aggregate.every.duration().as_secs())
}

/// The columns of an aggregate's key.
pub(super) fn key_columns(aggregate: &Aggregate) -> Vec<Column> {
    aggregate_columns(aggregate).into_iter().take(aggregate.by.len() + 1).collect()
}

/// The temporary table of the buckets that a batch touches.
pub(super) fn touched(index: usize) -> String {
    format!("sluicegate_touched_{index}")
}
