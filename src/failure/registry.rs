//! What the schema registry answers, sorted. What an HTTP answer is taken for is decided by
//! `understand` in `registry::client`; here is what follows from it.

#[cfg(test)]
use super::Kind;
use super::{Failure, Rejection, Stage};
use crate::registry::{LookupError, RegistryError};

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

/// A call about a subject is never for one record.
impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        match error {
            RegistryError::Away(_) => Failure::Dependency(error.into()),
            RegistryError::Refused(_) | RegistryError::Invalid(_) => {
                Failure::Contract(error.into())
            }
        }
    }
}

/// An answer, and what follows from it when a writer's schema is looked up.
#[cfg(test)]
pub(super) struct Answer {
    pub(super) means: &'static str,
    pub(super) kind: Kind,
    /// The status and the registry's own error code, as examples of it; none where there is no
    /// HTTP answer.
    pub(super) examples: &'static [(u16, Option<u32>)],
}

/// What can come back when the registry is asked for a schema by its id. The code that decides is
/// `understand`; this is what it is held against.
#[cfg(test)]
#[rustfmt::skip]
pub(super) const ANSWERS: &[Answer] = &[
    Answer { means: "the registry's own \"not found\" (404 with 404xx), attempt after attempt", kind: Kind::Record, examples: &[(404, Some(40_403)), (404, Some(40_401))] },
    Answer { means: "a schema that is no Avro, can't be parsed, or refers to one that is missing", kind: Kind::Record, examples: &[] },
    Answer { means: "no answer: refused, reset, timed out, cut short", kind: Kind::Dependency, examples: &[] },
    Answer { means: "200 with what is no registry's answer, or a redirect", kind: Kind::Dependency, examples: &[(200, None), (302, None)] },
    Answer { means: "a 404 that is not the registry's own: a wrong path, or a proxy", kind: Kind::Dependency, examples: &[(404, None), (404, Some(404))] },
    Answer { means: "408, 429 (and Retry-After is kept to)", kind: Kind::Dependency, examples: &[(408, None), (429, None), (429, Some(42_901))] },
    Answer { means: "another 4xx", kind: Kind::Dependency, examples: &[(400, None), (409, Some(40_901)), (422, Some(42_201))] },
    Answer { means: "5xx (and Retry-After is kept to)", kind: Kind::Dependency, examples: &[(500, Some(50_001)), (500, None), (502, None), (503, None), (504, None)] },
    Answer { means: "TLS that proves nothing: a certificate that is not to be trusted, the registry's or ours; no TLS at an https address", kind: Kind::Contract, examples: &[] },
    Answer { means: "401, 403, 407", kind: Kind::Contract, examples: &[(401, Some(40_101)), (401, None), (403, Some(40_301)), (407, None)] },
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

    use super::*;
    use crate::{
        registry::{Away, Registry, RegistryAuth, RegistryConfig},
        wire::SchemaId,
    };

    fn kind(failure: &Failure) -> Kind {
        match failure {
            Failure::Record(_) => Kind::Record,
            Failure::Dependency(_) => Kind::Dependency,
            Failure::Contract(_) => Kind::Contract,
        }
    }

    fn registry_at(url: String) -> Registry {
        let timeout = Duration::from_secs(10);
        let (urls, auth) = (vec![url], RegistryAuth::None);
        Registry::new(&RegistryConfig { urls, auth, ca_file: None, identity: None, timeout })
            .unwrap()
    }

    #[tokio::test]
    async fn every_answer_to_a_look_up_has_its_kind() {
        for answer in ANSWERS {
            for (status, code) in answer.examples {
                let server = MockServer::start().await;
                let mut response = ResponseTemplate::new(*status);
                if let Some(code) = code {
                    response =
                        response.set_body_json(json!({"error_code": code, "message": "because"}));
                }
                Mock::given(method("GET")).respond_with(response).mount(&server).await;
                let registry = registry_at(server.uri());
                let error = registry.writer_schema(SchemaId(1)).await.unwrap_err();
                let failure = Failure::from(error);
                assert_eq!(kind(&failure), answer.kind, "{status} {code:?}: {failure}");
            }
        }
    }

    #[test]
    fn every_error_of_a_look_up_or_a_call_has_its_kind() {
        let away = || Away { detail: "x".into(), retry_after: None };
        let id = SchemaId(1);
        for (failure, expected) in [
            (LookupError::Unknown { id }.into(), Kind::Record),
            (LookupError::Unusable { id, detail: "x".into() }.into(), Kind::Record),
            (LookupError::Away(away()).into(), Kind::Dependency),
            (LookupError::Refused("x".into()).into(), Kind::Contract),
            (RegistryError::Away(away()).into(), Kind::Dependency),
            (RegistryError::Refused("x".into()).into(), Kind::Contract),
            (Failure::from(RegistryError::Invalid("x".into())), Kind::Contract),
        ] {
            assert_eq!(kind(&failure), expected, "{failure}");
        }
    }
}
