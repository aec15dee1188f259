//! `sluicegate dlq replay`

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use sqlx::postgres::PgConnectOptions;

use super::{filter::FilterArgs, print, who::WhoArgs};
use crate::{
    broker::Broker,
    config::{ConfigFile, ContractArgs, KafkaArgs, PostgresArgs, RegistryArgs},
    contract::Contract,
    dlq::{Filter, Replay, ReplayOptions, Replayed, resend},
    registry::RetryPolicy,
    sql::connect,
};

/// Try dead letters again: by today's schemas, rules and labels, straight into the table
///
/// Their original bytes are decoded, checked and labelled as if they came now. What passes lands in the
/// table and its aggregates, once, in one transaction with its new status; what does not stays, with one
/// replay more. Nothing goes back to the topic. Takes the pending ones unless --status or --id says
/// otherwise. May be interrupted and run beside another. The exit code is 0 also where some are refused.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// Say how many would pass, and why the others would not; change nothing
    #[arg(long, conflicts_with = "to_topic")]
    dry_run: bool,

    /// Park a letter that has been replayed so often in vain
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    most_replays: i32,

    /// Send them to their topic again, as they were, for all of its readers
    #[arg(long)]
    to_topic: bool,

    /// Print a JSON array, one object a stream
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    who: WhoArgs,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    kafka: KafkaArgs,

    #[command(flatten)]
    registry: RegistryArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl ReplayArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let filter = self.filter.filter();
        let contracts = self.contracts.read(file, &filter.streams)?;
        let postgres = self.postgres.options()?;
        if self.to_topic {
            return self.resend(file, &contracts, &postgres, &filter).await;
        }
        // so that it is said in time, and clearly
        connect(&postgres).await?;
        let registry = self.registry.connect()?;
        let options = ReplayOptions {
            dry_run: self.dry_run,
            most_replays: self.most_replays,
            unknown_schema: RetryPolicy::ONCE,
            who: self.who.who(),
        };
        let mut all = Vec::new();
        for contract in contracts {
            let stream = contract.stream.clone();
            let replay = Replay::new(contract, &postgres, registry.clone(), options.clone());
            let mut replayed = Replayed::default();
            let ran = replay.run(&filter, &mut replayed).await;
            if replayed != Replayed::default() {
                all.push((stream, replayed));
            }
            if ran.is_err() {
                // what was done is done
                print(&self.told(&all)?)?;
            }
            ran?;
        }
        print(&self.told(&all)?)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn resend(
        &self,
        file: &ConfigFile,
        contracts: &[Contract],
        postgres: &PgConnectOptions,
        filter: &Filter,
    ) -> anyhow::Result<ExitCode> {
        let broker = Broker::new(self.kafka.properties(file)?)?;
        let mut connection = connect(postgres).await?;
        let mut all = Vec::new();
        for contract in contracts {
            let who = self.who.who();
            let resent = resend(&mut connection, contract, &broker, filter, &who).await?;
            if resent.sent > 0 {
                println!("{}: {} sent to {}", contract.stream, resent.sent, contract.topic.name);
            }
            all.push(resent);
        }
        if all.iter().all(|resent| resent.sent == 0 && resent.unsent.is_empty()) {
            println!("no dead letter to send");
        }
        let unsent: Vec<String> = all.into_iter().flat_map(|resent| resent.unsent).collect();
        match unsent.as_slice() {
            [] => Ok(ExitCode::SUCCESS),
            [first, ..] => bail!("{} could not be sent; the first: {first}", unsent.len()),
        }
    }

    fn told(&self, all: &[(String, Replayed)]) -> anyhow::Result<String> {
        if self.json { json(all) } else { Ok(self.text(all)) }
    }

    fn text(&self, all: &[(String, Replayed)]) -> String {
        if all.is_empty() {
            return "no dead letter to replay\n".to_owned();
        }
        let (landed, refused) = match self.dry_run {
            true => ("would land", "would be refused"),
            false => ("landed", "refused"),
        };
        let mut text = String::new();
        for (stream, replayed) in all {
            let Replayed { letters, landed: passed, inserted, left_alone, refused: whys, parked } =
                replayed;
            text += &format!(
                "{stream}: {letters} letter{}, {passed} {landed}",
                if *letters == 1 { "" } else { "s" }
            );
            if inserted < passed {
                text += &format!(" ({} of them had before)", passed - inserted);
            }
            text += &format!(", {} {refused}", letters - passed);
            if *parked > 0 {
                let parked_now = if self.dry_run { "would be parked" } else { "parked" };
                text += &format!(", {parked} {parked_now}");
            }
            if *left_alone > 0 {
                text += &format!(", {left_alone} of another topic left alone");
            }
            text.push('\n');
            for (why, count) in whys {
                text += &format!("  {count:>8}  {why}\n");
            }
        }
        text
    }
}

#[derive(serde::Serialize)]
struct Line<'r> {
    stream: &'r str,
    #[serde(flatten)]
    replayed: &'r Replayed,
}

fn json(all: &[(String, Replayed)]) -> anyhow::Result<String> {
    let lines: Vec<Line<'_>> =
        all.iter().map(|(stream, replayed)| Line { stream, replayed }).collect();
    Ok(serde_json::to_string_pretty(&lines)? + "\n")
}
