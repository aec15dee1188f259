//! A decimal in the binary format of Postgres's numeric.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use num_bigint::{BigInt, Sign};

use super::storable::Refusal;

/// `numeric_recv`: digits of base 10000, the weight of the first, the sign, the display scale.
pub(super) fn numeric(
    unscaled: &BigInt,
    scale: i64,
    precision: Option<usize>,
) -> Result<Vec<u8>, Refusal> {
    let out_of_range = |detail: String| ("numeric_out_of_range", detail);
    let digits = unscaled.magnitude().to_str_radix(10);
    if let Some(precision) = precision
        && digits.len() > precision
    {
        return Err(out_of_range(format!(
            "has {} digits; expected up to {precision}",
            digits.len()
        )));
    }
    if !(-131_072..=16_383).contains(&scale) {
        return Err(out_of_range(format!("has a scale of {scale}; Postgres goes up to 16383")));
    }
    // zeros in front and behind put the point on a border between groups of four
    let (behind, scale) = match usize::try_from(scale) {
        Ok(scale) => (up_to_four(scale), scale),
        Err(_) => (usize::try_from(scale.unsigned_abs()).unwrap_or(0), 0),
    };
    let mut digits = digits.into_bytes();
    digits.resize(digits.len().saturating_add(behind), b'0');
    let front = up_to_four(digits.len());
    let fraction_groups = scale.div_ceil(4);
    let padded: Vec<u8> = std::iter::repeat_n(b'0', front).chain(digits).collect();
    // four digits, so up to 9999
    let append = |sum: i16, digit: &u8| {
        sum.saturating_mul(10).saturating_add(i16::from(digit.saturating_sub(b'0')))
    };
    let group = |group: &[u8]| group.iter().fold(0, append);
    let groups: Vec<i16> = padded.chunks(4).map(group).collect();
    let too_long = |_| out_of_range("has more digits than Postgres can hold".to_owned());
    let length = i16::try_from(groups.len()).map_err(too_long)?;
    let fraction_groups = i16::try_from(fraction_groups).map_err(too_long)?;
    let weight = length.saturating_sub(fraction_groups).saturating_sub(1);
    let sign: u16 = if unscaled.sign() == Sign::Minus { 0x4000 } else { 0 };
    let scale = u16::try_from(scale).map_err(too_long)?;
    let mut bytes = Vec::with_capacity(groups.len().saturating_mul(2).saturating_add(8));
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&weight.to_be_bytes());
    bytes.extend_from_slice(&sign.to_be_bytes());
    bytes.extend_from_slice(&scale.to_be_bytes());
    groups.iter().for_each(|group| bytes.extend_from_slice(&group.to_be_bytes()));
    Ok(bytes)
}

/// How many digits are missing to a whole number of groups.
fn up_to_four(digits: usize) -> usize {
    digits.next_multiple_of(4).saturating_sub(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_with_more_digits_than_its_precision_is_refused() {
        assert!(numeric(&BigInt::from(999), 2, Some(3)).is_ok());
        assert_eq!(numeric(&BigInt::from(1000), 2, Some(3)).unwrap_err().0, "numeric_out_of_range");
    }
}
