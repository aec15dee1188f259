use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use serde::de::IgnoredAny;
use tokio::{
    io::{AsyncReadExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use wiremock::matchers::header;

use super::{
    super::{
        client::{Failure, MAX_RETRIES},
        *,
    },
    *,
};
use crate::{secret::Secret, wire::SchemaId};

/// A schema comes through our own client, and what it refers to through the converter's.
async fn accepts(server: &MockServer, expected: &str, config: &RegistryConfig) {
    let authorized = |path| get(path).and(header("authorization", expected));
    let reference = json!([{"name": "Zone", "subject": "zone", "version": 1}]);
    let referring = json!({
        "schema": r#"{"type": "record", "name": "Outer", "fields": [{"name": "zone", "type": "Zone"}]}"#,
        "references": reference,
    });
    let zone = r#"{"type": "enum", "name": "Zone", "symbols": ["north", "south"]}"#;
    let zone = json!({"subject": "zone", "id": 3, "version": 1, "schema": zone});
    authorized("/schemas/ids/1").respond_with(ok(referring)).expect(1).mount(server).await;
    authorized("/subjects/zone/versions/1").respond_with(ok(zone)).expect(1).mount(server).await;
    Registry::new(config).unwrap().writer_schema(SchemaId(1)).await.unwrap();
}

#[tokio::test]
async fn basic_credentials_are_sent_by_both_clients() {
    let server = MockServer::start().await;
    let user = RegistryAuth::Basic { user: "key".into(), password: Secret::new("hunter2") };
    let config = RegistryConfig { auth: user, ..config(&[server.uri()]) };
    accepts(&server, "Basic a2V5Omh1bnRlcjI=", &config).await;
}

#[tokio::test]
async fn credentials_in_the_address_are_sent_as_basic() {
    let server = MockServer::start().await;
    let uri = server.uri().replace("http://", "http://key:hunter2@");
    accepts(&server, "Basic a2V5Omh1bnRlcjI=", &config(&[uri])).await;
}

#[tokio::test]
async fn tokens_are_sent_by_both_clients() {
    let server = MockServer::start().await;
    let token = RegistryAuth::Bearer(Secret::new("hunter2"));
    let config = RegistryConfig { auth: token, ..config(&[server.uri()]) };
    accepts(&server, "Bearer hunter2", &config).await;
}

#[tokio::test]
async fn errors_show_the_address_and_no_secret() {
    let server = MockServer::start().await;
    get("/schemas/ids/1").respond_with(says(40101, "who are you")).mount(&server).await;
    get("/schemas/ids/2").respond_with(ResponseTemplate::new(503)).mount(&server).await;
    let uri = server.uri().replace("http://", "http://key:hunter2@");
    let registry = registry_at(&[uri]);
    let dead = registry_at(&["http://key:hunter2@127.0.0.1:1".to_owned()]);
    for error in [
        registry.writer_schema(SchemaId(1)).await.unwrap_err(),
        registry.writer_schema(SchemaId(2)).await.unwrap_err(),
        dead.writer_schema(SchemaId(1)).await.unwrap_err(),
    ] {
        let texts = format!("{error} {error:?}");
        assert!(!texts.contains("hunter2") && texts.contains("127.0.0.1"), "{texts}");
    }
}

#[tokio::test]
async fn an_address_may_have_a_path() {
    let server = MockServer::start().await;
    let schema = ok(json!({"schema": SCHEMA}));
    get("/apis/ccompat/v7/schemas/ids/1").respond_with(schema).mount(&server).await;
    let registry = registry_at(&[format!("{}/apis/ccompat/v7/", server.uri())]);
    registry.writer_schema(SchemaId(1)).await.unwrap();
    let error = registry.latest("readings-value").await.unwrap_err();
    assert!(error.to_string().contains("is its address right?"), "{error}");
}

/// As a server does that closes idle connections, or that turns a TLS client away after the
/// handshake: then it is chance whether the client hears why.
#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_made_again_by_both_clients() {
    let server = MockServer::start().await;
    let cutting = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", cutting.local_addr().unwrap());
    let registry = *server.address();
    tokio::spawn(async move {
        loop {
            for _ in 0..MAX_RETRIES {
                cut(&cutting).await;
            }
            let (mut kept, _) = cutting.accept().await.unwrap();
            let mut registry = TcpStream::connect(registry).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut kept, &mut registry).await });
        }
    });
    let token = RegistryAuth::Bearer(Secret::new("hunter2"));
    accepts(&server, "Bearer hunter2", &RegistryConfig { auth: token, ..config(&[address]) }).await;
}

#[tokio::test]
async fn a_connection_is_made_again_so_often_and_never_for_what_makes_a_version() {
    let cutting = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/apis/ccompat/v7", cutting.local_addr().unwrap());
    let connections = Arc::new(AtomicU32::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            cut(&cutting).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (client, _) = config(&[address]).connect().unwrap();
    let made = |answer: Result<IgnoredAny, Failure>| {
        assert!(matches!(answer, Err(Failure::Away(_))), "{answer:?}");
        connections.swap(0, Ordering::Relaxed)
    };
    let (subject, nothing) = ("subjects/readings-value", json!({}));
    let versions = format!("{subject}/versions");
    assert_eq!(made(client.get(&versions).await), 1 + MAX_RETRIES);
    assert_eq!(made(client.put("config/readings-value", &nothing).await), 1 + MAX_RETRIES);
    assert_eq!(made(client.post(subject, &nothing).await), 1 + MAX_RETRIES);
    assert_eq!(made(client.post(&versions, &nothing).await), 1);
}

/// Takes a connection, and ends it once something was asked.
async fn cut(listener: &TcpListener) {
    let (mut connection, _) = listener.accept().await.unwrap();
    connection.read_u8().await.unwrap();
}
