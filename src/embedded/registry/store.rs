//! Subjects, their versions, and the ids that schemas have across all of them.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use apache_avro::Schema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

use super::{refusal::Refusal, verdict::forbidden};
use crate::registry::{Compatibility, parse};

/// What a schema builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    /// The name that the schema calls it by.
    pub(super) name: String,
    pub(super) subject: String,
    pub(super) version: u32,
}

/// A schema as a client sends it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Sent {
    pub(super) schema: String,
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    references: Vec<Reference>,
}

/// A schema that has an id.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub(super) id: u32,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
    normal: Json,
}

/// One version of a subject.
#[derive(Debug, Clone, Copy)]
struct Version {
    id: u32,
    /// Whether it is deleted in the way that can still be looked at.
    deleted: bool,
}

/// Which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Latest,
    Number(u32),
}

/// Where a schema is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    pub(super) subject: String,
    pub(super) version: u32,
}

/// All that is registered.
#[derive(Debug, Default)]
pub(super) struct Store {
    schemas: BTreeMap<u32, Registered>,
    /// The id that was given last.
    last_id: u32,
    subjects: BTreeMap<String, BTreeMap<u32, Version>>,
    levels: BTreeMap<String, Compatibility>,
    level: Compatibility,
}

impl Store {
    /// Registers a schema under a subject; gives its id. One that is there already keeps its own.
    pub(super) fn register(&mut self, subject: &str, sent: Sent) -> Result<u32, Refusal> {
        let schema = self.parse(&sent)?;
        let normal = normal(&schema)?;
        let is_same =
            |known: &Registered| known.references == sent.references && known.normal == normal;
        if let Some((_, registered)) = self.find_where(subject, false, is_same)? {
            return Ok(registered.id);
        }
        let older = self.live(subject).map(|(version, _)| Which::Number(version)).collect();
        let problems = self.forbidden(subject, &schema, older)?;
        if !problems.is_empty() {
            return Err(Refusal::Incompatible(problems.join("; ")));
        }
        let id = match self.schemas.values().find(|known| is_same(known)) {
            Some(known) => known.id,
            None => {
                let id = self.last_id.saturating_add(1);
                let Sent { schema: text, references, .. } = sent;
                self.schemas.insert(id, Registered { id, text, references, normal });
                self.last_id = id;
                id
            }
        };
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        let version = versions.keys().next_back().copied().unwrap_or(0).saturating_add(1);
        versions.insert(version, Version { id, deleted: false });
        Ok(id)
    }

    /// Where exactly this schema is under a subject.
    pub(super) fn find(
        &self,
        subject: &str,
        sent: &Sent,
        deleted: bool,
    ) -> Result<(u32, &Registered), Refusal> {
        let normal = normal(&self.parse(sent)?)?;
        self.versions(subject, deleted)?;
        let found = self.find_where(subject, deleted, |known| {
            known.references == sent.references && known.normal == normal
        });
        found?.ok_or(Refusal::NoSchema)
    }

    /// The newest version of a subject, if there is one, that is such.
    fn find_where(
        &self,
        subject: &str,
        deleted: bool,
        is_such: impl Fn(&Registered) -> bool,
    ) -> Result<Option<(u32, &Registered)>, Refusal> {
        let versions = self.versions(subject, deleted).unwrap_or_default();
        for version in versions.into_iter().rev() {
            let (number, known) = self.version(subject, Which::Number(version), deleted)?;
            if is_such(known) {
                return Ok(Some((number, known)));
            }
        }
        Ok(None)
    }

    /// Why a schema may not be registered under a subject, as far as one version of it says, or all
    /// that its level asks for; empty where it may.
    pub(super) fn check(
        &self,
        subject: &str,
        sent: &Sent,
        against: Option<Which>,
    ) -> Result<Vec<String>, Refusal> {
        let schema = self.parse(sent)?;
        let against = match against {
            // nothing is incompatible with nothing
            Some(Which::Latest) if self.versions(subject, false).is_err() => Vec::new(),
            Some(which) => vec![which],
            None => self.live(subject).map(|(version, _)| Which::Number(version)).collect(),
        };
        self.forbidden(subject, &schema, against)
    }

    fn forbidden(
        &self,
        subject: &str,
        schema: &Schema,
        against: Vec<Which>,
    ) -> Result<Vec<String>, Refusal> {
        let parsed = |which| {
            let (_, registered) = self.version(subject, which, false)?;
            self.parse_with(&registered.text, &registered.references)
        };
        let older = against.into_iter().map(parsed).collect::<Result<Vec<_>, _>>()?;
        Ok(forbidden(self.effective_level(subject), schema, &older))
    }

    /// The names of subjects that have a version.
    pub(super) fn subjects(&self, deleted: bool) -> Vec<&str> {
        let names = self.subjects.keys().map(String::as_str);
        names.filter(|subject| self.versions(subject, deleted).is_ok()).collect()
    }

    /// A subject's versions; there is no subject without any.
    pub(super) fn versions(&self, subject: &str, deleted: bool) -> Result<Vec<u32>, Refusal> {
        let all = self.subjects.get(subject).into_iter().flatten();
        let versions: Vec<u32> = all
            .filter(|(_, version)| deleted || !version.deleted)
            .map(|(number, _)| *number)
            .collect();
        if versions.is_empty() { Err(Refusal::NoSubject(subject.to_owned())) } else { Ok(versions) }
    }

    /// A version's number and schema.
    pub(super) fn version(
        &self,
        subject: &str,
        which: Which,
        deleted: bool,
    ) -> Result<(u32, &Registered), Refusal> {
        let versions = self.versions(subject, deleted)?;
        let number = match which {
            Which::Latest => versions.last().copied().unwrap_or_default(),
            Which::Number(number) => number,
        };
        let missing = Refusal::NoVersion(number);
        if !versions.contains(&number) {
            return Err(missing);
        }
        let version = self.subjects.get(subject).and_then(|versions| versions.get(&number));
        let registered = version.and_then(|version| self.schema(version.id).ok());
        registered.map(|registered| (number, registered)).ok_or(missing)
    }

    /// The schema with an id.
    pub(super) fn schema(&self, id: u32) -> Result<&Registered, Refusal> {
        self.schemas.get(&id).ok_or(Refusal::NoSchema)
    }

    /// Where the schema with an id is.
    pub(super) fn places(&self, id: u32, deleted: bool) -> Result<Vec<Place>, Refusal> {
        self.schema(id)?;
        let mut places = Vec::new();
        for (subject, versions) in &self.subjects {
            let here = versions.iter().filter(|(_, it)| it.id == id && (deleted || !it.deleted));
            places.extend(
                here.map(|(version, _)| Place { subject: subject.clone(), version: *version }),
            );
        }
        Ok(places)
    }

    /// The ids of the schemas that build on a version.
    pub(super) fn referenced_by(&self, subject: &str, version: u32) -> Vec<u32> {
        let builds_on =
            |reference: &Reference| reference.subject == subject && reference.version == version;
        let known = self.schemas.values().filter(|known| known.references.iter().any(builds_on));
        let is_live = |id: &u32| self.places(*id, false).is_ok_and(|places| !places.is_empty());
        known.map(|known| known.id).filter(is_live).collect()
    }

    /// Deletes a subject's versions, so that they can still be looked at, or for good once that is
    /// done; gives their numbers.
    pub(super) fn delete_subject(
        &mut self,
        subject: &str,
        permanent: bool,
    ) -> Result<Vec<u32>, Refusal> {
        let all = self.versions(subject, true)?;
        let live = self.versions(subject, false).unwrap_or_default();
        if permanent && !live.is_empty() {
            return Err(Refusal::SubjectNotDeleted(subject.to_owned()));
        }
        if !permanent && live.is_empty() {
            return Err(Refusal::SubjectDeleted(subject.to_owned()));
        }
        for version in &live {
            self.unless_referenced(subject, *version)?;
        }
        if permanent {
            self.subjects.remove(subject);
            self.forget_unused();
            return Ok(all);
        }
        let versions = self.subjects.get_mut(subject).into_iter().flatten();
        versions.for_each(|(_, version)| version.deleted = true);
        self.levels.remove(subject);
        Ok(live)
    }

    /// Deletes one version in the same way.
    pub(super) fn delete_version(
        &mut self,
        subject: &str,
        which: Which,
        permanent: bool,
    ) -> Result<u32, Refusal> {
        let (number, _) = self.version(subject, which, which != Which::Latest)?;
        self.unless_referenced(subject, number)?;
        let named = || subject.to_owned();
        let versions = self.subjects.get_mut(subject).ok_or(Refusal::NoVersion(number))?;
        let version = versions.get_mut(&number).ok_or(Refusal::NoVersion(number))?;
        match (permanent, version.deleted) {
            (true, false) => return Err(Refusal::VersionNotDeleted(named(), number)),
            (false, true) => return Err(Refusal::VersionDeleted(named(), number)),
            (true, true) => {
                versions.remove(&number);
                self.forget_unused();
            }
            (false, false) => version.deleted = true,
        }
        Ok(number)
    }

    /// Forgets the schemas that are nobody's version any more.
    fn forget_unused(&mut self) {
        let used: HashSet<u32> =
            self.subjects.values().flatten().map(|(_, version)| version.id).collect();
        self.schemas.retain(|id, _| used.contains(id));
    }

    fn unless_referenced(&self, subject: &str, version: u32) -> Result<(), Refusal> {
        if self.referenced_by(subject, version).is_empty() {
            return Ok(());
        }
        Err(Refusal::Referenced(format!("{{subject={subject},version={version}}}")))
    }

    /// The level of a subject's own, or of all that have none.
    pub(super) fn level(&self, subject: Option<&str>) -> Option<Compatibility> {
        match subject {
            Some(subject) => self.levels.get(subject).copied(),
            None => Some(self.level),
        }
    }

    /// The level that holds for a subject.
    pub(super) fn effective_level(&self, subject: &str) -> Compatibility {
        self.levels.get(subject).copied().unwrap_or(self.level)
    }

    /// Sets a subject's level, which need not be there yet, or that of all that have none.
    pub(super) fn set_level(&mut self, subject: Option<&str>, level: Compatibility) {
        match subject {
            Some(subject) => _ = self.levels.insert(subject.to_owned(), level),
            None => self.level = level,
        }
    }

    /// Takes a subject's own level away, or sets the common one back; gives what it was.
    pub(super) fn forget_level(&mut self, subject: Option<&str>) -> Option<Compatibility> {
        match subject {
            Some(subject) => self.levels.remove(subject),
            None => Some(std::mem::take(&mut self.level)),
        }
    }

    fn live(&self, subject: &str) -> impl Iterator<Item = (u32, u32)> {
        let all = self.subjects.get(subject).into_iter().flatten();
        all.filter(|(_, version)| !version.deleted).map(|(number, version)| (*number, version.id))
    }

    fn parse(&self, sent: &Sent) -> Result<Schema, Refusal> {
        if sent.kind.as_deref().is_some_and(|kind| kind != "AVRO") {
            return Err(Refusal::InvalidSchema("only AVRO is known here".to_owned()));
        }
        self.parse_with(&sent.schema, &sent.references)
    }

    /// Parses a text with all that it builds on.
    fn parse_with(&self, text: &str, references: &[Reference]) -> Result<Schema, Refusal> {
        let (mut waiting, mut seen) = (references.to_vec(), HashSet::new());
        let mut others = Vec::new();
        while let Some(Reference { name, subject, version }) = waiting.pop() {
            if !seen.insert((subject.clone(), version)) {
                continue;
            }
            let found = self.version(&subject, Which::Number(version), true);
            let (_, found) = found.map_err(|refusal| {
                Refusal::InvalidSchema(format!("reference {name}: {refusal}"))
            })?;
            others.push(found.text.clone());
            waiting.extend(found.references.iter().cloned());
        }
        parse(text, &others).map_err(Refusal::InvalidSchema)
    }
}

/// What a schema is known again by: white space, the order of attributes, and whether a name is written
/// with its namespace or beside it say nothing.
fn normal(schema: &Schema) -> Result<Json, Refusal> {
    serde_json::to_value(schema).map_err(|error| Refusal::InvalidSchema(error.to_string()))
}

/// Some clients say `null` where they have nothing to say.
fn or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Reference>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}
