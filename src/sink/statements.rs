//! The statements with which one stream's rows are written, built once from its contract.

use super::{aggregates, aggregates::aggregate_columns, tally::Plan};
use crate::{
    contract::{Aggregate, Column, Contract, OnConflict},
    sql::{literal, quoted, quoted_list},
};

/// Where a batch waits, visible to this connection only, until it is inserted.
const STAGING: &str = "sluicegate_staging";

/// The staging table's column that says which partition counts the row; -1 where none does.
const SLOT: &str = "sluicegate_slot";

/// The staging table's column that numbers the rows of a batch.
const NUMBER: &str = "sluicegate_row";

/// One stream's statements.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    /// How many columns COPY's rows have: slot, number and the table's.
    pub(super) columns: i16,
    /// Temporary tables, once a connection.
    pub(super) prepare: String,
    /// `COPY` into the staging table.
    pub(super) stage: String,
    /// For all that is staged.
    pub(super) all: Landing,
    /// For the rows numbered from `$1` to `$2`.
    pub(super) part: Landing,
    /// Run once the rows have landed.
    pub(super) after: Vec<String>,
    /// Run before the first part. Nothing is known of a temporary table's numbers, and the
    /// planner would guess that a part is a handful of rows.
    pub(super) prepare_parts: String,
    /// Whether writers of this stream must take turns.
    pub(super) exclusive: bool,
    /// Past the staging table, where the contract's rows may go that way.
    pub(super) direct: Option<Direct>,
}

/// Straight into the table.
#[derive(Debug, Clone)]
pub(super) struct Direct {
    /// How many columns the table has.
    pub(super) columns: i16,
    /// `COPY` into the table.
    pub(super) copy: String,
    /// `COPY` of numbered rows into the staging table.
    pub(super) stage: String,
    /// Lands what is staged, and gives the numbers of those that were new.
    pub(super) land_staged: String,
    /// One an aggregate.
    pub(super) partials: Vec<Partial>,
    /// What the rows add to the aggregates into these: all in one statement of the same shape as
    /// that of staged rows, so that both take the aggregates' locks in the same order.
    pub(super) merge: String,
    /// Whether a trigger may make other rows of ours than those that the aggregates are made of.
    pub(super) is_rewritten: String,
}

/// What some rows add to an aggregate.
#[derive(Debug, Clone)]
pub(super) struct Partial {
    pub(super) plan: Plan,
    /// `COPY` into the temporary table of such rows.
    pub(super) copy: String,
}

/// From staging into the table.
#[derive(Debug, Clone)]
pub(super) struct Landing {
    /// Run before the rows land.
    pub(super) before: Vec<String>,
    /// Gives the number of rows that were new, by slot.
    pub(super) land: String,
}

impl Statements {
    pub(super) fn new(contract: &Contract) -> Statements {
        let columns = contract.table_columns();
        let names = quoted_list(columns.iter().map(|column| column.name.as_str()));
        let staged: Vec<String> =
            columns.iter().map(|c| format!("{} {}", quoted(&c.name), c.kind)).collect();
        let mut prepare = format!(
            "DROP TABLE IF EXISTS pg_temp.{STAGING};\n\
             CREATE TEMPORARY TABLE {STAGING} ({SLOT} integer, {NUMBER} integer, {}) \
             ON COMMIT DELETE ROWS",
            staged.join(", ")
        );
        let exclusive =
            contract.on_conflict == OnConflict::Latest && !contract.aggregates.is_empty();
        let mut after = Vec::new();
        if exclusive {
            for (index, aggregate) in contract.aggregates.iter().enumerate() {
                let touched = aggregates::touched(index);
                prepare.push_str(&format!(
                    ";\nDROP TABLE IF EXISTS pg_temp.{touched};\n\
                     CREATE TEMPORARY TABLE {touched} ({}) ON COMMIT DELETE ROWS",
                    aggregates::key_definitions(aggregate)
                ));
                after.extend(aggregates::remake(contract, aggregate, index));
                after.push(format!("DELETE FROM {touched}"));
            }
        }
        let direct = Direct::new(contract, &columns);
        for (index, aggregate) in contract.aggregates.iter().enumerate() {
            if direct.is_some() {
                prepare.push_str(&temporary(&partial(index), &aggregate_columns(aggregate)));
            }
        }
        let part = format!("(SELECT * FROM {STAGING} WHERE {NUMBER} BETWEEN $1 AND $2)");
        Statements {
            columns: i16::try_from(columns.len().saturating_add(2)).unwrap_or(i16::MAX),
            prepare,
            stage: format!("COPY {STAGING} ({SLOT}, {NUMBER}, {names}) FROM STDIN (FORMAT binary)"),
            all: Landing::new(contract, &columns, STAGING),
            part: Landing::new(contract, &columns, &part),
            after,
            prepare_parts: format!(
                "SET LOCAL enable_nestloop = off; \
                 CREATE INDEX IF NOT EXISTS {STAGING}_row ON {STAGING} ({NUMBER})"
            ),
            exclusive,
            direct,
        }
    }
}

impl Direct {
    /// None where an event that is newer replaces another, or where only Postgres can add up.
    fn new(contract: &Contract, columns: &[Column]) -> Option<Direct> {
        if contract.on_conflict == OnConflict::Latest {
            return None;
        }
        let names = quoted_list(columns.iter().map(|column| column.name.as_str()));
        let (table, id) = (quoted(&contract.table), quoted(contract.id_column()));
        let plans = Plan::all(contract)?;
        let add = |(plan, (index, aggregate)): (Plan, (usize, &Aggregate))| {
            let columns = aggregate_columns(aggregate);
            let names = quoted_list(columns.iter().map(|column| column.name.as_str()));
            let copy = format!("COPY {} ({names}) FROM STDIN (FORMAT binary)", partial(index));
            Partial { plan, copy }
        };
        let aggregates = || contract.aggregates.iter().enumerate();
        let merges: Vec<String> = aggregates()
            .map(|(index, aggregate)| (index, aggregates::add_partial(aggregate, &partial(index))))
            .map(|(index, add)| format!("agg_{index} AS ({add})"))
            .collect();
        Some(Direct {
            columns: i16::try_from(columns.len()).ok()?,
            copy: format!("COPY {table} ({names}) FROM STDIN (FORMAT binary)"),
            stage: format!("COPY {STAGING} ({NUMBER}, {names}) FROM STDIN (FORMAT binary)"),
            land_staged: format!(
                "WITH landed AS (INSERT INTO {table} ({names}) SELECT {names} FROM {STAGING} \
                 ON CONFLICT ({id}) DO NOTHING RETURNING {id}) \
                 SELECT staged.{NUMBER} FROM landed JOIN {STAGING} AS staged USING ({id})"
            ),
            partials: plans.into_iter().zip(aggregates()).map(add).collect(),
            merge: format!("WITH {} SELECT", merges.join(",\n")),
            // row, before and insert are the bits 1, 2 and 4
            is_rewritten: format!(
                "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgtype & 7 = 7 AND tgenabled <> 'D' \
                 AND tgrelid IN (SELECT relid FROM pg_partition_tree({0}) UNION SELECT {0}::regclass))",
                literal(&table)
            ),
        })
    }
}

/// The temporary table of what some rows add to an aggregate.
fn partial(index: usize) -> String {
    format!("sluicegate_partial_{index}")
}

/// Makes a temporary table that is empty at the end of a transaction.
fn temporary(name: &str, columns: &[Column]) -> String {
    let columns: Vec<String> =
        columns.iter().map(|c| format!("{} {}", quoted(&c.name), c.kind)).collect();
    format!(
        ";\nDROP TABLE IF EXISTS pg_temp.{name};\n\
         CREATE TEMPORARY TABLE {name} ({}) ON COMMIT DELETE ROWS",
        columns.join(", ")
    )
}

impl Landing {
    fn new(contract: &Contract, columns: &[Column], staged: &str) -> Landing {
        let mut before = Vec::new();
        let land = match contract.on_conflict {
            OnConflict::Ignore => insert_new(contract, columns, staged),
            OnConflict::Latest => {
                for (index, aggregate) in contract.aggregates.iter().enumerate() {
                    before.push(aggregates::touch(contract, aggregate, index, staged));
                }
                upsert_newer(contract, columns, staged)
            }
        };
        Landing { before, land }
    }
}

/// The first event with an id stands; aggregates are made of the rows that were really new, and
/// touched last and in the order of their keys, so that two sinks wait for each other shortly and
/// never in a circle.
fn insert_new(contract: &Contract, columns: &[Column], staged: &str) -> String {
    let names = quoted_list(columns.iter().map(|column| column.name.as_str()));
    let (table, id) = (quoted(&contract.table), quoted(contract.id_column()));
    let mut sql = format!(
        "WITH landed AS (INSERT INTO {table} ({names}) SELECT {names} FROM {staged} AS staged \
         ON CONFLICT ({id}) DO NOTHING RETURNING *)"
    );
    for (index, aggregate) in contract.aggregates.iter().enumerate() {
        let add = aggregates::add(contract, aggregate, "landed AS fresh");
        sql.push_str(&format!(",\nagg_{index} AS ({add})"));
    }
    sql.push_str(&format!("\n{}", count(&id, staged, "true")));
    sql
}

/// The event with the newer time wins.
fn upsert_newer(contract: &Contract, columns: &[Column], staged: &str) -> String {
    let names = quoted_list(columns.iter().map(|column| column.name.as_str()));
    let (table, id) = (quoted(&contract.table), quoted(contract.id_column()));
    let time = contract.time_column().map_or_else(String::new, |column| quoted(&column.name));
    let assigned: Vec<String> = columns
        .iter()
        .map(|column| quoted(&column.name))
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    format!(
        "WITH landed AS (INSERT INTO {table} AS kept ({names}) SELECT {names} FROM {staged} AS staged \
         ON CONFLICT ({id}) DO UPDATE SET {} WHERE excluded.{time} > kept.{time} \
         RETURNING kept.{id}, kept.xmax = 0 AS fresh)\n{}",
        assigned.join(", "),
        count(&id, staged, "landed.fresh")
    )
}

/// How many of the landed rows are new, by the slot that counts them.
fn count(id: &str, staged: &str, fresh: &str) -> String {
    format!(
        "SELECT staged.{SLOT}, count(*) FROM landed JOIN {staged} AS staged USING ({id}) \
         WHERE staged.{SLOT} >= 0 AND {fresh} GROUP BY staged.{SLOT}"
    )
}
