//! `sluicegate migrate`

use std::process::ExitCode;

use clap::Args;

use crate::{
    config::{ConfigFile, ContractArgs, PostgresArgs},
    tables,
};

/// Bring the database's tables to what the contracts say
///
/// Creates what is missing and adds nullable columns. Anything else is refused with the statement
/// that you would have to run, and then nothing of the streams' tables is changed.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// The streams; all, where none is named
    streams: Vec<String>,

    /// Print the statements, and run none
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl MigrateArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let contracts = self.contracts.read(file, &self.streams)?;
        let options = self.postgres.options()?;
        let schema = self.postgres.database_schema.as_deref();
        let migrated = tables::migrate(&options, schema, &contracts, self.dry_run).await?;
        for migration in &migrated.migrations {
            println!("-- migration {migration}");
        }
        // where anything is refused, none of them was run
        if self.dry_run || migrated.refusals.is_empty() {
            for statement in &migrated.statements {
                println!("{statement};");
            }
        }
        tables::refuse(&migrated.refusals)?;
        if migrated.migrations.is_empty() && migrated.statements.is_empty() {
            println!("-- nothing to do: the tables are as the contracts say");
        }
        Ok(ExitCode::SUCCESS)
    }
}
