//! `sluicegate dlq list`

use std::process::ExitCode;

use clap::Args;

use super::{filter::FilterArgs, print};
use crate::{
    config::PostgresArgs,
    dlq::{list, render_list, width},
    sql::connect,
};

/// List dead letters, the newest first
///
/// What has become of a dead letter is said where it is not pending any more. The last line says how
/// to see what comes next; what arrives in between changes nothing about that.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,

    /// List up to so many
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,

    /// Go on with those before this one
    #[arg(long, value_name = "ID")]
    before: Option<i64>,

    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl ListArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut connection = connect(&self.postgres.options()?).await?;
        let filter = self.filter.filter();
        let page = list(&mut connection, &filter, self.before, self.limit).await?;
        if self.json {
            let line = |letter| Ok(serde_json::to_string(letter)? + "\n");
            print(&page.letters.iter().map(line).collect::<anyhow::Result<String>>()?)?;
        } else {
            print(&render_list(&page, width()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
