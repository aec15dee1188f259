//! The poller against a server that changes, refuses, stops half-way and sends too much.

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wiremock::matchers::{header, header_exists, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

fn poller(url: &str) -> Poller {
    Poller::new(url, &InputMapping::default()).unwrap()
}

async fn answer(server: &MockServer, response: ResponseTemplate) {
    server.reset().await;
    Mock::given(method("GET")).respond_with(response).mount(server).await;
}

/// The records of one poll that brought an answer.
async fn records(poller: &mut Poller) -> Vec<Json> {
    let rows = poller.fetch().await.unwrap().unwrap();
    rows.into_iter().map(|row| row.unwrap().json).collect()
}

fn json(body: Json) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

#[tokio::test]
async fn only_records_that_changed_since_the_delivered_poll_are_returned() {
    let server = MockServer::start().await;
    let mut poller = poller(&server.uri());
    answer(&server, json(json!([{"id": 1}, {"id": 2}]))).await;
    assert_eq!(records(&mut poller).await, [json!({"id": 1}), json!({"id": 2})]);
    poller.delivered();
    assert_eq!(records(&mut poller).await, [] as [Json; 0]);
    answer(&server, json(json!([{"id": 1, "status": "reviewed"}, {"id": 2}, {"id": 3}]))).await;
    let changed = [json!({"id": 1, "status": "reviewed"}), json!({"id": 3})];
    assert_eq!(records(&mut poller).await, changed);
    assert_eq!(records(&mut poller).await, changed, "not delivered, so they come again");
}

#[tokio::test]
async fn a_failed_poll_delivers_nothing() {
    let server = MockServer::start().await;
    let mut poller = poller(&server.uri());
    answer(&server, json(json!([{"id": 1}]))).await;
    assert_eq!(records(&mut poller).await.len(), 1);
    answer(&server, ResponseTemplate::new(500)).await;
    assert!(poller.fetch().await.is_err());
    poller.delivered();
    answer(&server, json(json!([{"id": 1}]))).await;
    assert_eq!(records(&mut poller).await.len(), 1);
}

#[tokio::test]
async fn an_unchanged_etag_or_date_costs_no_body() {
    let server = MockServer::start().await;
    let date = "Tue, 06 Feb 2018 14:00:00 GMT";
    let tagged = json(json!([{"id": 1}]))
        .insert_header("etag", "\"v1\"")
        .insert_header("last-modified", date);
    Mock::given(header("if-none-match", "\"v1\""))
        .and(header_exists("if-modified-since"))
        .respond_with(ResponseTemplate::new(304))
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(method("GET")).respond_with(tagged).mount(&server).await;

    let mut poller = poller(&server.uri());
    assert_eq!(records(&mut poller).await.len(), 1);
    assert_eq!(records(&mut poller).await.len(), 1, "not delivered, so asked without conditions");
    poller.delivered();
    assert!(poller.fetch().await.unwrap().is_none());
}

#[tokio::test]
async fn a_refusal_says_how_long_to_wait_and_no_secret() {
    let server = MockServer::start().await;
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "17");
    answer(&server, busy).await;
    let url = format!("http://user:secret@{}/feed?token=secret#secret", server.address());
    let error = poller(&url).fetch().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains("/feed?… answered 429 Too Many Requests"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_an_error_and_nothing_is_lost() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:secret@{}/feed", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 4_096]).await.unwrap();
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[{\"id\":1}")
            .await
            .unwrap();
    });
    let error = poller(&url).fetch().await.unwrap_err();
    assert!(matches!(error, PollError::Request { .. }), "{error:?}");
    assert!(!format!("{:#}", anyhow::Error::from(error)).contains("secret"));
    server.await.unwrap();
}

#[tokio::test]
async fn an_answer_beyond_the_bound_is_refused() {
    let server = MockServer::start().await;
    answer(&server, ResponseTemplate::new(200).set_body_string("x".repeat(2_000))).await;
    let mut poller = Poller { max_body: 1_999, ..poller(&server.uri()) };
    let error = poller.fetch().await.unwrap_err();
    assert!(matches!(error, PollError::TooLarge { limit: 1_999, .. }), "{error:?}");
}

#[tokio::test]
async fn the_content_type_decides_how_the_body_is_read() {
    let server = MockServer::start().await;
    let mut poller = poller(&server.uri());
    let csv = ResponseTemplate::new(200).set_body_raw("a,b\n1,2\n3\n", "text/csv; charset=utf-8");
    answer(&server, csv).await;
    let rows = poller.fetch().await.unwrap().unwrap();
    assert_eq!(rows[0].as_ref().unwrap().json, json!({"a": "1", "b": "2"}));
    assert_eq!(rows[1].as_ref().unwrap_err().line, 3);
    poller.delivered();
    assert_eq!(records(&mut poller).await.len(), 0, "a broken row is told once");

    let lines =
        ResponseTemplate::new(200).set_body_raw("{\"a\":1}\n{\"a\":2}", "application/x-ndjson");
    answer(&server, lines).await;
    assert_eq!(records(&mut poller).await, [json!({"a": 1}), json!({"a": 2})]);

    answer(&server, ResponseTemplate::new(200).set_body_raw("<html>", "text/html")).await;
    let error = poller.fetch().await.unwrap_err();
    assert!(matches!(error, PollError::Content { .. }), "{error:?}");
}

#[test]
fn only_http_can_be_polled_and_a_bad_url_is_not_repeated() {
    for url in ["file:///etc/passwd", "://secret"] {
        let error = Poller::new(url, &InputMapping::default()).unwrap_err();
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
    }
}
