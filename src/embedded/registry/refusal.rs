//! What the registry says no with: Confluent's status, code and words.
//! <https://docs.confluent.io/platform/current/schema-registry/develop/api.html#errors>

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Why a call brings nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("Subject '{0}' not found.")]
    NoSubject(String),
    #[error("Version {0} not found.")]
    NoVersion(u32),
    #[error("Schema not found")]
    NoSchema,
    #[error("Subject '{0}' was soft deleted. Set permanent=true to delete permanently")]
    SubjectDeleted(String),
    #[error("Subject '{0}' was not deleted first before being permanently deleted")]
    SubjectNotDeleted(String),
    #[error("Subject '{0}' Version {1} was soft deleted. Set permanent=true to delete permanently")]
    VersionDeleted(String, u32),
    #[error("Subject '{0}' Version {1} was not deleted first before being permanently deleted")]
    VersionNotDeleted(String, u32),
    #[error("Subject '{0}' does not have subject-level compatibility configured")]
    NoLevel(String),
    #[error("Schema being registered is incompatible with an earlier schema: {0}")]
    Incompatible(String),
    #[error("Invalid schema: {0}")]
    InvalidSchema(String),
    #[error(
        "The specified version '{0}' is not a valid version id. Allowed values are between [1, \
         2^31-1] and the string \"latest\""
    )]
    InvalidVersion(String),
    #[error(
        "Invalid compatibility level. Valid values are none, backward, forward, full, \
         backward_transitive, forward_transitive, and full_transitive"
    )]
    InvalidLevel,
    #[error("One or more references exist to the schema {0}")]
    Referenced(String),
    #[error("HTTP 404 Not Found")]
    NoPath,
    #[error("The request's body can't be read: {0}")]
    Unreadable(String),
}

impl Refusal {
    /// The first three digits are the status.
    fn code(&self) -> u32 {
        match self {
            Refusal::NoSubject(_) => 40_401,
            Refusal::NoVersion(_) => 40_402,
            Refusal::NoSchema => 40_403,
            Refusal::SubjectDeleted(_) => 40_404,
            Refusal::SubjectNotDeleted(_) => 40_405,
            Refusal::VersionDeleted(..) => 40_406,
            Refusal::VersionNotDeleted(..) => 40_407,
            Refusal::NoLevel(_) => 40_408,
            Refusal::Incompatible(_) => 409,
            Refusal::InvalidSchema(_) => 42_201,
            Refusal::InvalidVersion(_) => 42_202,
            Refusal::InvalidLevel => 42_203,
            Refusal::Referenced(_) => 42_206,
            Refusal::NoPath => 404,
            Refusal::Unreadable(_) => 400,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.code();
        let status = if code < 1_000 { code } else { code / 100 };
        let status = u16::try_from(status).ok().and_then(|code| StatusCode::from_u16(code).ok());
        let body = Json(json!({ "error_code": code, "message": self.to_string() }));
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body).into_response()
    }
}
