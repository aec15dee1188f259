//! The anomalies that simulated readings hold, as a file of JSON lines.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;

use super::simulated::Simulated;
use crate::source::simulate::Anomaly;

/// Where they go.
pub(super) struct AnomalyFile {
    path: PathBuf,
    file: BufWriter<File>,
}

/// One line.
#[derive(Serialize)]
struct Line<'l> {
    stream: &'l str,
    #[serde(flatten)]
    anomaly: &'l Anomaly,
}

impl AnomalyFile {
    pub(super) fn create(path: &Path) -> anyhow::Result<AnomalyFile> {
        let file = File::create(path)
            .with_context(|| format!("the anomalies can't be written to {}", path.display()))?;
        Ok(AnomalyFile { path: path.to_owned(), file: BufWriter::new(file) })
    }

    /// Writes what has been planted until now. Nothing is known of what was made from a schema alone.
    pub(super) fn write(mut self, stream: &str, simulated: &Simulated<'_>) -> anyhow::Result<()> {
        match simulated.anomalies() {
            Some(anomalies) => {
                anomalies.iter().try_for_each(|anomaly| self.line(&Line { stream, anomaly }))
            }
            None => {
                let file = self.path.display();
                tracing::warn!(stream, %file, "no anomalies are known: readings made from a schema alone have none");
                Ok(())
            }
        }
        .and_then(|()| Ok(self.file.flush()?))
        .with_context(|| format!("the anomalies can't be written to {}", self.path.display()))
    }

    fn line(&mut self, line: &Line<'_>) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.file, line)?;
        Ok(self.file.write_all(b"\n")?)
    }
}
