//! What Postgres can store of what Avro can say: each refusal has a reason of its own. Pure.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::ops::Range;

use apache_avro::types::Value;
use time::OffsetDateTime;

use crate::codec::Instant;

/// Microseconds from 1970 to 2000, where Postgres's clock starts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Days from 1970 to 2000.
const EPOCH_DAYS: i32 = 10_957;

/// What Postgres's timestamps reach, in microseconds since 2000: 4713 BC up to 294277 AD.
pub(super) const TIMESTAMPS: Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// What its dates reach, in days since 2000: 4713 BC up to 5874898 AD.
const DATES: Range<i32> = -2_451_545..2_145_031_949;

/// A reason code and what is wrong.
pub(super) type Refusal = (&'static str, String);

/// Whether Postgres can hold an instant, in microseconds since 1970.
pub fn is_storable_instant(micros: i64) -> bool {
    micros.checked_sub(EPOCH_MICROS).is_some_and(|micros| TIMESTAMPS.contains(&micros))
}

/// An instant in microseconds since 1970, if its year has at most four digits and Postgres holds it.
pub fn storable_instant(micros: i64) -> Option<OffsetDateTime> {
    if !is_storable_instant(micros) {
        return None;
    }
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros).saturating_mul(1_000)).ok()
}

pub(super) fn without_nul(text: &str) -> Result<&str, Refusal> {
    match memchr::memchr(0, text.as_bytes()) {
        Some(at) => {
            Err(("nul_character", format!("has a NUL at byte {at}, which text can't hold")))
        }
        None => Ok(text),
    }
}

/// NaN and the infinities would spread into every sum they meet.
pub(super) fn finite<T: std::fmt::Display>(value: T, is_finite: bool) -> Result<T, Refusal> {
    if is_finite { Ok(value) } else { Err(("not_finite", format!("is {value}"))) }
}

/// Whether every text and number inside a nested value can be in jsonb.
pub(super) fn storable(value: &Value) -> Result<(), Refusal> {
    match value {
        Value::String(text) | Value::Enum(_, text) => without_nul(text).map(drop),
        Value::Float(value) => finite(*value, value.is_finite()).map(drop),
        Value::Double(value) => finite(*value, value.is_finite()).map(drop),
        Value::Union(_, inner) => storable(inner),
        Value::Array(items) => items.iter().try_for_each(storable),
        Value::Record(fields) => fields.iter().try_for_each(|(_, value)| storable(value)),
        Value::Map(entries) => entries.iter().try_for_each(|(key, value)| {
            without_nul(key)?;
            storable(value)
        }),
        _ => Ok(()),
    }
}

pub(super) fn timestamp(instant: Instant) -> Result<i64, Refusal> {
    let micros = instant.micros().and_then(|micros| micros.checked_sub(EPOCH_MICROS));
    micros.filter(|micros| TIMESTAMPS.contains(micros)).ok_or_else(|| {
        let (number, unit) = match instant {
            Instant::Millis(at) => (at, "ms"),
            Instant::Micros(at) => (at, "us"),
            Instant::Nanos(at) => (at, "ns"),
        };
        let detail =
            format!("is {number} {unit} from 1970; Postgres goes from 4713 BC to 294276 AD");
        ("timestamp_out_of_range", detail)
    })
}

pub(super) fn date(days: i32) -> Result<i32, Refusal> {
    days.checked_sub(EPOCH_DAYS).filter(|days| DATES.contains(days)).ok_or_else(|| {
        let detail = format!("is day {days} since 1970; Postgres goes from 4713 BC to 5874897 AD");
        ("date_out_of_range", detail)
    })
}

pub(super) fn time_of_day(micros: i64) -> Result<i64, Refusal> {
    if (0..=86_400_000_000).contains(&micros) {
        return Ok(micros);
    }
    Err((
        "time_out_of_range",
        format!("is {micros} microseconds after midnight; a day has 86400000000"),
    ))
}

pub(super) fn interval(duration: &apache_avro::Duration) -> Result<Vec<u8>, Refusal> {
    let count = |what, count: u32| {
        let detail = || format!("has {count} {what}; Postgres counts up to {}", i32::MAX);
        i32::try_from(count).map_err(|_| ("interval_out_of_range", detail()))
    };
    let days = count("days", duration.days().into())?;
    let months = count("months", duration.months().into())?;
    let micros = i64::from(u32::from(duration.millis())).saturating_mul(1_000);
    Ok([&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_beyond_postgres_are_refused() {
        let first = TIMESTAMPS.start / 1_000 + EPOCH_MICROS / 1_000;
        assert!(timestamp(Instant::Millis(first)).is_ok());
        assert!(timestamp(Instant::Micros(i64::MAX)).is_ok());
        for value in [first - 1, i64::MIN, i64::MAX] {
            let refusal = timestamp(Instant::Millis(value)).unwrap_err();
            assert_eq!(refusal.0, "timestamp_out_of_range");
        }
    }

    #[test]
    fn what_json_or_text_cannot_hold_is_refused_at_any_depth() {
        let nested = |value| Value::Array(vec![Value::Map([("a".to_owned(), value)].into())]);
        assert_eq!(storable(&nested(Value::Double(f64::NAN))).unwrap_err().0, "not_finite");
        assert_eq!(storable(&nested(Value::String("a\0".into()))).unwrap_err().0, "nul_character");
        assert!(storable(&nested(Value::String("a".into()))).is_ok());
    }
}
