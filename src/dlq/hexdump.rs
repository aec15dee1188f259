//! Bytes as a person reads them: sixteen a line, with their place and the text in them.

use std::{fmt::Write, ops::Range};

/// How many bytes a line has.
pub(super) const LINE: usize = 16;

/// Where the first digit of a byte is on its line.
fn column(at: usize) -> usize {
    let gap = usize::from(at >= LINE / 2);
    at.saturating_mul(3).saturating_add(10).saturating_add(gap)
}

/// The lines of some bytes; `marked` has `^^` under it. A byte behind the last one may be marked too.
pub(super) fn hexdump(bytes: &[u8], lines: Range<usize>, marked: Option<usize>) -> String {
    let mut dump = String::new();
    for line in lines {
        let start = line.saturating_mul(LINE);
        let chunk = bytes.get(start..bytes.len().min(start.saturating_add(LINE)));
        let chunk = chunk.unwrap_or_default();
        let here = marked.and_then(|at| at.checked_sub(start)).filter(|at| *at < LINE);
        if chunk.is_empty() && here.is_none() {
            break;
        }
        let mut digits = String::new();
        for (at, byte) in chunk.iter().enumerate() {
            let gap = if at == LINE / 2 { "  " } else { " " };
            _ = write!(digits, "{gap}{byte:02x}");
        }
        let printed = |byte: &u8| match byte {
            0x20..=0x7e => char::from(*byte),
            _ => '.',
        };
        let text: String = chunk.iter().map(printed).collect();
        _ = writeln!(dump, "{start:08x} {digits:<50} |{text}|");
        if let Some(at) = here {
            _ = writeln!(dump, "{:1$}^^", "", column(at));
        }
    }
    dump
}

/// The lines around a byte: its own, two before and one behind.
pub(super) fn around(at: usize) -> Range<usize> {
    let line = at / LINE;
    line.saturating_sub(2)..line.saturating_add(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_sixteen_bytes_their_place_and_their_text() {
        let bytes: Vec<u8> = (b'$'..=b'~').chain([0, 0xff]).collect();
        insta::assert_snapshot!(hexdump(&bytes, 0..9, None), @r#"
        00000000  24 25 26 27 28 29 2a 2b  2c 2d 2e 2f 30 31 32 33  |$%&'()*+,-./0123|
        00000010  34 35 36 37 38 39 3a 3b  3c 3d 3e 3f 40 41 42 43  |456789:;<=>?@ABC|
        00000020  44 45 46 47 48 49 4a 4b  4c 4d 4e 4f 50 51 52 53  |DEFGHIJKLMNOPQRS|
        00000030  54 55 56 57 58 59 5a 5b  5c 5d 5e 5f 60 61 62 63  |TUVWXYZ[\]^_`abc|
        00000040  64 65 66 67 68 69 6a 6b  6c 6d 6e 6f 70 71 72 73  |defghijklmnopqrs|
        00000050  74 75 76 77 78 79 7a 7b  7c 7d 7e 00 ff           |tuvwxyz{|}~..|
        "#);
    }

    #[test]
    fn the_byte_where_it_went_wrong_is_marked() {
        let bytes = [7; 40];
        for (at, column) in [(0, 10), (7, 31), (8, 35), (15, 56)] {
            let dump = hexdump(&bytes, around(at), Some(at));
            let mark = dump.lines().nth(1).unwrap();
            assert_eq!(mark.find("^^"), Some(column), "{dump}");
            assert_eq!(&dump.lines().next().unwrap()[column..column + 2], "07");
        }
        insta::assert_snapshot!(hexdump(&bytes, around(39), Some(39)), @"
        00000000  07 07 07 07 07 07 07 07  07 07 07 07 07 07 07 07  |................|
        00000010  07 07 07 07 07 07 07 07  07 07 07 07 07 07 07 07  |................|
        00000020  07 07 07 07 07 07 07 07                           |........|
                                       ^^
        ");
    }

    #[test]
    fn a_byte_that_is_missing_is_marked_where_it_would_be() {
        insta::assert_snapshot!(hexdump(&[1; 16], around(16), Some(16)), @"
        00000000  01 01 01 01 01 01 01 01  01 01 01 01 01 01 01 01  |................|
        00000010                                                    ||
                  ^^
        ");
        insta::assert_snapshot!(hexdump(&[], around(0), Some(0)), @"
        00000000                                                    ||
                  ^^
        ");
    }
}
