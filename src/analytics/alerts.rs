//! One alert's closed buckets: read, decided, and what changed written down.
//!
//! One transaction moves an alert from the end of one bucket to the end of another: what opened, what
//! resolved, who has to be told, and what is remembered of each series. A bucket is decided once; events
//! that come later mend aggregates and metrics, and take nothing back that somebody was told.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{Connection, PgConnection, Row as _};
use time::OffsetDateTime;

use super::{
    samples,
    series::{Change, Series, Standing},
    watch::{Decided, Watch},
};
use crate::{
    contract::Contract,
    failure::Failure,
    metrics,
    notify::{self, Status, Target},
    sink::bucket,
};

/// How many buckets one transaction decides, which bounds what is read at once.
const BATCH: i64 = 60;

/// Decides all buckets that ended before `closed`. The first ones that are ever looked at begin
/// `look_back` before.
pub(super) async fn step(
    connection: &mut PgConnection,
    watch: &Watch<'_>,
    closed: OffsetDateTime,
    look_back: Duration,
    targets: &[Target],
) -> Result<(), Failure> {
    let every = watch.course.every;
    let closed = bucket(closed.unix_timestamp(), every);
    let look_back = i64::try_from(look_back.as_secs()).unwrap_or(i64::MAX);
    let first = bucket(closed.saturating_sub(look_back), every);
    loop {
        let mut transaction = connection.begin().await?;
        let from = decided_until(&mut transaction, watch, targets).await?.unwrap_or(first);
        let mut known = known(&mut transaction, watch).await?;
        let from = match known.is_empty() {
            // until something happens nothing can come of it
            true => samples::next(&mut transaction, watch, from).await?.unwrap_or(closed),
            false => from,
        };
        let until = closed.min(from.saturating_add(every.saturating_mul(BATCH)));
        let mut told = Vec::new();
        if until > from {
            let samples = samples::read(&mut transaction, watch, from, until).await?;
            let decided =
                tokio::task::block_in_place(|| watch.decide(&mut known, &samples, from, until));
            remember(&mut transaction, watch, &known).await?;
            for decided in decided {
                if write(&mut transaction, watch, &decided, targets).await? {
                    told.push(decided);
                }
            }
        }
        note_progress(&mut transaction, watch, until).await?;
        transaction.commit().await?;
        told.iter().for_each(|decided| say(watch, decided));
        if until >= closed {
            return Ok(());
        }
    }
}

/// Resolves open alerts that these contracts do not declare any more, and forgets their series.
pub(super) async fn withdraw_undeclared(
    connection: &mut PgConnection,
    contract: &Contract,
    targets: &[Target],
) -> Result<(), Failure> {
    let names: Vec<&str> = contract.alerts.iter().map(|alert| alert.name.as_str()).collect();
    let mut transaction = connection.begin().await?;
    let undeclared: Vec<String> = sqlx::query_scalar(
        "DELETE FROM alert_progress WHERE stream = $1 AND name <> ALL ($2) RETURNING name",
    )
    .bind(&contract.stream)
    .bind(names)
    .fetch_all(&mut *transaction)
    .await?;
    for name in undeclared {
        withdraw(&mut transaction, &contract.stream, &name, targets).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Resolves what is open of an alert, whatever its series, and forgets these.
async fn withdraw(
    connection: &mut PgConnection,
    stream: &str,
    name: &str,
    targets: &[Target],
) -> Result<(), Failure> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "UPDATE alerts SET status = 'resolved', resolution = 'withdrawn', resolved_at = now(), \
         decided_at = now() WHERE stream = $1 AND name = $2 AND status = 'open' RETURNING id",
    )
    .bind(stream)
    .bind(name)
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM alert_series WHERE stream = $1 AND name = $2")
        .bind(stream)
        .bind(name)
        .execute(&mut *connection)
        .await?;
    for id in ids {
        notify::enqueue(connection, id, Status::Resolved, targets).await?;
    }
    Ok(())
}

/// Up to where the alert's buckets are decided. Where it tells series apart by something else now, what
/// was known of them is of no use any more.
async fn decided_until(
    connection: &mut PgConnection,
    watch: &Watch<'_>,
    targets: &[Target],
) -> Result<Option<i64>, Failure> {
    let (stream, name) = (&watch.contract.stream, &watch.alert.name);
    let known: Option<(i64, Vec<String>)> = sqlx::query_as(
        "SELECT extract(epoch FROM decided_until)::bigint, dimensions FROM alert_progress \
         WHERE stream = $1 AND name = $2",
    )
    .bind(stream)
    .bind(name)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((until, dimensions)) = known else { return Ok(None) };
    if dimensions != dimension_names(watch) {
        withdraw(connection, stream, name, targets).await?;
    }
    // of buckets of another width, the first that is not begun
    Ok(Some(bucket(until.saturating_add(watch.course.every - 1), watch.course.every)))
}

fn dimension_names<'w>(watch: &Watch<'w>) -> Vec<&'w str> {
    watch.alert.by.iter().map(|column| column.name.as_str()).collect()
}

async fn note_progress(
    connection: &mut PgConnection,
    watch: &Watch<'_>,
    until: i64,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO alert_progress (stream, name, dimensions, decided_until) \
         VALUES ($1, $2, $3, to_timestamp($4)) ON CONFLICT (stream, name) DO UPDATE \
         SET dimensions = excluded.dimensions, \
         decided_until = greatest(alert_progress.decided_until, excluded.decided_until)",
    )
    .bind(&watch.contract.stream)
    .bind(&watch.alert.name)
    .bind(dimension_names(watch))
    .bind(until)
    .execute(connection)
    .await?;
    Ok(())
}

/// What is remembered of the alert's series, and those that are open.
async fn known(
    connection: &mut PgConnection,
    watch: &Watch<'_>,
) -> Result<BTreeMap<String, Series>, Failure> {
    let rows = sqlx::query(
        "SELECT dimensions, extract(epoch FROM coalesce(seen_at, opened_at))::bigint, \
         opened_at IS NOT NULL, extract(epoch FROM holding_since)::bigint, \
         extract(epoch FROM clearing_since)::bigint \
         FROM (SELECT dimensions::text, seen_at, holding_since, clearing_since FROM alert_series \
               WHERE stream = $1 AND name = $2) AS series \
         FULL JOIN (SELECT dimensions::text, opened_at FROM alerts \
                    WHERE stream = $1 AND name = $2 AND status = 'open') AS alert \
         USING (dimensions)",
    )
    .bind(&watch.contract.stream)
    .bind(&watch.alert.name)
    .fetch_all(connection)
    .await?;
    let mut known = BTreeMap::new();
    for row in &rows {
        let standing = match row.try_get(2)? {
            true => Standing::Open { clearing_since: row.try_get(4)? },
            false => Standing::Quiet { holding_since: row.try_get(3)? },
        };
        known.insert(row.try_get(0)?, Series { seen_at: row.try_get(1)?, standing });
    }
    Ok(known)
}

/// Remembers these series and no others.
async fn remember(
    connection: &mut PgConnection,
    watch: &Watch<'_>,
    known: &BTreeMap<String, Series>,
) -> Result<(), Failure> {
    let dimensions: Vec<&String> = known.keys().collect();
    let moments = |of: fn(&Series) -> Option<i64>| known.values().map(of).collect::<Vec<_>>();
    sqlx::query(
        "DELETE FROM alert_series AS kept WHERE stream = $1 AND name = $2 AND NOT EXISTS \
         (SELECT FROM unnest($3::text[]) AS known (dimensions) \
          WHERE known.dimensions = kept.dimensions::text)",
    )
    .bind(&watch.contract.stream)
    .bind(&watch.alert.name)
    .bind(&dimensions)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO alert_series AS kept \
         (stream, name, dimensions, seen_at, holding_since, clearing_since) \
         SELECT $1, $2, dimensions::jsonb, to_timestamp(seen), to_timestamp(holding), \
         to_timestamp(clearing) FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[]) \
         AS series (dimensions, seen, holding, clearing) \
         ON CONFLICT (stream, name, md5(dimensions::text)) DO UPDATE SET seen_at = excluded.seen_at, \
         holding_since = excluded.holding_since, clearing_since = excluded.clearing_since \
         WHERE (kept.seen_at, kept.holding_since, kept.clearing_since) IS DISTINCT FROM \
         (excluded.seen_at, excluded.holding_since, excluded.clearing_since)",
    )
    .bind(&watch.contract.stream)
    .bind(&watch.alert.name)
    .bind(&dimensions)
    .bind(moments(|series| Some(series.seen_at)))
    .bind(moments(|series| match series.standing {
        Standing::Quiet { holding_since } => holding_since,
        Standing::Open { .. } => None,
    }))
    .bind(moments(|series| match series.standing {
        Standing::Open { clearing_since } => clearing_since,
        Standing::Quiet { .. } => None,
    }))
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes down what opened or resolved, and who has to be told; says whether it is news.
async fn write(
    connection: &mut PgConnection,
    watch: &Watch<'_>,
    decided: &Decided,
    targets: &[Target],
) -> Result<bool, Failure> {
    let opened = "INSERT INTO alerts (stream, name, dimensions, opened_at, since, measured) \
                  VALUES ($1, $2, $3::jsonb, to_timestamp($4), to_timestamp($5), $6) \
                  ON CONFLICT DO NOTHING RETURNING id";
    let resolved = "UPDATE alerts SET status = 'resolved', resolved_at = to_timestamp($4), \
                    resolution = $5, decided_at = now() WHERE stream = $1 AND name = $2 \
                    AND md5(dimensions::text) = md5($3) AND status = 'open' RETURNING id";
    let (stream, name) = (&watch.contract.stream, &watch.alert.name);
    let about = |sql: &'static str| {
        sqlx::query_scalar(sql).bind(stream).bind(name).bind(&decided.dimensions).bind(decided.at)
    };
    let statement = match decided.change {
        Change::Opened { since } => about(opened).bind(since).bind(&decided.measured),
        Change::Cleared => about(resolved).bind("cleared"),
        Change::Forgotten => about(resolved).bind("forgotten"),
    };
    let id: Option<i64> = statement.fetch_optional(&mut *connection).await?;
    if let Some(id) = id {
        notify::enqueue(connection, id, status(decided.change), targets).await?;
    }
    Ok(id.is_some())
}

fn status(change: Change) -> Status {
    match change {
        Change::Opened { .. } => Status::Open,
        Change::Cleared | Change::Forgotten => Status::Resolved,
    }
}

fn say(watch: &Watch<'_>, decided: &Decided) {
    let (stream, alert) = (&watch.contract.stream, &watch.alert.name);
    let Decided { dimensions, measured, .. } = decided;
    let status = status(decided.change);
    tracing::info!(stream, alert, %dimensions, %measured, "alert {}", status.name());
    metrics::analytics::alert_became(stream, alert, status);
}
