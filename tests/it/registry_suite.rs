//! The registry inside the process answers as the real one does, which is that of `make test`: each
//! promise is kept by both.

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};
use sluicegate::{
    embedded::EmbeddedRegistry,
    registry::{Compatibility, LookupError, RegisterError, Registry, RegistryAuth, RegistryConfig},
    wire::SchemaId,
};

use crate::support::{PATIENCE, variable};

const A: &str = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}"#;

/// [`A`] and a field that has a default,
const B: &str = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"},
    {"name": "b", "type": "int", "default": 0}]}"#;

/// one that has none,
const C: &str = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"},
    {"name": "b", "type": "int"}]}"#;

/// and another type.
const D: &str = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "string"}]}"#;

/// Defines each promise twice: for the registry of `make test`, and for the embedded one.
macro_rules! on_both {
    ($($promise:ident)*) => {
        mod real {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::At::the_real_one()).await;
            })*
        }

        mod embedded {
            $(#[tokio::test]
            async fn $promise() {
                let registry = super::EmbeddedRegistry::start().await.unwrap();
                super::$promise(super::At::new(registry.url())).await;
            })*
        }
    };
}

on_both! {
    a_schema_has_one_id_wherever_it_is_registered
    an_incompatible_change_is_refused_with_the_field_named
    a_level_says_what_may_change
    what_is_not_there_is_said_with_the_code_for_it
    versions_are_counted_and_the_latest_is_the_last
    a_schema_may_build_on_another_which_then_stays
    what_is_deleted_can_be_looked_at_until_it_is_deleted_for_good
    what_is_no_schema_is_refused
    other_programs_find_their_way
}

async fn a_schema_has_one_id_wherever_it_is_registered(at: At) {
    let client = at.client();
    let first = client.register(&at.subject("one"), A).await.unwrap();
    assert_eq!((first.version, first.newly), (Some(1), true));
    let again = client.register(&at.subject("one"), A).await.unwrap();
    assert_eq!((again.id, again.version, again.newly), (first.id, Some(1), false));
    let other = client.register(&at.subject("other"), A).await.unwrap();
    assert_eq!((other.id, other.newly), (first.id, true));
    let found = client.writer_schema(first.id).await.unwrap();
    assert_eq!(found.parsed, apache_avro::Schema::parse_str(A).unwrap());
    let places = client.subjects_of(first.id).await.unwrap().unwrap();
    let here = |name: &str| places.iter().any(|place| place.subject == at.subject(name));
    assert!(here("one") && here("other"), "{places:?}");
    // its text is the one that was sent
    assert_eq!(client.latest(&at.subject("one")).await.unwrap().unwrap().text, A);
    assert_eq!(at.text(&format!("schemas/ids/{}/schema", first.id)).await, A);
}

async fn an_incompatible_change_is_refused_with_the_field_named(at: At) {
    let (client, subject) = (at.client(), at.subject("s"));
    assert!(client.set_compatibility(&subject, Compatibility::Backward).await.unwrap());
    client.register(&subject, A).await.unwrap();
    assert_eq!(client.is_compatible(&subject, B).await.unwrap(), Vec::<String>::new());
    let problems = client.is_compatible(&subject, C).await.unwrap();
    assert!(problems.iter().any(|problem| problem.contains("\"b\"")), "{problems:?}");
    let refused = client.register(&subject, C).await.unwrap_err();
    let RegisterError::Incompatible { problems, .. } = &refused else { panic!("{refused}") };
    assert!(problems.iter().any(|problem| problem.contains("\"b\"")), "{problems:?}");
    let (status, _) = at.post(&format!("subjects/{subject}/versions"), &json!({"schema": D})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let verdict = |schema: &'static str| {
        let path = format!("compatibility/subjects/{subject}/versions/latest");
        let at = &at;
        async move { at.post(&path, &json!({"schema": schema})).await.1["is_compatible"].clone() }
    };
    assert_eq!((verdict(B).await, verdict(D).await), (json!(true), json!(false)));
    client.register(&subject, B).await.unwrap();
}

async fn a_level_says_what_may_change(at: At) {
    use Compatibility::{Backward, BackwardTransitive, Forward, Full, None};
    let client = at.client();
    let subject = at.subject("s");
    assert_eq!(client.compatibility(&subject).await.unwrap(), Option::None);
    // some take NONE for subjects alone that are there
    client.register(&subject, A).await.unwrap();
    for level in [Forward, Full, None, BackwardTransitive] {
        assert!(client.set_compatibility(&subject, level).await.unwrap());
        assert!(!client.set_compatibility(&subject, level).await.unwrap());
        assert_eq!(client.compatibility(&subject).await.unwrap(), Some(level));
    }
    // b: none, with a default, without one: for the version before that is well, for all is not
    for (level, [second, third]) in [
        (None, [true, true]),
        (Backward, [true, true]),
        (BackwardTransitive, [true, false]),
        (Forward, [true, true]),
        (Full, [true, true]),
    ] {
        let subject = at.subject(&format!("level-{level}"));
        client.register(&subject, A).await.unwrap();
        client.set_compatibility(&subject, level).await.unwrap();
        assert_eq!(client.register(&subject, B).await.is_ok(), second, "{level}");
        assert_eq!(client.register(&subject, C).await.is_ok(), third, "{level}");
        assert_eq!(client.register(&subject, D).await.is_err(), level != None, "{level}");
    }
    // at first without b, as older readers want it: not so the other way
    let subject = at.subject("forward");
    client.set_compatibility(&subject, Forward).await.unwrap();
    client.register(&subject, C).await.unwrap();
    assert!(client.register(&subject, A).await.is_err());
}

async fn what_is_not_there_is_said_with_the_code_for_it(at: At) {
    let (client, subject) = (at.client(), at.subject("s"));
    client.register(&subject, A).await.unwrap();
    let missing = at.subject("missing");
    let body = json!({"schema": B});
    for (method, path, code) in [
        (Method::GET, format!("subjects/{missing}/versions"), 40_401),
        (Method::GET, format!("subjects/{missing}/versions/latest"), 40_401),
        (Method::POST, format!("subjects/{missing}"), 40_401),
        (Method::POST, format!("subjects/{subject}"), 40_403),
        (Method::GET, format!("subjects/{subject}/versions/9"), 40_402),
        (Method::GET, "schemas/ids/2000000000".to_owned(), 40_403),
        (Method::DELETE, format!("subjects/{missing}"), 40_401),
    ] {
        let body = (method == Method::POST).then_some(&body);
        let (status, said) = at.send(method, &path, body).await;
        assert_eq!((status, &said["error_code"]), (StatusCode::NOT_FOUND, &json!(code)), "{path}");
        assert!(said["message"].as_str().is_some_and(|message| !message.is_empty()), "{said}");
    }
    let unknown = client.writer_schema(SchemaId(2_000_000_000)).await;
    assert!(matches!(unknown.unwrap_err(), LookupError::Unknown { .. }));
    assert_eq!(client.latest(&missing).await.unwrap(), None);
    assert_eq!(client.is_compatible(&missing, A).await.unwrap(), Vec::<String>::new());
}

async fn versions_are_counted_and_the_latest_is_the_last(at: At) {
    let (client, subject) = (at.client(), at.subject("s"));
    client.register(&subject, A).await.unwrap();
    let second = client.register(&subject, B).await.unwrap();
    assert_eq!(second.version, Some(2));
    assert_eq!(at.get(&format!("subjects/{subject}/versions")).await, json!([1, 2]));
    for (version, number, text) in [("1", 1, A), ("2", 2, B), ("latest", 2, B), ("-1", 2, B)] {
        let found = at.get(&format!("subjects/{subject}/versions/{version}")).await;
        assert_eq!(found["subject"], json!(subject));
        assert_eq!((&found["version"], &found["schema"]), (&json!(number), &json!(text)));
    }
    let found = at.post(&format!("subjects/{subject}"), &json!({"schema": B})).await.1;
    assert_eq!((&found["version"], &found["id"]), (&json!(2), &json!(second.id.0)));
    let subjects = at.get("subjects").await;
    assert!(subjects.as_array().unwrap().contains(&json!(subject)), "{subjects}");
}

async fn a_schema_may_build_on_another_which_then_stays(at: At) {
    let (client, subject) = (at.client(), at.subject("inner"));
    client.register(&subject, A).await.unwrap();
    let outer = r#"{"type": "record", "name": "O", "fields": [{"name": "r", "type": "R"}]}"#;
    let reference = |version: u32| json!([{"name": "R", "subject": subject, "version": version}]);
    let path = format!("subjects/{}/versions", at.subject("outer"));
    let (_, registered) =
        at.post(&path, &json!({"schema": outer, "references": reference(1)})).await;
    let id = u32::try_from(registered["id"].as_u64().unwrap()).unwrap();
    let found = client.writer_schema(SchemaId(id)).await.unwrap();
    let text = serde_json::to_string(&found.parsed).unwrap();
    assert!(text.contains(r#""name":"a""#), "{text}");
    let found = at.get(&format!("schemas/ids/{id}")).await;
    assert_eq!(found["references"], reference(1));
    assert_eq!(at.get(&format!("subjects/{subject}/versions/1/referencedby")).await, json!([id]));
    // not there
    let missing = json!({"schema": outer, "references": reference(7)});
    assert_eq!(at.post(&path, &missing).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, said) = at.delete(&format!("subjects/{subject}/versions/1")).await;
    assert_eq!((status, &said["error_code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(42_206)));
    assert_eq!(at.get(&format!("subjects/{subject}/versions")).await, json!([1]));
}

async fn what_is_deleted_can_be_looked_at_until_it_is_deleted_for_good(at: At) {
    let (client, subject) = (at.client(), at.subject("s"));
    client.register(&subject, A).await.unwrap();
    let second = client.register(&subject, B).await.unwrap();
    let versions = format!("subjects/{subject}/versions");
    // first the way that can be looked at
    assert!(at.delete(&format!("{versions}/2?permanent=true")).await.0.is_client_error());
    assert_eq!(at.delete(&format!("{versions}/2")).await, (StatusCode::OK, json!(2)));
    assert!(at.delete(&format!("{versions}/2")).await.0.is_client_error());
    assert_eq!(at.get(&versions).await, json!([1]));
    assert_eq!(at.get(&format!("{versions}?deleted=true")).await, json!([1, 2]));
    // events that were written with it can still be read
    assert!(client.writer_schema(second.id).await.is_ok());
    let again = client.register(&subject, B).await.unwrap();
    assert_eq!((again.id, again.version, again.newly), (second.id, Some(3), true));
    let whole = format!("subjects/{subject}");
    assert!(at.delete(&format!("{whole}?permanent=true")).await.0.is_client_error());
    assert_eq!(at.delete(&whole).await, (StatusCode::OK, json!([1, 3])));
    assert!(at.delete(&whole).await.0.is_client_error());
    assert_eq!(client.latest(&subject).await.unwrap(), None);
    assert_eq!(at.delete(&format!("{whole}?permanent=true")).await.0, StatusCode::OK);
    let gone = at.send(Method::GET, &format!("{versions}?deleted=true"), None).await;
    assert_eq!(gone.0, StatusCode::NOT_FOUND);
}

async fn what_is_no_schema_is_refused(at: At) {
    let path = format!("subjects/{}/versions", at.subject("s"));
    for text in ["{", r#"{"type": "nope"}"#, r#"{"type": "record", "name": "R"}"#] {
        let (status, said) = at.post(&path, &json!({"schema": text})).await;
        let expected = (StatusCode::UNPROCESSABLE_ENTITY, &json!(42_201));
        assert_eq!((status, &said["error_code"]), expected, "{text}");
    }
    assert_eq!(at.send(Method::GET, &path, None).await.0, StatusCode::NOT_FOUND);
}

async fn other_programs_find_their_way(at: At) {
    assert!(at.get("schemas/types").await.as_array().unwrap().contains(&json!("AVRO")));
    assert!(at.get("config").await["compatibilityLevel"].is_string());
    // as confluent-kafka's Python client has it
    let subject = at.subject("python");
    at.client().register(&subject, A).await.unwrap();
    let body = json!({"schema": A, "schemaType": "AVRO", "references": null});
    for path in [
        format!("subjects/{subject}?normalize=False&deleted=False"),
        format!("compatibility/subjects/{subject}/versions/latest?normalize=False&verbose=False"),
    ] {
        let (status, answer) = at.post(&path, &body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }
    // whatever they call their JSON
    let url = format!("{}/subjects/{}/versions", at.url, at.subject("s"));
    let body = json!({"schema": A}).to_string();
    for kind in ["application/json", "application/vnd.schemaregistry.v1+json"] {
        let request = reqwest::Client::new().post(&url).header("content-type", kind);
        let answer: Json = request.body(body.clone()).send().await.unwrap().json().await.unwrap();
        assert!(answer["id"].is_u64(), "{kind}: {answer}");
    }
}

/// A registry, and names of this test's own.
struct At {
    url: String,
    prefix: String,
}

impl At {
    fn new(url: String) -> At {
        At { url, prefix: format!("t{}", uuid::Uuid::new_v4().simple()) }
    }

    fn the_real_one() -> At {
        At::new(variable("SCHEMA_REGISTRY_URL"))
    }

    fn subject(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn client(&self) -> Registry {
        Registry::new(&RegistryConfig {
            urls: vec![self.url.clone()],
            auth: RegistryAuth::None,
            ca_file: None,
            identity: None,
            timeout: PATIENCE,
        })
        .unwrap()
    }

    async fn get(&self, path: &str) -> Json {
        let (status, answer) = self.send(Method::GET, path, None).await;
        assert!(status.is_success(), "{path}: {answer}");
        answer
    }

    async fn text(&self, path: &str) -> String {
        let url = format!("{}/{path}", self.url);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Json) -> (StatusCode, Json) {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> (StatusCode, Json) {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Json>) -> (StatusCode, Json) {
        let url = format!("{}/{path}", self.url);
        let mut request = reqwest::Client::new().request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }
}
