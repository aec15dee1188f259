//! The three kinds of failure, and the one place where errors are sorted into them.
//!
//! - A *record* failure is the event's own fault: it becomes a dead letter, the rest goes on.
//! - A *dependency* failure is something being away: wait and try again, for as long as it takes.
//! - A *contract* failure needs a person: the stream stops and says what to do.

use std::{borrow::Cow, fmt, time::Duration};

use anyhow::anyhow;
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use crate::{
    registry::{Away, LookupError, RegistryError},
    sql::said,
};

/// Why something could not be done, by what happens next.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Dead-letter the record.
    #[error("{0}")]
    Record(Rejection),
    /// Wait, then try again.
    #[error("{0:#}")]
    Dependency(anyhow::Error),
    /// Stop the stream.
    #[error("{0:#}")]
    Contract(anyhow::Error),
}

impl Failure {
    /// How long the dependency asked to be left alone, where it did.
    pub fn retry_after(&self) -> Option<Duration> {
        let Failure::Dependency(error) = self else { return None };
        let away = |cause: &'_ (dyn std::error::Error + 'static)| {
            let lookup = cause.downcast_ref().and_then(|error| match error {
                LookupError::Away(Away { retry_after, .. }) => *retry_after,
                _ => None,
            });
            let call = || {
                cause.downcast_ref().and_then(|error| match error {
                    RegistryError::Away(Away { retry_after, .. }) => *retry_after,
                    _ => None,
                })
            };
            lookup.or_else(call).or_else(|| cause.downcast_ref::<Away>()?.retry_after)
        };
        error.chain().find_map(away)
    }
}

/// Why one record is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// How far the record got.
    pub stage: Stage,
    /// A code that can be counted and searched for, such as `truncated_body` or
    /// `rule:value_is_plausible`.
    pub reason: Cow<'static, str>,
    /// What a person needs to know.
    pub detail: String,
}

/// How far a record got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The five-byte header.
    Wire,
    /// Bytes to event.
    Decode,
    /// The contract's rules.
    Check,
    /// The contract's labels.
    Label,
    /// Event to row, and row to table.
    Land,
}

impl Rejection {
    /// A refusal.
    pub fn new(
        stage: Stage,
        reason: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Rejection {
        Rejection { stage, reason: reason.into(), detail: detail.into() }
    }

    /// Whether a rule or a label could not be evaluated, rather than that a rule says no.
    pub fn is_evaluation_error(&self) -> bool {
        self.reason.starts_with("rule_error:") || self.reason.starts_with("label_error:")
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.reason, self.stage, self.detail)
    }
}

impl Stage {
    /// The name in `dlq_events` and in headers.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Wire => "wire",
            Stage::Decode => "decode",
            Stage::Check => "check",
            Stage::Label => "label",
            Stage::Land => "land",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What Postgres says when it refuses a statement.
impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        let sqlx::Error::Database(database) = &error else {
            return match error {
                sqlx::Error::Configuration(_) => Failure::Contract(error.into()),
                _ => Failure::Dependency(anyhow!(said(&error))),
            };
        };
        let code = database.code().unwrap_or_default().into_owned();
        let said = format!("{} ({code})", database.message());
        match sqlstate(&code) {
            // Postgres's message names the constraint
            Kind::Record => Failure::Record(Rejection::new(Stage::Land, refusal(&code), said)),
            Kind::Dependency => Failure::Dependency(anyhow!("Postgres says: {said}")),
            Kind::Contract => {
                Failure::Contract(anyhow!("Postgres says: {said}; {}", how_to_mend(&code)))
            }
        }
    }
}

/// What the schema registry says, or does not say, of an id.
impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Failure {
        let reason = match &error {
            LookupError::Unknown { .. } => "unknown_schema_id",
            LookupError::Unusable { .. } => "unusable_schema",
            LookupError::Away(_) => return Failure::Dependency(error.into()),
            LookupError::Refused(_) => return Failure::Contract(error.into()),
        };
        Failure::Record(Rejection::new(Stage::Decode, reason, error.to_string()))
    }
}

/// What librdkafka says.
impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Failure {
        use RDKafkaErrorCode::{
            Authentication, ClusterAuthorizationFailed, GroupAuthorizationFailed,
            SaslAuthenticationFailed, TopicAuthorizationFailed, UnsupportedSASLMechanism,
        };
        match error.rdkafka_error_code() {
            Some(
                Authentication
                | ClusterAuthorizationFailed
                | GroupAuthorizationFailed
                | SaslAuthenticationFailed
                | TopicAuthorizationFailed
                | UnsupportedSASLMechanism,
            ) => Failure::Contract(error.into()),
            _ => Failure::Dependency(error.into()),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Record,
    Dependency,
    Contract,
}

/// The classes of PostgreSQL's appendix A; a code that is not listed stops the stream, since
/// neither waiting nor dropping is known to be right.
fn sqlstate(code: &str) -> Kind {
    match code {
        "25006" | "25P03" => Kind::Dependency, // read-only; idle in transaction for too long
        "54000" => Kind::Record,               // an index row too large
        "P0001" => Kind::Record,               // raised by a trigger
        _ => match code.get(..2).unwrap_or_default() {
            "22" | "23" | "44" => Kind::Record,
            // connection, rolled back, resources, not in state, operator, system, internal
            "08" | "40" | "53" | "55" | "57" | "58" | "XX" => Kind::Dependency,
            _ => Kind::Contract,
        },
    }
}

/// What a person does about a failure of the contract's kind.
fn how_to_mend(code: &str) -> &'static str {
    match code {
        "42501" => "grant the privilege to the user of DATABASE_URL, and start again",
        "3D000" | "28000" | "28P01" => "correct DATABASE_URL, and start again",
        "42P01" | "42P10" | "42703" | "42804" => "run `sluicegate migrate`, and start again",
        _ => "mend that, and start again",
    }
}

/// The reason code of a row that the table refuses.
fn refusal(code: &str) -> Cow<'static, str> {
    match code {
        "23502" => "not_null_violation".into(),
        "23503" => "foreign_key_violation".into(),
        "23505" => "unique_violation".into(),
        "23514" => "check_violation".into(),
        "23P01" => "exclusion_violation".into(),
        "P0001" => "raised_by_trigger".into(),
        other => format!("table_refused:{other}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sqlstate_has_its_kind() {
        for (code, kind) in [
            ("22003", Kind::Record),     // numeric value out of range
            ("22021", Kind::Record),     // character not in repertoire
            ("23502", Kind::Record),     // not null
            ("23505", Kind::Record),     // unique
            ("23514", Kind::Record),     // check
            ("44000", Kind::Record),     // with check option
            ("54000", Kind::Record),     // index row size
            ("P0001", Kind::Record),     // raise exception
            ("08006", Kind::Dependency), // connection failure
            ("25006", Kind::Dependency), // read only
            ("40001", Kind::Dependency), // serialization failure
            ("40P01", Kind::Dependency), // deadlock
            ("53100", Kind::Dependency), // disk full
            ("53300", Kind::Dependency), // too many connections
            ("55P03", Kind::Dependency), // lock not available
            ("57014", Kind::Dependency), // query cancelled
            ("57P01", Kind::Dependency), // admin shutdown
            ("57P03", Kind::Dependency), // cannot connect now
            ("58030", Kind::Dependency), // i/o error
            ("28P01", Kind::Contract),   // wrong password
            ("3D000", Kind::Contract),   // no such database
            ("42501", Kind::Contract),   // no privilege
            ("42703", Kind::Contract),   // no such column
            ("42P01", Kind::Contract),   // no such table
            ("0A000", Kind::Contract),   // not supported
            ("", Kind::Contract),
        ] {
            assert_eq!(sqlstate(code), kind, "{code}");
        }
    }

    #[test]
    fn a_dependency_is_left_alone_for_as_long_as_it_asks() {
        use anyhow::Context;

        let retry_after = Some(Duration::from_secs(7));
        let away = Away { detail: "429".into(), retry_after };
        let lookup = Failure::from(LookupError::Away(away.clone()));
        assert_eq!(lookup.retry_after(), retry_after);
        let call = Err::<(), _>(RegistryError::Away(away)).context("can't list").unwrap_err();
        assert_eq!(Failure::Dependency(call).retry_after(), retry_after);
        assert_eq!(Failure::Dependency(anyhow!("gone")).retry_after(), None);
        assert_eq!(Failure::from(LookupError::Refused("401".into())).retry_after(), None);
    }

    #[test]
    fn a_broken_connection_is_waited_for() {
        let error = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(matches!(Failure::from(error), Failure::Dependency(_)));
    }
}
