//! A table as Postgres's catalogue describes it.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, Row as _};

use crate::failure::Failure;

/// What there is.
#[derive(Debug, Default)]
pub(super) struct LiveTable {
    pub(super) columns: BTreeMap<String, LiveColumn>,
    /// The sorted columns of each unique index that holds for the whole table and every row, those
    /// with a null included.
    pub(super) unique_keys: BTreeSet<Vec<String>>,
    /// Columns that come first in an index.
    pub(super) indexed: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) struct LiveColumn {
    /// By `format_type`.
    pub(super) kind: String,
    pub(super) not_null: bool,
    pub(super) has_default: bool,
}

impl LiveTable {
    /// Reads the table that a statement of this session would mean by that name, if there is one.
    pub(super) async fn read(
        connection: &mut PgConnection,
        name: &str,
    ) -> Result<Option<LiveTable>, Failure> {
        let oid: Option<i64> =
            sqlx::query_scalar("SELECT to_regclass(quote_ident($1))::oid::bigint")
                .bind(name)
                .fetch_one(&mut *connection)
                .await?;
        let Some(oid) = oid else { return Ok(None) };
        let mut table = LiveTable::default();
        let columns = sqlx::query(
            "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, \
             atthasdef OR attidentity <> '' FROM pg_attribute \
             WHERE attrelid = $1::bigint::oid AND attnum > 0 AND NOT attisdropped",
        );
        for row in columns.bind(oid).fetch_all(&mut *connection).await? {
            let column = LiveColumn {
                kind: row.try_get(1)?,
                not_null: row.try_get(2)?,
                has_default: row.try_get(3)?,
            };
            table.columns.insert(row.try_get(0)?, column);
        }
        let indexes = sqlx::query(
            "SELECT indisunique AND indpred IS NULL AND indimmediate AND indisvalid \
             AND (indnullsnotdistinct OR NOT EXISTS (SELECT FROM pg_attribute \
             WHERE attrelid = indrelid AND attnum = ANY (indkey) AND NOT attnotnull)), \
             (SELECT array_agg(attname::text ORDER BY at) \
              FROM unnest(indkey::int[]) WITH ORDINALITY AS key (attnum, at) \
              JOIN pg_attribute ON attrelid = indrelid AND pg_attribute.attnum = key.attnum \
              WHERE at <= indnkeyatts) \
             FROM pg_index WHERE indrelid = $1::bigint::oid AND indexprs IS NULL",
        );
        for row in indexes.bind(oid).fetch_all(&mut *connection).await? {
            let mut columns: Vec<String> = row.try_get::<Option<_>, _>(1)?.unwrap_or_default();
            table.indexed.extend(columns.first().cloned());
            columns.sort();
            if row.try_get(0)? {
                table.unique_keys.insert(columns);
            }
        }
        Ok(Some(table))
    }
}
