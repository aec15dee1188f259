//! One call to the registry over HTTP, and the three ways it can fail.

use std::{error::Error, time::Duration};

use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Away, RegistryAuth, RegistryError};
use crate::tls;

const JSON: &str = "application/vnd.schemaregistry.v1+json";

/// The longest pause taken over from a Retry-After header.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How often a request is made again whose connection ended without an answer that can be read.
pub(super) const MAX_RETRIES: u32 = 3;

/// How much of a foreign page is repeated in an error.
const EXCERPT_LENGTH: usize = 200;

/// What a person does about being turned away.
const CHECK: &str =
    "check --registry-user and its password, or --registry-token, and what they may do";

/// What the calls need: addresses without credentials, and the credentials.
pub(super) struct Client {
    http: reqwest::Client,
    urls: Vec<String>,
    auth: RegistryAuth,
}

/// Why a call brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The registry answered in its own words that it will not.
    Said(Said),
    /// The registry, or something before it, turned us away.
    Refused(String),
    /// No answer that the registry stands behind.
    Away(Away),
}

/// The registry's own JSON error.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    #[serde(rename = "error_code")]
    pub(super) code: u32,
    pub(super) message: String,
}

impl Client {
    pub(super) fn new(http: reqwest::Client, urls: Vec<String>, auth: RegistryAuth) -> Self {
        Self { http, urls, auth }
    }

    /// Asks for a path below the base address; subjects in it come from [`segment`].
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::GET, path, None).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// Whether a failure at one address is a failure of them all.
    pub(super) fn has_one_address(&self) -> bool {
        self.urls.len() == 1
    }

    /// Tries each address until one gives an answer that counts.
    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let mut away = Away { detail: "it has no address".into(), retry_after: None };
        for base in &self.urls {
            let url = format!("{base}/{path}");
            match self.send_to(&url, method.clone(), body).await {
                Err(Failure::Away(reason)) => away = reason,
                settled => return settled,
            }
        }
        Err(Failure::Away(away))
    }

    async fn send_to<T: DeserializeOwned>(
        &self,
        url: &str,
        method: Method,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let mut request = self.http.request(method, url).header(ACCEPT, JSON);
        request = match &self.auth {
            RegistryAuth::None => request,
            RegistryAuth::Basic { user, password } => {
                request.basic_auth(user, Some(password.expose()))
            }
            RegistryAuth::Bearer(token) => request.bearer_auth(token.expose()),
        };
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, JSON).body(body.to_string());
        }
        let response = request.send().await.map_err(|error| no_answer(&error))?;
        understand(url, response).await
    }
}

/// The one place where an answer is judged.
async fn understand<T: DeserializeOwned>(url: &str, response: Response) -> Result<T, Failure> {
    let status = response.status();
    let retry_after = retry_after(&response);
    let text = response.text().await.map_err(|error| no_answer(&error))?;
    if status.is_success() {
        return serde_json::from_str(&text).map_err(|error| {
            away(format!("{url} answered {status} with what is no registry's answer ({error})"))
        });
    }
    let said: Option<Said> = serde_json::from_str(&text).ok();
    let answer = format!("{url} answered {status}: {}", excerpt(said.as_ref(), &text));
    match (status, said) {
        (
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            _,
        ) => Err(Failure::Refused(format!("{answer}; {CHECK}"))),
        (StatusCode::NOT_FOUND, Some(said)) if said.is_not_found() => Err(Failure::Said(said)),
        (StatusCode::NOT_FOUND, _) => {
            Err(away(format!("{answer} (not the registry's own words: is its address right?)")))
        }
        (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, _) => {
            Err(Failure::Away(Away { detail: answer, retry_after }))
        }
        (status, Some(said)) if status.is_client_error() => Err(Failure::Said(said)),
        _ => Err(Failure::Away(Away { detail: answer, retry_after })),
    }
}

impl Said {
    /// Subject, version, schema or setting not found: the codes 404xx. A bare 404 is what the
    /// registry's web server says of a path it does not have.
    pub(super) fn is_not_found(&self) -> bool {
        (40_400..40_500).contains(&self.code)
    }

    /// The subject's compatibility level forbids the schema: 409, in some registries 409xx.
    pub(super) fn is_incompatible(&self) -> bool {
        self.code == 409 || (40_900..41_000).contains(&self.code)
    }
}

impl Failure {
    /// Turns "there is none" into `None`.
    pub(super) fn unless_not_found(self) -> Result<(), Self> {
        match self {
            Self::Said(said) if said.is_not_found() => Ok(()),
            other => Err(other),
        }
    }
}

impl From<Failure> for RegistryError {
    fn from(failure: Failure) -> Self {
        /// The registry or the subject is in read-only mode.
        const OPERATION_NOT_PERMITTED: u32 = 42_205;

        match failure {
            Failure::Said(said) if said.code == OPERATION_NOT_PERMITTED => {
                Self::Refused(said.message)
            }
            Failure::Said(said) => Self::Invalid(said.message),
            Failure::Refused(detail) => Self::Refused(detail),
            Failure::Away(away) => Self::Away(away),
        }
    }
}

/// Makes one path segment of a subject, whatever characters it has.
pub(super) fn segment(subject: &str) -> Result<String, RegistryError> {
    // these are path steps to every URL parser, percent-encoded or not
    if matches!(subject, "" | "." | "..") {
        return Err(RegistryError::Invalid(format!("{subject:?} cannot be a subject's name")));
    }
    let mut encoded = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(encoded)
}

/// An error with all its causes in one line; reqwest says what happened only in the last.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Who is not there may come back; a certificate that does not prove who answers, or who asks,
/// does not by itself.
pub(super) fn no_answer(error: &(dyn Error + 'static)) -> Failure {
    let ours = "--registry-certificate and --registry-key";
    match (tls::what_to_do(error, "--registry-ca", ours), tls::verdict(error)) {
        (Some(what_to_do), Some(verdict)) => {
            let url = error.downcast_ref().and_then(reqwest::Error::url);
            let url = url.map_or("", |url| url.as_str());
            Failure::Refused(format!("{url}: {verdict}; {what_to_do}"))
        }
        _ => away(chain(error)),
    }
}

/// Makes a request again, at once, whose connection came about and ended without an answer that can
/// be read. A server ends an idle connection so; and in TLS 1.3 it turns a client away after the
/// handshake, where it is chance whether the client hears the reason or the end alone.
///
/// All attempts share the request's time-out.
pub(super) fn retries() -> reqwest::retry::Builder {
    struct AnyHost;
    impl PartialEq<&str> for AnyHost {
        fn eq(&self, _: &&str) -> bool {
            true
        }
    }

    reqwest::retry::for_host(AnyHost).no_budget().max_retries_per_request(MAX_RETRIES).classify_fn(
        |answer| match answer.error() {
            Some(error)
                if has_ended_unanswered(error)
                    && may_be_repeated(answer.method(), answer.uri().path()) =>
            {
                answer.retryable()
            }
            _ => answer.success(),
        },
    )
}

fn has_ended_unanswered(error: &(dyn Error + 'static)) -> bool {
    let had_connected =
        error.downcast_ref().is_some_and(|error: &reqwest::Error| !error.is_connect());
    had_connected && tls::verdict(error).is_none()
}

/// Whatever makes no version of a subject. That request may still be at work when its connection has
/// ended, and registries have made two versions of two at once. Questions about compatibility have a
/// path that ends in the same way; they lose nothing but the repetition.
fn may_be_repeated(method: &Method, path: &str) -> bool {
    method != Method::POST || !path.ends_with("/versions")
}

fn away(detail: String) -> Failure {
    Failure::Away(Away { detail, retry_after: None })
}

/// Only the form in seconds; the one with a date is as rare as it is unreliable.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

fn excerpt(said: Option<&Said>, text: &str) -> String {
    match said {
        Some(said) => said.message.clone(),
        None => text.trim().chars().take(EXCERPT_LENGTH).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_become_one_segment() {
        assert_eq!(segment("device.telemetry-value").unwrap(), "device.telemetry-value");
        assert_eq!(segment("a/b c?#%2F+ü").unwrap(), "a%2Fb%20c%3F%23%252F%2B%C3%BC");
        for impossible in ["", ".", ".."] {
            assert!(matches!(segment(impossible), Err(RegistryError::Invalid(_))));
        }
    }
}
