//! The statements with which one stream's rows are written, built once from its contract.

use super::{aggregates, aggregates::aggregate_columns, changes, copy::CopyInto, tally::Plan};
use crate::{
    contract::{Aggregate, Column, ColumnType, Contract, OnConflict},
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
    /// Temporary tables, once a connection.
    pub(super) prepare: String,
    /// Into the staging table: slot, number and the table's columns.
    pub(super) stage: CopyInto,
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
    /// Into the table.
    pub(super) copy: CopyInto,
    /// Into the staging table: number and the table's columns.
    pub(super) stage: CopyInto,
    /// Lands what is staged, and gives the numbers of those that were new.
    pub(super) land_staged: String,
    /// One an aggregate.
    pub(super) partials: Vec<Partial>,
    /// What the rows add to the aggregates into these.
    pub(super) merge: String,
    /// Whether a trigger may make other rows of ours than those that the aggregates are made of.
    pub(super) is_rewritten: String,
}

/// What some rows add to an aggregate.
#[derive(Debug, Clone)]
pub(super) struct Partial {
    pub(super) plan: Plan,
    /// Into the temporary table of such rows.
    pub(super) copy: CopyInto,
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
        let number = |name: &str| {
            let (name, kind) = (name.to_owned(), ColumnType::Integer);
            Column { name, kind, nullable: true }
        };
        let staged: Vec<Column> =
            [number(SLOT), number(NUMBER)].into_iter().chain(columns.clone()).collect();
        let mut prepare = vec![temporary(STAGING, &staged)];
        let exclusive =
            contract.on_conflict == OnConflict::Latest && !contract.aggregates.is_empty();
        let mut after = Vec::new();
        if exclusive {
            for (index, aggregate) in contract.aggregates.iter().enumerate() {
                let touched = aggregates::touched(index);
                prepare.push(temporary(&touched, &aggregates::key_columns(aggregate)));
                after.extend(aggregates::remake(contract, aggregate, index));
                if aggregate.declared {
                    after.push(changes::note_those_of(aggregate, &touched));
                }
                after.push(format!("DELETE FROM {touched}"));
            }
        }
        let direct = Direct::new(contract, &columns);
        if direct.is_some() {
            for (index, aggregate) in contract.aggregates.iter().enumerate() {
                prepare.push(temporary(&partial(index), &aggregate_columns(aggregate)));
            }
        }
        let part = format!("(SELECT * FROM {STAGING} WHERE {NUMBER} BETWEEN $1 AND $2)");
        Statements {
            prepare: prepare.join(";\n"),
            stage: CopyInto::new(STAGING, &names(&staged)),
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
    /// None where only Postgres can add up, or where an event that is newer replaces another: the
    /// older one's share can't be taken back out of a minimum.
    fn new(contract: &Contract, columns: &[Column]) -> Option<Direct> {
        if contract.on_conflict == OnConflict::Latest {
            return None;
        }
        let names = names(columns);
        let numbered: Vec<&str> = std::iter::once(NUMBER).chain(names.iter().copied()).collect();
        let (table, id) = (quoted(&contract.table), quoted(contract.id_column()));
        let (copy, stage) = (CopyInto::new(&table, &names), CopyInto::new(STAGING, &numbered));
        let names = quoted_list(names);
        let aggregates = contract.aggregates.iter().enumerate();
        let partials = Plan::all(contract)?.into_iter().zip(aggregates);
        let partials = partials.map(|(plan, (index, aggregate))| {
            let columns = aggregate_columns(aggregate);
            Partial { plan, copy: CopyInto::new(&partial(index), &self::names(&columns)) }
        });
        let merges = additions(contract, |index, aggregate| {
            aggregates::add_partial(aggregate, &partial(index))
        });
        Some(Direct {
            copy,
            stage,
            land_staged: format!(
                "WITH landed AS (INSERT INTO {table} ({names}) SELECT {names} FROM {STAGING} \
                 ON CONFLICT ({id}) DO NOTHING RETURNING {id}) \
                 SELECT staged.{NUMBER} FROM landed JOIN {STAGING} AS staged USING ({id})"
            ),
            partials: partials.collect(),
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

/// What rows add to each of the aggregates, as parts of one statement. Both ways of landing rows that
/// only add have them so, and by that take the aggregates' locks in the same order.
fn additions(contract: &Contract, add: impl Fn(usize, &Aggregate) -> String) -> Vec<String> {
    let aggregates = contract.aggregates.iter().enumerate();
    aggregates
        .map(|(index, aggregate)| format!("agg_{index} AS ({})", add(index, aggregate)))
        .collect()
}

fn names(columns: &[Column]) -> Vec<&str> {
    columns.iter().map(|column| column.name.as_str()).collect()
}

/// Makes a temporary table that is empty at the end of a transaction.
fn temporary(name: &str, columns: &[Column]) -> String {
    let columns: Vec<String> =
        columns.iter().map(|c| format!("{} {}", quoted(&c.name), c.kind)).collect();
    format!(
        "DROP TABLE IF EXISTS pg_temp.{name};\n\
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
    let names = quoted_list(names(columns));
    let (table, id) = (quoted(&contract.table), quoted(contract.id_column()));
    let landed = format!(
        "landed AS (INSERT INTO {table} ({names}) SELECT {names} FROM {staged} AS staged \
         ON CONFLICT ({id}) DO NOTHING RETURNING *)"
    );
    let add = |_, aggregate: &Aggregate| aggregates::add(contract, aggregate, "landed AS fresh");
    let parts: Vec<String> = std::iter::once(landed).chain(additions(contract, add)).collect();
    format!("WITH {}\n{}", parts.join(",\n"), count(&id, staged, "true"))
}

/// The event with the newer time wins.
fn upsert_newer(contract: &Contract, columns: &[Column], staged: &str) -> String {
    let names = quoted_list(names(columns));
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
