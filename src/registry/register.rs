//! Schema text -> id: what is registered under a subject, and what may be.

use apache_avro::Schema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Compatibility, RegisterError, Registry, RegistryError,
    client::{Failure, segment},
    incompatibilities,
};
use crate::wire::SchemaId;

/// Where a schema ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// The id for the header of events.
    pub id: SchemaId,
    /// The version under the subject; `None` if the registry would not say.
    pub version: Option<u32>,
    /// Whether this call registered it, or it was there before.
    pub newly: bool,
}

/// The newest schema of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestSchema {
    /// Its id.
    pub id: SchemaId,
    /// Its version under the subject.
    pub version: u32,
    /// Its text as it was registered.
    pub text: String,
}

impl Registry {
    /// Registers a schema's own text, every attribute in it included; a parsed schema written out
    /// again would lose some. Registering what is there already changes nothing, and neither does
    /// the newest schema with other white space, which Apicurio would take for another one.
    pub async fn register(
        &self,
        subject: &str,
        schema_text: &str,
    ) -> Result<Registration, RegisterError> {
        let name = segment(subject)?;
        let body = request(schema_text);
        if let Some(found) = self.find(&name, &body).await? {
            return Ok(found.registration(false));
        }
        if let Some(LatestSchema { id, version, text }) = self.latest_of(&name).await?
            && is_same_json(&text, schema_text)
        {
            return Ok(Registration { id, version: Some(version), newly: false });
        }
        match self.inner.client.post::<Answer>(&format!("subjects/{name}/versions"), &body).await {
            Ok(mut answer) => {
                // most registries answer with the id alone; the version is a courtesy
                if answer.version.is_none() {
                    let found = self.find(&name, &body).await.ok().flatten();
                    answer.version = found.and_then(|found| found.version);
                }
                Ok(answer.registration(true))
            }
            Err(Failure::Said(said)) if said.is_incompatible() => {
                let mut problems = self.problems(&name, schema_text).await.unwrap_or_default();
                if problems.is_empty() {
                    problems.push(said.message);
                }
                Err(RegisterError::Incompatible { subject: subject.to_owned(), problems })
            }
            Err(failure) => Err(RegistryError::from(failure).into()),
        }
    }

    /// The newest schema of the subject; `None` when it has none.
    pub async fn latest(&self, subject: &str) -> Result<Option<LatestSchema>, RegistryError> {
        self.latest_of(&segment(subject)?).await
    }

    /// Why this schema cannot be registered under the subject; empty when it can. Compares with
    /// as many earlier versions as the subject's level asks for.
    pub async fn is_compatible(
        &self,
        subject: &str,
        schema_text: &str,
    ) -> Result<Vec<String>, RegistryError> {
        let name = segment(subject)?;
        let verdict = self.verdict(&name, schema_text).await?;
        if verdict.is_compatible {
            return Ok(Vec::new());
        }
        let mut problems = self.differences(&name, schema_text).await;
        problems.extend(verdict.reasons());
        if problems.is_empty() {
            problems.push("the registry calls it incompatible and does not say why".to_owned());
        }
        Ok(problems)
    }

    /// What explains a refusal: our own words first, since they name the field, then the
    /// registry's.
    async fn problems(&self, name: &str, text: &str) -> Result<Vec<String>, RegistryError> {
        let mut problems = self.differences(name, text).await;
        problems.extend(self.verdict(name, text).await?.reasons());
        Ok(problems)
    }

    /// Whether exactly this schema is under the subject.
    async fn find(&self, name: &str, body: &Value) -> Result<Option<Answer>, RegistryError> {
        let path = format!("subjects/{name}?deleted=false");
        match self.inner.client.post(&path, body).await {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) => Ok(failure.unless_not_found().map(|()| None)?),
        }
    }

    async fn latest_of(&self, name: &str) -> Result<Option<LatestSchema>, RegistryError> {
        #[derive(Deserialize)]
        struct Latest {
            id: u32,
            version: u32,
            schema: String,
        }
        let path = format!("subjects/{name}/versions/latest");
        match self.inner.client.get::<Latest>(&path).await {
            Ok(Latest { id, version, schema }) => {
                Ok(Some(LatestSchema { id: SchemaId(id), version, text: schema }))
            }
            Err(failure) => Ok(failure.unless_not_found().map(|()| None)?),
        }
    }

    async fn verdict(&self, name: &str, text: &str) -> Result<Verdict, RegistryError> {
        let path = format!("compatibility/subjects/{name}/versions?verbose=true");
        match self.inner.client.post(&path, &request(text)).await {
            Ok(verdict) => Ok(verdict),
            // nothing registered, nothing to be incompatible with
            Err(failure) => {
                failure.unless_not_found()?;
                Ok(Verdict { is_compatible: true, messages: Vec::new() })
            }
        }
    }

    /// Our own comparison with the latest version, for registries that give no reasons. Only an
    /// explanation: where it cannot be made there is none.
    async fn differences(&self, name: &str, text: &str) -> Vec<String> {
        let Ok(Some(latest)) = self.latest_of(name).await else { return Vec::new() };
        let (Ok(new), Ok(old)) = (Schema::parse_str(text), Schema::parse_str(&latest.text)) else {
            return Vec::new();
        };
        let level = self.effective_level(name).await.ok().flatten();
        // Apicurio calls the level NONE where its global one applies; having refused the schema,
        // it does apply one
        let level = level.filter(|level| *level != Compatibility::None).unwrap_or_default();
        differences(level, &new, &old)
    }
}

/// What the level forbids between two versions.
fn differences(level: Compatibility, new: &Schema, old: &Schema) -> Vec<String> {
    let mut problems = Vec::new();
    if level.reads_older() {
        problems.extend(incompatibilities(new, old));
    }
    if level.is_read_by_older() {
        let forward = incompatibilities(old, new);
        problems.extend(forward.into_iter().map(|problem| format!("for older readers: {problem}")));
    }
    problems
}

#[derive(Deserialize)]
struct Answer {
    id: u32,
    version: Option<u32>,
}

impl Answer {
    fn registration(&self, newly: bool) -> Registration {
        Registration { id: SchemaId(self.id), version: self.version, newly }
    }
}

#[derive(Deserialize)]
struct Verdict {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

impl Verdict {
    /// Confluent adds the whole old schema and its settings as further messages.
    fn reasons(self) -> impl Iterator<Item = String> {
        const NOT_A_REASON: [&str; 3] = ["{oldSchema", "{validateFields", "{compatibility"];
        let is_reason = |text: &String| !NOT_A_REASON.iter().any(|start| text.starts_with(start));
        self.messages.into_iter().filter(is_reason)
    }
}

fn is_same_json(one: &str, other: &str) -> bool {
    let value = |text| serde_json::from_str::<Value>(text).ok();
    value(one).is_some_and(|one| value(other) == Some(one))
}

fn request(text: &str) -> Value {
    json!({ "schema": text, "schemaType": "AVRO" })
}
