//! Where everything is and how to be let in: one struct a concern.
//!
//! A flag wins over its environment variable, and that over `sluicegate.toml`, whose keys are the
//! flags' names. Two tables of that file have no flag of the same shape: `[kafka]`, librdkafka's
//! own properties, and `[params.STREAM]`, the tunables of a contract.
//!
//! Whatever may hold a secret is a [`Secret`], so that no `Debug` of a struct here shows it; a flag
//! that holds one is read by a parser that can't fail, since clap would repeat what it was given.

mod file;
mod kafka;
mod params;
mod postgres;
mod registry;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;

pub use file::{ConfigFile, with_defaults};
pub use kafka::{KafkaArgs, KafkaProperty};
pub use params::ParamOverride;
pub use postgres::PostgresArgs;
pub use registry::RegistryArgs;

use crate::{contract::Contract, secret::Secret};

/// Where the contracts are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Contracts")]
pub struct ContractArgs {
    /// The folder of the contracts, one .avsc a stream
    #[arg(long, env = "SLUICEGATE_SCHEMAS", default_value = "schemas", value_name = "DIR")]
    pub schemas: PathBuf,

    /// Override a tunable of a contract, as STREAM.PATH=JSON; may be repeated
    #[arg(long = "param", value_name = "STREAM.PATH=JSON")]
    pub params: Vec<ParamOverride>,
}

impl ContractArgs {
    /// Reads the contracts, with the tunables overridden, and keeps those of `streams` (all, where
    /// none is named).
    pub fn read(&self, file: &ConfigFile, streams: &[String]) -> anyhow::Result<Vec<Contract>> {
        let mut contracts = Contract::read_all(&self.schemas)?;
        params::apply(&mut contracts, &file.params, &self.params)?;
        for stream in streams {
            if !contracts.iter().any(|contract| contract.stream == *stream) {
                let known: Vec<_> = contracts.iter().map(|c| c.stream.as_str()).collect();
                bail!("there is no stream \"{stream}\"; expected one of {}", known.join(", "));
            }
        }
        if !streams.is_empty() {
            contracts.retain(|contract| streams.contains(&contract.stream));
        }
        Ok(contracts)
    }

    /// Reads the contract of one stream, with its tunables overridden.
    pub fn read_one(&self, file: &ConfigFile, stream: &str) -> anyhow::Result<Contract> {
        let contracts = self.read(file, &[stream.to_owned()])?;
        contracts.into_iter().next().context("no contract was read")
    }
}

/// A secret given as such or in a file, whose last line's end is not part of it.
pub fn secret(given: Option<&Secret>, file: Option<&PathBuf>) -> anyhow::Result<Option<Secret>> {
    let Some(file) = file else { return Ok(given.cloned()) };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the secret in {} can't be read", file.display()))?;
    Ok(Some(Secret::new(text.trim_end_matches(['\n', '\r']))))
}

/// A number of seconds, or a number with a unit: `500ms`, `30s`, `5m`, `1h`, `7d`.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err("expected a duration such as 500ms, 30s, 5m or 1h".into()),
    };
    let number: f64 = number.parse().map_err(|_| "expected a duration such as 30s or 5m")?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::broker::Broker;

    #[derive(Debug, Parser)]
    struct All {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        postgres: PostgresArgs,
    }

    const LINE: [&str; 13] = [
        "all",
        "--kafka-security-protocol=SASL_PLAINTEXT",
        "--kafka-sasl-mechanism=PLAIN",
        "--kafka-sasl-username=user",
        "--kafka-sasl-password=hunter2",
        "--kafka-property=ssl.key.password=hunter2",
        "--kafka-property=sasl.oauthbearer.config=hunter2",
        "--registry-url=http://user:hunter2@localhost,http://user:hunter2@other",
        "--registry-user=user",
        "--registry-password=hunter2",
        "--database-url=postgres://user:hunter2@localhost/any",
        "--kafka-brokers=localhost:9092",
        "--kafka-property=client.id=me",
    ];

    #[test]
    fn no_struct_shows_a_secret() {
        let all = All::try_parse_from(LINE).unwrap();
        let text = "registry-password = 'hunter2'\n[kafka]\n'sasl.password' = 'hunter2'";
        let file = ConfigFile::parse(text).unwrap();
        let broker = Broker::new(all.kafka.properties(&file).unwrap()).unwrap();
        let shown = format!("{all:?} {file:?} {broker:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("sasl.password"), "{shown}");
    }

    #[test]
    fn an_unusable_property_is_named_without_its_value() {
        let told = |property: &str| {
            let all = All::try_parse_from(["all", "--kafka-property", property]).unwrap();
            let properties = all.kafka.properties(&ConfigFile::default());
            format!("{:#}", properties.and_then(Broker::new).unwrap_err())
        };
        let expected = "librdkafka refuses \"sasl.pasword\": \
                        No such configuration property: \"sasl.pasword\"";
        assert_eq!(told("sasl.pasword=hunter2"), expected);
        assert_eq!(told("hunter2"), "--kafka-property is not of the form KEY=VALUE");
    }
}
