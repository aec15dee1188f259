//! `sluicegate produce`

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{ArgGroup, Args};
use rand::RngExt;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_util::sync::CancellationToken;

use super::logging;
use crate::{
    broker::Broker,
    config::{ConfigFile, ContractArgs, KafkaArgs, RegistryArgs, seconds},
    produce::{ProduceOptions, Share, Source, produce},
    register::register,
};

/// How many simulated readings a run makes that is not told.
const COUNT: u64 = 10_000;

/// How many readings a second a run makes that goes on for ever and is not told.
const CONTINUOUS_RATE: f64 = 100.0;

/// How many seconds of the readings' time pass in a second at most.
const FASTEST: f64 = 10_000.0;

/// Exit code: some rows of the input could not be encoded.
const REJECTED: u8 = 3;

/// Put readings on a stream's topic: simulated ones, a file's, or an HTTP API's
///
/// Creates the topic and registers the schema where they are missing. Ends when every record is
/// acknowledged. The exit code is 3 if rows of the input could not be encoded; they are in the
/// file that --rejects names.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("extent").args(["start", "count", "duration"]).multiple(true))]
pub(super) struct ProduceArgs {
    /// The stream to produce
    stream: String,

    /// Read a .csv, .jsonl, .json or .geojson file; - is JSON lines on standard input
    #[arg(long, value_name = "FILE", conflicts_with = "poll")]
    from: Option<PathBuf>,

    /// Read what an HTTP API answers: JSON, JSON lines or CSV
    #[arg(long, value_name = "URL")]
    poll: Option<String>,

    /// Poll again so long after the last time, such as 60s [default: poll once]
    #[arg(long, value_name = "TIME", requires = "poll", value_parser = seconds)]
    every: Option<Duration>,

    /// Send so many records a second [default: as fast as it goes; 100 with --continuous]
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    rate: Option<f64>,

    /// Stop after so many records [default: 10000 simulated ones, or all of the input]
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,

    /// Stop after so long, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    duration: Option<Duration>,

    /// Go on until stopped
    #[arg(long, conflicts_with_all = ["count", "duration", "from", "poll"])]
    continuous: bool,

    /// Simulated readings: the same seed makes the same readings [default: another each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Simulated readings: when the first happens, such as 2026-01-01T00:00:00Z [default: about now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    start: Option<OffsetDateTime>,

    /// Simulated readings: so many seconds of their time pass in a second [default: 1]
    ///
    /// Without --start, the first happens so long ago that the run ends about now. None happens
    /// later than now: those that have caught up with the clock go on at its pace.
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = speed_up,
        requires_all = ["rate", "extent"],
        conflicts_with_all = ["from", "poll"]
    )]
    speed_up: Option<f64>,

    /// Simulated readings: write the anomalies that they hold to this file, as JSON lines
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "poll"])]
    anomalies: Option<PathBuf>,

    /// Simulated readings: the share that is sent a second time
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    duplicates: Share,

    /// Simulated readings: the share that breaks a rule of the contract
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    invalid: Share,

    /// Simulated readings: the share with a bad magic byte, an unknown schema id or a truncated body
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    corrupt: Share,

    /// Keep rows that can't be encoded in this file [default: STREAM.rejects.jsonl]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    kafka: KafkaArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

impl ProduceArgs {
    pub(super) async fn run(
        self,
        file: &ConfigFile,
        stop: CancellationToken,
    ) -> anyhow::Result<ExitCode> {
        let contract = &self.contracts.read_one(file, &self.stream)?;
        let options = self.options();
        let broker = Broker::new(self.kafka.properties(file)?)?;
        broker.ensure_topics(std::slice::from_ref(contract)).await?;
        let subject = self.registry.subject(contract);
        let registered = register(&self.registry.connect()?, &subject, contract).await?;
        let seed = options.seed;
        let simulated = matches!(options.source, Source::Simulate);
        let produced = produce(contract, &broker, registered.id, options, stop).await?;
        print!(
            "{}: {} delivered to {}",
            self.stream,
            counted(produced.delivered, "record"),
            contract.topic.name
        );
        for (count, what) in [
            (produced.duplicates, "sent again"),
            (produced.invalid, "breaking a rule"),
            (produced.corrupt, "corrupt"),
        ] {
            if count > 0 {
                print!(", {count} {what}");
            }
        }
        if simulated {
            print!(" (seed {seed})");
        }
        println!();
        if produced.rejected > 0 {
            // a machine has been told by the log
            if logging::is_for_people() {
                let file = self.rejects();
                let rows = counted(produced.rejected, "rejected row");
                eprintln!("{rows}; see {}", file.display());
            }
            return Ok(ExitCode::from(REJECTED));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(&self) -> ProduceOptions {
        let source = match (&self.from, &self.poll) {
            (Some(path), _) => Source::File(path.clone()),
            (None, Some(url)) => Source::Poll { url: url.clone(), every: self.every },
            (None, None) => Source::Simulate,
        };
        let endless = self.continuous || self.duration.is_some();
        let unlimited = endless || !matches!(source, Source::Simulate);
        ProduceOptions {
            source,
            rate: self.rate.or(self.continuous.then_some(CONTINUOUS_RATE)),
            count: self.count.or((!unlimited).then_some(COUNT)),
            duration: self.duration,
            seed: self.seed.unwrap_or_else(|| u64::from(rand::rng().random::<u32>())),
            start: self.start,
            speed_up: self.speed_up.unwrap_or(1.0),
            anomalies: self.anomalies.clone(),
            duplicates: self.duplicates,
            invalid: self.invalid,
            corrupt: self.corrupt,
            rejects: self.rejects(),
            bar: true,
        }
    }

    fn rejects(&self) -> PathBuf {
        self.rejects.clone().unwrap_or_else(|| format!("{}.rejects.jsonl", self.stream).into())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number of records a second")?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("expected a rate above 0".into()) }
}

fn speed_up(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if factor > 0.0 && factor <= FASTEST => Ok(factor),
        _ => Err(format!("expected a number above 0 and up to {FASTEST}")),
    }
}

fn instant(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "expected a moment such as 2026-01-01T00:00:00Z".into())
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
