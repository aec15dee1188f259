//! What the generators share: seeded chance, ids, elapsed time, random walks, the hours of the day.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Exp1, StandardNormal};
use std::ops::Range;
use time::{OffsetDateTime, UtcOffset};
use uuid::{Builder, Uuid};

/// A named algorithm rather than the default one: its numbers are the same on every machine and in
/// every release, so a seed keeps its meaning.
pub(super) type Chance = Xoshiro256PlusPlus;

/// The source of chance that belongs to a seed.
pub(super) fn seeded(seed: u64) -> Chance {
    Chance::seed_from_u64(seed)
}

/// Milliseconds since 1970.
pub(super) fn millis(at: OffsetDateTime) -> i64 {
    at.unix_timestamp() * 1000 + i64::from(at.millisecond())
}

/// A UUIDv7 of this moment: ids that sort by time keep the primary key's index compact.
pub(super) fn event_id(at: OffsetDateTime, chance: &mut Chance) -> Uuid {
    // a moment before 1970 has no place in a UUIDv7
    let millis = u64::try_from(millis(at)).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &chance.random()).into_uuid()
}

/// Tells how long ago it was asked before. The caller's moments are the only clock here.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: Option<i64>,
}

impl Clock {
    /// Seconds since the last call: 0 at the first, and never negative.
    pub(super) fn elapsed(&mut self, at: OffsetDateTime) -> f64 {
        let now = millis(at);
        let last = self.last.replace(now).unwrap_or(now);
        now.saturating_sub(last).max(0) as f64 / 1000.0
    }
}

/// An Ornstein-Uhlenbeck process: wanders around a mean and forgets where it was after about
/// `memory` seconds. Its spread does not depend on how often it is asked.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) value: f64,
    pub(super) memory: f64,
    spread: f64,
}

impl Walk {
    /// A walk that has been going on for ever: it starts anywhere within its spread.
    pub(super) fn around(mean: f64, spread: f64, memory: f64, chance: &mut Chance) -> Self {
        Walk { value: mean + spread * noise(chance), memory, spread }
    }

    /// The value after so many seconds, drawn towards this mean.
    pub(super) fn step(&mut self, mean: f64, elapsed: f64, chance: &mut Chance) -> f64 {
        let kept = (-elapsed / self.memory).exp();
        let fresh = self.spread * (1.0 - kept * kept).sqrt() * noise(chance);
        self.value = mean + (self.value - mean) * kept + fresh;
        self.value
    }
}

/// Noise of mean 0 and deviation 1.
pub(super) fn noise(chance: &mut Chance) -> f64 {
    chance.sample(StandardNormal)
}

/// How long something lasts, in seconds, when it may end at any moment.
pub(super) fn lasting(mean: f64, chance: &mut Chance) -> f64 {
    let factor: f64 = chance.sample(Exp1);
    mean * factor
}

/// The same, for what lasts neither shorter nor longer than these bounds. They must lie around the
/// mean, and shorten it a little.
pub(super) fn lasting_within(mean: f64, bounds: Range<f64>, chance: &mut Chance) -> f64 {
    let usual = mean - bounds.start;
    let within = 1.0 - (-(bounds.end - bounds.start) / usual).exp();
    let part: f64 = chance.random();
    bounds.start - usual * (1.0 - part * within).ln()
}

/// One of the choices, each as likely as its weight. There must be at least one weight above 0.
pub(super) fn pick<T: Copy>(choices: &[(T, u32)], chance: &mut Chance) -> T {
    let mut left = chance.random_range(0..choices.iter().map(|choice| choice.1).sum());
    let mut index = 0;
    while left >= choices[index].1 {
        left -= choices[index].1;
        index += 1;
    }
    choices[index].0
}

/// How busy the roads are, from 0 to 1, with peaks at 08:00 and 17:00 UTC.
pub(super) fn rush_hour(at: OffsetDateTime) -> f64 {
    let at = at.to_offset(UtcOffset::UTC);
    let hour = f64::from(at.hour()) + f64::from(at.minute()) / 60.0;
    let peak = |at_hour: f64| (-((hour - at_hour) / 1.3).powi(2)).exp();
    peak(8.0).max(peak(17.0))
}

/// The number with so many decimals, as an instrument would report it.
pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    let factor = 10f64.powi(decimals);
    (value * factor).round() / factor
}

/// A place on the map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) latitude: f64,
    pub(super) longitude: f64,
}

impl Place {
    /// The place this many kilometres east and north of the city's centre.
    pub(super) fn in_city(east: f64, north: f64) -> Self {
        const CENTRE: Place = Place { latitude: 52.52, longitude: 13.405 };
        const KM_PER_DEGREE: f64 = 111.2;
        let narrowing = CENTRE.latitude.to_radians().cos();
        Place {
            latitude: rounded(CENTRE.latitude + north / KM_PER_DEGREE, 6),
            longitude: rounded(CENTRE.longitude + east / KM_PER_DEGREE / narrowing, 6),
        }
    }
}
