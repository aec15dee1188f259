//! How to reach Postgres.

use std::{path::PathBuf, str::FromStr};

use anyhow::{anyhow, bail};
use clap::Args;
use reqwest::Url;
use sqlx::postgres::PgConnectOptions;

use super::secret;
use crate::{secret::Secret, tls::pem_file};

/// What sqlx knows besides the names of files.
const PARAMETERS: [&str; 11] = [
    "sslmode",
    "ssl-mode",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

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
        let unreadable = || {
            anyhow!(
                "the database's address can't be read; expected \
                 DATABASE_URL=postgres://USER:PASSWORD@HOST:PORT/NAME"
            )
        };
        let url = Url::parse(self.database_url.expose()).map_err(|_| unreadable())?;
        for (key, value) in url.query_pairs() {
            check_parameter(&key, &value)?;
        }
        let options = PgConnectOptions::from_str(url.as_str()).map_err(|_| unreadable())?;
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

/// sqlx logs a parameter that it does not know, the value included, and goes on without: whoever
/// misspells `sslmode` would be less safe than they think.
fn check_parameter(key: &str, value: &str) -> anyhow::Result<()> {
    let kind = match key {
        "sslrootcert" | "ssl-root-cert" | "ssl-ca" | "sslcert" | "ssl-cert" => "CERTIFICATE",
        "sslkey" | "ssl-key" => "PRIVATE KEY",
        key if PARAMETERS.contains(&key) || key.starts_with("options[") => return Ok(()),
        _ => bail!(
            "DATABASE_URL has a parameter \"{key}\", which there is not; expected one of {}, \
             sslrootcert, sslcert, sslkey",
            PARAMETERS.join(", ")
        ),
    };
    // the text itself may stand there too
    if !value.starts_with("-----BEGIN ") {
        pem_file(&format!("{key} in DATABASE_URL"), value.as_ref(), kind)?;
    }
    Ok(())
}
