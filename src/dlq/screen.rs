//! What a terminal shows: text that stays on its line.

use comfy_table::Table;
use serde_json::Value as Json;
use time::{OffsetDateTime, UtcOffset, macros::format_description};

/// How many characters a line has where nobody says otherwise.
const WIDTH: usize = 80;

/// Where the texts of entries begin.
const INDENT: usize = 12;

/// How many characters of an entry are shown.
const LONGEST: usize = 2_000;

/// How many characters a line of this terminal has; 80 where there is none.
pub fn width() -> usize {
    Table::new().width().map_or(WIDTH, |width| usize::from(width).max(WIDTH))
}

/// Named entries below one another, whose texts begin in one column.
pub(super) struct Screen {
    text: String,
    width: usize,
}

impl Screen {
    pub(super) fn new(width: usize) -> Screen {
        Screen { text: String::new(), width }
    }

    /// A text, on as many lines as it takes, up to a point.
    pub(super) fn entry(&mut self, name: &str, value: &str) {
        let value = cut(value, LONGEST);
        let lines = wrapped(&value, self.width.saturating_sub(INDENT));
        for (at, line) in lines.iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            let line = format!("{name:<INDENT$}{line}");
            self.text.extend([line.trim_end(), "\n"]);
        }
    }

    /// JSON under its name, with a line a member.
    pub(super) fn json(&mut self, name: &str, json: &Json) {
        self.text.extend([name, "\n"]);
        let pretty = serde_json::to_string_pretty(json).unwrap_or_default();
        for line in pretty.lines() {
            self.text.extend([&cut(line, self.width), "\n"]);
        }
    }

    /// Lines as they are.
    pub(super) fn lines(&mut self, lines: &str) {
        self.text.push_str(lines);
    }

    pub(super) fn text(self) -> String {
        self.text
    }
}

/// A text of at most so many characters: what goes beyond is an ellipsis, and what would move the
/// cursor, or worse, is made visible.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let text = printable(text);
    match text.char_indices().nth(most) {
        None => text,
        Some(_) => {
            let kept: String = text.chars().take(most.saturating_sub(1)).collect();
            format!("{}…", kept.trim_end())
        }
    }
}

/// A text whose control characters are spelled out: foreign bytes must not command a terminal.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        // those that turn the writing around are no controls to Rust
        match character.is_control() || ('\u{202a}'..='\u{202e}').contains(&character) {
            true => printable.extend(character.escape_default()),
            false => printable.push(character),
        }
    }
    printable
}

/// An instant to the second, in UTC.
pub(super) fn moment(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    at.to_offset(UtcOffset::UTC).format(format).unwrap_or_else(|_| at.to_string())
}

/// An instant to the minute, in UTC.
pub(crate) fn minute(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
    at.to_offset(UtcOffset::UTC).format(format).unwrap_or_else(|_| at.to_string())
}

/// Rows under their headings, each column as wide as it must be; the last one is cut at the line's
/// end.
pub(super) fn columns<const N: usize>(
    headings: [&str; N],
    most: [usize; N],
    rows: &[[String; N]],
    width: usize,
) -> String {
    let fit = |row: [String; N]| {
        let mut most = most.iter();
        row.map(|cell| cut(&cell, most.next().copied().unwrap_or(width)))
    };
    let rows = std::iter::once(headings.map(str::to_owned)).chain(rows.iter().cloned());
    let rows: Vec<[String; N]> = rows.map(fit).collect();
    let longest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(longest).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", cut(line.trim_end(), width))
    };
    rows.iter().map(line).collect()
}

/// A text in lines of at most so many characters, broken at spaces where there are some.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut room = width;
    for word in text.split(' ') {
        let mut word = word;
        let length = word.chars().count();
        if room < width && length.saturating_add(1) > room {
            lines.push(String::new());
            room = width;
        }
        if room < width
            && let Some(line) = lines.last_mut()
        {
            line.push(' ');
            room = room.saturating_sub(1);
        }
        while let Some((end, _)) = word.char_indices().nth(room) {
            let (head, tail) = word.split_at(end);
            if let Some(line) = lines.last_mut() {
                line.push_str(head);
            }
            lines.push(String::new());
            (word, room) = (tail, width);
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
            room = room.saturating_sub(word.chars().count());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_ends_in_an_ellipsis() {
        assert_eq!(cut("grüße", 5), "grüße");
        assert_eq!(cut("grüße", 4), "grü…");
        assert_eq!(cut("a b", 2), "a…");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn foreign_text_commands_no_terminal() {
        assert_eq!(printable("a\u{1b}[2J\n\u{202e}b\u{9b}"), "a\\u{1b}[2J\\n\\u{202e}b\\u{9b}");
    }

    #[test]
    fn words_are_wrapped_and_long_ones_broken() {
        assert_eq!(wrapped("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrapped("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
