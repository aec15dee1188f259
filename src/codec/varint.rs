//! Avro's numbers: of variable length, zigzag encoded, of up to ten bytes.

/// Why there is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoNumber {
    /// The bytes end before it does.
    Truncated,
    /// It has more bytes than any number.
    Malformed,
}

/// Takes a number off the front, as apache-avro does: bits beyond the 64th are dropped.
#[inline]
pub(super) fn take(rest: &mut &[u8]) -> Result<i64, NoNumber> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, behind) = rest.split_first().ok_or(NoNumber::Truncated)?;
        *rest = behind;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let sign = (number & 1).cast_signed().wrapping_neg();
            return Ok((number >> 1).cast_signed() ^ sign);
        }
    }
    Err(NoNumber::Malformed)
}
