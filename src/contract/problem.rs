//! What is wrong with a contract, and where.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// One thing wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The place in it, as a path of keys, such as `sluicegate.rules[1].check`; empty for the
    /// file as a whole.
    pub place: String,
    /// What is there, and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything wrong with one or more files.
#[derive(Debug, Default, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

/// One problem is one line; several are a line each, after how many there are.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = self.0.as_slice() {
            return problem.fmt(f);
        }
        write!(f, "{} problems in the contracts", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl Problems {
    /// A single problem.
    pub fn one(file: &Path, place: impl Into<String>, message: String) -> Problems {
        Problems(vec![Problem { file: file.to_owned(), place: place.into(), message }])
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of another file.
    pub fn extend(&mut self, more: Problems) {
        self.0.extend(more.0);
    }
}
