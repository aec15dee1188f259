//! A road segment: how fast it goes there, and why. It jams more often in the rush hours.

use super::anomaly::{Anomalies, Current};
use super::common::{Chance, Clock, Walk, lasting_within, rush_hour};
use rand::RngExt;
use std::ops::Range;
use time::OffsetDateTime;

/// One part of a road.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: String,
    /// The speed on an empty road.
    pub(super) free_kmh: f64,
    state: State,
    /// How much faster or slower it goes than the state has it.
    flow: Walk,
    clock: Clock,
    anomaly: Current,
}

/// What goes on there, in seconds.
#[derive(Debug)]
enum State {
    /// Nothing, for so long.
    Free { left: f64 },
    /// It has become slower and will become faster again.
    Obstructed { obstruction: Obstruction, since: f64, builds: f64, lasts: f64, clears: f64 },
}

#[derive(Debug, Clone, Copy)]
enum Obstruction {
    Jam,
    Accident,
}

impl Segment {
    pub(super) fn new(id: String, free_kmh: f64, chance: &mut Chance) -> Self {
        // a run begins in the middle of a day: somewhere there is a jam already
        let jammed = chance.random_bool(0.1);
        let state = if jammed {
            State::jam(chance).built_up()
        } else {
            State::Free { left: lasting_within(5400.0, SETTLED.start / 2.0..SETTLED.end, chance) }
        };
        Segment {
            id,
            free_kmh,
            state,
            flow: Walk::around(0.0, 0.04, 90.0, chance),
            clock: Clock::default(),
            anomaly: Current::default(),
        }
    }

    /// How fast it goes at this moment.
    pub(super) fn speed_kmh(
        &mut self,
        at: OffsetDateTime,
        chance: &mut Chance,
        anomalies: &mut Anomalies,
    ) -> f64 {
        let elapsed = self.clock.elapsed(at);
        self.state.advance(elapsed, rush_hour(at), chance);
        let free = self.free_kmh * (0.95 - 0.35 * rush_hour(at));
        let (mean, obstruction) = self.state.mean_kmh(free);
        let anomaly = obstruction.filter(|_| mean < SLOW_KMH).map(Obstruction::name);
        anomalies.observe(&mut self.anomaly, anomaly, at, || [("segment_id", self.id.clone())]);
        (mean * (1.0 + self.flow.step(0.0, elapsed, chance))).max(0.0)
    }
}

/// Slower than this is an anomaly, as the contract has it.
const SLOW_KMH: f64 = 20.0;

/// How long a road stays free, in seconds; half as long at the height of the rush hours.
const SETTLED: Range<f64> = 1200.0..14_400.0;

impl State {
    /// Lines of vehicles grow and shrink within minutes.
    fn jam(chance: &mut Chance) -> State {
        State::Obstructed {
            obstruction: Obstruction::Jam,
            since: 0.0,
            builds: chance.random_range(300.0..480.0),
            lasts: chance.random_range(300.0..900.0),
            clears: chance.random_range(180.0..420.0),
        }
    }

    /// An accident is felt within seconds.
    fn accident(chance: &mut Chance) -> State {
        State::Obstructed {
            obstruction: Obstruction::Accident,
            since: 0.0,
            builds: 5.0,
            lasts: chance.random_range(360.0..900.0),
            clears: chance.random_range(60.0..180.0),
        }
    }

    /// As it is some minutes later.
    fn built_up(mut self) -> State {
        if let State::Obstructed { since, builds, .. } = &mut self {
            *since = *builds;
        }
        self
    }

    fn advance(&mut self, elapsed: f64, rush: f64, chance: &mut Chance) {
        match self {
            State::Free { left } => {
                *left -= elapsed * (1.0 + rush);
                if *left < 0.0 {
                    let jams = chance.random_bool(0.6);
                    *self = if jams { State::jam(chance) } else { State::accident(chance) };
                }
            }
            State::Obstructed { since, builds, lasts, clears, .. } => {
                *since += elapsed;
                if *since > *builds + *lasts + *clears {
                    *self = State::Free { left: lasting_within(5400.0, SETTLED, chance) };
                }
            }
        }
    }

    /// How fast it goes on a road where it could go this fast, and what is in the way.
    fn mean_kmh(&self, free: f64) -> (f64, Option<Obstruction>) {
        let State::Obstructed { obstruction, since, builds, lasts, clears } = self else {
            return (free, None);
        };
        let blocked = (since / builds).min((builds + lasts + clears - since) / clears);
        let mean = free + (obstruction.speed_kmh() - free) * blocked.clamp(0.0, 1.0);
        (mean, Some(*obstruction))
    }
}

impl Obstruction {
    fn speed_kmh(self) -> f64 {
        match self {
            Obstruction::Jam => 12.0,
            Obstruction::Accident => 2.0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Obstruction::Jam => "jam",
            Obstruction::Accident => "accident",
        }
    }
}
