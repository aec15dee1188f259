//! `sluicegate dlq`

mod edit;
mod export;
mod filter;
mod list;
mod replay;
mod settle;
mod who;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::{config::ConfigFile, dlq::Action};

/// Look at dead letters, understand them, and see to them
#[derive(Debug, Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::ListArgs),
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
