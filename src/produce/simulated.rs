//! Simulated readings and the moments they happen at.

use std::time::Duration;

use anyhow::bail;
use apache_avro::types::Value;
use time::OffsetDateTime;

use super::{ProduceOptions, faults::keeps_rules};
use crate::{
    contract::Contract,
    source::simulate::{Generic, Simulator},
};

/// The time between two readings of a run that has no rate, when there is no clock to follow.
const STEP: Duration = Duration::from_millis(5);

/// How often a generator that knows only the schema is asked for a reading that keeps the rules.
const ATTEMPTS: usize = 200;

/// The readings of one run.
pub(super) struct Simulated<'c> {
    contract: &'c Contract,
    simulator: Simulator,
    clock: Clock,
}

/// When each reading happens.
enum Clock {
    /// At even steps: with a rate they keep up with the wall clock; without one they end at it.
    Steps { next: OffsetDateTime, step: Duration },
    /// At the moment it is made.
    Wall,
}

impl<'c> Simulated<'c> {
    pub(super) fn new(contract: &'c Contract, options: &ProduceOptions) -> anyhow::Result<Self> {
        let name = |index: Option<usize>| {
            index.and_then(|index| contract.columns.get(index)).map(|column| column.name.clone())
        };
        let typed = Simulator::typed(&contract.stream, &contract.schema, options.seed)?;
        let simulator = typed.unwrap_or_else(|| {
            let id = match contract.identity {
                crate::contract::Identity::Field(index) => name(Some(index)),
                crate::contract::Identity::Coordinates => None,
            };
            let schema = contract.schema.clone();
            Simulator::Generic(Generic::new(schema, options.seed, name(contract.time), id))
        });
        Ok(Simulated { contract, simulator, clock: Clock::new(options) })
    }

    /// The next reading, which keeps the contract's rules.
    pub(super) fn next(&mut self) -> anyhow::Result<Value> {
        let at = self.clock.next();
        for _ in 0..ATTEMPTS {
            let reading = self.simulator.next(at)?;
            // the typed generators know their rules
            if matches!(self.simulator, Simulator::Typed { .. })
                || keeps_rules(self.contract, &reading, at)
            {
                return Ok(reading);
            }
        }
        bail!(
            "no reading made from the schema of \"{}\" keeps the contract's rules; produce real \
             ones with --from FILE",
            self.contract.stream
        )
    }
}

impl Clock {
    fn new(options: &ProduceOptions) -> Clock {
        let now = OffsetDateTime::now_utc();
        match (options.start, options.rate, options.count) {
            (start, Some(rate), _) => {
                let step = Duration::from_secs_f64(1.0 / rate);
                Clock::Steps { next: start.unwrap_or(now), step }
            }
            (Some(start), None, _) => Clock::Steps { next: start, step: STEP },
            (None, None, Some(count)) => {
                let whole = STEP.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
                Clock::Steps { next: now.checked_sub(time_of(whole)).unwrap_or(now), step: STEP }
            }
            (None, None, None) => Clock::Wall,
        }
    }

    fn next(&mut self) -> OffsetDateTime {
        match self {
            Clock::Wall => OffsetDateTime::now_utc(),
            Clock::Steps { next, step } => {
                let at = *next;
                *next = next.checked_add(time_of(*step)).unwrap_or(at);
                at
            }
        }
    }
}

fn time_of(duration: Duration) -> time::Duration {
    duration.try_into().unwrap_or(time::Duration::MAX)
}
