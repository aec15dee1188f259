//! Tables for a person.

use std::ops::RangeInclusive;

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

/// A table with nothing in it yet; the columns of a range hold numbers, which stand at the right.
pub(crate) fn table<const N: usize>(header: [&str; N], numbers: RangeInclusive<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header);
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
