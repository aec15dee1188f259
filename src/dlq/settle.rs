//! Dead letters that are put aside: parked, discarded, taken up again, or purged.

use anyhow::anyhow;
use sqlx::{Connection, PgConnection, Postgres, QueryBuilder};

use super::{Filter, Status, deeds};
use crate::sql::said;

/// What is done about letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Leave them alone until somebody says otherwise.
    Park,
    /// They are not wanted any more.
    Discard,
    /// They wait again.
    Reopen,
}

impl Action {
    /// Which letters it is for, where the filter does not say, and what they become.
    fn course(self) -> (&'static [Status], Status) {
        match self {
            Action::Park => (&[Status::Pending], Status::Parked),
            Action::Discard => (&[Status::Pending, Status::Parked], Status::Discarded),
            Action::Reopen => (&[Status::Parked, Status::Discarded], Status::Pending),
        }
    }

    /// What has been done, for the history.
    pub fn name(self) -> &'static str {
        match self {
            Action::Park => "parked",
            Action::Discard => "discarded",
            Action::Reopen => "reopened",
        }
    }
}

/// Does it to all letters that a filter names, for a reason; gives how many there were. What has been
/// replayed stays so. A letter that waits again is replayed as if it had never been.
pub async fn settle(
    connection: &mut PgConnection,
    filter: &Filter,
    action: Action,
    who: &str,
    reason: &str,
) -> anyhow::Result<usize> {
    let (from, to) = action.course();
    let mut filter = filter.clone();
    if filter.statuses.is_empty() {
        filter.statuses = from.to_vec();
    }
    filter.statuses.retain(|status| *status != Status::Replayed && *status != to);
    if filter.statuses.is_empty() {
        return Ok(0);
    }
    let unwritten = |error: sqlx::Error| anyhow!("dlq_events can't be changed: {}", said(&error));
    let mut transaction = connection.begin().await.map_err(unwritten)?;
    let mut query: QueryBuilder<'_, Postgres> =
        QueryBuilder::new("UPDATE dlq_events AS letter SET status = ");
    query.push_bind(to.name());
    query.push(", replays = CASE WHEN ").push_bind(action == Action::Reopen);
    query.push(" THEN 0 ELSE replays END WHERE letter.purged_at IS NULL AND ");
    filter.push(&mut query);
    query.push(" RETURNING letter.id");
    let ids: Vec<i64> =
        query.build_query_scalar().fetch_all(&mut *transaction).await.map_err(unwritten)?;
    let notes = vec![reason.to_owned(); ids.len()];
    deeds::note(&mut transaction, &ids, action.name(), who, &notes).await?;
    transaction.commit().await.map_err(unwritten)?;
    Ok(ids.len())
}

/// Forgets what was in letters that a filter names: key, payload, headers, event and detail. That there
/// was one, where, why and what became of it stays, or the account of its offset would not add up. What
/// is not on the dead-letter topic yet is left alone; so is what still waits, unless the filter says so:
/// then it is discarded.
pub async fn purge(
    connection: &mut PgConnection,
    filter: &Filter,
    who: &str,
    dry_run: bool,
) -> anyhow::Result<usize> {
    let mut filter = filter.clone();
    if filter.statuses.is_empty() {
        filter.statuses = vec![Status::Replayed, Status::Discarded];
    }
    let unwritten = |error: sqlx::Error| anyhow!("dlq_events can't be changed: {}", said(&error));
    let mut transaction = connection.begin().await.map_err(unwritten)?;
    let mut query: QueryBuilder<'_, Postgres> = QueryBuilder::new(
        "UPDATE dlq_events AS letter SET key = NULL, payload = NULL, headers = '[]', \
         decoded = NULL, detail = '', fingerprint = NULL, purged_at = now(), \
         status = CASE status WHEN 'replayed' THEN status ELSE 'discarded' END \
         WHERE letter.purged_at IS NULL AND NOT EXISTS (SELECT FROM dlq_outbox AS waiting \
         WHERE waiting.stream = letter.stream AND waiting.id = letter.id) AND ",
    );
    filter.push(&mut query);
    query.push(" RETURNING letter.id");
    let ids: Vec<i64> =
        query.build_query_scalar().fetch_all(&mut *transaction).await.map_err(unwritten)?;
    // an edited event is as private as the one that it replaces
    sqlx::query("UPDATE dlq_history SET payload = NULL, note = '' WHERE letter_id = ANY ($1)")
        .bind(&ids)
        .execute(&mut *transaction)
        .await
        .map_err(unwritten)?;
    let notes = vec![String::new(); ids.len()];
    deeds::note(&mut transaction, &ids, "purged", who, &notes).await?;
    if dry_run {
        transaction.rollback().await.map_err(unwritten)?;
    } else {
        transaction.commit().await.map_err(unwritten)?;
    }
    Ok(ids.len())
}
