//! The buckets that an alert is decided by, from its aggregate.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _};

use super::{
    rollup::{dimensions, number, values},
    watch::Watch,
    window::{Field, Sample, Samples},
};
use crate::{
    contract::{Column, ColumnType},
    failure::Failure,
    sql::quoted,
};

/// Reads the buckets that begin from `from` on and before `until`, and those that they are compared
/// with, by series.
pub(super) async fn read(
    connection: &mut PgConnection,
    watch: &Watch<'_>,
    from: i64,
    until: i64,
) -> Result<BTreeMap<String, Samples>, Failure> {
    let rows = sqlx::query(&query(watch))
        .bind(from.saturating_sub(watch.before()))
        .bind(until)
        .fetch_all(connection)
        .await?;
    let mut samples: BTreeMap<String, Samples> = BTreeMap::new();
    for row in &rows {
        let series = samples.entry(row.try_get(1)?).or_default();
        series.insert(row.try_get(0)?, sample(watch, row.try_get(2)?));
    }
    Ok(samples)
}

/// Where the first bucket with an event begins, from a moment on.
pub(super) async fn next(
    connection: &mut PgConnection,
    watch: &Watch<'_>,
    from: i64,
) -> Result<Option<i64>, Failure> {
    let sql = next_query(watch);
    Ok(sqlx::query_scalar(&sql).bind(from).fetch_one(connection).await?)
}

/// The query of [`next`].
pub(super) fn next_query(watch: &Watch<'_>) -> String {
    let (table, bucket) = (&watch.aggregate.table, watch.aggregate.bucket_column());
    let (table, bucket) = (quoted(table), quoted(bucket));
    format!(
        "SELECT extract(epoch FROM min({bucket}))::bigint FROM {table} \
         WHERE {bucket} >= to_timestamp($1)"
    )
}

/// The buckets between two seconds since 1970: when each begins, its series, and its numbers. The
/// aggregate may have more dimensions than the alert.
pub(super) fn query(watch: &Watch<'_>) -> String {
    let aggregate = watch.aggregate;
    let column = |name: &String, of: &'_ [Column]| of.iter().find(|c| c.name == *name).cloned();
    let mut numbers = vec!["sum(kept.count)::double precision".to_owned()];
    for field in watch.asked.fields.iter().filter_map(|name| column(name, &aggregate.of)) {
        numbers.extend([
            format!("sum({})", values(&field)),
            format!("sum({})", number(&field, "sum")),
            format!("min({})", number(&field, "min")),
            format!("max({})", number(&field, "max")),
        ]);
    }
    for label in watch.asked.labels.iter().filter_map(|name| column(name, &aggregate.by)) {
        let name = format!("kept.{}", quoted(&label.name));
        let is_so = match label.kind {
            ColumnType::Boolean => name,
            _ => format!("{name} IS NOT NULL"),
        };
        numbers
            .push(format!("coalesce(sum(kept.count) FILTER (WHERE {is_so}), 0)::double precision"));
    }
    let bucket = quoted(aggregate.bucket_column());
    format!(
        "SELECT extract(epoch FROM kept.{bucket})::bigint, {dimensions}::text, \
         ARRAY[{numbers}]::double precision[] FROM {table} AS kept \
         WHERE kept.{bucket} >= to_timestamp($1) AND kept.{bucket} < to_timestamp($2) \
         GROUP BY 1, 2",
        dimensions = dimensions("kept", &watch.alert.by),
        numbers = numbers.join(", "),
        table = quoted(&aggregate.table),
    )
}

/// Numbers in the order of [`query`].
fn sample(watch: &Watch<'_>, numbers: Vec<Option<f64>>) -> Sample {
    let mut numbers = numbers.into_iter();
    let mut next = || numbers.next().flatten();
    let count = next().unwrap_or_default();
    let field =
        |_| Field { count: next().unwrap_or_default(), sum: next(), min: next(), max: next() };
    let fields = watch.asked.fields.iter().map(field).collect();
    let labelled = watch.asked.labels.iter().map(|_| next().unwrap_or_default()).collect();
    Sample { count, fields, labelled }
}
