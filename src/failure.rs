//! The three kinds of failure, and the one place where errors are sorted into them.
//!
//! - A *record* failure is the event's own fault: it becomes a dead letter, the rest goes on.
//! - A *dependency* failure is something being away: wait and try again, for as long as it takes.
//! - A *contract* failure needs a person: the stream stops and says what to do.
//!
//! What Postgres, Kafka and the registry can say is a table each in a module each, complete, and
//! `docs/failures.md` holds the same tables. What they don't list stops the stream: neither
//! waiting nor dropping is known to be right. What is wrong with a record is found by our own
//! code, which gives it a reason of [`REASONS`].

mod kafka;
mod postgres;
mod registry;

#[cfg(test)]
mod docs;

use std::{borrow::Cow, fmt, time::Duration};

use crate::registry::{Away, LookupError, RegistryError};

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

/// What happens next; a [`Failure`] without what went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Record,
    Dependency,
    Contract,
}

/// Every reason for which a record is refused: the stage, the code as dead letters and metrics
/// carry it, and what it means. A code that ends in `:` is followed by a name.
#[rustfmt::skip]
pub const REASONS: &[(Stage, &str, &str)] = &[
    (Stage::Wire, "tombstone", "the record has no value"),
    (Stage::Wire, "empty_value", "the value has no bytes"),
    (Stage::Wire, "bad_magic_byte", "the value does not begin with the byte 0"),
    (Stage::Wire, "truncated_header", "the value ends inside its five-byte header"),
    (Stage::Wire, "unreadable_headers", "a Kafka header's name is not UTF-8"),
    (Stage::Decode, "unknown_schema_id", "the registry says, attempt after attempt, that it has no such schema"),
    (Stage::Decode, "unusable_schema", "the writer's schema is no Avro, or can't be read with safely"),
    (Stage::Decode, "wrong_schema", "the writer's schema is of another record"),
    (Stage::Decode, "incompatible_schema", "what the writer's schema writes does not fit the contract's"),
    (Stage::Decode, "truncated_body", "the body ends before the event does"),
    (Stage::Decode, "trailing_bytes", "the body goes on behind the event"),
    (Stage::Decode, "length_out_of_bounds", "a length is negative, or more than there is"),
    (Stage::Decode, "malformed_number", "a number has more bits than its type"),
    (Stage::Decode, "invalid_utf8", "a string is not UTF-8"),
    (Stage::Decode, "undecodable", "the bytes are no event of the schema otherwise"),
    (Stage::Check, "rule:", "a rule does not hold"),
    (Stage::Check, "rule_error:", "a rule can't be evaluated for this event"),
    (Stage::Label, "label_error:", "a label can't be evaluated for this event"),
    (Stage::Land, "nul_character", "a text has a NUL, which Postgres can't store"),
    (Stage::Land, "not_finite", "a number is NaN or infinite"),
    (Stage::Land, "numeric_out_of_range", "a decimal has too many digits"),
    (Stage::Land, "timestamp_out_of_range", "an instant is beyond Postgres's"),
    (Stage::Land, "date_out_of_range", "a date is beyond Postgres's"),
    (Stage::Land, "time_out_of_range", "a time of day is not within a day"),
    (Stage::Land, "interval_out_of_range", "a duration is beyond Postgres's"),
    (Stage::Land, "undecodable", "a value does not fit its column"),
    (Stage::Land, "not_null_violation", "the table refuses the row (23502)"),
    (Stage::Land, "foreign_key_violation", "the table refuses the row (23503)"),
    (Stage::Land, "unique_violation", "the table refuses the row (23505)"),
    (Stage::Land, "check_violation", "the table refuses the row (23514)"),
    (Stage::Land, "exclusion_violation", "the table refuses the row (23P01)"),
    (Stage::Land, "raised_by_trigger", "a trigger refuses the row (P0001)"),
    (Stage::Land, "table_refused:", "the table refuses the row, with this SQLSTATE"),
];

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

/// How many bytes of a detail are kept: an error may repeat a value, however long that is.
const LONGEST_DETAIL: usize = 2_000;

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
    /// The part of the detail that quotes no value of the event: the field or the constraint.
    pub about: Option<String>,
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
        let reason = reason.into();
        debug_assert!(is_listed(stage, &reason), "{stage} has no reason {reason:?}");
        let mut detail = detail.into();
        if detail.len() > LONGEST_DETAIL {
            detail.truncate(detail.floor_char_boundary(LONGEST_DETAIL));
            detail.push('…');
        }
        Rejection { stage, reason, detail, about: None }
    }

    /// The refusal, with what of it may be said where values are private.
    pub(crate) fn about(self, about: impl Into<String>) -> Rejection {
        Rejection { about: Some(about.into()), ..self }
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

fn is_listed(stage: Stage, reason: &str) -> bool {
    REASONS.iter().filter(|(at, ..)| *at == stage).any(|(_, code, _)| match code.ends_with(':') {
        true => reason.len() > code.len() && reason.starts_with(code),
        false => reason == *code,
    })
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_dependency_is_left_alone_for_as_long_as_it_asks() {
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
    fn a_detail_is_cut_where_it_gets_too_long() {
        let detail = |detail: &str| Rejection::new(Stage::Wire, "tombstone", detail).detail;
        assert_eq!(detail("short"), "short");
        let cut = detail(&"é".repeat(5_000));
        assert!(cut.ends_with("é…") && cut.len() < LONGEST_DETAIL + 4, "{}", cut.len());
    }

    #[test]
    fn a_reason_is_listed_with_its_stage_and_its_name() {
        assert!(is_listed(Stage::Check, "rule:plausible"));
        assert!(is_listed(Stage::Decode, "undecodable"));
        assert!(!is_listed(Stage::Check, "rule:"));
        assert!(!is_listed(Stage::Wire, "undecodable"));
        assert!(!is_listed(Stage::Wire, "tombstones"));
    }
}
