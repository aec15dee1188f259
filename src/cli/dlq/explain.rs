//! `sluicegate dlq explain`

use std::process::ExitCode;

use clap::Args;

use super::{contract_of, print};
use crate::{
    config::{ConfigFile, ContractArgs, PostgresArgs, RegistryArgs},
    dlq::{Letter, explain, history, render_explanation, width},
    sql::connect,
};

/// Explain why a dead letter is one, and whether it would be one today
///
/// The header, the writer's schema against ours, the byte where decoding stops, the rule with what it
/// saw, the constraint; and what decode, rules and labels say today. Nothing is changed. What the
/// registry would say is left out where it does not answer.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Its number, as `dlq list` has it
    #[arg(value_name = "ID")]
    id: i64,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    registry: RegistryArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl ExplainArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let registry = self.registry.connect()?;
        let mut connection = connect(&self.postgres.options()?).await?;
        let letter = Letter::read(&mut connection, self.id).await?;
        let history = history(&mut connection, self.id).await?;
        let contract = contract_of(&self.contracts, file, &letter.stream);
        let explanation = explain(&mut connection, &registry, contract, letter, history).await?;
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(&explanation)?))?;
        } else {
            print(&render_explanation(&explanation, width()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
