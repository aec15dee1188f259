//! How the registry can fail, sorted by who has to mend it.

use std::time::Duration;

use crate::wire::SchemaId;

/// The registry cannot be asked just now: network, time-out, overload, a proxy in between.
///
/// A dependency's failure: it passes, and asking again is right for as long as it takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema registry is away: {detail}")]
pub struct Away {
    /// What happened, the address included.
    pub detail: String,
    /// How long the registry asked to be left alone, at most an hour.
    pub retry_after: Option<Duration>,
}

/// Why a writer's schema cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The registry itself says that it has no such schema: the record's fault.
    #[error("the schema registry knows no schema with id {id}")]
    Unknown {
        /// The id in the record's header.
        id: SchemaId,
    },
    /// The registry has it and it is no Avro schema that can be read with: the record's fault.
    #[error("schema {id} cannot be used to read events: {detail}")]
    Unusable {
        /// The id in the record's header.
        id: SchemaId,
        /// What is wrong with the schema.
        detail: String,
    },
    /// The registry cannot be asked: a dependency's failure.
    #[error(transparent)]
    Away(#[from] Away),
    /// The registry turned our credentials away, or TLS does not prove who is who: the configuration's fault.
    #[error("no access to the schema registry: {0}")]
    Refused(String),
}

/// A look-up that failed, and how often it was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct FailedLookup {
    /// The last failure.
    pub error: LookupError,
    /// How many times the registry was asked; 0 for an id that no registry can have.
    pub attempts: u32,
}

/// Why a call about subjects failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The registry cannot be asked: a dependency's failure.
    #[error(transparent)]
    Away(#[from] Away),
    /// The registry turned our credentials away, or is read-only: the configuration's fault.
    #[error("no access to the schema registry: {0}")]
    Refused(String),
    /// The registry understood and finds the request wrong: the schema's or the subject's fault.
    #[error("the schema registry did not accept the request: {0}")]
    Invalid(String),
}

/// Why a schema was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The subject's compatibility level forbids this change: the schema's fault.
    #[error("the schema is incompatible with subject {subject:?}: {}", problems.join("; "))]
    Incompatible {
        /// The subject it was to be registered under.
        subject: String,
        /// What is incompatible, the field named where it is known; never empty.
        problems: Vec<String>,
    },
    /// Anything else.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
