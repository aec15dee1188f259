//! What the registry has answered: schemas for ever, since an id never changes its meaning, and
//! the record's-fault failures for a short while.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{FailedLookup, LookupError, RegisteredSchema};
use crate::wire::SchemaId;

/// How long an id that the registry does not know, or whose schema is unusable, is not asked for
/// again: long enough to spare the registry a flood of corrupt events, short enough for a
/// producer that registers late.
const FAILURE_KEPT_FOR: Duration = Duration::from_secs(10);

/// Foreign bytes choose the unknown ids, and there are four billion of them.
const MAX_FAILURES: usize = 1024;

#[derive(Default)]
pub(super) struct Memory {
    schemas: HashMap<SchemaId, Arc<RegisteredSchema>>,
    failures: HashMap<SchemaId, (Instant, FailedLookup)>,
}

impl Memory {
    pub(super) fn recall(
        &self,
        id: SchemaId,
        now: Instant,
    ) -> Option<Result<Arc<RegisteredSchema>, FailedLookup>> {
        if let Some(schema) = self.schemas.get(&id) {
            return Some(Ok(Arc::clone(schema)));
        }
        let (since, failed) = self.failures.get(&id)?;
        is_fresh(*since, now).then(|| Err(failed.clone()))
    }

    /// Keeps an answer, unless it says nothing about the schema itself.
    pub(super) fn keep(
        &mut self,
        id: SchemaId,
        answer: &Result<Arc<RegisteredSchema>, FailedLookup>,
        now: Instant,
    ) {
        match answer {
            Ok(schema) => {
                self.schemas.insert(id, Arc::clone(schema));
                self.failures.remove(&id);
            }
            Err(failed) => match failed.error {
                LookupError::Unknown { .. } | LookupError::Unusable { .. } => {
                    self.make_room(now);
                    self.failures.insert(id, (now, failed.clone()));
                }
                LookupError::Away(_) | LookupError::Refused(_) => {}
            },
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.failures.len() < MAX_FAILURES {
            return;
        }
        self.failures.retain(|_, (since, _)| is_fresh(*since, now));
        if self.failures.len() >= MAX_FAILURES
            && let Some(oldest) =
                self.failures.iter().min_by_key(|(_, (since, _))| *since).map(|(id, _)| *id)
        {
            self.failures.remove(&oldest);
        }
    }
}

fn is_fresh(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < FAILURE_KEPT_FOR
}

#[cfg(test)]
mod tests {
    use super::super::Away;
    use super::*;

    fn unknown(id: u32) -> Result<Arc<RegisteredSchema>, FailedLookup> {
        Err(FailedLookup { error: LookupError::Unknown { id: SchemaId(id) }, attempts: 3 })
    }

    #[test]
    fn unknown_ids_are_forgotten_after_ten_seconds() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut memory = Memory::default();
        memory.keep(SchemaId(7), &unknown(7), start);
        let recalled = memory.recall(SchemaId(7), after(9_999)).unwrap();
        assert_eq!(recalled.unwrap_err().attempts, 3);
        assert!(memory.recall(SchemaId(7), after(10_000)).is_none());
    }

    #[test]
    fn unknown_ids_are_bounded_and_the_oldest_goes_first() {
        let mut now = Instant::now();
        let mut memory = Memory::default();
        for id in 0..2_000 {
            now += Duration::from_millis(1);
            memory.keep(SchemaId(id), &unknown(id), now);
        }
        assert_eq!(memory.failures.len(), MAX_FAILURES);
        assert!(memory.recall(SchemaId(0), now).is_none());
        assert!(memory.recall(SchemaId(1_999), now).is_some());
    }

    #[test]
    fn what_passes_is_not_kept() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let away = Away { detail: "busy".into(), retry_after: None };
        for error in [LookupError::Away(away), LookupError::Refused("no".into())] {
            memory.keep(SchemaId(1), &Err(FailedLookup { error, attempts: 1 }), now);
            assert!(memory.recall(SchemaId(1), now).is_none());
        }
    }
}
