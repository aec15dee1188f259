//! Where everything is and how to be let in: one struct a concern.
//!
//! A flag wins over its environment variable, and that over `sluicegate.toml`, whose keys are the
//! flags' names. Two tables of that file have no flag of the same shape: `[kafka]`, librdkafka's
//! own properties, and `[params.STREAM]`, the tunables of a contract.

mod file;
mod params;

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use sqlx::postgres::PgConnectOptions;

pub use file::{ConfigFile, with_defaults};
pub use params::ParamOverride;

use crate::{
    contract::Contract,
    registry::{Registry, RegistryAuth, RegistryConfig, SubjectStrategy},
    secret::Secret,
};

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
}

/// How to reach Kafka.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// The brokers to start from, separated by commas [default: localhost:9092]
    #[arg(long = "kafka-brokers", env = "KAFKA_BROKERS", value_name = "HOST:PORT")]
    pub brokers: Option<String>,

    /// plaintext, ssl, sasl_plaintext or sasl_ssl
    #[arg(long = "kafka-security-protocol", env = "KAFKA_SECURITY_PROTOCOL", value_name = "NAME")]
    pub security_protocol: Option<String>,

    /// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
    #[arg(long = "kafka-sasl-mechanism", env = "KAFKA_SASL_MECHANISM", value_name = "NAME")]
    pub sasl_mechanism: Option<String>,

    /// The user of SASL
    #[arg(long = "kafka-sasl-username", env = "KAFKA_SASL_USERNAME", value_name = "NAME")]
    pub sasl_username: Option<String>,

    /// The password of SASL
    #[arg(long = "kafka-sasl-password", env = "KAFKA_SASL_PASSWORD", hide_env_values = true)]
    #[arg(value_name = "SECRET", conflicts_with = "sasl_password_file")]
    pub sasl_password: Option<Secret>,

    /// A file with the password of SASL
    #[arg(
        long = "kafka-sasl-password-file",
        env = "KAFKA_SASL_PASSWORD_FILE",
        value_name = "FILE"
    )]
    pub sasl_password_file: Option<PathBuf>,

    /// A file of PEM certificates to trust
    #[arg(id = "kafka_ca", long = "kafka-ca", env = "KAFKA_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Any property of librdkafka, as KEY=VALUE; may be repeated
    #[arg(long = "kafka-property", value_name = "KEY=VALUE", value_parser = key_value)]
    pub properties: Vec<(String, String)>,
}

impl KafkaArgs {
    /// The properties of librdkafka that say how to connect, those passed through included.
    pub fn properties(&self, file: &ConfigFile) -> anyhow::Result<BTreeMap<String, String>> {
        let mut properties = file.kafka.clone();
        let password = secret(self.sasl_password.as_ref(), self.sasl_password_file.as_ref())?;
        for (key, value) in [
            ("bootstrap.servers", self.brokers.clone()),
            ("security.protocol", self.security_protocol.clone()),
            ("sasl.mechanism", self.sasl_mechanism.clone()),
            ("sasl.username", self.sasl_username.clone()),
            ("sasl.password", password.map(|secret| secret.expose().to_owned())),
            ("ssl.ca.location", self.ca.as_ref().map(|path| path.display().to_string())),
        ] {
            properties.extend(value.map(|value| (key.to_owned(), value)));
        }
        properties.extend(self.properties.iter().cloned());
        properties.entry("bootstrap.servers".into()).or_insert_with(|| "localhost:9092".into());
        Ok(properties)
    }
}

/// How to reach the schema registry.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Schema registry")]
pub struct RegistryArgs {
    /// The schema registry; several addresses of one registry are separated by commas
    #[arg(
        long = "registry-url",
        env = "SCHEMA_REGISTRY_URL",
        default_value = "http://localhost:8081"
    )]
    #[arg(value_name = "URL", value_delimiter = ',', hide_env_values = true)]
    pub urls: Vec<String>,

    /// The user of basic authentication
    #[arg(long = "registry-user", env = "SCHEMA_REGISTRY_USER", value_name = "NAME")]
    pub user: Option<String>,

    /// The password of basic authentication
    #[arg(long = "registry-password", env = "SCHEMA_REGISTRY_PASSWORD", hide_env_values = true)]
    #[arg(value_name = "SECRET", conflicts_with = "password_file")]
    pub password: Option<Secret>,

    /// A file with the password of basic authentication
    #[arg(
        long = "registry-password-file",
        env = "SCHEMA_REGISTRY_PASSWORD_FILE",
        value_name = "FILE"
    )]
    pub password_file: Option<PathBuf>,

    /// A bearer token
    #[arg(long = "registry-token", env = "SCHEMA_REGISTRY_TOKEN", hide_env_values = true)]
    #[arg(value_name = "SECRET", conflicts_with_all = ["token_file", "user"])]
    pub token: Option<Secret>,

    /// A file with a bearer token
    #[arg(long = "registry-token-file", env = "SCHEMA_REGISTRY_TOKEN_FILE", value_name = "FILE")]
    #[arg(conflicts_with = "user")]
    pub token_file: Option<PathBuf>,

    /// A file of PEM certificates to trust besides the system's
    #[arg(
        id = "registry_ca",
        long = "registry-ca",
        env = "SCHEMA_REGISTRY_CA",
        value_name = "FILE"
    )]
    pub ca: Option<PathBuf>,

    /// How long one call may take, in seconds
    #[arg(long = "registry-timeout", env = "SCHEMA_REGISTRY_TIMEOUT", default_value = "10")]
    #[arg(value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Duration,

    /// How subjects are named
    #[arg(long, env = "SUBJECT_STRATEGY", value_enum, default_value_t, value_name = "NAME")]
    pub subject_strategy: SubjectStrategy,
}

impl RegistryArgs {
    /// A client of the registry.
    pub fn connect(&self) -> anyhow::Result<Registry> {
        let token = secret(self.token.as_ref(), self.token_file.as_ref())?;
        let password = secret(self.password.as_ref(), self.password_file.as_ref())?;
        let auth = match (token, self.user.clone()) {
            (Some(token), _) => RegistryAuth::Bearer(token),
            (None, Some(user)) => {
                RegistryAuth::Basic { user, password: password.unwrap_or_else(|| Secret::new("")) }
            }
            (None, None) if password.is_some() => {
                bail!("a registry password needs --registry-user")
            }
            (None, None) => RegistryAuth::None,
        };
        let (urls, ca_file, timeout) = (self.urls.clone(), self.ca.clone(), self.timeout);
        Registry::new(&RegistryConfig { urls, auth, ca_file, timeout })
    }

    /// A stream's subject.
    pub fn subject(&self, contract: &Contract) -> String {
        self.subject_strategy.subject(&contract.topic.name, &contract.fullname)
    }
}

/// How to reach Postgres.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Postgres")]
pub struct PostgresArgs {
    /// The database, as postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=...&sslrootcert=...
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    #[arg(default_value = "postgres://sluicegate:sluicegate@localhost:5432/sluicegate")]
    #[arg(hide_default_value = true)]
    pub database_url: Secret,

    /// A file with the password, in place of one in the address
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,

    /// The schema that the tables are in; `migrate` creates it
    #[arg(long, env = "DATABASE_SCHEMA", value_name = "NAME")]
    pub database_schema: Option<String>,
}

impl PostgresArgs {
    /// How to connect.
    pub fn options(&self) -> anyhow::Result<PgConnectOptions> {
        // the error of a bad address would print the address, and the password in it
        let options = PgConnectOptions::from_str(self.database_url.expose()).map_err(|_| {
            anyhow::anyhow!(
                "the database's address can't be read; expected \
                 DATABASE_URL=postgres://USER:PASSWORD@HOST:PORT/NAME"
            )
        })?;
        let options = match secret(None, self.database_password_file.as_ref())? {
            Some(password) => options.password(password.expose()),
            None => options,
        };
        Ok(match &self.database_schema {
            Some(schema) => options.options([("search_path", crate::sql::quoted(schema))]),
            None => options,
        })
    }
}

/// A secret given as such or in a file, whose last line's end is not part of it.
fn secret(given: Option<&Secret>, file: Option<&PathBuf>) -> anyhow::Result<Option<Secret>> {
    let Some(file) = file else { return Ok(given.cloned()) };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the secret in {} can't be read", file.display()))?;
    Ok(Some(Secret::new(text.trim_end_matches(['\n', '\r']))))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A number of seconds, or a number with a unit: `500ms`, `30s`, `5m`, `1h`.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("expected a duration such as 500ms, 30s, 5m or 1h".into()),
    };
    let number: f64 = number.parse().map_err(|_| "expected a duration such as 30s or 5m")?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}
