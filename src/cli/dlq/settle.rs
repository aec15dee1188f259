//! `sluicegate dlq park`, `discard`, `reopen` and `purge`

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use clap::Args;
use time::OffsetDateTime;

use super::{filter::FilterArgs, who::WhoArgs};
use crate::{
    config::PostgresArgs,
    dlq::{Action, Filter, purge, settle},
    sql::connect,
};

/// Which letters are put aside or taken up again, and why.
#[derive(Debug, Args)]
pub(super) struct SettleArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// Why, for the letter's history
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    because: String,

    #[command(flatten)]
    who: WhoArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl SettleArgs {
    pub(super) async fn run(self, action: Action) -> anyhow::Result<ExitCode> {
        let filter = self.filter.filter();
        if filter == Filter::default() {
            bail!("say which: by --id, or by what they have in common, such as --stream");
        }
        let mut connection = connect(&self.postgres.options()?).await?;
        let who = self.who.who();
        let letters = settle(&mut connection, &filter, action, &who, &self.because).await?;
        println!("{letters} {}", action.name());
        Ok(ExitCode::SUCCESS)
    }
}

/// Forget what was in old dead letters
///
/// Key, payload, headers, event and detail are deleted; that there was a letter, where, why and what became
/// of it stays, so that `audit` still adds up. Takes replayed and discarded ones unless --status says
/// otherwise, and none that is not on the dead-letter topic yet. Their copies on that topic are Kafka's.
#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    /// Those that were seen so long ago, such as 720h
    #[arg(long, value_name = "TIME", value_parser = crate::config::seconds)]
    older_than: Duration,

    #[command(flatten)]
    filter: FilterArgs,

    /// Say how many there are; change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    who: WhoArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl PurgeArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut filter = self.filter.filter();
        let before = OffsetDateTime::now_utc() - self.older_than;
        filter.until = Some(filter.until.map_or(before, |until| until.min(before)));
        let mut connection = connect(&self.postgres.options()?).await?;
        let letters = purge(&mut connection, &filter, &self.who.who(), self.dry_run).await?;
        println!("{letters} {}", if self.dry_run { "would be purged" } else { "purged" });
        Ok(ExitCode::SUCCESS)
    }
}
