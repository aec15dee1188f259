use wiremock::matchers::header;

use super::{super::*, *};
use crate::{secret::Secret, wire::SchemaId};

/// The look-up goes through the converter and its explanation, the rest through our own client.
async fn accepts(server: &MockServer, expected: &str, config: &RegistryConfig) {
    let schema = ok(json!({"schema": SCHEMA}));
    let authorized = get("/schemas/ids/1").and(header("authorization", expected));
    authorized.respond_with(schema).expect(1).mount(server).await;
    let unknown = get("/schemas/ids/2").and(header("authorization", expected));
    unknown.respond_with(says(40403, "not found")).expect(2).mount(server).await;

    let registry = Registry::new(config).unwrap();
    registry.writer_schema(SchemaId(1)).await.unwrap();
    let error = registry.writer_schema(SchemaId(2)).await.unwrap_err();
    assert_eq!(error, LookupError::Unknown { id: SchemaId(2) });
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
