//! Averages, maxima and counts of closed buckets, from an aggregate into the table `metrics`.
//!
//! Only buckets that changed are read, by the aggregate's key. Whatever happens in between, the rows of
//! a bucket are made again as a whole, so that doing so twice changes nothing.

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;

use crate::{
    contract::{Aggregate, Column, ColumnType},
    failure::Failure,
    sql::{literal, quoted},
};

/// How many changed buckets one transaction takes: sinks that write one of them meanwhile wait for it,
/// and each may have thousands of series.
const BATCH: i64 = 20;

/// The largest number that is taken over from a type that has larger ones than a double; below its
/// inverse it is nothing.
const LARGEST: &str = "1e300";

/// Takes buckets that ended before `closed`: what another writes at the moment is left for the next
/// time.
const TAKE: &str = "DELETE FROM aggregate_changes WHERE (aggregate, bucket, writer) IN (\
                    SELECT aggregate, bucket, writer FROM aggregate_changes \
                    WHERE aggregate = $1 AND bucket <= $2 \
                    ORDER BY bucket, writer LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING bucket";

/// Makes the metrics of an aggregate's changed buckets that ended before `closed`; gives how many there
/// were.
pub(super) async fn run(
    connection: &mut PgConnection,
    aggregate: &Aggregate,
    closed: OffsetDateTime,
) -> Result<usize, Failure> {
    let last = closed - aggregate.every.duration();
    let (clear, fill) = (clear(aggregate), fill(aggregate));
    let mut done = 0;
    loop {
        let mut transaction = connection.begin().await?;
        let taken: Vec<OffsetDateTime> = sqlx::query_scalar(TAKE)
            .bind(&aggregate.table)
            .bind(last)
            .bind(BATCH)
            .fetch_all(&mut *transaction)
            .await?;
        // a statement of its own, which sees what was committed while the rows were waited for
        for statement in [&clear, &fill] {
            sqlx::query(statement).bind(&taken).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        done += taken.len();
        if i64::try_from(taken.len()).unwrap_or(BATCH) < BATCH {
            return Ok(done);
        }
    }
}

/// Deletes what was made of buckets.
pub(super) fn clear(aggregate: &Aggregate) -> String {
    let table = literal(&aggregate.table);
    format!("DELETE FROM metrics WHERE aggregate = {table} AND bucket = ANY ($1)")
}

/// Makes metrics of buckets.
pub(super) fn fill(aggregate: &Aggregate) -> String {
    let mut values = vec!["('count', kept.count::double precision)".to_owned()];
    for of in &aggregate.of {
        let sum = number(of, "sum");
        // Postgres has an error of its own for a quotient that is next to nothing
        let average = format!(
            "CASE WHEN abs({sum}) < 1e-280 THEN 0 ELSE {sum} / nullif({}, 0) END",
            self::values(of)
        );
        for (what, value) in [("avg", average), ("max", number(of, "max"))] {
            values.push(format!("({}, {value})", literal(&format!("{}_{what}", of.name))));
        }
    }
    let bucket = quoted(aggregate.bucket_column());
    format!(
        "INSERT INTO metrics (aggregate, bucket, metric, dimensions, value) \
         SELECT {table}, kept.{bucket}, made.metric, {dimensions}, made.value \
         FROM {from} AS kept CROSS JOIN LATERAL (VALUES {values}) AS made (metric, value) \
         WHERE kept.{bucket} = ANY ($1) AND made.value IS NOT NULL",
        table = literal(&aggregate.table),
        dimensions = dimensions("kept", &aggregate.by),
        from = quoted(&aggregate.table),
        values = values.join(", "),
    )
}

/// The values of dimensions as JSON. Of a decimal the text: JSON's readers know no number as long.
pub(super) fn dimensions(rows: &str, by: &[Column]) -> String {
    let value = |column: &Column| {
        let text = if matches!(column.kind, ColumnType::Numeric(_)) { "::text" } else { "" };
        format!("{}, {rows}.{}{text}", literal(&column.name), quoted(&column.name))
    };
    let pairs: Vec<String> = by.iter().map(value).collect();
    format!("jsonb_build_object({})", pairs.join(", "))
}

/// How many values a row of an aggregate has summed up of a column.
pub(super) fn values(of: &Column) -> String {
    match of.nullable {
        true => format!("kept.{}::double precision", quoted(&format!("{}_count", of.name))),
        false => "kept.count::double precision".to_owned(),
    }
}

/// A column of an aggregate as a double; none where it is beyond that.
pub(super) fn number(of: &Column, what: &str) -> String {
    let column = format!("kept.{}", quoted(&format!("{}_{what}", of.name)));
    let kind = if what == "sum" { of.kind.sum() } else { of.kind.clone() };
    match kind {
        ColumnType::Numeric(_) => format!(
            "CASE WHEN abs({column}) < 1 / {LARGEST}::numeric THEN 0 \
             WHEN abs({column}) < {LARGEST} THEN {column}::double precision END"
        ),
        _ => format!("{column}::double precision"),
    }
}
