//! What a process says of itself over HTTP: /metrics, /healthz and /readyz. Whoever has more to say
//! adds routes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Json, Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use futures::{FutureExt, future::BoxFuture};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Process, readiness};

/// Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long those who are being answered are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// What /metrics shows: what this process counts, and what somebody adds to it.
#[derive(Clone)]
pub struct Page {
    process: Process,
    more: Option<More>,
}

type More = Arc<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>;

impl Page {
    /// What this process counts.
    pub fn new(process: Process) -> Page {
        Page { process, more: None }
    }

    /// With a text behind it that is made anew each time.
    pub fn with<F>(self, more: impl Fn() -> F + Send + Sync + 'static) -> Page
    where
        F: Future<Output = String> + Send + 'static,
    {
        Page { more: Some(Arc::new(move || more().boxed())), ..self }
    }

    async fn render(&self) -> String {
        // first, so that what goes wrong with it is counted in the other
        let more = match &self.more {
            Some(more) => more().await,
            None => String::new(),
        };
        self.process.render() + &more
    }
}

/// The routes that every process has.
pub fn routes(page: Page) -> Router {
    let metrics = async move || ([(CONTENT_TYPE, TEXT_FORMAT)], page.render().await);
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
}

async fn ready() -> impl IntoResponse {
    let readiness = readiness();
    let status = match readiness.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(readiness))
}

/// A server that answers until it is told to stop.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

/// Serves the routes of a page at the first of the addresses that is free, until `stop` is cancelled;
/// port 0 is any that is free. Where none can be had, that is an error at once.
pub async fn serve(
    addresses: &[SocketAddr],
    routes: Router,
    stop: CancellationToken,
) -> anyhow::Result<Serving> {
    let serving = listen(addresses, routes, stop).await.with_context(|| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        format!("metrics and health can't be served at {}", addresses.join(" or "))
    })?;
    tracing::info!("serving http://{}/metrics", serving.address);
    Ok(serving)
}

/// Answers at the first of the addresses that is free until `stop` is cancelled.
pub(crate) async fn listen(
    addresses: &[SocketAddr],
    routes: Router,
    stop: CancellationToken,
) -> std::io::Result<Serving> {
    let listener = TcpListener::bind(addresses).await?;
    let address = listener.local_addr()?;
    let server = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
    let task = tokio::spawn(server.into_future());
    Ok(Serving { address, task })
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has stopped; not for those who are slow to ask or to read.
    pub async fn ended(mut self) {
        if timeout(PATIENCE, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpStream};

    use super::*;

    /// Serves a route of the test's own, at any free port.
    async fn serving(stop: &CancellationToken) -> Serving {
        let routes = Router::new().route("/healthz", get(async || "ok\n"));
        serve(&[([127, 0, 0, 1], 0).into()], routes, stop.clone()).await.unwrap()
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_an_error_that_names_it() {
        let stop = CancellationToken::new();
        let serving = serving(&stop).await;
        let again = serve(&[serving.address()], Router::new(), stop).await.unwrap_err();
        let error = format!("{again:#}");
        let expected = format!("metrics and health can't be served at {}: ", serving.address());
        assert!(error.starts_with(&expected), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_told_to_stop_lets_go_of_its_address_and_of_those_who_never_ask() {
        let stop = CancellationToken::new();
        let serving = serving(&stop).await;
        let address = serving.address();
        let url = format!("http://{address}/healthz");
        assert_eq!(reqwest::get(&url).await.unwrap().text().await.unwrap(), "ok\n");
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        stop.cancel();
        serving.ended().await;
        assert!(reqwest::get(&url).await.is_err());
        TcpListener::bind(address).await.unwrap();
    }
}
