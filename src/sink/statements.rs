//! The statements with which one stream's rows are written, built once from its contract.

use crate::{
    contract::{Aggregate, Column, ColumnType, Contract, OnConflict},
    sql::{quoted, quoted_list},
};

/// Where a batch waits, visible to this connection only, until it is inserted.
const STAGING: &str = "sluicegate_staging";

/// The staging table's column that says which partition counts the row; -1 where none does.
const SLOT: &str = "sluicegate_slot";

/// One stream's statements.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    /// How many columns COPY's rows have: the slot and the table's.
    pub(super) columns: i16,
    /// Temporary tables, once a connection.
    pub(super) prepare: String,
    /// `COPY` into the staging table.
    pub(super) copy: String,
    /// Run once the rows are staged, before they land.
    pub(super) before: Vec<String>,
    /// From staging into the table; gives the number of rows that were new, by slot.
    pub(super) land: String,
    /// Run once the rows have landed.
    pub(super) after: Vec<String>,
    /// Empties the temporary tables, for when a batch is written in parts.
    pub(super) clear: String,
    /// Whether writers of this stream must take turns.
    pub(super) exclusive: bool,
}

impl Statements {
    pub(super) fn new(contract: &Contract) -> Statements {
        let columns = contract.table_columns();
        let names = quoted_list(columns.iter().map(|column| column.name.as_str()));
        let staged: Vec<String> =
            columns.iter().map(|c| format!("{} {}", quoted(&c.name), c.kind)).collect();
        let mut prepare = format!(
            "DROP TABLE IF EXISTS pg_temp.{STAGING};\n\
             CREATE TEMPORARY TABLE {STAGING} ({SLOT} integer, {}) ON COMMIT DELETE ROWS",
            staged.join(", ")
        );
        let mut clear = format!("DELETE FROM {STAGING}");
        let exclusive =
            contract.on_conflict == OnConflict::Latest && !contract.aggregates.is_empty();
        if exclusive {
            for (index, aggregate) in contract.aggregates.iter().enumerate() {
                let touched = touched(index);
                prepare.push_str(&format!(
                    ";\nDROP TABLE IF EXISTS pg_temp.{touched};\n\
                     CREATE TEMPORARY TABLE {touched} ({}) ON COMMIT DELETE ROWS",
                    definitions(aggregate)
                ));
                clear.push_str(&format!("; DELETE FROM {touched}"));
            }
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        if exclusive {
            for (index, aggregate) in contract.aggregates.iter().enumerate() {
                before.push(touch(contract, aggregate, index));
                after.extend(remake(contract, aggregate, index));
            }
        }
        let land = match contract.on_conflict {
            OnConflict::Ignore => insert_new(contract, &names),
            OnConflict::Latest => upsert_newer(contract, &columns, &names),
        };
        Statements {
            columns: i16::try_from(columns.len().saturating_add(1)).unwrap_or(i16::MAX),
            prepare,
            copy: format!("COPY {STAGING} ({SLOT}, {names}) FROM STDIN (FORMAT binary)"),
            before,
            land,
            after,
            clear,
            exclusive,
        }
    }
}

/// The first event with an id stands; aggregates are made of the rows that were really new, and
/// touched last and in the order of their keys, so that two sinks wait for each other shortly and
/// never in a circle.
fn insert_new(contract: &Contract, names: &str) -> String {
    let (table, id) = (quoted(&contract.table), quoted(contract.id_column()));
    let mut sql = format!(
        "WITH landed AS (INSERT INTO {table} ({names}) SELECT {names} FROM {STAGING} \
         ON CONFLICT ({id}) DO NOTHING RETURNING *)"
    );
    for (index, aggregate) in contract.aggregates.iter().enumerate() {
        let (agg, keys) = (quoted(&aggregate.table), keys(aggregate));
        let sums = sums(aggregate);
        let columns: Vec<&str> = sums.iter().map(|sum| sum.column.as_str()).collect();
        let merged: Vec<String> =
            sums.iter().map(|sum| format!("{} = {}", sum.column, sum.merged)).collect();
        let grouped = grouped(contract, aggregate, "landed AS fresh");
        sql.push_str(&format!(
            ",\nagg_{index} AS (INSERT INTO {agg} AS kept ({keys}, {}) {grouped} \
             ORDER BY {} ON CONFLICT ({keys}) DO UPDATE SET {})",
            columns.join(", "),
            key_positions(aggregate),
            merged.join(", ")
        ));
    }
    sql.push_str(&format!("\n{}", count("landed", &id, "true")));
    sql
}

/// The event with the newer time wins.
fn upsert_newer(contract: &Contract, columns: &[Column], names: &str) -> String {
    let (table, id) = (quoted(&contract.table), quoted(contract.id_column()));
    let time = contract.time_column().map_or_else(String::new, |column| quoted(&column.name));
    let assigned: Vec<String> = columns
        .iter()
        .map(|column| quoted(&column.name))
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    format!(
        "WITH landed AS (INSERT INTO {table} AS kept ({names}) SELECT {names} FROM {STAGING} \
         ON CONFLICT ({id}) DO UPDATE SET {} WHERE excluded.{time} > kept.{time} \
         RETURNING kept.{id}, kept.xmax = 0 AS fresh)\n{}",
        assigned.join(", "),
        count("landed", &id, "landed.fresh")
    )
}

/// How many of the landed rows are new, by the slot that counts them.
fn count(landed: &str, id: &str, fresh: &str) -> String {
    format!(
        "SELECT staged.{SLOT}, count(*) FROM {landed} JOIN {STAGING} AS staged USING ({id}) \
         WHERE staged.{SLOT} >= 0 AND {fresh} GROUP BY staged.{SLOT}"
    )
}

/// Remembers the buckets that the staged rows are in, and those that the rows they replace are
/// in. A minimum can't be taken back out of an aggregate, so [`remake`] makes them again.
fn touch(contract: &Contract, aggregate: &Aggregate, index: usize) -> String {
    let (table, id) = (quoted(&contract.table), quoted(contract.id_column()));
    let values = key_values(contract, aggregate, "fresh");
    let time = event_time(contract, "fresh");
    format!(
        "INSERT INTO {} SELECT {values} FROM {table} AS fresh JOIN {STAGING} AS staged USING ({id}) \
         WHERE {time} IS NOT NULL \
         UNION SELECT {values} FROM {STAGING} AS fresh WHERE {time} IS NOT NULL",
        touched(index)
    )
}

/// Makes the touched buckets again from the table's rows.
fn remake(contract: &Contract, aggregate: &Aggregate, index: usize) -> [String; 2] {
    let (agg, keys, touched) = (quoted(&aggregate.table), keys(aggregate), touched(index));
    let same_keys = |left: &str| {
        let names = std::iter::once(aggregate.bucket_column())
            .chain(aggregate.by.iter().map(|column| column.name.as_str()));
        let same = |name| {
            let name = quoted(name);
            format!("{left}.{name} IS NOT DISTINCT FROM touched.{name}")
        };
        names.map(same).collect::<Vec<_>>().join(" AND ")
    };
    let sums = sums(aggregate);
    let columns: Vec<&str> = sums.iter().map(|sum| sum.column.as_str()).collect();
    let bucket = quoted(aggregate.bucket_column());
    let time = event_time(contract, "fresh");
    // the plain comparison of times is what an index can answer
    let mut matches = vec![
        format!("{time} >= touched.{bucket}"),
        format!("{time} < touched.{bucket} + {}", width(aggregate)),
    ];
    matches.extend(aggregate.by.iter().map(|column| {
        let name = quoted(&column.name);
        format!("fresh.{name} IS NOT DISTINCT FROM touched.{name}")
    }));
    let from = format!(
        "{touched} AS touched JOIN {} AS fresh ON {}",
        quoted(&contract.table),
        matches.join(" AND ")
    );
    [
        format!("DELETE FROM {agg} AS kept USING {touched} AS touched WHERE {}", same_keys("kept")),
        format!(
            "INSERT INTO {agg} ({keys}, {}) {}",
            columns.join(", "),
            grouped(contract, aggregate, &from)
        ),
    ]
}

/// The table's rows, named `fresh`, summed up by an aggregate's keys.
fn grouped(contract: &Contract, aggregate: &Aggregate, from: &str) -> String {
    let values: Vec<String> = sums(aggregate).into_iter().map(|sum| sum.value).collect();
    format!(
        "SELECT {}, {} FROM {from} WHERE {} IS NOT NULL GROUP BY {}",
        key_values(contract, aggregate, "fresh"),
        values.join(", "),
        event_time(contract, "fresh"),
        key_positions(aggregate)
    )
}

/// The keys' places in a list of [`key_values`].
fn key_positions(aggregate: &Aggregate) -> String {
    (1..=aggregate.by.len() + 1).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
}

/// What recomputes an aggregate from its stream's table, with the columns in the order of
/// [`aggregate_columns`].
pub fn recomputed(contract: &Contract, aggregate: &Aggregate) -> String {
    grouped(contract, aggregate, &format!("{} AS fresh", quoted(&contract.table)))
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
    for of in &aggregate.of {
        let (from, nullable) = (format!("fresh.{}", quoted(&of.name)), of.nullable);
        if nullable {
            sums.push(count(&format!("{}_count", of.name), &from));
        }
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

/// The bucket and the dimensions, as an aggregate's table names them.
fn keys(aggregate: &Aggregate) -> String {
    let by = aggregate.by.iter().map(|column| column.name.as_str());
    quoted_list(std::iter::once(aggregate.bucket_column()).chain(by))
}

/// The bucket and the dimensions, from rows of the stream's columns.
fn key_values(contract: &Contract, aggregate: &Aggregate, rows: &str) -> String {
    // 2000-01-03 is a Monday, so that buckets of 7d are weeks
    let bucket = format!(
        "date_bin({}, {}, timestamptz '2000-01-03 00:00:00+00')",
        width(aggregate),
        event_time(contract, rows)
    );
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

/// Columns of an aggregate's key, for the temporary table of the buckets that a batch touches.
fn definitions(aggregate: &Aggregate) -> String {
    let keys = aggregate_columns(aggregate);
    let keys = keys.iter().take(aggregate.by.len() + 1);
    keys.map(|column| format!("{} {}", quoted(&column.name), column.kind))
        .collect::<Vec<_>>()
        .join(", ")
}

fn touched(index: usize) -> String {
    format!("sluicegate_touched_{index}")
}
