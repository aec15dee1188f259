//! What a run is told, and what it tells.

use std::{path::PathBuf, time::Duration};

use time::OffsetDateTime;

use super::Share;

/// What is produced, and how fast.
#[derive(Debug, Clone)]
pub struct ProduceOptions {
    /// Where readings come from.
    pub source: Source,
    /// Records a second; as fast as it goes where there is none.
    pub rate: Option<f64>,
    /// Stop after so many records.
    pub count: Option<u64>,
    /// Stop after so long.
    pub duration: Option<Duration>,
    /// What decides every value of simulated readings.
    pub seed: u64,
    /// When the first simulated reading happened.
    pub start: Option<OffsetDateTime>,
    /// Seconds of simulated time that pass in a second; where there is a rate.
    pub speed_up: f64,
    /// Where the anomalies go that the simulated readings hold.
    pub anomalies: Option<PathBuf>,
    /// The share of records that are sent a second time.
    pub duplicates: Share,
    /// The share that breaks one of the contract's rules.
    pub invalid: Share,
    /// The share whose bytes are broken.
    pub corrupt: Share,
    /// Where rows go that can't be encoded.
    pub rejects: PathBuf,
    /// Whether a bar shows how far it is, on a terminal.
    pub bar: bool,
}

/// Where readings come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A generator.
    Simulate,
    /// A file, or standard input for `-`.
    File(PathBuf),
    /// An HTTP API, polled once or at an interval.
    Poll {
        /// What to get.
        url: String,
        /// How often.
        every: Option<Duration>,
    },
}

/// What was produced.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Records that the broker acknowledged.
    pub delivered: u64,
    /// Those among them that were sent a second time.
    pub duplicates: u64,
    /// Those among them that break a rule.
    pub invalid: u64,
    /// Those among them whose bytes are broken.
    pub corrupt: u64,
    /// Rows of the input that could not be encoded.
    pub rejected: u64,
}
