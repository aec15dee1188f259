//! Services that let in only who proves to be somebody, over TLS that proves who they are.
//!
//! Each is started once and asked everything that is promised of it: a case that fails does not
//! keep the others from being tried.

mod acls;
mod certificates;
mod gate;
mod kafka;
mod postgres;
mod registry;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value as Json;
use time::OffsetDateTime;

pub use certificates::{Authority, Certified, DAY};

use crate::{
    secrets::{SECRET, assert_shows_no_secret},
    support::{Fixture, Ran},
};

/// How many events a run of the pipeline brings.
const EVENTS: i64 = 20;

/// What the program is told through its environment.
type Environment<'e> = &'e [(&'e str, &'e str)];

/// The promises of one server, each tried.
#[derive(Default)]
struct Cases {
    failed: Vec<&'static str>,
}

impl Cases {
    fn case(&mut self, name: &'static str, promise: impl FnOnce()) {
        println!("---- {name}");
        if catch_unwind(AssertUnwindSafe(promise)).is_err() {
            self.failed.push(name);
        }
    }

    #[track_caller]
    fn all_held(self) {
        assert!(self.failed.is_empty(), "failed: {}", self.failed.join(", "));
    }
}

/// Every verb, in the order in which a user runs them; then all has landed. The flags go to those
/// verbs that have them.
#[track_caller]
fn the_pipeline_runs(fixture: &Fixture, flags: Flags<'_>, environment: Environment<'_>) {
    let landed = || fixture.number("SELECT coalesce(sum(inserted), 0) FROM ledger");
    let with = |verb: &[&str]| {
        let flags = if flags.verbs.contains(&verb[0]) { flags.words } else { &[] };
        run(fixture, &[verb, flags].concat(), environment).success()
    };
    with(&["register"]);
    with(&["migrate"]);
    let before = landed();
    with(&["produce", "readings", "--count", &EVENTS.to_string()]);
    with(&["consume", "--exit-when-drained"]);
    assert_eq!(landed(), before + EVENTS);
    let stats: Json = serde_json::from_str(&with(&["stats", "--json"])).unwrap();
    assert_eq!(stats[0]["lag"], 0, "{stats}");
    with(&["audit"]);
}

/// Flags, and the verbs that have them.
#[derive(Clone, Copy)]
struct Flags<'f> {
    verbs: &'f [&'f str],
    words: &'f [&'f str],
}

const NO_FLAGS: Flags<'_> = Flags { verbs: &[], words: &[] };

/// Runs it with all that it can log, in which there is no secret.
#[track_caller]
fn run(fixture: &Fixture, args: &[&str], environment: Environment<'_>) -> Ran {
    let mut command = fixture.command(args);
    let ran = Ran::of(command.env("SLUICEGATE_LOG", "trace").envs(environment.iter().copied()));
    assert_shows_no_secret(&ran, "gate");
    ran
}

/// The day on which a certificate ended that is over.
fn yesterday() -> String {
    (OffsetDateTime::now_utc() - DAY).date().to_string()
}
