//! `sluicegate check`

use std::process::ExitCode;

use clap::Args;

use super::logging;
use crate::{
    config::{ConfigFile, ContractArgs, RegistryArgs},
    contract::Contract,
    registry::{Registry, RegistryError},
};

/// Check the contracts, and that their schemas are compatible with what is registered
///
/// Reports every problem with file, place and what was expected; the exit code is 1 if there is
/// any. Where no registry answers, compatibility is left out.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The streams; all, where none is named
    streams: Vec<String>,

    /// Check the files only, and ask no registry
    #[arg(long)]
    offline: bool,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

impl CheckArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let contracts = self.contracts.read(file, &self.streams)?;
        let mut sound = true;
        let mut registry = match self.offline {
            true => None,
            false => Some(self.registry.connect()?),
        };
        for contract in &contracts {
            let subject = self.registry.subject(contract);
            let verdict = match &registry {
                None => "ok".to_owned(),
                Some(asked) => match compatible(asked, &subject, contract).await {
                    Ok(problems) if problems.is_empty() => format!("ok, compatible with {subject}"),
                    Ok(problems) => {
                        sound = false;
                        format!("breaks {subject}: {}", problems.join("; "))
                    }
                    Err(RegistryError::Away(away)) => {
                        match logging::is_for_people() {
                            true => eprintln!("compatibility was not checked: {away}"),
                            false => tracing::warn!("compatibility was not checked: {away}"),
                        }
                        registry = None;
                        "ok".to_owned()
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            println!("{}: {verdict}", contract.file.display());
        }
        Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn compatible(
    registry: &Registry,
    subject: &str,
    contract: &Contract,
) -> Result<Vec<String>, RegistryError> {
    match registry.latest(subject).await? {
        None => Ok(Vec::new()),
        Some(_) => registry.is_compatible(subject, &contract.text).await,
    }
}
