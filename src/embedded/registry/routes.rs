//! Paths and bodies, as Confluent's registry has them.
//! <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    response::IntoResponse,
    routing::{get, post},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    refusal::Refusal,
    store::{Registered, Store, Which},
};
use crate::registry::Compatibility;

type Answer = Result<Json<Value>, Refusal>;

type Registry = State<Arc<Mutex<Store>>>;

/// All of them, over a store of their own.
pub(super) fn routes() -> Router {
    let level = get(level).put(set_level).delete(forget_level);
    let subject_level = get(subject_level).put(set_subject_level).delete(forget_subject_level);
    Router::new()
        .route("/", get(async || Json(json!({}))))
        .route("/schemas/types", get(async || Json(json!(["AVRO"]))))
        .route("/schemas/ids/{id}", get(schema))
        .route("/schemas/ids/{id}/schema", get(schema_text))
        .route("/schemas/ids/{id}/subjects", get(schema_subjects))
        .route("/schemas/ids/{id}/versions", get(schema_versions))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(find).delete(delete_subject))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version).delete(delete_version))
        .route("/subjects/{subject}/versions/{version}/schema", get(version_text))
        .route("/subjects/{subject}/versions/{version}/referencedby", get(referenced_by))
        .route("/compatibility/subjects/{subject}/versions", post(check))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(check_version))
        .route("/config", level)
        .route("/config/{subject}", subject_level)
        .route("/mode", get(async || Json(json!({ "mode": "READWRITE" }))))
        .route("/mode/{subject}", get(async || Json(json!({ "mode": "READWRITE" }))))
        .route("/contexts", get(async || Json(json!(["."]))))
        .fallback(async || Refusal::NoPath)
        .with_state(Arc::default())
}

/// What may stand behind a path.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    #[serde(deserialize_with = "flag")]
    deleted: bool,
    #[serde(deserialize_with = "flag")]
    permanent: bool,
    #[serde(deserialize_with = "flag")]
    verbose: bool,
    #[serde(rename = "defaultToGlobal", deserialize_with = "flag")]
    default_to_global: bool,
    #[serde(rename = "subjectPrefix")]
    subject_prefix: String,
}

/// As Java reads one: `true` in any case, and nothing else.
fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(String::deserialize(from)?.eq_ignore_ascii_case("true"))
}

async fn schema(store: Registry, Path(id): Path<String>) -> Answer {
    let store = lock(&store);
    let found = store.schema(number(&id)?)?;
    Ok(Json(with_references(json!({ "schema": found.text }), found)))
}

async fn schema_text(store: Registry, Path(id): Path<String>) -> Result<String, Refusal> {
    Ok(lock(&store).schema(number(&id)?)?.text.clone())
}

async fn schema_subjects(
    store: Registry,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    let places = lock(&store).places(number(&id)?, asked.deleted)?;
    let mut subjects: Vec<String> = places.into_iter().map(|place| place.subject).collect();
    subjects.dedup();
    Ok(Json(json!(subjects)))
}

async fn schema_versions(
    store: Registry,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(Json(json!(lock(&store).places(number(&id)?, asked.deleted)?)))
}

async fn subjects(store: Registry, Query(asked): Query<Asked>) -> impl IntoResponse {
    let store = lock(&store);
    let mut subjects = store.subjects(asked.deleted);
    subjects.retain(|subject| subject.starts_with(&asked.subject_prefix));
    Json(json!(subjects))
}

async fn versions(
    store: Registry,
    Path(subject): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(Json(json!(lock(&store).versions(&subject, asked.deleted)?)))
}

async fn register(store: Registry, Path(subject): Path<String>, body: Bytes) -> Answer {
    let id = lock(&store).register(&subject, read(&body)?)?;
    Ok(Json(json!({ "id": id })))
}

async fn find(
    store: Registry,
    Path(subject): Path<String>,
    Query(asked): Query<Asked>,
    body: Bytes,
) -> Answer {
    let store = lock(&store);
    let (version, found) = store.find(&subject, &read(&body)?, asked.deleted)?;
    Ok(Json(described(&subject, version, found)))
}

async fn version(
    store: Registry,
    Path((subject, version)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Answer {
    let store = lock(&store);
    let (version, found) = store.version(&subject, which(&version)?, asked.deleted)?;
    Ok(Json(described(&subject, version, found)))
}

async fn version_text(
    store: Registry,
    Path((subject, version)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<String, Refusal> {
    let store = lock(&store);
    Ok(store.version(&subject, which(&version)?, asked.deleted)?.1.text.clone())
}

async fn referenced_by(
    store: Registry,
    Path((subject, version)): Path<(String, String)>,
) -> Answer {
    let store = lock(&store);
    let (version, _) = store.version(&subject, which(&version)?, true)?;
    Ok(Json(json!(store.referenced_by(&subject, version))))
}

async fn delete_subject(
    store: Registry,
    Path(subject): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(Json(json!(lock(&store).delete_subject(&subject, asked.permanent)?)))
}

async fn delete_version(
    store: Registry,
    Path((subject, version)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Answer {
    let which = which(&version)?;
    Ok(Json(json!(lock(&store).delete_version(&subject, which, asked.permanent)?)))
}

async fn check(
    store: Registry,
    Path(subject): Path<String>,
    Query(asked): Query<Asked>,
    body: Bytes,
) -> Answer {
    let problems = lock(&store).check(&subject, &read(&body)?, None)?;
    Ok(Json(verdict(&problems, asked.verbose)))
}

async fn check_version(
    store: Registry,
    Path((subject, version)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    body: Bytes,
) -> Answer {
    let which = which(&version)?;
    let problems = lock(&store).check(&subject, &read(&body)?, Some(which))?;
    Ok(Json(verdict(&problems, asked.verbose)))
}

async fn level(store: Registry) -> Answer {
    configured(None, lock(&store).level(None))
}

async fn set_level(store: Registry, body: Bytes) -> Answer {
    set(&store, None, &body)
}

async fn forget_level(store: Registry) -> Answer {
    configured(None, lock(&store).forget_level(None))
}

async fn subject_level(
    store: Registry,
    Path(subject): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    let store = lock(&store);
    let common = asked.default_to_global.then(|| store.effective_level(&subject));
    configured(Some(&subject), store.level(Some(&subject)).or(common))
}

async fn set_subject_level(store: Registry, Path(subject): Path<String>, body: Bytes) -> Answer {
    set(&store, Some(&subject), &body)
}

async fn forget_subject_level(store: Registry, Path(subject): Path<String>) -> Answer {
    configured(Some(&subject), lock(&store).forget_level(Some(&subject)))
}

fn configured(subject: Option<&str>, level: Option<Compatibility>) -> Answer {
    match level {
        Some(level) => Ok(Json(json!({ "compatibilityLevel": level }))),
        None => Err(Refusal::NoLevel(subject.unwrap_or_default().to_owned())),
    }
}

fn set(store: &Registry, subject: Option<&str>, body: &[u8]) -> Answer {
    #[derive(Deserialize)]
    struct Wanted {
        compatibility: String,
    }
    let Wanted { compatibility } = read(body)?;
    let level = compatibility.parse().map_err(|_| Refusal::InvalidLevel)?;
    lock(store).set_level(subject, level);
    Ok(Json(json!({ "compatibility": level })))
}

fn described(subject: &str, version: u32, found: &Registered) -> Value {
    let Registered { id, text, .. } = found;
    let answer = json!({ "subject": subject, "version": version, "id": id, "schema": text });
    with_references(answer, found)
}

/// A schema that builds on no other says nothing of it.
fn with_references(mut answer: Value, found: &Registered) -> Value {
    if let (false, Some(answer)) = (found.references.is_empty(), answer.as_object_mut()) {
        answer.insert("references".to_owned(), json!(found.references));
    }
    answer
}

fn verdict(problems: &[String], verbose: bool) -> Value {
    match verbose {
        true => json!({ "is_compatible": problems.is_empty(), "messages": problems }),
        false => json!({ "is_compatible": problems.is_empty() }),
    }
}

/// Whatever the client says of a body's type, it is JSON.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::Unreadable(error.to_string()))
}

fn number(id: &str) -> Result<u32, Refusal> {
    id.parse().map_err(|_| Refusal::NoSchema)
}

fn which(version: &str) -> Result<Which, Refusal> {
    match version {
        "latest" | "-1" => Ok(Which::Latest),
        number => match number.parse() {
            Ok(number @ 1..=0x7fff_ffff) => Ok(Which::Number(number)),
            _ => Err(Refusal::InvalidVersion(version.to_owned())),
        },
    }
}

fn lock(store: &Registry) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
