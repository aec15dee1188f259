//! `sluicegate dlq stats`

use std::process::ExitCode;

use clap::Args;

use super::{filter::FilterArgs, print};
use crate::{
    config::PostgresArgs,
    dlq::{By, render_stats, stats, width},
    sql::connect,
};

/// Count dead letters by stream, stage, reason and status
#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// Count them by the hour in which they were seen, too
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    by: By,

    /// Print a JSON array
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl StatsArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut connection = connect(&self.postgres.options()?).await?;
        let counts = stats(&mut connection, &self.filter.filter(), self.by).await?;
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(&counts)?))?;
        } else {
            print(&render_stats(&counts, width()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
