//! Readings from an HTTP API that is asked again and again.
//!
//! A poll returns only records that the poll before did not have, so an unchanged API costs the
//! pipeline nothing. What was returned counts as had only after [`Poller::delivered`]: a crash or a
//! broker that is away makes the next poll return it again, and event ids make that harmless.

mod error;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use reqwest::{Client, Response, StatusCode, Url};
use time::OffsetDateTime;

use super::file::{self, Format};
use super::{InputMapping, Rejected, Row};

pub use error::PollError;
use error::{retry_after, shown};

/// From the request to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer; beyond it an API should be asked for less at a time.
const MAX_BODY: usize = 64 << 20;

/// Polls one URL.
#[derive(Debug)]
pub struct Poller {
    client: Client,
    url: Url,
    mapping: InputMapping,
    max_body: usize,
    hasher: RandomState,
    delivered: Answer,
    fetched: Option<Answer>,
}

/// What is kept of an answer, to tell what is new in the next.
#[derive(Debug, Default)]
struct Answer {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
    /// One hash a record, so that the memory stays far below the document's size.
    records: HashSet<u64>,
}

impl Poller {
    /// Nothing is sent before the first [`fetch`](Self::fetch).
    pub fn new(url: &str, mapping: &InputMapping) -> anyhow::Result<Self> {
        // the URL itself stays out of the message: it may hold a password
        let url: Url = url.parse().context("the URL to poll is not one")?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https"),
            "only http and https can be polled, not {}",
            url.scheme()
        );
        let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        let client = Client::builder().timeout(TIMEOUT).user_agent(agent).build()?;
        Ok(Self {
            client,
            url,
            mapping: mapping.clone(),
            max_body: MAX_BODY,
            hasher: RandomState::new(),
            delivered: Answer::default(),
            fetched: None,
        })
    }

    /// The records that are new since the last [`delivered`](Self::delivered) poll; `None` when the
    /// server says that nothing changed.
    pub async fn fetch(&mut self) -> Result<Option<Vec<Result<Row, Rejected>>>, PollError> {
        self.fetched = None;
        let request = self.client.get(self.url.clone()).headers(self.delivered.conditions());
        let response = request.send().await.map_err(|error| self.failed(error))?;
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        if !status.is_success() {
            let retry_after = retry_after(response.headers(), OffsetDateTime::now_utc());
            return Err(PollError::Status { url: shown(&self.url), status, retry_after });
        }
        let headers = response.headers().clone();
        let body = self.body(response).await?;
        let rows = self
            .rows(&headers, body)
            .map_err(|source| PollError::Content { url: shown(&self.url), source })?;
        Ok(Some(self.new_ones(rows, &headers)))
    }

    /// Says that everything the last fetch returned is safe, and need not come again.
    pub fn delivered(&mut self) {
        if let Some(answer) = self.fetched.take() {
            self.delivered = answer;
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, PollError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len().saturating_add(chunk.len()) > self.max_body {
                return Err(PollError::TooLarge { url: shown(&self.url), limit: self.max_body });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn rows(
        &self,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> anyhow::Result<Vec<Result<Row, Rejected>>> {
        let format = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(format_of)
            .or_else(|| Format::of(Path::new(self.url.path())))
            .unwrap_or(Format::Document);
        file::rows(Box::new(Cursor::new(body)), format, &self.mapping)?.collect()
    }

    /// Keeps what the last delivered answer did not have, and remembers this one.
    fn new_ones(
        &mut self,
        rows: Vec<Result<Row, Rejected>>,
        headers: &HeaderMap,
    ) -> Vec<Result<Row, Rejected>> {
        let mut answer = Answer {
            etag: headers.get(ETAG).cloned(),
            last_modified: headers.get(LAST_MODIFIED).cloned(),
            records: HashSet::with_capacity(rows.len()),
        };
        let mut fresh = Vec::new();
        for row in rows {
            let hash = self.hasher.hash_one(match &row {
                Ok(row) => &row.json,
                Err(rejected) => &rejected.row,
            });
            answer.records.insert(hash);
            if !self.delivered.records.contains(&hash) {
                fresh.push(row);
            }
        }
        self.fetched = Some(answer);
        fresh
    }

    fn failed(&self, error: reqwest::Error) -> PollError {
        PollError::Request { url: shown(&self.url), source: error.without_url() }
    }
}

impl Answer {
    fn conditions(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: &Option<HeaderValue>| {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        };
        set(IF_NONE_MATCH, &self.etag);
        set(IF_MODIFIED_SINCE, &self.last_modified);
        headers
    }
}

fn format_of(content_type: &str) -> Option<Format> {
    let essence = content_type.split(';').next()?.trim().to_ascii_lowercase();
    match essence.as_str() {
        "text/csv" | "application/csv" => Some(Format::Csv),
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines"
        | "application/jsonlines" => Some(Format::JsonLines),
        "application/json" | "text/json" => Some(Format::Document),
        other if other.ends_with("+json") => Some(Format::Document),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
