//! What can go wrong with a poll, told without the secrets that a URL may hold.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// A poll that brought no answer; the caller decides when to try again.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// The server refused.
    #[error("GET {url} answered {status}")]
    Status {
        /// Without user, password, query and fragment.
        url: String,
        /// What it answered.
        status: StatusCode,
        /// How long the server asks us to wait.
        retry_after: Option<Duration>,
    },
    /// No connection, no answer in time, or one that was cut off.
    #[error("GET {url} failed")]
    Request {
        /// Without user, password, query and fragment.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The answer is larger than we hold in memory.
    #[error("GET {url} answered more than {limit} bytes; ask for fewer records at a time")]
    TooLarge {
        /// Without user, password, query and fragment.
        url: String,
        /// The most that is read.
        limit: usize,
    },
    /// The answer holds no records.
    #[error("cannot read records from the answer of {url}")]
    Content {
        /// Without user, password, query and fragment.
        url: String,
        /// Why not.
        source: anyhow::Error,
    },
}

impl PollError {
    /// How long the server asked us to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A URL as it may be shown: user, password, query and fragment may hold secrets.
pub(super) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{}{port}{}{query}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// Seconds, or the HTTP date after which to come again.
pub(super) fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let wait = OffsetDateTime::parse(text, &Rfc2822).ok()? - now;
            Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn retry_after_may_be_a_date() {
        let now = time::macros::datetime!(2018-02-06 14:00:00 UTC);
        let wait = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]), now)
        };
        assert_eq!(wait("Tue, 06 Feb 2018 14:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(wait("Tue, 06 Feb 2018 13:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
    }
}
