//! Simulated readings and the moments they happen at.

use std::time::Duration;

use anyhow::bail;
use apache_avro::types::Value;
use time::OffsetDateTime;

use super::{ProduceOptions, faults::keeps_rules};
use crate::{
    contract::Contract,
    source::simulate::{Anomaly, Generic, Simulator},
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
    /// At even steps, as far as the wall clock where there is a limit.
    Steps { next: OffsetDateTime, step: Duration, until: Until },
    /// At the moment it is made.
    Wall,
}

/// How far readings go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Until {
    /// As far as their steps take them.
    Whenever,
    /// Never past the wall clock: what has caught up with it goes on at its pace.
    Now,
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

    /// What was planted in the readings so far; none where only the schema is known.
    pub(super) fn anomalies(&self) -> Option<Vec<Anomaly>> {
        match &self.simulator {
            Simulator::Typed { .. } => Some(self.simulator.anomalies()),
            Simulator::Generic(_) => None,
        }
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
            (start, Some(rate), _) if options.speed_up != 1.0 => {
                let next = start.unwrap_or_else(|| before(now, ahead(options, rate)));
                let step = seconds(options.speed_up / rate);
                Clock::Steps { next, step, until: Until::Now }
            }
            (start, Some(rate), _) => {
                let step = seconds(1.0 / rate);
                Clock::Steps { next: start.unwrap_or(now), step, until: Until::Whenever }
            }
            (Some(start), None, _) => {
                Clock::Steps { next: start, step: STEP, until: Until::Whenever }
            }
            (None, None, Some(count)) => {
                let whole = STEP.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
                Clock::Steps { next: before(now, whole), step: STEP, until: Until::Whenever }
            }
            (None, None, None) => Clock::Wall,
        }
    }

    fn next(&mut self) -> OffsetDateTime {
        match self {
            Clock::Wall => OffsetDateTime::now_utc(),
            Clock::Steps { next, step, until } => {
                let at = match until {
                    Until::Whenever => *next,
                    Until::Now => OffsetDateTime::now_utc().min(*next),
                };
                *next = at.checked_add(time_of(*step)).unwrap_or(at);
                at
            }
        }
    }
}

/// By how much more the clock of the readings advances than that of the wall, in the whole run.
fn ahead(options: &ProduceOptions, rate: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "nobody waits for so many records")]
    let counted = options.count.map(|count| count as f64 / rate);
    let timed = options.duration.map(|duration| duration.as_secs_f64());
    let run = counted.unwrap_or(f64::INFINITY).min(timed.unwrap_or(f64::INFINITY));
    seconds(run * (options.speed_up - 1.0))
}

/// So many seconds; none where they are negative or without end.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn before(moment: OffsetDateTime, duration: Duration) -> OffsetDateTime {
    moment.checked_sub(time_of(duration)).unwrap_or(moment)
}

fn time_of(duration: Duration) -> time::Duration {
    duration.try_into().unwrap_or(time::Duration::MAX)
}
