//! The rows of a CSV text. A broken row costs its own line and no other.
//!
//! A quote that is opened and never closed would make the rest of the file one row. So a row is
//! first gathered line by line, and when it turns out broken only its first line is rejected: the
//! lines gathered after it are read again as rows of their own.

use std::collections::VecDeque;
use std::io;

use anyhow::Context;
use serde_json::{Map, Value as Json};

use super::lines::{Input, Line, Lines};
use super::{Mode, Rejected, Row};

/// The longest row that spans lines; bounds what is gathered behind an open quote.
const MAX_QUOTED_ROW: usize = 1 << 20;

/// Iterates over the rows; the first line names the columns.
pub(super) struct CsvRows {
    lines: Lines,
    columns: Vec<String>,
    /// Lines that were gathered into a broken row.
    again: VecDeque<Line>,
}

impl CsvRows {
    pub(super) fn new(input: Input) -> anyhow::Result<Self> {
        let mut lines = Lines::new(input);
        let header = match lines.next().transpose()?.map(|line| line.text) {
            Some(Ok(text)) => text,
            Some(Err(error)) => anyhow::bail!("{}", error.reason),
            None => String::new(),
        };
        let columns: Vec<String> = parse(&header)
            .context("the first line of a CSV file must name the columns")?
            .into_iter()
            .map(|name| name.trim().to_owned())
            .collect();
        for (position, name) in columns.iter().enumerate() {
            let twice = columns.iter().skip(position + 1).any(|other| other == name);
            anyhow::ensure!(!twice, "the CSV header names the column {name:?} twice");
        }
        Ok(Self { lines, columns, again: VecDeque::new() })
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        match self.again.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next().transpose(),
        }
    }

    fn read(&mut self) -> io::Result<Option<Result<Row, Rejected>>> {
        while let Some(Line { number, text }) = self.next_line()? {
            let first = match text {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => text,
                Err(error) => {
                    return Ok(Some(Err(Rejected::line(number, error.reason, &error.beginning))));
                }
            };
            let (gathered, closed, later) = self.gather(&first)?;
            let row = if closed { self.row(&gathered) } else { Err(BAD_QUOTE.to_owned()) };
            return Ok(Some(match row {
                Ok(json) => Ok(Row { line: number, json, mode: Mode::Text }),
                Err(reason) => {
                    for line in later.into_iter().rev() {
                        self.again.push_front(line);
                    }
                    Err(Rejected::line(number, reason, first.trim_end()))
                }
            }));
        }
        Ok(None)
    }

    /// The row that begins with `first`, whether its quotes are closed, and its other lines.
    fn gather(&mut self, first: &str) -> io::Result<(String, bool, Vec<Line>)> {
        let mut gathered = first.to_owned();
        let mut later = Vec::new();
        let mut place = scan(first, Place::FieldStart);
        while place == Place::Quoted {
            let Some(line) = self.next_line()? else { break };
            let next = match &line.text {
                Ok(next) if gathered.len().saturating_add(next.len()) < MAX_QUOTED_ROW => next,
                _ => {
                    later.push(line);
                    break;
                }
            };
            place = scan(next, Place::Quoted);
            gathered.push('\n');
            gathered.push_str(next);
            later.push(line);
        }
        let closed = !matches!(place, Place::Quoted | Place::BehindQuote);
        Ok((gathered, closed, later))
    }

    fn row(&self, text: &str) -> Result<Json, String> {
        let cells = parse(text).map_err(|error| error.to_string())?;
        if cells.len() != self.columns.len() {
            let (found, named) = (cells.len(), self.columns.len());
            return Err(format!("the row has {found} columns, the header names {named}"));
        }
        let members = self.columns.iter().cloned().zip(cells.into_iter().map(Json::String));
        Ok(Json::Object(members.collect::<Map<_, _>>()))
    }
}

impl Iterator for CsvRows {
    type Item = anyhow::Result<Result<Row, Rejected>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose().map(|row| row.map_err(anyhow::Error::from))
    }
}

const BAD_QUOTE: &str =
    "a quote is not closed where its value ends; double it if it is part of the value";

fn parse(text: &str) -> anyhow::Result<Vec<String>> {
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        // the default of 8 KiB is for files; this is one row
        .buffer_capacity(text.len().max(1))
        .from_reader(text.as_bytes());
    let mut records = reader.into_records();
    let record = records.next().transpose()?.context("the line is blank")?;
    anyhow::ensure!(records.next().is_none(), "the row has a carriage return inside");
    Ok(record.iter().map(str::to_owned).collect())
}

/// Where in a row the next character stands: a quote opens only at the start of a field, and is
/// written twice inside one.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    FieldStart,
    Unquoted,
    Quoted,
    QuoteInQuoted,
    /// Text behind a closing quote. It would be taken as part of the value, and so hide that the
    /// quote before it was a stray one, and that rows in between were swallowed.
    BehindQuote,
}

fn scan(line: &str, start: Place) -> Place {
    line.bytes().fold(start, |place, byte| match (place, byte) {
        (Place::FieldStart | Place::QuoteInQuoted, b'"') => Place::Quoted,
        (Place::Quoted, b'"') => Place::QuoteInQuoted,
        (Place::Quoted, _) => Place::Quoted,
        (Place::BehindQuote, _) => Place::BehindQuote,
        (_, b',') => Place::FieldStart,
        (Place::QuoteInQuoted, byte) if byte != b'\r' => Place::BehindQuote,
        _ => Place::Unquoted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each row's line and its JSON, or the reason why it has none.
    fn rows(text: &'static str) -> Vec<(u64, Result<Json, String>)> {
        let rows = CsvRows::new(Box::new(text.as_bytes())).unwrap();
        rows.map(|row| match row.unwrap() {
            Ok(row) => (row.line, Ok(row.json)),
            Err(rejected) => (rejected.line, Err(rejected.reason)),
        })
        .collect()
    }

    #[test]
    fn cells_are_named_by_the_header_and_quotes_may_span_lines() {
        let found = rows("\u{feff}place, count\r\n\"a, \"\"b\"\"\r\nc\",1\r\n\r\n5\" pipe,2\r\n");
        assert_eq!(
            found,
            [
                (2, Ok(json!({"place": "a, \"b\"\r\nc", "count": "1"}))),
                (5, Ok(json!({"place": "5\" pipe", "count": "2"}))),
            ]
        );
    }

    #[test]
    fn a_row_with_the_wrong_number_of_columns_costs_only_itself() {
        let found = rows("a,b\n1,2\n1,2,3\n1\n3,4\n");
        assert_eq!(found[0], (2, Ok(json!({"a": "1", "b": "2"}))));
        assert_eq!(found[1], (3, Err("the row has 3 columns, the header names 2".into())));
        assert_eq!(found[2], (4, Err("the row has 1 columns, the header names 2".into())));
        assert_eq!(found[3], (5, Ok(json!({"a": "3", "b": "4"}))));
    }

    #[test]
    fn a_quote_that_is_never_closed_costs_only_its_own_line() {
        let found = rows("a,b\n\"x,1\n2,3\n\"y,4\n5,6\n");
        let lines: Vec<_> = found.iter().map(|(line, row)| (*line, row.is_ok())).collect();
        assert_eq!(lines, [(2, false), (3, true), (4, false), (5, true)]);
        assert_eq!(found[2].1, Err(BAD_QUOTE.to_owned()));
    }

    #[test]
    fn a_row_whose_quotes_or_line_ends_are_ambiguous_is_refused() {
        for row in ["\"x\"y,1", "\"x\" ,1", "x,1\ry,2"] {
            let text: &'static str = Box::leak(format!("a,b\n{row}\n3,4\n").into_boxed_str());
            let lines: Vec<_> = rows(text).iter().map(|(line, row)| (*line, row.is_ok())).collect();
            assert_eq!(lines, [(2, false), (3, true)], "{row:?}");
        }
    }

    #[test]
    fn a_header_is_required_and_its_columns_are_distinct() {
        for text in ["", "\n1,2\n", "a,b,a\n"] {
            assert!(CsvRows::new(Box::new(text.as_bytes())).is_err(), "{text:?}");
        }
    }
}
