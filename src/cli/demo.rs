//! `sluicegate demo`

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::{
    logging,
    report::{UNKNOWN, WRONG},
};
use crate::{
    config::{ConfigFile, ContractArgs, seconds},
    demo::{DemoOptions, View, demo},
};

/// Run the whole pipeline in one process, on services of its own
///
/// Starts a broker, a schema registry and a database of its own, produces all streams with some events
/// sent twice, invalid or corrupt, lands them, makes metrics and alerts of them, and audits the result.
/// Ctrl-C ends it early, audit included; once more, and it ends at once. Nothing is left behind. The
/// exit code is the audit's: 0 if nothing is missing, 1 if something is, and 2 if that could not be
/// found out.
///
/// The broker is librdkafka's mock cluster: one node, in memory, which keeps the last 5 MiB of each
/// partition and drops older records, and creates no topics. The registry has Confluent's calls for
/// Avro, without contexts and modes, in memory. Postgres is the one that is installed, with a cluster
/// of its own in the temporary folder that does not wait for the disk (fsync = off); root's runs as the
/// user postgres, or nobody.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The streams to run; may be repeated [default: all]
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,

    /// Send so many events a second of each stream, up to 1000
    #[arg(long, default_value_t = 200.0, value_name = "NUMBER")]
    #[arg(value_parser = rate)]
    rate: f64,

    /// Send for so long, from 1s to 1h
    #[arg(long, default_value = "8s", value_name = "TIME", value_parser = duration)]
    duration: Duration,

    /// Stay up after the summary, until Ctrl-C
    #[arg(long)]
    hold: bool,

    /// Keep the database, and say how to start it again
    #[arg(long)]
    keep: bool,

    /// Serve the console at this address [default: 127.0.0.1:9465, or another port if that is taken]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,

    /// The folder of initdb, pg_ctl and postgres [default: those of the path, or the newest found]
    #[arg(long, value_name = "DIR")]
    postgres_programs: Option<PathBuf>,

    #[command(flatten)]
    contracts: ContractArgs,
}

impl DemoArgs {
    pub(super) async fn run(
        self,
        file: &ConfigFile,
        stop: CancellationToken,
    ) -> anyhow::Result<ExitCode> {
        Ok(match self.play(file, stop).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(WRONG),
            Err(error) => {
                logging::error(&error);
                ExitCode::from(UNKNOWN)
            }
        })
    }

    async fn play(self, file: &ConfigFile, stop: CancellationToken) -> anyhow::Result<bool> {
        let contracts = self.contracts.read(file, &self.streams)?;
        let options = DemoOptions {
            rate: self.rate,
            duration: self.duration,
            listen: self.listen,
            postgres_programs: self.postgres_programs,
            keep: self.keep,
            hold: self.hold,
        };
        let bar = ProgressBar::new_spinner();
        logging::log_above(&bar);
        let view = View::new(bar, logging::is_for_people(), self.duration);
        demo(contracts, options, view, stop).await
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1_000.0 => Ok(rate),
        _ => Err("expected a number of events a second, above 0 and up to 1000".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        duration if (1..=3_600).contains(&duration.as_secs()) => Ok(duration),
        _ => Err("expected a time from 1s to 1h".to_owned()),
    }
}
