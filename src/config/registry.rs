//! How to reach the schema registry.

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use clap::Args;

use super::{seconds, secret};
use crate::{
    contract::Contract,
    registry::{Registry, RegistryAuth, RegistryConfig, SubjectStrategy},
    secret::Secret,
};

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
    pub urls: Vec<Secret>,

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

    /// A file with the client's PEM certificate
    #[arg(id = "registry_certificate", long = "registry-certificate", value_name = "FILE")]
    #[arg(env = "SCHEMA_REGISTRY_CERTIFICATE")]
    pub certificate: Option<PathBuf>,

    /// A file with the PEM key of the client's certificate
    #[arg(
        id = "registry_key",
        long = "registry-key",
        env = "SCHEMA_REGISTRY_KEY",
        value_name = "FILE"
    )]
    pub key: Option<PathBuf>,

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
        let identity = match (self.certificate.clone(), self.key.clone()) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!("--registry-certificate and --registry-key go together; give both"),
        };
        let urls = self.urls.iter().map(|url| url.expose().to_owned()).collect();
        let (ca_file, timeout) = (self.ca.clone(), self.timeout);
        Registry::new(&RegistryConfig { urls, auth, ca_file, identity, timeout })
    }

    /// A stream's subject.
    pub fn subject(&self, contract: &Contract) -> String {
        self.subject_strategy.subject(&contract.topic.name, &contract.fullname)
    }
}
