//! Schema id -> the schema an event was written with.
//!
//! schema_registry_converter's `AvroDecoder` is not used: it keeps one 500, 504, 429, 401 or cut
//! reply as the final answer for an id, it panics over a referenced schema without a namespace, and
//! its errors do not say whether the registry spoke, or when it wants to be asked again. So the
//! registry is asked here, answers are kept here, and references are inlined here.

use std::{
    collections::HashMap,
    error::Error,
    fmt::Display,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use apache_avro::Schema;
use backon::{ExponentialBuilder, Retryable};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use schema_registry_converter::{error::SRCError, schema_registry_common::RegisteredReference};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    Away, FailedLookup, LookupError, Registry,
    client::{self, Failure, chain},
    references,
};
use crate::wire::SchemaId;

/// A schema as the registry keeps it, ready to read events with.
#[derive(Debug)]
pub struct RegisteredSchema {
    /// Its id, which events carry in their header.
    pub id: SchemaId,
    /// The text as it was registered.
    pub text: String,
    /// The text parsed, with the schemas it refers to built in.
    pub parsed: Schema,
}

/// How often to ask for an id that the registry does not know yet: a producer may register its
/// schema a moment after its first event, and registries replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many times to ask in all, at least once.
    pub attempts: u32,
    /// The pause before the second attempt; each further one is twice as long.
    pub first_delay: Duration,
}

impl RetryPolicy {
    /// Ask once and believe the answer.
    pub const ONCE: Self = Self { attempts: 1, first_delay: Duration::ZERO };
}

impl Default for RetryPolicy {
    /// Three attempts within about a second.
    fn default() -> Self {
        Self { attempts: 3, first_delay: Duration::from_millis(300) }
    }
}

/// A look-up that several callers may wait for.
type LookUp = BoxFuture<'static, Result<Arc<RegisteredSchema>, LookupError>>;

/// The look-ups that are running. They are held weakly: one that nobody waits for any more is
/// cancelled, and nothing of it stays.
pub(super) type UnderWay = HashMap<SchemaId, WeakShared<LookUp>>;

/// Registries count their ids in a signed 32-bit integer.
const MAX_ID: SchemaId = SchemaId(i32::MAX.unsigned_abs());

impl Registry {
    /// The schema that events with this id were written with, asked for once and then kept.
    ///
    /// [`LookupError::Unknown`] and [`LookupError::Unusable`] are remembered for ten seconds, so
    /// that a flood of corrupt events does not become a flood of requests; other failures not at
    /// all.
    pub async fn writer_schema(&self, id: SchemaId) -> Result<Arc<RegisteredSchema>, LookupError> {
        let answer = self.writer_schema_with_retries(id, RetryPolicy::ONCE).await;
        answer.map_err(|failed| failed.error)
    }

    /// Like [`writer_schema`](Self::writer_schema), for an id that may be registered a moment
    /// later: asks again while the registry does not know it. Nothing else is retried here; a
    /// registry that is away is the caller's to wait for.
    pub async fn writer_schema_with_retries(
        &self,
        id: SchemaId,
        policy: RetryPolicy,
    ) -> Result<Arc<RegisteredSchema>, FailedLookup> {
        if id > MAX_ID {
            return Err(FailedLookup { error: LookupError::Unknown { id }, attempts: 0 });
        }
        if let Some(answer) = self.recall(id) {
            return answer;
        }
        let mut attempts = 0;
        let ask = || {
            attempts += 1;
            self.look_up(id)
        };
        let answer = ask
            .retry(policy.delays())
            .when(|error| matches!(error, LookupError::Unknown { .. }))
            .await
            .map_err(|error| FailedLookup { error, attempts });
        self.keep(id, &answer);
        answer
    }

    /// Joins the look-up of this id that is under way, or starts it.
    async fn look_up(&self, id: SchemaId) -> Result<Arc<RegisteredSchema>, LookupError> {
        let look_up = {
            let mut under_way = self.inner.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            match under_way.get(&id).and_then(WeakShared::upgrade) {
                Some(look_up) => look_up,
                None => start(&mut under_way, id, self.clone().fetch(id).boxed()),
            }
        };
        look_up.await
    }

    async fn fetch(self, id: SchemaId) -> Result<Arc<RegisteredSchema>, LookupError> {
        self.leave_alone()?;
        let path = format!("schemas/ids/{id}?deleted=true");
        let found: Found = match self.inner.client.get(&path).await {
            Ok(found) => found,
            Err(Failure::Said(said)) if said.is_not_found() => {
                return Err(LookupError::Unknown { id });
            }
            Err(Failure::Said(said)) => return Err(away(said.message)),
            Err(Failure::Refused(detail)) => return Err(LookupError::Refused(detail)),
            Err(Failure::Away(reason)) => {
                self.come_back(&reason);
                return Err(LookupError::Away(reason));
            }
        };
        let unusable = |detail| LookupError::Unusable { id, detail };
        if let Some(kind) = found.schema_type.filter(|kind| kind != "AVRO") {
            return Err(unusable(format!("its type is {kind}, not AVRO")));
        }
        let others = references::fetch(&self, id, found.references).await?;
        let parsed = references::parse(&found.schema, &others).map_err(unusable)?;
        Ok(Arc::new(RegisteredSchema { id, text: found.schema, parsed }))
    }

    /// Fails while the registry has asked not to be asked, whoever it said that to.
    fn leave_alone(&self) -> Result<(), LookupError> {
        let not_before = self.inner.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        let left = not_before.and_then(|moment| moment.checked_duration_since(Instant::now()));
        left.filter(|left| !left.is_zero()).map_or(Ok(()), |left| {
            let detail = "it asked to be left alone for a while".to_owned();
            Err(LookupError::Away(Away { detail, retry_after: Some(left) }))
        })
    }

    fn come_back(&self, reason: &Away) {
        if let Some(moment) = reason.retry_after.and_then(|time| Instant::now().checked_add(time)) {
            let mut not_before =
                self.inner.not_before.lock().unwrap_or_else(PoisonError::into_inner);
            *not_before = Some(moment);
        }
    }

    /// What the registry itself says about a path that the converter could not bring.
    pub(super) async fn why(&self, path: &str, error: &SRCError) -> Why {
        let no_answer = error.source().filter(|source| source.is::<reqwest::Error>());
        if let Some(reason) = no_answer
            && self.inner.client.has_one_address()
        {
            return Why::Other(match client::no_answer(reason) {
                Failure::Refused(detail) => LookupError::Refused(detail),
                _ => away(describe(error)),
            });
        }
        match self.inner.client.get::<IgnoredAny>(path).await {
            Ok(_) => Why::Other(away(format!(
                "it answered when asked again, but before that: {}",
                describe(error)
            ))),
            Err(Failure::Said(said)) if said.is_not_found() => Why::NotFound(said.message),
            Err(Failure::Said(said)) => Why::Other(away(said.message)),
            Err(Failure::Refused(detail)) => Why::Other(LookupError::Refused(detail)),
            Err(Failure::Away(reason)) => Why::Other(LookupError::Away(reason)),
        }
    }

    fn recall(&self, id: SchemaId) -> Option<Result<Arc<RegisteredSchema>, FailedLookup>> {
        // no holder of these locks can leave anything half done, so poison means nothing
        let memory = self.inner.memory.read().unwrap_or_else(PoisonError::into_inner);
        memory.recall(id, Instant::now())
    }

    fn keep(&self, id: SchemaId, answer: &Result<Arc<RegisteredSchema>, FailedLookup>) {
        let mut memory = self.inner.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.keep(id, answer, Instant::now());
    }
}

/// The registry's answer for an id.
#[derive(Deserialize)]
struct Found {
    schema: String,
    /// AVRO, where it is left out.
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<RegisteredReference>,
}

/// Whether the registry says "there is none", or whatever else is the matter.
pub(super) enum Why {
    NotFound(String),
    Other(LookupError),
}

fn start(under_way: &mut UnderWay, id: SchemaId, look_up: LookUp) -> Shared<LookUp> {
    let look_up = look_up.shared();
    under_way.retain(|_, other| other.upgrade().is_some());
    if let Some(weak) = look_up.downgrade() {
        under_way.insert(id, weak);
    }
    look_up
}

impl RetryPolicy {
    fn delays(self) -> ExponentialBuilder {
        let retries = usize::try_from(self.attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        ExponentialBuilder::default().with_min_delay(self.first_delay).with_max_times(retries)
    }
}

fn away(detail: impl Display) -> LookupError {
    LookupError::Away(Away { detail: detail.to_string(), retry_after: None })
}

/// The converter's error without its remarks on its own cache.
fn describe(error: &SRCError) -> String {
    match error.source() {
        Some(source) => format!("{}: {}", error.error, chain(source)),
        None => error.error.clone(),
    }
}
