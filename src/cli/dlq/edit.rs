//! `sluicegate dlq edit`

use std::{io::Write, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value as Json;

use super::who::WhoArgs;
use crate::{
    config::{ConfigFile, ContractArgs, PostgresArgs, RegistryArgs},
    dlq::{Letter, Replay, ReplayOptions, decoded, encoded},
    register::register,
    registry::RetryPolicy,
    sql::connect,
};

/// Mend a dead letter's event by hand, and replay what you made of it
///
/// Opens the decoded event as JSON in $VISUAL or $EDITOR. What you save is encoded, checked and landed as a
/// replay is. The letter keeps its original bytes; its history has the new ones, when and by whom.
#[derive(Debug, Args)]
pub(super) struct EditArgs {
    /// The letter's number
    id: i64,

    /// The editor [default: $VISUAL, $EDITOR or vi]
    #[arg(long, value_name = "COMMAND")]
    editor: Option<String>,

    /// Park a letter that has been replayed so often in vain
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    most_replays: i32,

    #[command(flatten)]
    who: WhoArgs,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    registry: RegistryArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl EditArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let postgres = self.postgres.options()?;
        let mut connection = connect(&postgres).await?;
        let letter = Letter::read(&mut connection, self.id).await?;
        let contracts = self.contracts.read(file, std::slice::from_ref(&letter.stream))?;
        let contract = contracts.into_iter().next().context("no contract was read")?;
        let registry = self.registry.connect()?;
        let before = decoded(&contract, &registry, &letter).await?;
        let after = self.edited(&before)?;
        if after == before {
            println!("nothing was changed, and nothing is replayed");
            return Ok(ExitCode::SUCCESS);
        }
        let subject = self.registry.subject(&contract);
        let registered = register(&registry, &subject, &contract).await?;
        let payload = encoded(&contract, registered.id, after)?;
        let options = ReplayOptions {
            dry_run: false,
            most_replays: self.most_replays,
            unknown_schema: RetryPolicy::ONCE,
            who: self.who.who(),
        };
        let replay = Replay::new(contract, &postgres, registry, options);
        match replay.run_edited(letter, payload).await? {
            None => {
                println!("letter {} landed", self.id);
                Ok(ExitCode::SUCCESS)
            }
            Some(rejection) => {
                println!(
                    "letter {} is refused: {}: {}",
                    self.id, rejection.reason, rejection.detail
                );
                Ok(ExitCode::FAILURE)
            }
        }
    }

    /// What the editor makes of an event.
    fn edited(&self, event: &Json) -> anyhow::Result<Json> {
        let mut folder = std::env::temp_dir();
        folder.push(format!("sluicegate-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).context("no temporary folder can be made")?;
        let path = folder.join(format!("letter-{}.json", self.id));
        let edited = self.edit(&path, event);
        // whatever became of it: it may hold what is private
        std::fs::remove_dir_all(&folder).context("the temporary folder can't be deleted")?;
        edited
    }

    fn edit(&self, path: &std::path::Path, event: &Json) -> anyhow::Result<Json> {
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.write(true).create_new(true).open(path)?;
        writeln!(file, "{}", serde_json::to_string_pretty(event)?)?;
        drop(file);
        let variable = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let named = || ["VISUAL", "EDITOR"].iter().find_map(variable);
        let editor = self.editor.clone().or_else(named).unwrap_or_else(|| "vi".to_owned());
        // as git does it: the editor may come with arguments
        let status = std::process::Command::new("sh")
            .args(["-c", &format!("{editor} \"$1\""), &editor])
            .arg(path)
            .status()
            .with_context(|| format!("the editor \"{editor}\" can't be started"))?;
        if !status.success() {
            bail!("the editor \"{editor}\" ended with an error; nothing is replayed");
        }
        let text = std::fs::read_to_string(path)?;
        serde_json::from_str(&text).context("what was saved is not JSON; nothing is replayed")
    }
}
