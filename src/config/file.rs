//! `sluicegate.toml`: defaults for flags that neither the command line nor the environment gives.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, anyhow, bail};
use clap::{
    Arg, Command,
    builder::{ArgPredicate, OsStr, Resettable},
};
use serde_json::Value as Json;

use crate::secret::Secret;

/// The file's two tables that are no flags, and its flags.
#[derive(Debug, Default)]
pub struct ConfigFile {
    /// librdkafka's own properties.
    pub kafka: BTreeMap<String, Secret>,
    /// Tunables by stream.
    pub params: serde_json::Map<String, Json>,
    flags: BTreeMap<String, Secret>,
}

impl ConfigFile {
    /// Reads the file; one that is not there and was not asked for is empty.
    pub fn read(path: &Path, asked_for: bool) -> anyhow::Result<ConfigFile> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if !asked_for && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(ConfigFile::default());
            }
            Err(error) => return Err(error).context(format!("{} can't be read", path.display())),
        };
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    pub(super) fn parse(text: &str) -> anyhow::Result<ConfigFile> {
        let table: toml::Table = text.parse().map_err(|error| not_toml(text, &error))?;
        let mut file = ConfigFile::default();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("kafka", toml::Value::Table(properties)) => {
                    for (property, value) in properties {
                        file.kafka.insert(property.clone(), scalar(&property, &value)?);
                    }
                }
                ("params", value @ toml::Value::Table(_)) => match serde_json::to_value(value)? {
                    Json::Object(params) => file.params = params,
                    _ => bail!("\"params\": expected a table of streams"),
                },
                (_, value) => _ = file.flags.insert(key.clone(), scalar(&key, &value)?),
            }
        }
        Ok(file)
    }
}

/// One line; the error's own text draws the place.
fn not_toml(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    anyhow!("line {line} is not TOML: {}", error.message().replace('\n', "; "))
}

fn scalar(key: &str, value: &toml::Value) -> anyhow::Result<Secret> {
    Ok(Secret::new(match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(value) => value.to_string(),
        _ => bail!("\"{key}\": expected a string, a number or a boolean"),
    }))
}

/// Gives the file's flags as defaults to every verb that has them; a key that is no verb's flag
/// is an error.
pub fn with_defaults(mut command: Command, file: &ConfigFile) -> anyhow::Result<Command> {
    for (key, value) in &file.flags {
        let value = value.expose();
        let mut found = false;
        command = with_default(command, key, value, &mut found);
        if !found {
            bail!(
                "\"{key}\" is not a flag that takes a value; see `sluicegate help VERB` for their names"
            );
        }
    }
    Ok(command)
}

/// Gives a flag a default in a command and in those below it, where they have it; notes whether any
/// has.
fn with_default(command: Command, key: &str, value: &str, found: &mut bool) -> Command {
    // the file can't say where it is
    let named = |arg: &&Arg| arg.get_long() == Some(key) && key != "config";
    let is_flag = |arg: &&Arg| named(arg) && arg.get_action().takes_values();
    let id = command.get_arguments().find(is_flag).map(|arg| arg.get_id().clone());
    *found |= id.is_some();
    let command = match id {
        Some(id) => default(command, id, value),
        None => command,
    };
    command.mut_subcommands(|verb| with_default(verb, key, value, found))
}

/// Gives one flag a default, which a flag or a variable that excludes it takes away again: a
/// password given outright wins over the file of one that is named here.
fn default(command: Command, id: clap::Id, value: &str) -> Command {
    let excludes = |one: &Arg, other: &Arg| {
        let excluded = command.get_arg_conflicts_with(one);
        excluded.iter().any(|arg| arg.get_id() == other.get_id())
    };
    let arg = command.get_arguments().find(|arg| *arg.get_id() == id);
    let is_rival =
        |other: &&Arg| arg.is_some_and(|arg| excludes(arg, other) || excludes(other, arg));
    let rivals: Vec<clap::Id> =
        command.get_arguments().filter(is_rival).map(|arg| arg.get_id().clone()).collect();
    command.mut_arg(id, |arg| {
        // what may hold a secret is not shown in help, wherever it comes from
        let secret = arg.is_hide_env_values_set() || arg.is_hide_default_value_set();
        let arg = arg.default_value(OsStr::from(value.to_owned())).hide_default_value(secret);
        rivals.into_iter().fold(arg, |arg, rival| {
            arg.default_value_if(rival, ArgPredicate::IsPresent, Resettable::Reset)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("sluicegate")
            .subcommand(Command::new("consume").arg(Arg::new("batch").long("batch-rows")))
    }

    #[test]
    fn the_file_is_weaker_than_the_flag() {
        let file = ConfigFile::parse("batch-rows = 7").unwrap();
        let batch = |line: &[&str]| {
            let command = with_defaults(command(), &file).unwrap();
            let matches = command.try_get_matches_from(line).unwrap();
            matches.subcommand().unwrap().1.get_one::<String>("batch").unwrap().clone()
        };
        assert_eq!(batch(&["sluicegate", "consume"]), "7");
        assert_eq!(batch(&["sluicegate", "consume", "--batch-rows", "9"]), "9");
    }

    #[test]
    fn a_verb_below_a_verb_has_its_flags_from_the_file_too() {
        let file = ConfigFile::parse("database-url = \"here\"").unwrap();
        let verify = Command::new("verify").arg(Arg::new("url").long("database-url"));
        let command =
            Command::new("sluicegate").subcommand(Command::new("aggregates").subcommand(verify));
        let command = with_defaults(command, &file).unwrap();
        let matches = command.try_get_matches_from(["sluicegate", "aggregates", "verify"]).unwrap();
        let (_, aggregates) = matches.subcommand().unwrap();
        let (_, verify) = aggregates.subcommand().unwrap();
        assert_eq!(verify.get_one::<String>("url").unwrap(), "here");
    }

    #[test]
    fn a_secret_given_outright_wins_over_the_files() {
        let file = ConfigFile::parse("password-file = \"/secret\"").unwrap();
        let verb = Command::new("consume")
            .arg(Arg::new("password").long("password").conflicts_with("password_file"))
            .arg(Arg::new("password_file").long("password-file"));
        let command = || Command::new("sluicegate").subcommand(verb.clone());
        let password_file = |line: &[&str]| {
            let command = with_defaults(command(), &file).unwrap();
            let matches = command.try_get_matches_from(line).unwrap();
            matches.subcommand().unwrap().1.get_one::<String>("password_file").cloned()
        };
        assert_eq!(password_file(&["sluicegate", "consume"]).as_deref(), Some("/secret"));
        assert_eq!(password_file(&["sluicegate", "consume", "--password", "x"]), None);
    }

    #[test]
    fn a_key_that_is_no_flag_is_refused() {
        let file = ConfigFile::parse("batch-row = 7").unwrap();
        let error = with_defaults(command(), &file).unwrap_err();
        assert!(error.to_string().starts_with("\"batch-row\" is not a flag"), "{error}");
    }

    #[test]
    fn the_two_tables_are_no_flags() {
        let text = "[kafka]\n\"linger.ms\" = 5\n[params.devices.limits]\nheat = 80.5";
        let file = ConfigFile::parse(text).unwrap();
        assert_eq!(file.kafka["linger.ms"].expose(), "5");
        assert_eq!(file.params["devices"]["limits"]["heat"], 80.5);
    }
}
