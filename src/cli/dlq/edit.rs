//! `sluicegate dlq edit`

use std::{cell::Cell, os::unix::fs::DirBuilderExt, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value as Json;

use super::who::WhoArgs;
use crate::{
    config::{ConfigFile, ContractArgs, PostgresArgs, RegistryArgs},
    dlq::{Edited, Letter, Replay, ReplayOptions, decoded, encoded},
    register::register,
    registry::RetryPolicy,
    sql::connect,
    wire::SchemaId,
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
        let contract = self.contracts.read_one(file, &letter.stream)?;
        let registry = self.registry.connect()?;
        let before = decoded(&contract, &registry, &letter).await?;
        let file = Editing::of(self.id, &before)?;
        let after = self.edited(&file)?;
        if after == before {
            println!("nothing was changed, and nothing is replayed");
            return Ok(ExitCode::SUCCESS);
        }
        // whether it is an event of the contract's, before anybody is told of it
        if let Err(error) = encoded(&contract, SchemaId(0), after.clone()) {
            return Err(error.context(file.kept()));
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
            Edited::Landed => println!("letter {} landed", self.id),
            Edited::HadLanded => println!(
                "letter {}: an event with its id had landed before, and on_conflict has decided",
                self.id
            ),
            Edited::Refused(rejection) => {
                println!(
                    "letter {} is refused: {}: {}",
                    self.id, rejection.reason, rejection.detail
                );
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What the editor makes of an event.
    fn edited(&self, file: &Editing) -> anyhow::Result<Json> {
        let variable = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let named = || ["VISUAL", "EDITOR"].iter().find_map(variable);
        let editor = self.editor.clone().or_else(named).unwrap_or_else(|| "vi".to_owned());
        // as git does it: the editor may come with arguments
        let status = std::process::Command::new("sh")
            .args(["-c", &format!("{editor} \"$1\""), &editor])
            .arg(&file.path)
            .status()
            .with_context(|| format!("the editor \"{editor}\" can't be started"))?;
        if !status.success() {
            bail!("the editor \"{editor}\" ended with an error; nothing is replayed");
        }
        let text = std::fs::read_to_string(&file.path)?;
        serde_json::from_str(&text)
            .with_context(|| format!("what was saved is not JSON; {}", file.kept()))
    }
}

/// A file that only we may read, gone with its folder when it was of use.
struct Editing {
    folder: PathBuf,
    path: PathBuf,
    is_kept: Cell<bool>,
}

impl Editing {
    fn of(id: i64, event: &Json) -> anyhow::Result<Editing> {
        let folder = std::env::temp_dir().join(format!("sluicegate-{}", uuid::Uuid::now_v7()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .context("no temporary folder can be made")?;
        let path = folder.join(format!("letter-{id}.json"));
        std::fs::write(&path, serde_json::to_string_pretty(event)? + "\n")?;
        Ok(Editing { folder, path, is_kept: Cell::new(false) })
    }

    /// Keeps what somebody wrote; says where.
    fn kept(&self) -> String {
        self.is_kept.set(true);
        format!("what you wrote is in {}", self.path.display())
    }
}

impl Drop for Editing {
    fn drop(&mut self) {
        if !self.is_kept.get() {
            _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
