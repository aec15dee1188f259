//! `sluicegate dlq`

mod edit;
mod explain;
mod export;
mod filter;
mod list;
mod replay;
mod settle;
mod show;
mod stats;
mod who;

pub(super) use filter::moment;

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::{
    config::{ConfigFile, ContractArgs},
    contract::Contract,
    dlq::Action,
};

/// Look at dead letters, understand them, and see to them
#[derive(Debug, Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::ListArgs),
    Stats(stats::StatsArgs),
    Show(show::ShowArgs),
    Explain(Box<explain::ExplainArgs>),
    Replay(Box<replay::ReplayArgs>),
    Edit(Box<edit::EditArgs>),
    /// Leave dead letters alone until somebody says otherwise
    Park(settle::SettleArgs),
    /// Put dead letters away that are not wanted any more
    Discard(settle::SettleArgs),
    /// Let parked and discarded dead letters wait again
    Reopen(settle::SettleArgs),
    Export(export::ExportArgs),
    Purge(settle::PurgeArgs),
}

impl DlqArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::List(args) => args.run().await,
            Verb::Stats(args) => args.run().await,
            Verb::Show(args) => args.run(file).await,
            Verb::Explain(args) => args.run(file).await,
            Verb::Replay(args) => args.run(file).await,
            Verb::Edit(args) => args.run(file).await,
            Verb::Park(args) => args.run(Action::Park).await,
            Verb::Discard(args) => args.run(Action::Discard).await,
            Verb::Reopen(args) => args.run(Action::Reopen).await,
            Verb::Export(args) => args.run().await,
            Verb::Purge(args) => args.run().await,
        }
    }
}

/// Prints lines; that nobody reads them any more, as behind `| head`, is no error.
fn print(lines: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("can't write to standard output")
        }
        _ => Ok(()),
    }
}

/// The contract of a letter's stream; none where there is none any more.
fn contract_of(contracts: &ContractArgs, file: &ConfigFile, stream: &str) -> Option<Contract> {
    match contracts.read(file, &[]) {
        Ok(all) => all.into_iter().find(|contract| contract.stream == stream),
        Err(error) => {
            tracing::warn!("the contract can't be read: {error:#}");
            None
        }
    }
}
