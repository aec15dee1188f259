use std::{sync::Arc, time::Instant};

use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{super::*, *};
use crate::wire::SchemaId;

const ID: SchemaId = SchemaId(7);
const PATH: &str = "/schemas/ids/7";

const QUICK: RetryPolicy = RetryPolicy { attempts: 3, first_delay: Duration::from_millis(1) };

fn found() -> ResponseTemplate {
    ok(json!({"schema": SCHEMA, "schemaType": "AVRO", "references": []}))
}

fn not_found() -> ResponseTemplate {
    says(40403, "Schema 7 not found")
}

#[tokio::test]
async fn many_first_look_ups_are_one_request_and_later_ones_none() {
    let (server, registry) = start().await;
    let slow = found().set_delay(Duration::from_millis(50));
    get(PATH).respond_with(slow).expect(1).mount(&server).await;

    let all = join_all((0..50).map(|_| registry.writer_schema(ID))).await;
    let first = all[0].clone().unwrap();
    assert!(all.iter().all(|schema| Arc::ptr_eq(schema.as_ref().unwrap(), &first)));
    assert_eq!((first.id, first.text.as_str()), (ID, SCHEMA));
    assert_eq!(first.parsed.name().unwrap().to_string(), "sluicegate.Reading");

    registry.clone().writer_schema(ID).await.unwrap();
}

#[tokio::test]
async fn an_abandoned_look_up_leaves_nothing_behind() {
    let (server, registry) = start().await;
    let slow = found().set_delay(Duration::from_secs(60));
    get(PATH).respond_with(slow).up_to_n_times(1).mount(&server).await;
    get(PATH).respond_with(found()).mount(&server).await;

    let abandoned = registry.writer_schema(ID);
    tokio::time::timeout(Duration::from_millis(50), abandoned).await.unwrap_err();
    registry.writer_schema(ID).await.unwrap();
}

#[tokio::test]
async fn unknown_is_what_the_registry_says_and_is_remembered() {
    let (server, registry) = start().await;
    get(PATH).respond_with(not_found()).mount(&server).await;

    assert_eq!(registry.writer_schema(ID).await.unwrap_err(), LookupError::Unknown { id: ID });
    let asked = requests(&server).await;
    let failed = registry.writer_schema_with_retries(ID, QUICK).await.unwrap_err();
    assert_eq!(failed, FailedLookup { error: LookupError::Unknown { id: ID }, attempts: 1 });
    assert_eq!(requests(&server).await, asked);
}

#[tokio::test]
async fn ids_no_registry_can_have_are_not_asked_for() {
    let (server, registry) = start().await;
    for id in [SchemaId(2_147_483_648), SchemaId(u32::MAX)] {
        let failed = registry.writer_schema_with_retries(id, QUICK).await.unwrap_err();
        assert_eq!(failed, FailedLookup { error: LookupError::Unknown { id }, attempts: 0 });
    }
    assert_eq!(requests(&server).await, 0);
    // the last one that a registry can have
    let error = registry.writer_schema(SchemaId(2_147_483_647)).await.unwrap_err();
    assert!(matches!(error, LookupError::Away(_)), "{error}");
}

/// Each fault once or for a while, and then the registry recovers.
#[tokio::test]
async fn no_fault_outlives_its_cause() {
    let page =
        |status| ResponseTemplate::new(status).set_body_raw("<html>proxy</html>", "text/html");
    let faults = [
        ("500", says(50001, "Error in the backend data store")),
        ("500 page", page(500)),
        ("502", page(502)),
        ("503", page(503)),
        ("504", page(504)),
        ("408", page(408)),
        ("429", says(42901, "slow down")),
        ("404 page", page(404)),
        ("404 without a body", ResponseTemplate::new(404)),
        ("404 of the web server", says(404, "HTTP 404 Not Found")),
        (
            "404 of another service",
            ResponseTemplate::new(404).set_body_json(json!({"status": 404})),
        ),
        ("400 page", page(400)),
        ("200 page", page(200)),
        ("200 of another service", ok(json!({"hello": "there"}))),
        ("time-out", found().set_delay(TIMEOUT * 4)),
    ];
    for (name, fault) in faults {
        let (server, registry) = start().await;
        let fault = get(PATH).respond_with(fault).mount_as_scoped(&server).await;
        let failed = registry.writer_schema_with_retries(ID, QUICK).await.unwrap_err();
        assert_eq!(failed.attempts, 1, "{name}");
        let LookupError::Away(away) = failed.error else { panic!("{name}: {failed}") };
        assert_eq!(away.retry_after, None, "{name}: {away}");
        drop(fault);

        get(PATH).respond_with(found()).mount(&server).await;
        registry.writer_schema(ID).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test]
async fn refused_access_is_neither_unknown_nor_kept() {
    for fault in
        [says(40101, "User cannot access"), says(40301, "Denied"), ResponseTemplate::new(401)]
    {
        let (server, registry) = start().await;
        let fault = get(PATH).respond_with(fault).mount_as_scoped(&server).await;
        let error = registry.writer_schema(ID).await.unwrap_err();
        assert!(matches!(error, LookupError::Refused(_)), "{error}");
        drop(fault);
        get(PATH).respond_with(found()).mount(&server).await;
        registry.writer_schema(ID).await.unwrap();
    }
}

#[tokio::test]
async fn a_registry_that_says_when_to_come_again_is_asked_no_sooner_for_whatever_id() {
    let (server, registry) = start().await;
    let busy = says(42901, "slow down").insert_header("retry-after", "1");
    get(PATH).respond_with(busy).up_to_n_times(1).mount(&server).await;
    get(PATH).respond_with(found()).mount(&server).await;
    let asked = Instant::now();
    for id in [ID, ID, SchemaId(8)] {
        let error = registry.writer_schema(id).await.unwrap_err();
        let LookupError::Away(away) = error else { panic!("{error}") };
        assert!(away.retry_after.is_some(), "{away}");
    }
    assert_eq!(requests(&server).await, 1);
    while registry.writer_schema(ID).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(asked.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn cut_replies_and_closed_ports_are_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registry = registry_at(&[format!("http://{address}")]);

    let server = tokio::spawn(async move {
        let body = json!({"schema": SCHEMA}).to_string();
        for sent in [body.len() / 2, body.len()] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body.as_bytes()[..sent]).await.unwrap();
        }
    });
    let error = registry.writer_schema(ID).await.unwrap_err();
    assert!(matches!(error, LookupError::Away(_)), "{error}");
    assert_eq!(registry.writer_schema(ID).await.unwrap().text, SCHEMA);

    server.await.unwrap();
    let error = registry.writer_schema(SchemaId(8)).await.unwrap_err();
    assert!(matches!(error, LookupError::Away(_)), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_hanging_registry_costs_every_waiting_caller_one_time_out() {
    let (server, registry) = start().await;
    get(PATH).respond_with(found().set_delay(Duration::from_secs(60))).mount(&server).await;
    let start = Instant::now();
    let all = join_all((0..20).map(|_| registry.writer_schema(ID))).await;
    assert!(all.iter().all(|answer| matches!(answer, Err(LookupError::Away(_)))));
    assert!(start.elapsed() < TIMEOUT * 5, "{:?}", start.elapsed());
}

#[tokio::test]
async fn unusable_schemas_are_the_records_fault_and_remembered() {
    for (body, detail) in [
        (json!({"schema": "{}", "schemaType": "JSON"}), "not AVRO"),
        (json!({"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"}), "not AVRO"),
        (json!({"schema": "{\"type\": \"recrod\"}"}), "recrod"),
        (json!({"schema": "not json"}), "JSON"),
    ] {
        let (server, registry) = start().await;
        get(PATH).respond_with(ok(body)).expect(1).mount(&server).await;
        for _ in 0..2 {
            let error = registry.writer_schema(ID).await.unwrap_err();
            let LookupError::Unusable { id: ID, detail: found } = &error else { panic!("{error}") };
            assert!(found.contains(detail), "{error}");
        }
    }
}

#[tokio::test]
async fn an_id_registered_a_moment_later_is_found_by_retrying() {
    let (server, registry) = start().await;
    get(PATH).respond_with(not_found()).up_to_n_times(2).mount(&server).await;
    get(PATH).respond_with(found()).mount(&server).await;
    registry.writer_schema_with_retries(ID, QUICK).await.unwrap();
}

#[tokio::test]
async fn retries_end_and_are_counted() {
    let (server, registry) = start().await;
    get(PATH).respond_with(not_found()).expect(3).mount(&server).await;
    for _ in 0..2 {
        let failed = registry.writer_schema_with_retries(ID, QUICK).await.unwrap_err();
        assert_eq!(failed, FailedLookup { error: LookupError::Unknown { id: ID }, attempts: 3 });
    }
}

#[tokio::test]
async fn a_second_address_stands_in_and_a_dead_one_does_not_hide_an_answer() {
    let dead = "http://127.0.0.1:1".to_owned();
    let server = MockServer::start().await;
    get(PATH).respond_with(found()).mount(&server).await;
    get("/schemas/ids/8").respond_with(says(40403, "Schema 8 not found")).mount(&server).await;
    for urls in [[dead.clone(), server.uri()], [server.uri(), dead]] {
        let registry = registry_at(&urls);
        registry.writer_schema(ID).await.unwrap();
        let error = registry.writer_schema(SchemaId(8)).await.unwrap_err();
        assert_eq!(error, LookupError::Unknown { id: SchemaId(8) });
    }
}

/// A schema that refers to an enum without a namespace, in a subject that needs encoding.
fn referring() -> ResponseTemplate {
    let schema = r#"{"type": "record", "name": "Outer", "fields": [
        {"name": "zone", "type": "Zone"}, {"name": "other", "type": "Zone"}]}"#;
    let references = json!([{"name": "Zone", "subject": "shared/zone", "version": 2}]);
    ok(json!({"schema": schema, "schemaType": "AVRO", "references": references}))
}

const REFERENCE_PATH: &str = "/subjects/shared%2Fzone/versions/2";

#[tokio::test]
async fn references_are_fetched_and_built_in() {
    let (server, registry) = start().await;
    get(PATH).respond_with(referring()).mount(&server).await;
    let zone = r#"{"type": "enum", "name": "Zone", "symbols": ["north", "south"]}"#;
    let body = json!({"subject": "shared/zone", "id": 3, "version": 2, "schema": zone});
    let oops = says(50001, "oops");
    let fault = get(REFERENCE_PATH).respond_with(oops).mount_as_scoped(&server).await;

    let error = registry.writer_schema(ID).await.unwrap_err();
    assert!(matches!(error, LookupError::Away(_)), "{error}");
    drop(fault);
    get(REFERENCE_PATH).respond_with(ok(body)).mount(&server).await;
    let schema = registry.writer_schema(ID).await.unwrap();
    assert!(serde_json::to_string(&schema.parsed).unwrap().contains("north"));
}

#[tokio::test]
async fn a_missing_reference_makes_the_schema_unusable() {
    let (server, registry) = start().await;
    get(PATH).respond_with(referring()).mount(&server).await;
    let gone = says(40402, "Version 2 not found.");
    get(REFERENCE_PATH).respond_with(gone).mount(&server).await;
    let error = registry.writer_schema(ID).await.unwrap_err();
    assert!(matches!(error, LookupError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains(r#"version 2 of subject "shared/zone""#), "{error}");
}
