//! `sluicegate dlq export`

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;

use super::filter::FilterArgs;
use crate::{config::PostgresArgs, dlq::export, sql::connect};

/// Write dead letters to a file, byte for byte
///
/// One JSON object a line, the oldest first; key and payload are in base64. Nothing is masked.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// The file [default: standard output]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,

    /// Write each payload as ID.bin, and each key as ID.key, into this folder too
    #[arg(long, value_name = "DIR")]
    raw: Option<PathBuf>,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl ExportArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let filter = self.filter.filter();
        let mut connection = connect(&self.postgres.options()?).await?;
        let mut lines: Box<dyn Write> = match &self.to {
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("{} can't be written", path.display()))?;
                Box::new(BufWriter::new(file))
            }
            None => Box::new(std::io::stdout().lock()),
        };
        let letters = export(&mut connection, &filter, &mut lines, self.raw.as_deref()).await?;
        if let Some(path) = &self.to {
            println!("{letters} exported to {}", path.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}
