//! What is broken, when and for how long: decided by a seed alone.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// How far apart faults begin, where those before them are over by then.
const SPACING: Duration = Duration::from_secs(4);

/// What the plan leaves of its minutes for starting, draining and verifying.
const REST: Duration = Duration::from_secs(90);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Fault {
    MemberKilled,
    MemberTerminated,
    MemberFrozen,
    RebalanceStorm,
    PostgresKilled,
    PostgresStopped,
    PostgresFrozen,
    BackendsTerminated,
    KafkaKilled,
    KafkaFrozen,
    RegistryKilled,
    RegistryFrozen,
    EverythingKilled,
    OffsetsSetBack,
    SchemaEvolved,
    SchemaLate,
    SchemaUnknown,
    PoisonBurst,
    HugeEvents,
}

impl Fault {
    /// Every kind there is.
    pub const ALL: [Fault; 19] = [
        Fault::MemberKilled,
        Fault::MemberTerminated,
        Fault::MemberFrozen,
        Fault::RebalanceStorm,
        Fault::PostgresKilled,
        Fault::PostgresStopped,
        Fault::PostgresFrozen,
        Fault::BackendsTerminated,
        Fault::KafkaKilled,
        Fault::KafkaFrozen,
        Fault::RegistryKilled,
        Fault::RegistryFrozen,
        Fault::EverythingKilled,
        Fault::OffsetsSetBack,
        Fault::SchemaEvolved,
        Fault::SchemaLate,
        Fault::SchemaUnknown,
        Fault::PoisonBurst,
        Fault::HugeEvents,
    ];

    /// What is done, and to what.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Fault::MemberKilled => ("kill -9", "consumer"),
            Fault::MemberTerminated => ("SIGTERM", "consumer"),
            Fault::MemberFrozen => ("SIGSTOP beyond session.timeout", "consumer"),
            Fault::RebalanceStorm => ("joins and leaves", "consumer group"),
            Fault::PostgresKilled => ("kill -9", "Postgres"),
            Fault::PostgresStopped => ("fast shutdown", "Postgres"),
            Fault::PostgresFrozen => ("SIGSTOP", "Postgres"),
            Fault::BackendsTerminated => ("pg_terminate_backend", "Postgres"),
            Fault::KafkaKilled => ("kill -9", "Kafka"),
            Fault::KafkaFrozen => ("SIGSTOP", "Kafka"),
            Fault::RegistryKilled => ("kill -9", "registry"),
            Fault::RegistryFrozen => ("SIGSTOP", "registry"),
            Fault::EverythingKilled => ("kill -9 at once", "Kafka, registry, Postgres, consumer"),
            Fault::OffsetsSetBack => ("committed offsets set back", "consumer groups"),
            Fault::SchemaEvolved => ("new writer's schema", "events"),
            Fault::SchemaLate => ("schema registered after its event", "events"),
            Fault::SchemaUnknown => ("schema never registered", "events"),
            Fault::PoisonBurst => ("burst, two of three unsound", "events"),
            Fault::HugeEvents => ("burst of 0.95 MB each", "events"),
        }
    }

    /// How long it lasts, in milliseconds, from and to.
    fn lasts(self) -> (u64, u64) {
        match self {
            // longer than the session.timeout that the members have
            Fault::MemberFrozen => (7_500, 9_500),
            Fault::PostgresKilled | Fault::PostgresStopped | Fault::EverythingKilled => {
                (1_000, 4_000)
            }
            Fault::PostgresFrozen | Fault::KafkaFrozen | Fault::RegistryFrozen => (3_000, 6_000),
            Fault::KafkaKilled | Fault::RegistryKilled => (500, 3_000),
            // within the time for which an unknown schema id is asked for again
            Fault::SchemaLate => (100, 900),
            _ => (0, 0),
        }
    }
}

/// One fault of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When it begins, unless the one before it is not over.
    pub at: Duration,
    pub fault: Fault,
    pub lasts: Duration,
    /// Decides what else there is to decide, such as which member.
    pub seed: u64,
}

/// Every kind of fault once, and again in another order as long as there is time.
pub fn plan(seed: u64, minutes: u64) -> Vec<Step> {
    let mut chance = StdRng::seed_from_u64(seed);
    let end = Duration::from_secs(minutes * 60).saturating_sub(REST);
    let mut steps: Vec<Step> = Vec::new();
    let mut at = SPACING;
    while steps.is_empty() || at < end {
        let mut round = Fault::ALL;
        round.shuffle(&mut chance);
        for fault in round {
            if at >= end && steps.len() >= Fault::ALL.len() {
                break;
            }
            let (from, to) = fault.lasts();
            let lasts = Duration::from_millis(chance.random_range(from..=to));
            steps.push(Step { at, fault, lasts, seed: chance.random() });
            at += SPACING.max(lasts);
        }
        // the short plan is one round
        if minutes <= 5 {
            break;
        }
    }
    steps
}
