//! `sluicegate dlq show`

use std::process::ExitCode;

use clap::Args;

use super::{contract_of, print};
use crate::{
    config::{ConfigFile, ContractArgs, PostgresArgs},
    dlq::{Letter, Shown, history, render_shown, width},
    sql::connect,
};

/// Show all that is kept of one dead letter, and what was done about it
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Its number, as `dlq list` has it
    #[arg(value_name = "ID")]
    id: i64,

    /// Print one JSON object, with the whole payload
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl ShowArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let mut connection = connect(&self.postgres.options()?).await?;
        let letter = Letter::read(&mut connection, self.id).await?;
        let history = history(&mut connection, self.id).await?;
        let contract = contract_of(&self.contracts, file, &letter.stream);
        let shown = Shown::new(letter, contract.as_ref(), history);
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(&shown)?))?;
        } else {
            print(&render_shown(&shown, width()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
