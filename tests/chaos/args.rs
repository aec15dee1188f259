//! The command line, which `cargo test` shares with the other tests.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction::Count, Parser};

use crate::plan::Fault;

/// Break Kafka, the registry, Postgres and the consumers, all of its own, by a seeded plan, and
/// prove that nothing is lost
#[derive(Debug, Parser)]
#[command(name = "chaos")]
pub struct Args {
    /// Inject faults for so long. From 1 to 5, every fault is injected once, which takes some 5
    /// minutes whatever the number, and fails after 10; a longer run fails 10 minutes after its time
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub minutes: u64,

    /// Repeat the plan of this seed [default: another each time]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,

    /// Inject only this fault; may be repeated
    #[arg(long, value_name = "FAULT", value_enum)]
    pub only: Vec<Fault>,

    /// Send so many records a second
    #[arg(long, default_value_t = 300, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,

    /// Write the figures to this file, too, as one line of JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Print the plan and do nothing
    #[arg(long)]
    pub plan: bool,

    #[command(flatten)]
    tests: TestArgs,
}

/// What `cargo test` hands to every test; what has no say here is passed over.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "For cargo test")]
struct TestArgs {
    /// `cargo test NAME` runs the tests that have it in their names
    #[arg(hide = true)]
    filters: Vec<String>,

    #[arg(long, hide = true, value_name = "NAME")]
    skip: Vec<String>,

    #[arg(long, hide = true, action = Count)]
    list: u8,

    #[arg(long, hide = true, action = Count)]
    exact: u8,

    #[arg(long, hide = true, action = Count)]
    ignored: u8,

    #[arg(long, hide = true, action = Count)]
    bench: u8,

    #[arg(long, hide = true, action = Count, aliases = [
        "include-ignored", "test", "no-capture", "show-output", "force-run-in-process",
        "exclude-should-panic", "shuffle", "ensure-time", "fail-fast",
    ])]
    nocapture: u8,

    #[arg(long, short, hide = true, action = Count)]
    quiet: u8,

    #[arg(long, hide = true, value_name = "ANYTHING", aliases = [
        "color", "format", "logfile", "shuffle-seed",
    ])]
    test_threads: Vec<String>,

    #[arg(short = 'Z', hide = true, value_name = "ANYTHING")]
    unstable: Vec<String>,

    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, value_name = "ANYTHING")]
    report_time: Vec<String>,
}

impl Args {
    /// How long the run may take in all.
    pub fn limit(&self) -> Duration {
        // a short plan takes as long as its faults do
        let planned = if self.minutes <= 5 { 0 } else { self.minutes };
        Duration::from_secs((planned + 10) * 60)
    }

    /// Whether the arguments, as they are meant for all tests, leave this one out.
    pub fn leave_out(&self) -> bool {
        self.tests.leave_out()
    }
}

impl TestArgs {
    fn leave_out(&self) -> bool {
        let is_named = |names: &[String]| {
            names.iter().any(|name| match self.exact > 0 {
                true => name == "chaos",
                false => "chaos".contains(name.as_str()),
            })
        };
        self.list > 0
            || self.ignored > 0
            || self.bench > 0
            || is_named(&self.skip)
            || !(self.filters.is_empty() || is_named(&self.filters))
    }
}
