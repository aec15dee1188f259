//! How to reach Kafka.

use std::{collections::BTreeMap, convert::Infallible, path::PathBuf, str::FromStr};

use anyhow::{Context, bail};
use clap::Args;

use super::{ConfigFile, secret};
use crate::{secret::Secret, tls::pem_file};

const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// How to reach Kafka.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// The brokers to start from, separated by commas [default: localhost:9092]
    #[arg(long = "kafka-brokers", env = "KAFKA_BROKERS", value_name = "HOST:PORT")]
    pub brokers: Option<String>,

    /// plaintext, ssl, sasl_plaintext or sasl_ssl
    #[arg(long = "kafka-security-protocol", env = "KAFKA_SECURITY_PROTOCOL", value_name = "NAME")]
    #[arg(value_parser = PROTOCOLS, ignore_case = true, hide_possible_values = true)]
    pub security_protocol: Option<String>,

    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
    #[arg(long = "kafka-sasl-mechanism", env = "KAFKA_SASL_MECHANISM", value_name = "NAME")]
    #[arg(value_parser = MECHANISMS, hide_possible_values = true)]
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

    /// A file of PEM certificates to trust [default: the system's]
    #[arg(id = "kafka_ca", long = "kafka-ca", env = "KAFKA_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// A file with the client's PEM certificate
    #[arg(id = "kafka_certificate", long = "kafka-certificate", env = "KAFKA_CERTIFICATE")]
    #[arg(value_name = "FILE")]
    pub certificate: Option<PathBuf>,

    /// A file with the PEM key of the client's certificate
    #[arg(id = "kafka_key", long = "kafka-key", env = "KAFKA_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// A file with the password of that key, where it has one
    #[arg(long = "kafka-key-password-file", env = "KAFKA_KEY_PASSWORD_FILE", value_name = "FILE")]
    pub key_password_file: Option<PathBuf>,

    /// Any property of librdkafka, as KEY=VALUE; may be repeated
    #[arg(long = "kafka-property", value_name = "KEY=VALUE")]
    pub properties: Vec<KafkaProperty>,
}

/// One of librdkafka's own properties, as `KEY=VALUE`.
#[derive(Debug, Clone)]
pub struct KafkaProperty {
    key: Secret,
    value: Option<Secret>,
}

impl FromStr for KafkaProperty {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('=') {
            Some((key, value)) => {
                KafkaProperty { key: Secret::new(key), value: Some(Secret::new(value)) }
            }
            None => KafkaProperty { key: Secret::new(text), value: None },
        })
    }
}

impl KafkaArgs {
    /// The properties of librdkafka that say how to connect, those passed through included.
    pub fn properties(&self, file: &ConfigFile) -> anyhow::Result<BTreeMap<String, Secret>> {
        let mut properties = file.kafka.clone();
        let password = secret(self.sasl_password.as_ref(), self.sasl_password_file.as_ref())?;
        let path = |path: &PathBuf| path.display().to_string();
        for (key, value) in [
            ("bootstrap.servers", self.brokers.clone()),
            ("security.protocol", self.security_protocol.clone()),
            ("sasl.mechanism", self.sasl_mechanism.clone()),
            ("sasl.username", self.sasl_username.clone()),
            ("ssl.ca.location", self.ca.as_ref().map(path)),
            ("ssl.certificate.location", self.certificate.as_ref().map(path)),
            ("ssl.key.location", self.key.as_ref().map(path)),
        ] {
            properties.extend(value.map(|value| (key.to_owned(), Secret::new(value))));
        }
        let key_password = secret(None, self.key_password_file.as_ref())?;
        for (key, value) in [("sasl.password", password), ("ssl.key.password", key_password)] {
            properties.extend(value.map(|value| (key.to_owned(), value)));
        }
        for property in &self.properties {
            let value = property.value.clone();
            let value = value.context("--kafka-property is not of the form KEY=VALUE")?;
            properties.insert(property.key.expose().to_owned(), value);
        }
        let brokers = || Secret::new("localhost:9092");
        properties.entry("bootstrap.servers".into()).or_insert_with(brokers);
        self.check(&properties)?;
        Ok(properties)
    }

    /// What librdkafka would pass over, or say less clearly.
    fn check(&self, properties: &BTreeMap<String, Secret>) -> anyhow::Result<()> {
        let value = |key: &str| properties.get(key).map(Secret::expose);
        let protocol = value("security.protocol").unwrap_or("plaintext").to_ascii_lowercase();
        let user = self.sasl_username.is_some() || value("sasl.password").is_some();
        if user && !protocol.starts_with("sasl_") {
            bail!(
                "a user of SASL is given, and would not be used: Kafka's security protocol is \
                 {protocol}; set --kafka-security-protocol to sasl_ssl"
            );
        }
        let mechanism = value("sasl.mechanism").or(value("sasl.mechanisms"));
        if protocol.starts_with("sasl_") && mechanism.is_none() {
            bail!(
                "{protocol} needs a mechanism; set --kafka-sasl-mechanism to one of {}",
                MECHANISMS.join(", ")
            );
        }
        if self.certificate.is_some() != self.key.is_some() {
            bail!("--kafka-certificate and --kafka-key go together; give both");
        }
        for (setting, file, kind) in [
            ("--kafka-ca", &self.ca, "CERTIFICATE"),
            ("--kafka-certificate", &self.certificate, "CERTIFICATE"),
            ("--kafka-key", &self.key, "PRIVATE KEY"),
        ] {
            let Some(file) = file else { continue };
            if !protocol.ends_with("ssl") {
                bail!(
                    "{setting} is given, and would not be used: Kafka's security protocol is \
                     {protocol}; set --kafka-security-protocol to ssl or sasl_ssl"
                );
            }
            pem_file(setting, file, kind)?;
        }
        Ok(())
    }
}
