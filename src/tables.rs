//! The tables: refinery's migrations for the fixed ones, contracts for the streams' own.
//!
//! A stream's table and its aggregates' are brought to what the contract says by creating what
//! is missing and by adding nullable columns. Anything else could lose data or lock a big table
//! for long, so it is refused with the statement that a person would have to run.

mod live;
mod migrations;

use std::collections::BTreeSet;

use anyhow::{Context, anyhow, bail};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use self::live::LiveTable;
use crate::{
    contract::{Aggregate, Column, ColumnType, Contract},
    failure::Failure,
    sink::{aggregate_columns, fill, forget, note_unless_known},
    sql::{connect, quoted, quoted_list, said},
};

/// A table as a contract wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    name: String,
    columns: Vec<Column>,
    /// The columns of the key that conflicts are found by.
    key: Vec<String>,
    /// The column to find rows of a time by.
    time_index: Option<String>,
}

/// What it takes to bring the tables to the contracts.
#[derive(Debug, Default)]
pub struct Plan {
    /// Statements that are safe to run.
    pub statements: Vec<String>,
    /// What only a person can decide, each with its statement.
    pub refusals: Vec<String>,
    /// Aggregates that are made from what has landed: metrics of another that had their name are wrong.
    filled: Vec<Aggregate>,
}

impl Plan {
    /// Compares one contract's tables with the live ones.
    pub async fn of(connection: &mut PgConnection, contract: &Contract) -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        let landing = landing_table(contract);
        let live_landing = LiveTable::read(connection, &landing.name).await?;
        plan.compare(&landing, live_landing.as_ref());
        for aggregate in &contract.aggregates {
            let table = aggregate_table(aggregate);
            let live = LiveTable::read(connection, &table.name).await?;
            match &live {
                Some(live) if live.unique_keys != BTreeSet::from([sorted(&table.key)]) => {
                    plan.refusals.push(other_key(&table, &landing));
                    continue;
                }
                _ => plan.compare(&table, live.as_ref()),
            }
            if live.is_none() && live_landing.is_some() {
                // what has landed so far counts too
                let lock =
                    format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", quoted(&landing.name));
                plan.statements.extend([lock, fill(contract, aggregate)]);
                plan.filled.push(aggregate.clone());
            }
        }
        Ok(plan)
    }

    /// Whether the tables are as the contract says.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.refusals.is_empty()
    }

    fn compare(&mut self, table: &Table, live: Option<&LiveTable>) {
        let Some(live) = live else {
            self.statements.push(create_table(table));
            self.statements.extend(create_index(table));
            return;
        };
        let name = quoted(&table.name);
        for column in &table.columns {
            self.compare_column(&name, column, live);
        }
        for (extra, live_column) in &live.columns {
            let wanted = table.columns.iter().any(|column| column.name == *extra);
            if !wanted && live_column.not_null && !live_column.has_default {
                self.refusals.push(format!(
                    "{name} has a column {} that must not be null and that the contract no longer \
                     fills; run: ALTER TABLE {name} ALTER COLUMN {} DROP NOT NULL;",
                    quoted(extra),
                    quoted(extra)
                ));
            }
        }
        if !live.unique_keys.contains(&sorted(&table.key)) {
            let key = quoted_list(table.key.iter().map(String::as_str));
            self.refusals.push(format!(
                "{name} has no unique index on ({key}), by which an event is known again; run: \
                 CREATE UNIQUE INDEX ON {name} ({key});"
            ));
        }
        if let Some(time) = table.time_index.as_ref().filter(|time| !live.indexed.contains(*time)) {
            // not a refusal: landing works without it, and building it takes a lock
            tracing::info!(
                table = table.name,
                column = time,
                "the time column has no index; look-ups by time will read the whole table"
            );
        }
    }

    fn compare_column(&mut self, table: &str, column: &Column, live: &LiveTable) {
        let name = quoted(&column.name);
        match live.columns.get(&column.name) {
            None => self
                .statements
                .push(format!("ALTER TABLE {table} ADD COLUMN {name} {}", column.kind)),
            Some(live) if live.kind != column.kind.to_string() => self.refusals.push(format!(
                "{table} has a column {name} of type {}, and the contract says {}; run: \
                 ALTER TABLE {table} ALTER COLUMN {name} TYPE {}{};",
                live.kind,
                column.kind,
                column.kind,
                using(&name, &live.kind, &column.kind)
            )),
            Some(live) if live.not_null && column.nullable => self.refusals.push(format!(
                "{table} has a column {name} that must not be null, and the contract says it may; \
                 run: ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL;"
            )),
            Some(_) => {}
        }
    }
}

/// How to convert a column where Postgres would refuse to, or make something else of it, by itself.
fn using(column: &str, from: &str, to: &ColumnType) -> String {
    match (from, to) {
        ("text", ColumnType::Bytea) => format!(" USING convert_to({column}, 'UTF8')"),
        ("bytea", ColumnType::Text) => format!(" USING convert_from({column}, 'UTF8')"),
        ("text", ColumnType::Uuid) => format!(" USING {column}::uuid"),
        (_, ColumnType::Jsonb) => format!(" USING to_jsonb({column})"),
        _ => String::new(),
    }
}

/// What a migration did, or would do.
#[derive(Debug, Default)]
pub struct Migrated {
    /// The fixed tables' migrations.
    pub migrations: Vec<String>,
    /// The streams' statements.
    pub statements: Vec<String>,
    /// What is left for a person.
    pub refusals: Vec<String>,
}

/// Brings the database to what the migrations and contracts say; with `dry_run` says what that
/// would take. One process at a time: others wait.
///
/// Where anything is refused, nothing of the streams' tables is changed.
pub async fn migrate(
    options: &PgConnectOptions,
    schema: Option<&str>,
    contracts: &[Contract],
    dry_run: bool,
) -> anyhow::Result<Migrated> {
    let mut connection = connect(options).await?;
    // refinery takes no lock of its own; the session's end gives this one back in any case
    sqlx::query("SELECT pg_advisory_lock(hashtextextended('sluicegate migrate', 0))")
        .execute(&mut connection)
        .await?;
    if let Some(schema) = schema.filter(|_| !dry_run) {
        create_schema(&mut connection, schema).await?;
    }
    let mut migrated = Migrated {
        migrations: migrations::run(&mut connection, dry_run).await?,
        ..Migrated::default()
    };
    let mut filled = Vec::new();
    for contract in contracts {
        let plan =
            Plan::of(&mut connection, contract).await.with_context(|| contract.stream.clone())?;
        migrated.statements.extend(plan.statements);
        filled.extend(plan.filled);
        migrated.refusals.extend(plan.refusals);
    }
    if !dry_run && migrated.refusals.is_empty() {
        let mut transaction = connection.begin().await?;
        for statement in &migrated.statements {
            sqlx::raw_sql(statement)
                .execute(&mut *transaction)
                .await
                .map_err(|error| anyhow!("Postgres refused: {statement}: {}", said(&error)))?;
        }
        for aggregate in &filled {
            sqlx::raw_sql(&forget(aggregate)).execute(&mut *transaction).await?;
        }
        for aggregate in contracts.iter().flat_map(|contract| &contract.aggregates) {
            if aggregate.declared {
                sqlx::raw_sql(&note_unless_known(aggregate)).execute(&mut *transaction).await?;
            }
        }
        transaction.commit().await?;
    }
    connection.close().await?;
    Ok(migrated)
}

/// Creates a schema that is not there. `IF NOT EXISTS` would ask for the privilege in any case.
async fn create_schema(connection: &mut PgConnection, schema: &str) -> anyhow::Result<()> {
    let found = sqlx::query("SELECT FROM pg_namespace WHERE nspname = $1").bind(schema);
    if found.fetch_optional(&mut *connection).await?.is_some() {
        return Ok(());
    }
    let sql = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(schema));
    sqlx::raw_sql(&sql).execute(connection).await.map_err(|error| {
        let (schema, said) = (quoted(schema), said(&error));
        anyhow!("the schema {schema} can't be created: {said}; create it, or grant the privilege")
    })?;
    Ok(())
}

/// Fails unless the database answers and has the fixed tables.
pub async fn verify_migrated(options: &PgConnectOptions) -> anyhow::Result<()> {
    let mut connection = connect(options).await?;
    for table in ["ledger", "dlq_events", "dlq_outbox", "aggregate_changes"] {
        if LiveTable::read(&mut connection, table).await?.is_none() {
            bail!("the table \"{table}\" is missing; run `sluicegate migrate`");
        }
    }
    Ok(())
}

/// Fails unless the tables are as one contract says.
pub async fn verify(options: &PgConnectOptions, contract: &Contract) -> Result<(), Failure> {
    let mut connection = PgConnection::connect_with(options).await?;
    let plan = Plan::of(&mut connection, contract).await?;
    let wrong = match (plan.statements.first(), plan.refusals.first()) {
        (Some(statement), _) => {
            // without the columns, so that it is one line
            let statement = statement.split_once(" (").map_or(&**statement, |(start, _)| start);
            format!("not yet run: {statement}; run `sluicegate migrate`")
        }
        (None, Some(refusal)) => refusal.clone(),
        (None, None) => return Ok(()),
    };
    Err(Failure::Contract(anyhow!("the tables are not as the contract says: {wrong}")))
}

/// The table that a contract's events land in.
fn landing_table(contract: &Contract) -> Table {
    Table {
        name: contract.table.clone(),
        columns: contract.table_columns(),
        key: vec![contract.id_column().to_owned()],
        time_index: contract.time_column().map(|column| column.name.clone()),
    }
}

/// An aggregate that is kept by other columns can't be changed, and need not be.
fn other_key(table: &Table, landing: &Table) -> String {
    let (name, key) = (quoted(&table.name), quoted_list(table.key.iter().map(String::as_str)));
    format!(
        "{name} is not kept by ({key}) alone; `sluicegate migrate` makes it again from what is in \
         {}; run: DROP TABLE {name};",
        quoted(&landing.name)
    )
}

fn aggregate_table(aggregate: &Aggregate) -> Table {
    let columns = aggregate_columns(aggregate);
    let key = columns.iter().take(aggregate.by.len() + 1).map(|column| column.name.clone());
    Table { name: aggregate.table.clone(), key: key.collect(), columns, time_index: None }
}

fn create_table(table: &Table) -> String {
    let columns = table.columns.iter().map(|column| {
        let not_null = if column.nullable { "" } else { " NOT NULL" };
        format!("    {} {}{not_null}", quoted(&column.name), column.kind)
    });
    let nullable = |name: &String| table.columns.iter().any(|c| c.name == *name && c.nullable);
    // a primary key takes no null, and a dimension may be null
    let kind = match table.key.iter().any(nullable) {
        true => "UNIQUE NULLS NOT DISTINCT",
        false => "PRIMARY KEY",
    };
    let key = format!("    {kind} ({})", quoted_list(table.key.iter().map(String::as_str)));
    let lines: Vec<String> = columns.chain([key]).collect();
    format!("CREATE TABLE {} (\n{}\n)", quoted(&table.name), lines.join(",\n"))
}

fn create_index(table: &Table) -> Option<String> {
    let time = table.time_index.as_ref()?;
    Some(format!("CREATE INDEX ON {} ({})", quoted(&table.name), quoted(time)))
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

/// Says what is left for a person, or nothing.
pub fn refuse(refusals: &[String]) -> anyhow::Result<()> {
    match refusals {
        [] => Ok(()),
        [refusal] => bail!("the tables can't be brought to the contracts without you: {refusal}"),
        _ => bail!(
            "the tables can't be brought to the contracts without you\n{}",
            refusals.join("\n")
        ),
    }
}
