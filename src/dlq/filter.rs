//! Which dead letters, as a condition of a statement.

use sqlx::{Postgres, QueryBuilder};
use time::OffsetDateTime;

/// Which dead letters; what is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Those with one of these ids.
    pub ids: Vec<i64>,
    /// Those of one of these streams.
    pub streams: Vec<String>,
    /// Those of one of these stages: wire, decode, check, label or land.
    pub stages: Vec<String>,
    /// Those with one of these reason codes.
    pub reasons: Vec<String>,
    /// Those that a rule refused, by its name: `rule:NAME` and `rule_error:NAME`.
    pub rule: Option<String>,
    /// Those that were seen from then on,
    pub since: Option<OffsetDateTime>,
    /// and those that were seen before.
    pub until: Option<OffsetDateTime>,
    /// Those written with the schema of this id.
    pub schema_id: Option<u32>,
    /// Those with this Kafka key.
    pub key: Option<Vec<u8>>,
    /// Those with one of these statuses.
    pub statuses: Vec<Status>,
}

/// What has become of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, sqlx::Type, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Status {
    /// Nothing yet.
    Pending,
    /// It has landed after all.
    Replayed,
    /// It is left alone until somebody says otherwise.
    Parked,
    /// It is not wanted any more.
    Discarded,
}

impl Status {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Replayed => "replayed",
            Status::Parked => "parked",
            Status::Discarded => "discarded",
        }
    }
}

impl Filter {
    /// The letters of one stream that are tried again: without a status, those that are pending; who names
    /// a letter means it whatever its status. What was replayed stays so.
    pub(super) fn to_be_replayed(&self, stream: &str) -> Filter {
        let mut filter = Filter { streams: vec![stream.to_owned()], ..self.clone() };
        if filter.statuses.is_empty() {
            filter.statuses = match filter.ids.is_empty() {
                true => vec![Status::Pending],
                false => vec![Status::Pending, Status::Parked, Status::Discarded],
            };
        }
        filter.statuses.retain(|status| *status != Status::Replayed);
        filter
    }

    /// Appends the condition on rows named `letter`; there is always one.
    pub fn push(&self, query: &mut QueryBuilder<'_, Postgres>) {
        query.push("true");
        if !self.ids.is_empty() {
            query.push(" AND letter.id = ANY (").push_bind(self.ids.clone()).push(")");
        }
        for (column, values) in
            [("stream", &self.streams), ("stage", &self.stages), ("reason", &self.reasons)]
        {
            if !values.is_empty() {
                query.push(format!(" AND letter.{column} = ANY ("));
                query.push_bind(values.clone()).push(")");
            }
        }
        if let Some(rule) = &self.rule {
            let reasons = vec![format!("rule:{rule}"), format!("rule_error:{rule}")];
            query.push(" AND letter.reason = ANY (").push_bind(reasons).push(")");
        }
        if let Some(since) = self.since {
            query.push(" AND letter.seen_at >= ").push_bind(since);
        }
        if let Some(until) = self.until {
            query.push(" AND letter.seen_at < ").push_bind(until);
        }
        if let Some(schema_id) = self.schema_id {
            query.push(" AND letter.schema_id = ").push_bind(i64::from(schema_id));
        }
        if let Some(key) = &self.key {
            query.push(" AND letter.key = ").push_bind(key.clone());
        }
        if !self.statuses.is_empty() {
            let names: Vec<&str> = self.statuses.iter().map(|status| status.name()).collect();
            query.push(" AND letter.status = ANY (").push_bind(names).push(")");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_asks_for_what_it_names_and_binds_every_value() {
        let of = |filter: &Filter| {
            let mut query = QueryBuilder::new("SELECT WHERE ");
            filter.push(&mut query);
            query.sql().to_owned()
        };
        assert_eq!(of(&Filter::default()), "SELECT WHERE true");
        let all = Filter {
            ids: vec![7],
            streams: vec!["'".into()],
            stages: vec!["check".into()],
            reasons: vec!["r".into()],
            rule: Some("positive".into()),
            since: Some(OffsetDateTime::UNIX_EPOCH),
            until: Some(OffsetDateTime::UNIX_EPOCH),
            schema_id: Some(1),
            key: Some(vec![0]),
            statuses: vec![Status::Pending],
        };
        insta::assert_snapshot!(of(&all), @"SELECT WHERE true AND letter.id = ANY ($1) AND letter.stream = ANY ($2) AND letter.stage = ANY ($3) AND letter.reason = ANY ($4) AND letter.reason = ANY ($5) AND letter.seen_at >= $6 AND letter.seen_at < $7 AND letter.schema_id = $8 AND letter.key = $9 AND letter.status = ANY ($10)");
    }
}
