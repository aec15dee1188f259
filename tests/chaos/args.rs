//! The command line, which `cargo test` shares with the other tests.

use std::path::PathBuf;

use clap::Parser;

use crate::plan::Fault;

/// Break Kafka, the registry, Postgres and the consumers, all of its own, by a seeded plan, and
/// prove that nothing is lost
#[derive(Debug, Parser)]
#[command(name = "chaos")]
pub struct Args {
    /// Go on for so long; up to 5, every fault is injected once
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

    /// `cargo test NAME` runs the tests that have it in their names
    #[arg(hide = true)]
    filters: Vec<String>,

    #[arg(long, hide = true, num_args = 1)]
    skip: Vec<String>,

    #[arg(long, hide = true)]
    test_threads: Option<usize>,

    #[arg(long, hide = true)]
    list: bool,

    #[arg(long, hide = true)]
    exact: bool,

    #[arg(long, hide = true)]
    nocapture: bool,

    #[arg(long, hide = true)]
    ignored: bool,

    #[arg(long, hide = true)]
    include_ignored: bool,

    #[arg(long, hide = true)]
    show_output: bool,

    #[arg(short, long, hide = true)]
    quiet: bool,
}

impl Args {
    /// Whether the arguments, as they are meant for all tests, leave this one out.
    pub fn leave_out(&self) -> bool {
        let is_named = |names: &[String]| {
            names.iter().any(|name| match self.exact {
                true => name == "chaos",
                false => "chaos".contains(name.as_str()),
            })
        };
        self.list
            || self.ignored
            || is_named(&self.skip)
            || !(self.filters.is_empty() || is_named(&self.filters))
    }
}
