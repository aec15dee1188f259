use wiremock::matchers::{body_json, query_param};

use super::{super::*, *};
use crate::wire::SchemaId;

const SUBJECT: &str = "readings-value";
const FIND: &str = "/subjects/readings-value";
const VERSIONS: &str = "/subjects/readings-value/versions";
const LATEST: &str = "/subjects/readings-value/versions/latest";
const CHECK: &str = "/compatibility/subjects/readings-value/versions";
const CONFIG: &str = "/config/readings-value";

/// `value` was a string, and `unit` is new without a default.
const INCOMPATIBLE: &str = r#"{"type": "record", "name": "Reading", "namespace": "sluicegate",
    "fields": [{"name": "value", "type": "string"}, {"name": "unit", "type": "string"}]}"#;

fn registered() -> ResponseTemplate {
    ok(json!({"subject": SUBJECT, "id": 7, "version": 2, "schema": SCHEMA}))
}

async fn nothing_found(server: &MockServer) {
    post(FIND).respond_with(says(40401, "Subject not found")).mount(server).await;
    get(LATEST).respond_with(says(40401, "Subject not found")).mount(server).await;
}

#[tokio::test]
async fn what_is_there_is_not_registered_again() {
    let (server, registry) = start().await;
    post(FIND).respond_with(registered()).mount(&server).await;
    let there = registry.register(SUBJECT, SCHEMA).await.unwrap();
    assert_eq!(there, Registration { id: SchemaId(7), version: Some(2), newly: false });
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn the_files_own_text_is_registered() {
    for not_there in [says(40401, "Subject not found"), says(40403, "Schema not found")] {
        let (server, registry) = start().await;
        post(FIND).respond_with(not_there).up_to_n_times(1).mount(&server).await;
        post(FIND).respond_with(registered()).mount(&server).await;
        get(LATEST).respond_with(says(40401, "Subject not found")).mount(&server).await;
        let body = json!({"schema": SCHEMA, "schemaType": "AVRO"});
        let answer = ok(json!({"id": 7}));
        post(VERSIONS).and(body_json(body)).respond_with(answer).expect(1).mount(&server).await;

        let new = registry.register(SUBJECT, SCHEMA).await.unwrap();
        assert_eq!(new, Registration { id: SchemaId(7), version: Some(2), newly: true });
    }
}

#[tokio::test]
async fn a_registry_that_keeps_the_version_to_itself_is_fine() {
    let (server, registry) = start().await;
    nothing_found(&server).await;
    post(VERSIONS).respond_with(ok(json!({"id": 7}))).mount(&server).await;
    let new = registry.register(SUBJECT, SCHEMA).await.unwrap();
    assert_eq!(new, Registration { id: SchemaId(7), version: None, newly: true });
}

#[tokio::test]
async fn other_white_space_is_no_other_schema_but_another_attribute_is() {
    let (server, registry) = start().await;
    with_old_version(&server).await;
    post(VERSIONS).respond_with(ok(json!({"id": 8}))).mount(&server).await;
    let compact = SCHEMA.split_whitespace().collect::<String>();
    let there = registry.register(SUBJECT, &compact).await.unwrap();
    assert_eq!(there, Registration { id: SchemaId(7), version: Some(2), newly: false });
    let other = compact.replace("readings", "other");
    assert!(registry.register(SUBJECT, &other).await.unwrap().newly);
}

async fn with_old_version(server: &MockServer) {
    get(LATEST).respond_with(registered()).mount(server).await;
    nothing_found(server).await;
    let level = ok(json!({"compatibilityLevel": "BACKWARD"}));
    get(CONFIG).and(query_param("defaultToGlobal", "true")).respond_with(level).mount(server).await;
}

#[tokio::test]
async fn incompatible_as_confluent_says_it() {
    let (server, registry) = start().await;
    with_old_version(&server).await;
    post(VERSIONS).respond_with(says(409, "Schema is incompatible")).mount(&server).await;
    let messages = json!([
        "{errorType:'TYPE_MISMATCH', description:'The type (path '/fields/0/type') differs'}",
        "{oldSchemaVersion: 2}",
        "{oldSchema: '{...}'}",
        "{validateFields: 'false', compatibility: 'BACKWARD'}",
    ]);
    let verdict = ok(json!({"is_compatible": false, "messages": messages}));
    let verbose = post(CHECK).and(query_param("verbose", "true"));
    verbose.respond_with(verdict).mount(&server).await;

    let error = registry.register(SUBJECT, INCOMPATIBLE).await.unwrap_err();
    let RegisterError::Incompatible { subject, problems } = error else { panic!("{error}") };
    assert_eq!(subject, SUBJECT);
    insta::assert_snapshot!(problems.join("\n"), @r#"
    "value": written as double, read as string
    "unit": not written, and without a default to read instead
    {errorType:'TYPE_MISMATCH', description:'The type (path '/fields/0/type') differs'}
    "#);
}

#[tokio::test]
async fn incompatible_as_apicurio_says_it() {
    let (server, registry) = start().await;
    with_old_version(&server).await;
    // what it says of a subject to which its global level applies
    let level = ok(json!({"compatibilityLevel": "NONE"}));
    get(CONFIG).respond_with(level).with_priority(1).mount(&server).await;
    let reason = "io.apicurio.registry.rules.RuleViolationException: Incompatible artifact";
    post(VERSIONS).respond_with(says(409, reason)).mount(&server).await;
    post(CHECK).respond_with(ok(json!({"is_compatible": false}))).mount(&server).await;

    let error = registry.register(SUBJECT, INCOMPATIBLE).await.unwrap_err();
    insta::assert_snapshot!(error, @r#"the schema is incompatible with subject "readings-value": "value": written as double, read as string; "unit": not written, and without a default to read instead"#);
    assert_eq!(registry.is_compatible(SUBJECT, INCOMPATIBLE).await.unwrap().len(), 2);
}

#[tokio::test]
async fn incompatible_without_any_explanation_keeps_the_registrys_words() {
    let (server, registry) = start().await;
    nothing_found(&server).await;
    post(VERSIONS).respond_with(says(40901, "Incompatible Avro schema")).mount(&server).await;
    let error = registry.register(SUBJECT, INCOMPATIBLE).await.unwrap_err();
    let RegisterError::Incompatible { problems, .. } = error else { panic!("{error}") };
    assert_eq!(problems, ["Incompatible Avro schema"]);
}

#[tokio::test]
async fn other_failures_keep_their_kind() {
    for (answer, kind) in [
        (says(42201, "Input schema is an invalid Avro schema"), "Invalid"),
        (says(42205, "Subject is in read-only mode"), "Refused"),
        (says(40301, "User is denied operation Write"), "Refused"),
        (ResponseTemplate::new(401), "Refused"),
        (says(50003, "Error while forwarding to the leader"), "Away"),
        (ResponseTemplate::new(404), "Away"),
        (ResponseTemplate::new(413), "Away"),
    ] {
        let (server, registry) = start().await;
        nothing_found(&server).await;
        post(VERSIONS).respond_with(answer).mount(&server).await;
        let error = registry.register(SUBJECT, SCHEMA).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(&format!("Registry({kind}(")), "{error:?}");
    }
    let (_server, registry) = start().await;
    let error = registry.register("..", SCHEMA).await.unwrap_err();
    assert!(matches!(error, RegisterError::Registry(RegistryError::Invalid(_))), "{error}");
}

#[tokio::test]
async fn latest_is_none_for_a_subject_without_versions() {
    let (server, registry) = start().await;
    for code in [40401, 40402] {
        get(LATEST).respond_with(says(code, "not found")).up_to_n_times(1).mount(&server).await;
        assert_eq!(registry.latest(SUBJECT).await, Ok(None));
    }
    get(LATEST).respond_with(registered()).mount(&server).await;
    let latest = LatestSchema { id: SchemaId(7), version: 2, text: SCHEMA.to_owned() };
    assert_eq!(registry.latest(SUBJECT).await, Ok(Some(latest)));
}

#[tokio::test]
async fn compatible_means_no_problems() {
    let (server, registry) = start().await;
    let none = says(40401, "Subject not found");
    post(CHECK).respond_with(none).up_to_n_times(1).mount(&server).await;
    assert_eq!(registry.is_compatible(SUBJECT, SCHEMA).await, Ok(vec![]));
    let yes = ok(json!({"is_compatible": true, "messages": []}));
    post(CHECK).respond_with(yes).mount(&server).await;
    assert_eq!(registry.is_compatible(SUBJECT, SCHEMA).await, Ok(vec![]));
}

#[tokio::test]
async fn forward_levels_compare_the_other_way_round() {
    let (server, registry) = start().await;
    get(LATEST).respond_with(registered()).mount(&server).await;
    get(CONFIG).respond_with(ok(json!({"compatibilityLevel": "FULL"}))).mount(&server).await;
    post(CHECK).respond_with(ok(json!({"is_compatible": false}))).mount(&server).await;
    let problems = registry.is_compatible(SUBJECT, INCOMPATIBLE).await.unwrap();
    insta::assert_snapshot!(problems.join("\n"), @r#"
    "value": written as double, read as string
    "unit": not written, and without a default to read instead
    for older readers: "value": written as string, read as double
    "#);
}

#[tokio::test]
async fn the_level_is_set_only_where_it_differs() {
    let (server, registry) = start().await;
    let unset = says(40408, "Subject does not have subject-level compatibility configured");
    get(CONFIG).respond_with(unset).up_to_n_times(2).mount(&server).await;
    get(CONFIG).respond_with(ok(json!({"compatibilityLevel": "FULL"}))).mount(&server).await;
    let body = json!({"compatibility": "FULL"});
    let set = put(CONFIG).and(body_json(&body));
    set.respond_with(ok(body)).expect(1).mount(&server).await;

    assert_eq!(registry.compatibility(SUBJECT).await, Ok(None));
    assert_eq!(registry.set_compatibility(SUBJECT, Compatibility::Full).await, Ok(true));
    assert_eq!(registry.set_compatibility(SUBJECT, Compatibility::Full).await, Ok(false));
    assert_eq!(registry.compatibility(SUBJECT).await, Ok(Some(Compatibility::Full)));
}

#[tokio::test]
async fn subjects_are_encoded_everywhere() {
    let (server, registry) = start().await;
    let subject = "a/b c?#-value";
    let encoded = "a%2Fb%20c%3F%23-value";
    let none = || says(40401, "Subject not found");
    get(&format!("/subjects/{encoded}/versions/latest")).respond_with(none()).mount(&server).await;
    get(&format!("/config/{encoded}")).respond_with(none()).mount(&server).await;
    post(&format!("/subjects/{encoded}")).respond_with(none()).mount(&server).await;
    let registered = ok(json!({"id": 1, "version": 1}));
    post(&format!("/subjects/{encoded}/versions")).respond_with(registered).mount(&server).await;
    let check = format!("/compatibility/subjects/{encoded}/versions");
    post(&check).respond_with(none()).mount(&server).await;

    assert_eq!(registry.latest(subject).await, Ok(None));
    assert_eq!(registry.compatibility(subject).await, Ok(None));
    assert_eq!(registry.is_compatible(subject, SCHEMA).await, Ok(vec![]));
    assert_eq!(registry.register(subject, SCHEMA).await.unwrap().version, Some(1));
}
