//! Device KPIs: each drifts slowly around its device's own baseline. Devices wear out at different
//! times: one KPI of such a device climbs past its limit, until the device is replaced.

use super::Generator;
use super::anomaly::{Anomalies, Anomaly, Current};
use super::common::{Chance, Clock, Walk, event_id, millis, noise, rounded, seeded};
use apache_avro::types::Value;
use apache_avro::{AvroResult, to_value};
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

/// One KPI sample of one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceTelemetry {
    /// Idempotency key.
    #[serde(with = "uuid::serde::hyphenated")]
    pub event_id: Uuid,
    /// Which device.
    pub device_id: String,
    /// Where the device stands.
    pub zone: String,
    /// When it was sampled, in milliseconds since 1970.
    pub ts: i64,
    /// What was sampled.
    pub kpi: Kpi,
    /// In the unit of the KPI.
    pub value: f64,
}

/// What a device measures of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kpi {
    /// Degrees Celsius.
    Temperature,
    /// Percent.
    Humidity,
    /// Hectopascal.
    Pressure,
    /// Millimetres per second.
    Vibration,
}

impl Kpi {
    /// As it is written in a reading.
    fn name(self) -> &'static str {
        match self {
            Kpi::Temperature => "temperature",
            Kpi::Humidity => "humidity",
            Kpi::Pressure => "pressure",
            Kpi::Vibration => "vibration",
        }
    }
}

/// Makes the samples of a fleet of devices: every KPI of every device in turn.
#[derive(Debug)]
pub struct Devices {
    chance: Chance,
    series: Vec<Series>,
    turn: usize,
    anomalies: Anomalies,
}

impl Devices {
    /// The devices that belong to this seed.
    pub fn new(seed: u64) -> Self {
        let mut chance = seeded(seed);
        // ages are spread evenly over the fleet, so that at any moment the same share is worn
        let mut ages: Vec<_> = (0..DEVICES).map(|n| n as f64 / DEVICES as f64).collect();
        ages.shuffle(&mut chance);
        let series = ages
            .iter()
            .enumerate()
            .flat_map(|(n, age)| KPIS.iter().map(move |profile| (profile, n, *age)))
            .map(|(profile, n, age)| Series::new(profile, n, age, &mut chance))
            .collect();
        Devices { chance, series, turn: 0, anomalies: Anomalies::default() }
    }

    /// The next sample.
    pub fn next(&mut self, at: OffsetDateTime) -> DeviceTelemetry {
        let series = &mut self.series[self.turn];
        self.turn = (self.turn + 1) % (DEVICES * KPIS.len());
        let event_id = event_id(at, &mut self.chance);
        let value = series.value(at, &mut self.chance);
        let kpi = series.profile.kpi;
        let anomaly = series.degraded.then_some("kpi_degraded");
        self.anomalies.observe(&mut series.anomaly, anomaly, at, || {
            [("device_id", series.device_id.clone()), ("kpi", kpi.name().to_owned())]
        });
        DeviceTelemetry {
            event_id,
            device_id: series.device_id.clone(),
            zone: series.zone.clone(),
            ts: millis(at),
            kpi,
            value,
        }
    }
}

impl Generator for Devices {
    fn reading(&mut self, at: OffsetDateTime) -> AvroResult<Value> {
        to_value(self.next(at))
    }

    fn anomalies(&self) -> Vec<Anomaly> {
        self.anomalies.list()
    }
}

const DEVICES: usize = 100;
const ZONES: usize = 5;

/// From new to replaced, in seconds.
const LIFE: f64 = 2.0 * 3600.0;
/// The part of its life at which a device begins to wear out, and at which it is worn out.
const WEARS: (f64, f64) = (0.8, 0.86);

/// What is usual for a KPI. The limits are those of the contract.
#[derive(Debug)]
struct Profile {
    kpi: Kpi,
    usual: f64,
    limit: f64,
    /// Between devices, over the hours, and from sample to sample.
    spread: (f64, f64, f64),
}

const KPIS: [Profile; 4] = [
    Profile { kpi: Kpi::Temperature, usual: 55.0, limit: 80.0, spread: (3.0, 1.5, 0.3) },
    Profile { kpi: Kpi::Humidity, usual: 45.0, limit: 70.0, spread: (3.0, 1.5, 0.4) },
    Profile { kpi: Kpi::Pressure, usual: 1013.0, limit: 1050.0, spread: (3.0, 2.5, 0.5) },
    Profile { kpi: Kpi::Vibration, usual: 2.0, limit: 5.0, spread: (0.3, 0.15, 0.1) },
];

/// One KPI of one device.
#[derive(Debug)]
struct Series {
    device_id: String,
    zone: String,
    profile: &'static Profile,
    baseline: f64,
    /// How old the device was in 1970, as a part of its life; none if another KPI tells its age.
    age: Option<f64>,
    drift: Walk,
    clock: Clock,
    /// Past its limit, whatever a single sample says.
    degraded: bool,
    anomaly: Current,
}

impl Series {
    fn new(profile: &'static Profile, device: usize, age: f64, chance: &mut Chance) -> Self {
        let (between_devices, over_hours, _) = profile.spread;
        let weak = (age * DEVICES as f64).round() as usize % KPIS.len() == profile.kpi as usize;
        Series {
            device_id: format!("device-{:03}", device + 1),
            zone: format!("zone-{}", device % ZONES + 1),
            profile,
            baseline: profile.usual + between_devices * chance.random_range(-1.0..1.0),
            age: weak.then_some(age),
            drift: Walk::around(0.0, over_hours, 1800.0, chance),
            clock: Clock::default(),
            degraded: false,
            anomaly: Current::default(),
        }
    }

    fn value(&mut self, at: OffsetDateTime, chance: &mut Chance) -> f64 {
        let drift = self.drift.step(0.0, self.clock.elapsed(at), chance);
        let jitter = self.profile.spread.2 * noise(chance);
        let worn = self.profile.usual + 1.4 * (self.profile.limit - self.profile.usual);
        let wear = self.age.map_or(0.0, |age| wear(age, at));
        let value = self.baseline + drift + wear * (worn - self.profile.usual);
        // what is worn does not mend itself: it stays degraded until the device is replaced
        self.degraded = value > self.profile.limit || self.degraded && wear > 0.0;
        rounded(value + jitter, 3)
    }
}

/// From 0, sound, to 1, worn out, for a device of this age in 1970.
fn wear(age: f64, at: OffsetDateTime) -> f64 {
    let now = (millis(at) as f64 / 1000.0 / LIFE + age).rem_euclid(1.0);
    ((now - WEARS.0) / (WEARS.1 - WEARS.0)).clamp(0.0, 1.0)
}
