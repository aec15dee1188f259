//! The registry against a server that fails in all the ways seen in the wild.

mod compatibility;

mod connection;

mod lookup;

mod register;

mod versions;

use std::time::Duration;

use serde_json::json;
use wiremock::{Mock, MockBuilder, MockServer, ResponseTemplate, matchers};

use super::{Registry, RegistryAuth, RegistryConfig};

/// Long enough for a busy machine, short enough to be waited for in a test.
const TIMEOUT: Duration = Duration::from_secs(1);

const SCHEMA: &str = r#"{"type": "record", "name": "Reading", "namespace": "sluicegate",
    "sluicegate": {"topic": "readings"}, "fields": [{"name": "value", "type": "double"}]}"#;

fn config(urls: &[String]) -> RegistryConfig {
    RegistryConfig {
        urls: urls.to_vec(),
        auth: RegistryAuth::None,
        ca_file: None,
        identity: None,
        timeout: TIMEOUT,
    }
}

fn registry_at(urls: &[String]) -> Registry {
    Registry::new(&config(urls)).unwrap()
}

async fn start() -> (MockServer, Registry) {
    let server = MockServer::start().await;
    let registry = registry_at(&[server.uri()]);
    (server, registry)
}

fn get(path: &str) -> MockBuilder {
    Mock::given(matchers::method("GET")).and(matchers::path(path))
}

fn post(path: &str) -> MockBuilder {
    Mock::given(matchers::method("POST")).and(matchers::path(path))
}

fn put(path: &str) -> MockBuilder {
    Mock::given(matchers::method("PUT")).and(matchers::path(path))
}

fn ok(body: serde_json::Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

/// The registry's own error; its status is in the first three digits of the code.
fn says(code: u32, message: &str) -> ResponseTemplate {
    let status = if code > 999 { code / 100 } else { code };
    ResponseTemplate::new(u16::try_from(status).unwrap())
        .set_body_json(json!({"error_code": code, "message": message}))
}

async fn requests(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}
