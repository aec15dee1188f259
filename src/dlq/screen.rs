//! What a terminal shows: text that stays on its line.

use comfy_table::Table;
use time::{OffsetDateTime, UtcOffset, macros::format_description};

/// How many characters a line has where nobody says otherwise.
const WIDTH: usize = 80;

/// How many characters a line of this terminal has; 80 where there is none.
pub fn width() -> usize {
    Table::new().width().map_or(WIDTH, |width| usize::from(width).max(WIDTH))
}

/// A text of at most so many characters: what goes beyond is an ellipsis, and what would move the
/// cursor, or worse, is made visible.
pub(super) fn cut(text: &str, most: usize) -> String {
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
pub(super) fn minute(at: OffsetDateTime) -> String {
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
}
