//! `sluicegate register`

use std::process::ExitCode;

use clap::Args;

use super::logging;
use crate::{
    config::{ConfigFile, ContractArgs, RegistryArgs},
    register::register,
    registry::Away,
};

/// Register the schemas with the schema registry, and set their compatibility levels
///
/// Doing so again changes nothing. An incompatible change is refused with the field named, and
/// the exit code is 1.
#[derive(Debug, Args)]
pub(super) struct RegisterArgs {
    /// The streams to register [default: all]
    #[arg(value_name = "STREAM")]
    streams: Vec<String>,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

impl RegisterArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let contracts = self.contracts.read(file, &self.streams)?;
        let registry = self.registry.connect()?;
        let mut failed = false;
        for contract in &contracts {
            let subject = self.registry.subject(contract);
            match register(&registry, &subject, contract).await {
                Ok(done) => {
                    let version = done.version.map(|v| format!(" version {v}")).unwrap_or_default();
                    let how = if done.newly { "registered" } else { "unchanged" };
                    println!("{subject}:{version} id {} {how}", done.id);
                }
                // it would say the same of every other subject
                Err(error) if error.is::<Away>() => return Err(error),
                Err(error) => {
                    failed = true;
                    logging::error(&error);
                }
            }
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
