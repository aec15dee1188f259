//! Rows that cannot become readings, and the file that keeps them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value as Json;

/// A row that cannot become a reading, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejected {
    /// The row's line, as in [`Row`](super::Row).
    pub line: u64,
    /// The field at fault, dotted where it is nested; empty when it is the row as a whole.
    pub field: String,
    /// What is wrong, and what was expected.
    pub reason: String,
    /// The row; where it could not be parsed, the beginning of its text.
    pub row: Json,
}

impl Rejected {
    /// The rejection of a whole line that could not be parsed.
    pub(super) fn line(line: u64, reason: impl Into<String>, text: &str) -> Self {
        // enough to recognise the line by; the input still has the rest
        let beginning: String = text.chars().take(1_000).collect();
        let (field, reason) = (String::new(), reason.into());
        Self { line, field, reason, row: Json::String(beginning) }
    }
}

/// Keeps rejected rows as JSON lines: `{"line":7,"field":"count","reason":"...","row":{...}}`.
///
/// The file is made at the first rejection, in place of one that an earlier run left, and every
/// row is written at once, so that the file can be watched while a source is polled.
#[derive(Debug)]
pub struct RejectFile {
    path: PathBuf,
    file: Option<File>,
    count: u64,
}

impl RejectFile {
    /// Nothing is written before the first rejection.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, count: 0 }
    }

    /// Appends one row.
    pub fn write(&mut self, rejected: &Rejected) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(rejected)?;
        line.push(b'\n');
        self.append(&line)
            .with_context(|| format!("cannot write rejected rows to {}", self.path.display()))?;
        self.count += 1;
        Ok(())
    }

    /// How many rows were rejected so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Where the rejected rows are; the file exists once there is one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(line),
            none => none.insert(File::create(&self.path)?).write_all(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_file_appears_with_the_first_rejection_and_holds_every_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rejected.jsonl");
        let mut rejects = RejectFile::new(&path);
        assert!(!path.exists());
        let rejected = Rejected {
            line: 7,
            field: "count".into(),
            reason: "expected an int, found \"many\"".into(),
            row: json!({"count": "many"}),
        };
        rejects.write(&rejected).unwrap();
        rejects.write(&Rejected::line(9, "not JSON", "{")).unwrap();
        assert_eq!(rejects.count(), 2);
        insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap(), @r#"
        {"line":7,"field":"count","reason":"expected an int, found \"many\"","row":{"count":"many"}}
        {"line":9,"field":"","reason":"not JSON","row":"{"}
        "#);
    }
}
