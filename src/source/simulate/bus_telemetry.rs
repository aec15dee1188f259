//! City buses: each goes round its route from stop to stop, speeds up and brakes, lets people on
//! and off, and rarely breaks down. Rush hours fill the buses and slow them.

use super::Generator;
use super::anomaly::{Anomalies, Anomaly, Current};
use super::common::{
    Chance, Clock, Place, event_id, lasting, lasting_within, millis, noise, rounded, rush_hour,
    seeded,
};
use apache_avro::types::Value;
use apache_avro::{AvroResult, to_value};
use rand::RngExt;
use serde::Serialize;
use std::f64::consts::TAU;
use std::ops::Range;
use time::OffsetDateTime;
use uuid::Uuid;

/// Where one bus is, how fast it goes, how many people it carries, and what just happened to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BusTelemetry {
    /// Idempotency key.
    #[serde(with = "uuid::serde::hyphenated")]
    pub event_id: Uuid,
    /// Which bus.
    pub bus_id: String,
    /// The route it serves.
    pub route: String,
    /// When it reported, in milliseconds since 1970.
    pub ts: i64,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Kilometres per hour.
    pub speed_kmh: f64,
    /// People on board.
    pub passengers: i32,
    /// What just happened.
    pub event: BusEvent,
}

/// What a bus reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BusEvent {
    /// Nothing but its position has changed.
    Moving,
    /// It has stopped at a stop.
    Arrived,
    /// It has left a stop.
    Departed,
    /// It stands where it should not.
    Breakdown,
    /// It was taken to the depot.
    OutOfService,
}

/// Makes the reports of a fleet of buses. Who stands still is silent until something happens.
#[derive(Debug)]
pub struct Buses {
    chance: Chance,
    routes: Vec<Vec<Leg>>,
    buses: Vec<Bus>,
    turn: usize,
    anomalies: Anomalies,
}

impl Buses {
    /// The buses that belong to this seed; the routes are the same for all seeds.
    pub fn new(seed: u64) -> Self {
        let mut chance = seeded(seed);
        let routes: Vec<_> = (0..ROUTES).map(legs).collect();
        let buses = (0..BUSES).map(|n| Bus::new(n, &routes[n % ROUTES], &mut chance)).collect();
        Buses { chance, routes, buses, turn: 0, anomalies: Anomalies::default() }
    }

    /// The next bus's report.
    pub fn next(&mut self, at: OffsetDateTime) -> BusTelemetry {
        let mut event = self.next_bus(at);
        for _ in 1..BUSES {
            if event.is_some() {
                break;
            }
            event = self.next_bus(at);
        }
        let bus = &mut self.buses[self.turn];
        // all stand still at once: one of them goes early
        let event = event.unwrap_or_else(|| bus.set_off());
        // it reports, so a silence has ended, and another may begin
        self.anomalies.observe(&mut bus.anomaly, None, at, || []);
        let broken_down = matches!(event, BusEvent::Breakdown | BusEvent::OutOfService);
        let anomaly = broken_down.then_some("bus_silent");
        self.anomalies.observe(&mut bus.anomaly, anomaly, at, || [("bus_id", bus.id.clone())]);
        let position = self.routes[bus.route][bus.leg].position(bus.metres);
        BusTelemetry {
            event_id: event_id(at, &mut self.chance),
            bus_id: bus.id.clone(),
            route: format!("R{}", bus.route + 1),
            ts: millis(at),
            latitude: position.latitude,
            longitude: position.longitude,
            speed_kmh: rounded(bus.speed * 3.6, 1),
            passengers: bus.passengers,
            event,
        }
    }

    fn next_bus(&mut self, at: OffsetDateTime) -> Option<BusEvent> {
        self.turn = (self.turn + 1) % BUSES;
        let bus = &mut self.buses[self.turn];
        bus.advance(&self.routes[bus.route], at, &mut self.chance)
    }
}

impl Generator for Buses {
    fn reading(&mut self, at: OffsetDateTime) -> AvroResult<Value> {
        to_value(self.next(at))
    }

    fn anomalies(&self) -> Vec<Anomaly> {
        self.anomalies.list()
    }
}

const BUSES: usize = 20;
const ROUTES: usize = 5;
const CAPACITY: i32 = 90;

/// Metres per second, for a road without traffic.
const CRUISING: f64 = 13.0;
/// Metres per second squared.
const ACCELERATION: f64 = 1.1;
const BRAKING: f64 = 1.3;
/// Seconds on the road between two breakdowns of one bus.
const BETWEEN_BREAKDOWNS: f64 = 4.0 * 3600.0;
/// Seconds until somebody has come and mended it, or towed it away, or mended it there.
const OUT_OF_ORDER: Range<f64> = 120.0..1500.0;

/// From one stop to the next.
#[derive(Debug)]
struct Leg {
    from: Place,
    to: Place,
    metres: f64,
}

impl Leg {
    fn position(&self, metres: f64) -> Place {
        let part = metres / self.metres;
        let between = |from: f64, to: f64| rounded(from + (to - from) * part, 6);
        Place {
            latitude: between(self.from.latitude, self.to.latitude),
            longitude: between(self.from.longitude, self.to.longitude),
        }
    }
}

/// A closed tour of stops, each route on another side of the centre.
fn legs(route: usize) -> Vec<Leg> {
    let stops = 8 + route;
    let (away_y, away_x) = (TAU * route as f64 / ROUTES as f64).sin_cos();
    let stop = |n: usize| {
        let (y, x) = (TAU * (n % stops) as f64 / stops as f64).sin_cos();
        // no tour is a circle
        let radius = 1.0 + 0.25 * (3.0 * n as f64).sin();
        (1.2 * away_x + radius * x, 1.2 * away_y + radius * y)
    };
    let leg = |n: usize| {
        let (from, to) = (stop(n), stop((n + 1) % stops));
        Leg {
            from: Place::in_city(from.0, from.1),
            to: Place::in_city(to.0, to.1),
            metres: 1000.0 * (to.0 - from.0).hypot(to.1 - from.1),
        }
    };
    (0..stops).map(leg).collect()
}

#[derive(Debug)]
struct Bus {
    id: String,
    route: usize,
    leg: usize,
    /// Since the last stop.
    metres: f64,
    /// Metres per second.
    speed: f64,
    passengers: i32,
    state: State,
    clock: Clock,
    anomaly: Current,
}

/// What a bus does, and for how many seconds more.
#[derive(Debug, Clone, Copy)]
enum State {
    Driving,
    AtStop(f64),
    BrokenDown(f64),
    InDepot(f64),
}

impl Bus {
    fn new(number: usize, legs: &[Leg], chance: &mut Chance) -> Self {
        let leg = chance.random_range(0..legs.len());
        Bus {
            id: format!("bus-{:02}", number + 1),
            route: number % ROUTES,
            leg,
            metres: legs[leg].metres * chance.random_range(0.0..0.5),
            speed: CRUISING * chance.random_range(0.5..1.0),
            passengers: chance.random_range(0..CAPACITY / 3),
            state: State::Driving,
            clock: Clock::default(),
            anomaly: Current::default(),
        }
    }

    /// What has happened since the last call, if anything.
    fn advance(
        &mut self,
        legs: &[Leg],
        at: OffsetDateTime,
        chance: &mut Chance,
    ) -> Option<BusEvent> {
        let elapsed = self.clock.elapsed(at);
        match &mut self.state {
            State::Driving => Some(self.drive(legs, elapsed, rush_hour(at), chance)),
            State::AtStop(left) | State::BrokenDown(left) | State::InDepot(left)
                if *left > elapsed =>
            {
                *left -= elapsed;
                None
            }
            State::BrokenDown(_) if chance.random_bool(0.5) => Some(self.retire(chance)),
            State::AtStop(_) | State::BrokenDown(_) | State::InDepot(_) => Some(self.set_off()),
        }
    }

    fn drive(&mut self, legs: &[Leg], elapsed: f64, rush: f64, chance: &mut Chance) -> BusEvent {
        if lasting(BETWEEN_BREAKDOWNS, chance) < elapsed {
            self.speed = 0.0;
            self.state = State::BrokenDown(lasting_within(600.0, OUT_OF_ORDER, chance));
            return BusEvent::Breakdown;
        }
        let left = legs[self.leg].metres - self.metres;
        let traffic = CRUISING * (1.0 - 0.4 * rush) + 0.3 * noise(chance);
        let before = self.speed;
        // crawls at 1 m/s rather than never quite arrive
        self.speed = (before + ACCELERATION * elapsed)
            .min(traffic)
            .min((2.0 * BRAKING * left).sqrt())
            .max(1.0);
        self.metres += (before + self.speed) / 2.0 * elapsed;
        if self.metres < legs[self.leg].metres {
            return BusEvent::Moving;
        }
        self.leg = (self.leg + 1) % legs.len();
        self.arrive(rush, chance)
    }

    fn arrive(&mut self, rush: f64, chance: &mut Chance) -> BusEvent {
        self.metres = 0.0;
        self.speed = 0.0;
        let alighting = (f64::from(self.passengers) * chance.random_range(0.1..0.5)).round() as i32;
        let waiting = ((3.0 + 14.0 * rush) * chance.random_range(0.0..2.0)).round() as i32;
        let boarding = waiting.min(CAPACITY - self.passengers + alighting);
        self.passengers += boarding - alighting;
        self.state = State::AtStop(8.0 + 1.2 * f64::from(boarding.max(alighting)));
        BusEvent::Arrived
    }

    /// Everybody leaves a bus that cannot be mended; it starts again with its route.
    fn retire(&mut self, chance: &mut Chance) -> BusEvent {
        self.passengers = 0;
        self.leg = 0;
        self.metres = 0.0;
        self.state = State::InDepot(lasting_within(900.0, OUT_OF_ORDER, chance));
        BusEvent::OutOfService
    }

    /// A bus that was mended goes on from where it stood, the others depart from a stop.
    fn set_off(&mut self) -> BusEvent {
        let broken_down = matches!(self.state, State::BrokenDown(_));
        self.state = State::Driving;
        if broken_down { BusEvent::Moving } else { BusEvent::Departed }
    }
}
