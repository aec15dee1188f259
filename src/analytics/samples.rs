//! The buckets that an alert is decided by, from its aggregate.

use std::collections::BTreeMap;

use futures::TryStreamExt;
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
/// with, by series. The aggregate may have more dimensions than the alert; what is added up is added up
/// here, where a sum beyond a double is no error.
pub(super) async fn read(
    connection: &mut PgConnection,
    watch: &Watch<'_>,
    from: i64,
    until: i64,
) -> Result<BTreeMap<String, Samples>, Failure> {
    let sql = query(watch);
    let mut rows =
        sqlx::query(&sql).bind(from.saturating_sub(watch.before())).bind(until).fetch(connection);
    let mut samples: BTreeMap<String, Samples> = BTreeMap::new();
    while let Some(row) = rows.try_next().await? {
        let series = samples.entry(row.try_get(1)?).or_default();
        let sample = series.entry(row.try_get(0)?).or_default();
        sample.merge(&read_sample(watch, row.try_get(2)?));
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

/// The aggregate's rows of the buckets between two seconds since 1970: when each begins, its series, and
/// its numbers.
pub(super) fn query(watch: &Watch<'_>) -> String {
    let aggregate = watch.aggregate;
    let column = |name: &String, of: &'_ [Column]| of.iter().find(|c| c.name == *name).cloned();
    let mut numbers = vec!["kept.count::double precision".to_owned()];
    for field in watch.asked.fields.iter().filter_map(|name| column(name, &aggregate.of)) {
        numbers.push(values(&field));
        numbers.extend(["sum", "min", "max"].map(|what| number(&field, what)));
    }
    for label in watch.asked.labels.iter().filter_map(|name| column(name, &aggregate.by)) {
        let name = format!("kept.{}", quoted(&label.name));
        let is_so = match label.kind {
            ColumnType::Boolean => name,
            _ => format!("{name} IS NOT NULL"),
        };
        numbers.push(format!("CASE WHEN {is_so} THEN kept.count ELSE 0 END::double precision"));
    }
    let bucket = quoted(aggregate.bucket_column());
    format!(
        "SELECT extract(epoch FROM kept.{bucket})::bigint, {dimensions}::text, \
         ARRAY[{numbers}]::double precision[] FROM {table} AS kept \
         WHERE kept.{bucket} >= to_timestamp($1) AND kept.{bucket} < to_timestamp($2)",
        dimensions = dimensions("kept", &watch.alert.by),
        numbers = numbers.join(", "),
        table = quoted(&aggregate.table),
    )
}

/// Numbers in the order of [`query`].
fn read_sample(watch: &Watch<'_>, numbers: Vec<Option<f64>>) -> Sample {
    let mut numbers = numbers.into_iter();
    let mut next = || numbers.next().flatten();
    let count = next().unwrap_or_default();
    let field =
        |_| Field { count: next().unwrap_or_default(), sum: next(), min: next(), max: next() };
    let fields = watch.asked.fields.iter().map(field).collect();
    let labelled = watch.asked.labels.iter().map(|_| next().unwrap_or_default()).collect();
    Sample { count, fields, labelled }
}
