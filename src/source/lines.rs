//! Lines of a text that may be anything: numbered, bounded in length, checked to be UTF-8.

use std::io::{self, BufRead, Read};

/// Longer lines are no records, and must not fill the memory.
pub(super) const MAX_LINE: u64 = 16 << 20;

/// Where lines come from.
pub(super) type Input = Box<dyn BufRead + Send>;

/// One line, without the line feed that ends it.
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// The text, or why it is none.
    pub(super) text: Result<String, Unreadable>,
}

/// A line that is no text.
pub(super) struct Unreadable {
    pub(super) reason: String,
    /// As much of it as can be shown.
    pub(super) beginning: String,
}

/// Iterates over lines; memory is bounded by one line of [`MAX_LINE`] bytes.
pub(super) struct Lines {
    input: Input,
    number: u64,
    limit: u64,
}

impl Lines {
    pub(super) fn new(input: Input) -> Self {
        Self { input, number: 0, limit: MAX_LINE }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(self.limit + 1).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let ended = bytes.pop_if(|last| *last == b'\n').is_some();
        let too_long = u64::try_from(bytes.len()).is_ok_and(|length| length > self.limit);
        if too_long && !ended {
            self.input.skip_until(b'\n')?;
        }
        if self.number == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3); // the byte order mark that spreadsheets write
        }
        let text = if too_long {
            Err(unreadable(format!("the line is longer than {} bytes", self.limit), &bytes))
        } else {
            String::from_utf8(bytes)
                .map_err(|error| unreadable("the line is not UTF-8".to_owned(), error.as_bytes()))
        };
        Ok(Some(Line { number: self.number, text }))
    }
}

impl Iterator for Lines {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn unreadable(reason: String, bytes: &[u8]) -> Unreadable {
    let beginning = bytes.get(..1_000).unwrap_or(bytes);
    Unreadable { reason, beginning: String::from_utf8_lossy(beginning).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &'static [u8], limit: u64) -> Vec<(u64, Result<String, String>)> {
        let lines = Lines { limit, ..Lines::new(Box::new(text)) };
        lines
            .map(|line| line.unwrap())
            .map(|line| (line.number, line.text.map_err(|error| error.reason)))
            .collect()
    }

    #[test]
    fn lines_are_numbered_as_an_editor_does() {
        let found = lines(b"\xef\xbb\xbfa\r\n\nb", 10);
        assert_eq!(found, [(1, Ok("a\r".into())), (2, Ok(String::new())), (3, Ok("b".into()))]);
        assert_eq!(lines(b"", 10), []);
    }

    #[test]
    fn a_line_beyond_the_bound_is_skipped_and_the_next_is_read() {
        let too_long = || Err("the line is longer than 4 bytes".to_owned());
        let found = lines(b"12345678\n1234\n12345\nx", 4);
        assert_eq!(
            found,
            [(1, too_long()), (2, Ok("1234".into())), (3, too_long()), (4, Ok("x".into()))]
        );
    }

    #[test]
    fn a_line_that_is_not_utf_8_costs_only_itself() {
        let found = lines(b"a\n\xff\xfe\nb\n", 10);
        assert_eq!(found[1], (2, Err("the line is not UTF-8".into())));
        assert_eq!(found[2], (3, Ok("b".into())));
    }
}
