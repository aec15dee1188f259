//! Alerts to an HTTP endpoint: each a POST of JSON.

use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::{Client, StatusCode, Url, header::RETRY_AFTER, redirect::Policy};

use super::{Undelivered, notice::Notice};
use crate::secret::Secret;

/// How long the endpoint may take.
const ANSWER: Duration = Duration::from_secs(10);

/// An HTTP endpoint. Its address may hold a secret.
pub struct Webhook {
    client: Client,
    url: Secret,
}

impl Webhook {
    /// For an address, `http://` or `https://`.
    pub fn new(url: &Secret) -> anyhow::Result<Webhook> {
        // an error would print the address, and the secret in it
        let parsed = Url::parse(url.expose()).ok();
        parsed
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .context("the webhook's address can't be read; expected http:// or https://")?;
        // one that is followed becomes a GET, and whatever answers it has not been told
        let client = Client::builder().timeout(ANSWER).redirect(Policy::none()).build()?;
        Ok(Webhook { client, url: url.clone() })
    }

    /// Posts an alert. Any 2xx is an acknowledgement.
    pub(super) async fn deliver(&self, notice: &Notice) -> Result<(), Undelivered> {
        let sent = self.client.post(self.url.expose()).json(&notice.to_json()).send().await;
        let response = sent.map_err(|error| Undelivered::Away {
            error: error.without_url().into(),
            retry_after: None,
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let error = anyhow!("the webhook answers {status}");
        if is_final(status) {
            return Err(Undelivered::Refused(error));
        }
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = seconds.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        Err(Undelivered::Away { error, retry_after })
    }
}

/// Whether the same again would be answered the same: the request is at fault, and not its moment. What
/// has to do with access is mended by a person, and then the alert is still to be delivered.
fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::GONE
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY
    )
}
