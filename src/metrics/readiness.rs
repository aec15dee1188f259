//! Whether this process can do its work: what each stream waits for, and which ones pause. It is
//! the process's own, as what it counts is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ::metrics::Gauge;
use serde::Serialize;

use super::list::WAITING_TASKS;

static STATE: Mutex<State> = Mutex::new(State {
    waiting: BTreeMap::new(),
    open_breakers: BTreeSet::new(),
    stopped: BTreeMap::new(),
});

struct State {
    /// How many tasks of a stream wait for a dependency.
    waiting: BTreeMap<(String, &'static str), usize>,
    open_breakers: BTreeSet<String>,
    /// Why a stream stopped.
    stopped: BTreeMap<String, String>,
}

/// Whether the process is ready; what it waits for, where it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether nothing is in the way.
    pub ready: bool,
    /// Who waits for what is away.
    pub waiting: Vec<Unready>,
    /// Streams that pause because nearly all of their events would be dead letters.
    pub open_breakers: BTreeSet<String>,
    /// Streams that stopped, and why: a person has to mend something.
    pub stopped: BTreeMap<String, String>,
}

/// A stream, and the dependency that it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unready {
    /// The stream.
    pub stream: String,
    /// What is away.
    pub dependency: &'static str,
}

/// How it is at the moment.
pub fn readiness() -> Readiness {
    let state = state();
    let unready = |(stream, dependency): &(String, &'static str)| Unready {
        stream: stream.clone(),
        dependency,
    };
    let waiting: Vec<Unready> = state.waiting.keys().map(unready).collect();
    let ready = waiting.is_empty() && state.open_breakers.is_empty() && state.stopped.is_empty();
    let (open_breakers, stopped) = (state.open_breakers.clone(), state.stopped.clone());
    Readiness { ready, waiting, open_breakers, stopped }
}

/// The stream's breaker opened or closed.
pub(super) fn breaker(stream: &str, open: bool) {
    let mut state = state();
    match open {
        true => _ = state.open_breakers.insert(stream.to_owned()),
        false => _ = state.open_breakers.remove(stream),
    }
}

/// The stream stopped.
pub(super) fn stopped(stream: &str, reason: &str) {
    state().stopped.insert(stream.to_owned(), reason.to_owned());
}

/// Somebody waits for a dependency, until the value is dropped.
pub(crate) fn waiting(stream: &str, dependency: &'static str) -> Waiting {
    let gauge = WAITING_TASKS.gauge(&[stream, dependency]);
    gauge.increment(1.0);
    let who = (stream.to_owned(), dependency);
    *state().waiting.entry(who.clone()).or_insert(0) += 1;
    Waiting { gauge, who }
}

/// See [`waiting`].
pub(crate) struct Waiting {
    gauge: Gauge,
    who: (String, &'static str),
}

impl Waiting {
    /// What is waited for.
    pub(crate) fn dependency(&self) -> &'static str {
        self.who.1
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waiting").field(&self.who).finish()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gauge.decrement(1.0);
        let mut state = state();
        if let Some(tasks) = state.waiting.get_mut(&self.who) {
            *tasks = tasks.saturating_sub(1);
            if *tasks == 0 {
                state.waiting.remove(&self.who);
            }
        }
    }
}

/// No code panics while it holds the lock.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests of this process may wait for something too.
    fn waits(stream: &str) -> Vec<&'static str> {
        let waiting = readiness().waiting.into_iter();
        waiting.filter(|it| it.stream == stream).map(|it| it.dependency).collect()
    }

    #[test]
    fn a_stream_waits_until_the_last_of_its_tasks_waits_no_more() {
        let (one, other) = (waiting("waits", "Postgres"), waiting("waits", "Postgres"));
        let registry = waiting("waits", "the schema registry");
        assert_eq!(waits("waits"), ["Postgres", "the schema registry"]);
        assert!(!readiness().ready);
        drop((one, registry));
        assert_eq!(waits("waits"), ["Postgres"]);
        drop(other);
        assert_eq!(waits("waits"), Vec::<&str>::new());
    }

    #[test]
    fn an_open_breaker_and_a_stream_that_stopped_are_named() {
        breaker("pauses", true);
        assert!(!readiness().ready && readiness().open_breakers.contains("pauses"));
        breaker("pauses", false);
        assert!(!readiness().open_breakers.contains("pauses"));
        stopped("stops", "a column is missing");
        let readiness = readiness();
        assert!(!readiness.ready);
        assert_eq!(readiness.stopped["stops"], "a column is missing");
    }
}
