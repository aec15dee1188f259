//! Numbers, from their text and without losing a digit.
//!
//! JSON numbers come through here as text too, so JSON and CSV are held to the same rules.

use apache_avro::types::Value;

use super::scalar::shown;

/// A whole number; a fraction of zeros is allowed, for programs that keep integers as floats.
pub(super) fn integer<T: TryFrom<i64>>(text: &str) -> Result<T, String> {
    /// From here on a double skips whole numbers.
    const EXACT_IN_A_DOUBLE: u64 = 1 << 53;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.bytes().any(|digit| digit != b'0') {
        return Err(format!("expected a whole number, found {:?}", shown(text)));
    }
    let number: i64 =
        whole.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                out_of_range(text)
            }
            _ => format!("expected a whole number, found {:?}", shown(text)),
        })?;
    if text.contains('.') && number.unsigned_abs() >= EXACT_IN_A_DOUBLE {
        return Err(format!("{text} may have been rounded; write it without a fraction"));
    }
    T::try_from(number).map_err(|_| out_of_range(text))
}

/// The nearest double; never NaN or infinite.
pub(super) fn double(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| not_a_number(text))?;
    if number.is_finite() { Ok(number) } else { Err(out_of_range(text)) }
}

/// The nearest float; never NaN or infinite.
pub(super) fn float(text: &str) -> Result<f32, String> {
    let number: f32 = text.parse().map_err(|_| not_a_number(text))?;
    if number.is_finite() { Ok(number) } else { Err(out_of_range(text)) }
}

/// The unscaled value as two's complement bytes, most significant first.
pub(super) fn decimal(
    text: &str,
    precision: usize,
    scale: usize,
    size: usize,
) -> Result<Vec<u8>, String> {
    let number = Plain::parse(text)?;
    let missing_zeros =
        i64::try_from(scale).map_err(|_| out_of_range(text))?.saturating_sub(number.decimals);
    let Ok(missing_zeros) = usize::try_from(missing_zeros) else {
        return Err(format!("{text} has more than {scale} digits after the point"));
    };
    let mut digits = number.digits;
    if !digits.is_empty() {
        if digits.len().saturating_add(missing_zeros) > precision {
            return Err(format!(
                "{text} does not fit in {precision} digits, {scale} of them decimals"
            ));
        }
        digits.extend(std::iter::repeat_n(0, missing_zeros));
    }
    twos_complement(&digits, number.negative, size)
        .ok_or_else(|| format!("{text} does not fit in {size} bytes"))
}

/// A decimal that keeps its own scale.
pub(super) fn big_decimal(text: &str) -> Result<Value, String> {
    // refuses what the decimal library would take besides, such as 1_000
    Plain::parse(text)?;
    text.parse().map(Value::BigDecimal).map_err(|_| not_a_number(text))
}

/// Bytes that hold any number of `precision` decimal digits and a sign.
///
/// Readers refuse a decimal that is shorter than its precision needs, so values are padded to this.
pub(super) fn bytes_for(precision: usize) -> usize {
    // a digit takes log2(10) = 3.3219... bits
    precision.saturating_mul(3_322) / 8_000 + 2
}

/// How many significant digits the text has.
pub(super) fn digits(text: &str) -> usize {
    Plain::parse(text).map_or(usize::MAX, |number| number.digits.len())
}

/// Whether the text is a number rather than a date or a time.
pub(super) fn is_number(text: &str) -> bool {
    Plain::parse(text).is_ok()
}

/// A decimal number taken apart: digits, without zeros at either end, times 10 to minus `decimals`.
struct Plain {
    negative: bool,
    digits: Vec<u8>,
    decimals: i64,
}

impl Plain {
    /// Far beyond any measured value; bounds what one row can make us compute.
    const LONGEST: usize = 1_000;

    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > Self::LONGEST {
            return Err(format!("the number has more than {} characters", Self::LONGEST));
        }
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let exponent: i16 = exponent.parse().map_err(|_| not_a_number(text))?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = whole.bytes().chain(fraction.bytes());
        if mantissa.len() < 2 && !mantissa.starts_with(|first: char| first.is_ascii_digit())
            || !all.clone().all(|digit| digit.is_ascii_digit())
        {
            return Err(not_a_number(text));
        }
        let mut digits: Vec<u8> =
            all.map(|digit| digit - b'0').skip_while(|digit| *digit == 0).collect();
        let mut decimals = i64::try_from(fraction.len()).map_err(|_| not_a_number(text))?;
        decimals -= i64::from(exponent);
        while digits.pop_if(|last| *last == 0).is_some() {
            decimals -= 1;
        }
        if digits.is_empty() {
            decimals = 0;
        }
        Ok(Self { negative, digits, decimals })
    }
}

/// None where the number needs more than `size` bytes.
fn twos_complement(digits: &[u8], negative: bool, size: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0u8; size];
    for digit in digits {
        let mut carry = u16::from(*digit);
        for byte in bytes.iter_mut().rev() {
            let [high, low] = (u16::from(*byte) * 10 + carry).to_be_bytes();
            (*byte, carry) = (low, u16::from(high));
        }
        if carry != 0 {
            return None;
        }
    }
    if bytes.first().is_some_and(|first| *first >= 0x80) {
        return None; // the place of the sign is taken
    }
    if negative {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    Some(bytes)
}

fn not_a_number(text: &str) -> String {
    format!("expected a number, found {:?}", shown(text))
}

fn out_of_range(text: &str) -> String {
    format!("{} is out of range", shown(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_may_have_a_fraction_of_zeros_and_nothing_else() {
        assert_eq!(integer::<i32>("127.0"), Ok(127));
        assert_eq!(integer::<i64>("-9223372036854775808"), Ok(i64::MIN));
        for text in ["1.5", "1.", ".0", "", "1e3", "0x1", "1 000", "9007199254740992.0"] {
            assert!(integer::<i64>(text).is_err(), "{text}");
        }
        assert_eq!(integer::<i32>("2147483648"), Err("2147483648 is out of range".into()));
        assert!(integer::<i64>("9223372036854775808").unwrap_err().contains("out of range"));
    }

    #[test]
    fn nan_and_infinity_are_not_readings() {
        for text in ["NaN", "inf", "-Infinity", "1e400", "", "one"] {
            assert!(double(text).is_err(), "{text}");
            assert!(float(text).is_err(), "{text}");
        }
        assert!(float("1e39").is_err());
        assert_eq!(double("-36.84817"), Ok(-36.84817));
    }

    #[test]
    fn decimals_are_exact() {
        let unscaled =
            |text| decimal(text, 10, 2, 8).map(|b| i64::from_be_bytes(b.try_into().unwrap()));
        assert_eq!(unscaled("12345678.90"), Ok(1_234_567_890));
        assert_eq!(unscaled("-0.01"), Ok(-1));
        assert_eq!(unscaled("1e3"), Ok(100_000));
        assert_eq!(unscaled("120e-1"), Ok(1_200));
        assert_eq!(unscaled("-0"), Ok(0));
        assert_eq!(unscaled("0e9000"), Ok(0));
        assert_eq!(unscaled("1.500"), Ok(150));
        for text in ["0.001", "123456789", "1e8", "1e9999", "1e99999", ".", "-", "", "1_0", "1e"] {
            assert!(unscaled(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_decimal_that_is_too_large_for_its_bytes_is_refused() {
        assert_eq!(decimal("127", 3, 0, 1), Ok(vec![0x7f]));
        assert_eq!(decimal("-127", 3, 0, 1), Ok(vec![0x81]));
        for text in ["128", "256", "999"] {
            assert!(decimal(text, 3, 0, 1).is_err(), "{text}");
        }
    }
}
