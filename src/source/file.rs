//! The rows of a file, or of standard input.
//!
//! CSV and JSON lines are read row by row in constant memory; a document is parsed whole.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::Context;

use super::csv_rows::CsvRows;
use super::lines::{Input, Line, Lines};
use super::{InputMapping, Mode, Rejected, Row};

/// A row, or the rejection of what should have been one; an error ends the reading.
pub type Rows = Box<dyn Iterator<Item = anyhow::Result<Result<Row, Rejected>>> + Send>;

/// Opens a file by its extension; `-` is JSON lines from standard input.
///
/// Reading blocks, so an asynchronous caller iterates on a thread of its own.
pub fn open(path: &Path, mapping: &InputMapping) -> anyhow::Result<Rows> {
    let (format, input): (_, Input) = if path == Path::new("-") {
        (Format::JsonLines, Box::new(BufReader::new(io::stdin())))
    } else {
        let format = Format::of(path).with_context(|| {
            format!(
                "{} is of no known kind; known are .csv, .jsonl, .ndjson, .json, .geojson, and - \
                 for JSON lines from standard input",
                path.display()
            )
        })?;
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        (format, Box::new(BufReader::new(file)))
    };
    let name = path.display().to_string();
    let rows =
        rows(input, format, mapping).with_context(|| format!("cannot read records from {name}"))?;
    Ok(Box::new(rows.map(move |row| row.with_context(|| format!("cannot read {name}")))))
}

/// How records are laid out in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A header, then one record a row.
    Csv,
    /// One JSON value a line.
    JsonLines,
    /// One JSON value with the records inside.
    Document,
}

impl Format {
    /// By the extension of a file's name.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" | "geojson" => Some(Self::Document),
            _ => None,
        }
    }
}

/// The rows of an open input.
pub(super) fn rows(input: Input, format: Format, mapping: &InputMapping) -> anyhow::Result<Rows> {
    Ok(match format {
        Format::Csv => Box::new(CsvRows::new(input)?),
        Format::JsonLines => Box::new(Lines::new(input).filter_map(json_line)),
        Format::Document => Box::new(document(input, mapping)?),
    })
}

fn json_line(line: io::Result<Line>) -> Option<anyhow::Result<Result<Row, Rejected>>> {
    let Line { number, text } = match line {
        Ok(line) => line,
        Err(error) => return Some(Err(error.into())),
    };
    let text = match text {
        Ok(text) if text.trim().is_empty() => return None,
        Ok(text) => text,
        Err(error) => {
            return Some(Ok(Err(Rejected::line(number, error.reason, &error.beginning))));
        }
    };
    Some(Ok(match serde_json::from_str(&text) {
        Ok(json) => Ok(Row { line: number, json, mode: Mode::Json }),
        Err(error) => Err(Rejected::line(number, not_json(&error), text.trim_end())),
    }))
}

/// The parser counts lines too, and to it every line is line 1.
fn not_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("the line is not JSON: {what} at column {}", error.column())
}

fn document(
    mut input: Input,
    mapping: &InputMapping,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Result<Row, Rejected>>> + use<>> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let document = serde_json::from_slice(text).context("the document is not JSON")?;
    let records = mapping.records(document)?;
    let numbered = (1..).zip(records);
    Ok(numbered.map(|(line, json)| Ok(Ok(Row { line, json, mode: Mode::Json }))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(name: &str, text: &[u8], mapping: &InputMapping) -> Vec<Result<Row, Rejected>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        open(&path, mapping).unwrap().map(|row| row.unwrap()).collect()
    }

    #[test]
    fn a_line_that_is_not_json_costs_only_itself() {
        let text = b"{\"a\":1}\n\n{\"a\":\n\xff\n{\"a\":2}";
        let rows = read("x.jsonl", text, &InputMapping::default());
        assert_eq!(rows[0], Ok(Row { line: 1, json: json!({"a": 1}), mode: Mode::Json }));
        let rejected = rows[1].as_ref().unwrap_err();
        assert_eq!((rejected.line, &rejected.row), (3, &json!("{\"a\":")));
        assert_eq!(rejected.reason, "the line is not JSON: EOF while parsing a value at column 5");
        assert_eq!(rows[2].as_ref().unwrap_err().line, 4);
        assert_eq!(rows[3].as_ref().unwrap().line, 5);
    }

    #[test]
    fn the_records_of_a_document_are_counted_from_one() {
        let mapping = InputMapping { records: Some("/rows".into()), ..Default::default() };
        let rows = read("x.GeoJSON", br#"{"rows": [{"a": 1}, 7]}"#, &mapping);
        assert_eq!(rows[1], Ok(Row { line: 2, json: json!(7), mode: Mode::Json }));
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn an_unknown_kind_of_file_is_an_error_that_lists_the_known_ones() {
        let error = open(Path::new("readings.xlsx"), &InputMapping::default()).err().unwrap();
        for known in [".csv", ".jsonl", ".ndjson", ".json", ".geojson", "standard input"] {
            assert!(error.to_string().contains(known), "{error}");
        }
    }

    #[test]
    fn a_missing_file_and_a_broken_document_are_errors_that_name_the_file() {
        let error = open(Path::new("nowhere.csv"), &InputMapping::default()).err().unwrap();
        assert!(error.to_string().contains("nowhere.csv"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cut.json");
        std::fs::write(&path, "[{").unwrap();
        let error = open(&path, &InputMapping::default()).err().unwrap();
        assert!(format!("{error:#}").contains("cut.json: the document is not JSON"), "{error:#}");
    }
}
