//! Heart rates: each customer wanders around an own resting rate, exercises, falls silent for a
//! while, and now and then has an episode that the contract's labels must find.

use super::Generator;
use super::anomaly::{Anomalies, Anomaly, Current};
use super::common::{Chance, Clock, Walk, event_id, lasting_within, millis, pick, rounded, seeded};
use apache_avro::types::Value;
use apache_avro::{AvroResult, to_value};
use rand::RngExt;
use serde::Serialize;
use std::ops::Range;
use time::OffsetDateTime;
use uuid::Uuid;

/// One heart-rate reading of one customer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heartbeat {
    /// Idempotency key.
    #[serde(with = "uuid::serde::hyphenated")]
    pub event_id: Uuid,
    /// Whose heart it is.
    pub customer_id: String,
    /// When it was measured, in milliseconds since 1970.
    pub timestamp: i64,
    /// Beats per minute.
    pub heart_rate: f64,
}

/// Makes the readings of a group of customers, who report in turn.
#[derive(Debug)]
pub struct Heartbeats {
    chance: Chance,
    customers: Vec<Customer>,
    turn: usize,
    anomalies: Anomalies,
}

impl Heartbeats {
    /// The customers that belong to this seed.
    pub fn new(seed: u64) -> Self {
        let mut chance = seeded(seed);
        let mut customers: Vec<_> =
            (0..CUSTOMERS).map(|n| Customer::new(n, Phase::Rest, &mut chance)).collect();
        // two begin in an episode, so that a short run shows one of each kind
        let first = chance.random_range(0..CUSTOMERS);
        for (n, phase) in
            [(first, Phase::Tachycardia), ((first + 1) % CUSTOMERS, Phase::Bradycardia)]
        {
            customers[n] = Customer::new(n, phase, &mut chance);
        }
        Heartbeats { chance, customers, turn: 0, anomalies: Anomalies::default() }
    }

    /// The next customer's reading.
    pub fn next(&mut self, at: OffsetDateTime) -> Heartbeat {
        let mut heart_rate = self.next_customer(at);
        for _ in 1..CUSTOMERS {
            if self.customers[self.turn].phase != Phase::Silent {
                break;
            }
            heart_rate = self.next_customer(at);
        }
        Heartbeat {
            event_id: event_id(at, &mut self.chance),
            customer_id: self.customers[self.turn].id.clone(),
            timestamp: millis(at),
            heart_rate,
        }
    }

    fn next_customer(&mut self, at: OffsetDateTime) -> f64 {
        self.turn = (self.turn + 1) % CUSTOMERS;
        let customer = &mut self.customers[self.turn];
        let heart_rate = customer.heart_rate(at, &mut self.chance);
        self.anomalies.observe(&mut customer.anomaly, customer.phase.anomaly(), at, || {
            [("customer_id", customer.id.clone())]
        });
        heart_rate
    }
}

impl Generator for Heartbeats {
    fn reading(&mut self, at: OffsetDateTime) -> AvroResult<Value> {
        to_value(self.next(at))
    }

    fn anomalies(&self) -> Vec<Anomaly> {
        self.anomalies.list()
    }
}

const CUSTOMERS: usize = 50;

/// What a sensor can report, well inside of what a heart can do.
const MEASURABLE: (f64, f64) = (25.0, 220.0);

#[derive(Debug)]
struct Customer {
    id: String,
    resting: f64,
    phase: Phase,
    /// Seconds until the phase ends.
    left: f64,
    rate: Walk,
    clock: Clock,
    anomaly: Current,
}

impl Customer {
    fn new(number: usize, phase: Phase, chance: &mut Chance) -> Self {
        let resting = chance.random_range(60.0..80.0);
        Customer {
            id: format!("customer-{:03}", number + 1),
            resting,
            phase,
            left: phase.lasting(chance),
            rate: Walk::around(phase.heart_rate(resting), 2.5, 15.0, chance),
            clock: Clock::default(),
            anomaly: Current::default(),
        }
    }

    fn heart_rate(&mut self, at: OffsetDateTime, chance: &mut Chance) -> f64 {
        let elapsed = self.clock.elapsed(at);
        self.left -= elapsed;
        if self.left < 0.0 {
            self.phase = self.phase.followed_by(chance);
            self.left = self.phase.lasting(chance);
        }
        let rate = self.rate.step(self.phase.heart_rate(self.resting), elapsed, chance);
        rounded(rate.clamp(MEASURABLE.0, MEASURABLE.1), 1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Rest,
    Exercise,
    Tachycardia,
    Bradycardia,
    /// The sensor has slipped, or is out of reach.
    Silent,
}

impl Phase {
    fn followed_by(self, chance: &mut Chance) -> Phase {
        const AFTER_REST: [(Phase, u32); 4] = [
            (Phase::Exercise, 50),
            (Phase::Tachycardia, 15),
            (Phase::Bradycardia, 10),
            (Phase::Silent, 25),
        ];
        if self == Phase::Rest { pick(&AFTER_REST, chance) } else { Phase::Rest }
    }

    /// For how many seconds.
    fn lasting(self, chance: &mut Chance) -> f64 {
        const LONG: Range<f64> = 120.0..5400.0;
        const SHORT: Range<f64> = 30.0..1500.0;
        match self {
            Phase::Rest => lasting_within(1200.0, LONG, chance),
            Phase::Exercise => lasting_within(600.0, LONG, chance),
            Phase::Tachycardia | Phase::Bradycardia => lasting_within(210.0, SHORT, chance),
            Phase::Silent => lasting_within(180.0, SHORT, chance),
        }
    }

    fn anomaly(self) -> Option<&'static str> {
        match self {
            Phase::Rest | Phase::Exercise => None,
            Phase::Tachycardia => Some("heart_rate_high"),
            Phase::Bradycardia => Some("heart_rate_low"),
            Phase::Silent => Some("sensor_silent"),
        }
    }

    /// The rate that the heart tends to. Exercise stays below 120: only an episode is an anomaly.
    fn heart_rate(self, resting: f64) -> f64 {
        match self {
            Phase::Rest | Phase::Silent => resting,
            Phase::Exercise => resting + 30.0,
            Phase::Tachycardia => resting + 80.0,
            Phase::Bradycardia => 40.0,
        }
    }
}
