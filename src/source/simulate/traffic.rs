//! Road traffic: ring roads cut into segments, which loop sensors in the road and vehicles on their
//! way report on. Rush hours slow it, jams build and clear, an accident stops a segment at once.

use super::Generator;
use super::anomaly::{Anomalies, Anomaly};
use super::common::{Chance, Clock, Place, event_id, millis, noise, rounded, rush_hour, seeded};
use super::segment::Segment;
use apache_avro::types::Value;
use apache_avro::{AvroResult, to_value};
use rand::RngExt;
use serde::Serialize;
use std::f64::consts::TAU;
use time::OffsetDateTime;
use uuid::Uuid;

/// What a loop sensor in the road, or a vehicle's GPS, says of one road segment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficReading {
    /// Idempotency key.
    #[serde(with = "uuid::serde::hyphenated")]
    pub event_id: Uuid,
    /// Which part of which road.
    pub segment_id: String,
    /// What kind of thing reports.
    pub source: TrafficSource,
    /// Which sensor or vehicle reports.
    pub source_id: String,
    /// When it was measured, in milliseconds since 1970.
    pub ts: i64,
    /// Of the vehicle, or the mean of those that the sensor counted.
    pub speed_kmh: f64,
    /// Vehicles behind this reading; 1 for a vehicle's own GPS.
    pub vehicle_count: i32,
    /// Degrees north; a loop sensor sends no position.
    pub latitude: Option<f64>,
    /// Degrees east; a loop sensor sends no position.
    pub longitude: Option<f64>,
}

/// What kind of thing reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficSource {
    /// A coil in the road that counts what passes.
    LoopSensor,
    /// A vehicle that tells where it is.
    VehicleGps,
}

/// Makes the readings of all sensors and vehicles, each kind in turn.
#[derive(Debug)]
pub struct Traffic {
    chance: Chance,
    segments: Vec<Segment>,
    vehicles: Vec<Vehicle>,
    turns: (usize, usize),
    anomalies: Anomalies,
}

impl Traffic {
    /// The traffic that belongs to this seed; the roads are the same for all seeds.
    pub fn new(seed: u64) -> Self {
        let mut chance = seeded(seed);
        let segments = (0..ROADS * PER_ROAD)
            .map(|n| Segment::new(segment_id(n), FREE_KMH[n / PER_ROAD], &mut chance))
            .collect();
        let vehicles = (0..VEHICLES).map(|n| Vehicle::new(n, &mut chance)).collect();
        Traffic { chance, segments, vehicles, turns: (0, 0), anomalies: Anomalies::default() }
    }

    /// The next reading of a sensor or a vehicle.
    pub fn next(&mut self, at: OffsetDateTime) -> TrafficReading {
        if self.chance.random_bool(0.6) { self.next_sensor(at) } else { self.next_vehicle(at) }
    }

    fn next_sensor(&mut self, at: OffsetDateTime) -> TrafficReading {
        let Traffic { chance, segments, turns, anomalies, .. } = self;
        turns.0 = (turns.0 + 1) % segments.len();
        let segment = &mut segments[turns.0];
        let speed = segment.speed_kmh(at, chance, anomalies);
        // fewer vehicles pass a sensor when the road is slow
        let passing = (4.0 + 16.0 * rush_hour(at)) * (0.2 + speed / segment.free_kmh);
        let vehicle_count = (passing + passing.sqrt() * noise(chance)).round().max(1.0);
        let error = 3.0 / vehicle_count.sqrt() * noise(chance);
        TrafficReading {
            event_id: event_id(at, chance),
            segment_id: segment.id.clone(),
            source: TrafficSource::LoopSensor,
            source_id: format!("loop-{}", segment.id),
            ts: millis(at),
            speed_kmh: rounded((speed + error).max(0.0), 1),
            vehicle_count: vehicle_count as i32,
            latitude: None,
            longitude: None,
        }
    }

    fn next_vehicle(&mut self, at: OffsetDateTime) -> TrafficReading {
        let Traffic { chance, segments, vehicles, turns, anomalies } = self;
        turns.1 = (turns.1 + 1) % vehicles.len();
        let vehicle = &mut vehicles[turns.1];
        vehicle.advance(at, chance);
        let speed = segments[vehicle.segment].speed_kmh(at, chance, anomalies);
        vehicle.speed_kmh = (speed * vehicle.pace + 1.5 * noise(chance)).max(0.0);
        let position = position(vehicle.segment, vehicle.metres);
        TrafficReading {
            event_id: event_id(at, chance),
            segment_id: segments[vehicle.segment].id.clone(),
            source: TrafficSource::VehicleGps,
            source_id: vehicle.id.clone(),
            ts: millis(at),
            speed_kmh: rounded(vehicle.speed_kmh, 1),
            vehicle_count: 1,
            latitude: Some(position.latitude),
            longitude: Some(position.longitude),
        }
    }
}

impl Generator for Traffic {
    fn reading(&mut self, at: OffsetDateTime) -> AvroResult<Value> {
        to_value(self.next(at))
    }

    fn anomalies(&self) -> Vec<Anomaly> {
        self.anomalies.list()
    }
}

/// Ring roads, one within the other, all crossed by the same ten streets.
const ROADS: usize = 4;
const PER_ROAD: usize = 10;
const VEHICLES: usize = 120;

/// How fast it goes on each road when it is empty.
const FREE_KMH: [f64; ROADS] = [50.0, 50.0, 70.0, 90.0];

fn segment_id(segment: usize) -> String {
    format!("road-{}-{:02}", segment / PER_ROAD + 1, segment % PER_ROAD + 1)
}

/// Kilometres from the centre to a ring road.
fn radius(segment: usize) -> f64 {
    1.5 + 1.2 * (segment / PER_ROAD) as f64
}

fn length_metres(segment: usize) -> f64 {
    1000.0 * TAU * radius(segment) / PER_ROAD as f64
}

fn position(segment: usize, metres: f64) -> Place {
    let index = (segment % PER_ROAD) as f64 + metres / length_metres(segment);
    let (y, x) = (TAU * index / PER_ROAD as f64).sin_cos();
    Place::in_city(radius(segment) * x, radius(segment) * y)
}

#[derive(Debug)]
struct Vehicle {
    id: String,
    segment: usize,
    /// Since the segment's beginning.
    metres: f64,
    /// As it was reported last.
    speed_kmh: f64,
    /// How this driver's speed compares with that of the others.
    pace: f64,
    clock: Clock,
}

impl Vehicle {
    fn new(number: usize, chance: &mut Chance) -> Self {
        let segment = chance.random_range(0..ROADS * PER_ROAD);
        Vehicle {
            id: format!("vehicle-{:03}", number + 1),
            segment,
            metres: length_metres(segment) * chance.random_range(0.0..1.0),
            speed_kmh: 0.0,
            pace: chance.random_range(0.9..1.1),
            clock: Clock::default(),
        }
    }

    /// At the end of a segment most go straight on, some turn into the crossing street.
    fn advance(&mut self, at: OffsetDateTime, chance: &mut Chance) {
        self.metres += self.speed_kmh / 3.6 * self.clock.elapsed(at);
        if self.metres < length_metres(self.segment) {
            return;
        }
        let (road, index) = (self.segment / PER_ROAD, (self.segment + 1) % PER_ROAD);
        let road = if chance.random_bool(0.2) { (road + 1) % ROADS } else { road };
        self.segment = road * PER_ROAD + index;
        self.metres = 0.0;
    }
}
