//! `sluicegate audit`

use std::process::ExitCode;

use clap::Args;

use super::{
    report,
    stats::{Look, LookArgs},
};
use crate::{
    audit::{AuditOptions, Report, accept_gaps, audit, render},
    config::ConfigFile,
};

/// Prove that nothing was lost, or name what is missing
///
/// Holds the ledger against Kafka's watermarks, the tables' rows and dlq_events, the aggregates
/// against the rows, and the dead-letter topics against dlq_events. Producers and consumers may go
/// on meanwhile. Each table is read once, and once more for each of its aggregates; nothing is
/// changed but by --accept-gaps. The exit code is 0 if nothing is missing, 1 if something is, and
/// 2 if that could not be found out.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The streams to audit [default: all]
    #[arg(value_name = "STREAM")]
    streams: Vec<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// What is still to be read, or to be copied to a dead-letter topic, is missing too
    #[arg(long)]
    drained: bool,

    /// First accept the recorded gaps of the streams named: offsets that expired before they were read
    #[arg(long, requires = "streams")]
    accept_gaps: bool,

    #[command(flatten)]
    look: LookArgs,
}

impl AuditArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let report = self.audit(file).await;
        report::end(report, self.json, render, |report| report.complete)
    }

    async fn audit(&self, file: &ConfigFile) -> anyhow::Result<Report> {
        let Look { contracts, broker, postgres, group_prefix } =
            self.look.open(file, &self.streams)?;
        if self.accept_gaps {
            for contract in &contracts {
                let accepted = accept_gaps(&postgres, contract).await?;
                tracing::info!(stream = contract.stream, accepted, "gaps accepted");
            }
        }
        let options = AuditOptions { group_prefix, drained: self.drained };
        audit(&contracts, &postgres, &broker, &options).await
    }
}
