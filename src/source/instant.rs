//! Dates, times, instants and durations: ISO 8601, or numbers in the schema's own unit.
//!
//! An instant needs a time zone (`Z` or an offset); a local timestamp must not have one. Digits
//! finer than the schema's unit are cut off, never rounded into the next second.

use apache_avro::schema::Schema;
use apache_avro::types::Value;
use apache_avro::{Days, Duration, Millis, Months};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use super::number;
use super::scalar::shown;

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[hour]:[minute][optional [:[second][optional [.[subsecond]]]]]");
const OFFSET: &[BorrowedFormatItem<'_>] =
    format_description!("[offset_hour sign:mandatory][optional [[optional [:]][offset_minute]]]");

/// A number in the schema's own unit, such as milliseconds since 1970 for `timestamp-millis`.
pub(super) fn from_number(text: &str, schema: &Schema) -> Result<Value, String> {
    const DAY_IN_MICROSECONDS: i64 = 86_400_000_000;
    let number = number::integer::<i64>(text)?;
    let out_of_range = |_| format!("{text} is out of range");
    match schema {
        Schema::Date => i32::try_from(number).map(Value::Date).map_err(out_of_range),
        Schema::TimeMillis if (0..DAY_IN_MICROSECONDS / 1_000).contains(&number) => {
            i32::try_from(number).map(Value::TimeMillis).map_err(out_of_range)
        }
        Schema::TimeMicros if (0..DAY_IN_MICROSECONDS).contains(&number) => {
            Ok(Value::TimeMicros(number))
        }
        Schema::TimeMillis | Schema::TimeMicros => Err(format!("{text} is not a time of day")),
        Schema::TimestampMillis => Ok(Value::TimestampMillis(number)),
        Schema::TimestampMicros => Ok(Value::TimestampMicros(number)),
        Schema::TimestampNanos => Ok(Value::TimestampNanos(number)),
        Schema::LocalTimestampMillis => Ok(Value::LocalTimestampMillis(number)),
        Schema::LocalTimestampMicros => Ok(Value::LocalTimestampMicros(number)),
        Schema::LocalTimestampNanos => Ok(Value::LocalTimestampNanos(number)),
        _ => Err("is not a time".to_owned()),
    }
}

/// An ISO 8601 text in the extended format, as in RFC 3339.
pub(super) fn from_text(text: &str, schema: &Schema) -> Result<Value, String> {
    match schema {
        Schema::Date => Date::parse(text, DATE)
            .ok()
            .and_then(|date| {
                i32::try_from((date - OffsetDateTime::UNIX_EPOCH.date()).whole_days()).ok()
            })
            .map(Value::Date)
            .ok_or_else(|| unexpected("a date such as 2023-10-01", text)),
        Schema::TimeMillis => {
            let millis = nanoseconds_of_day(text)? / 1_000_000;
            i32::try_from(millis).map(Value::TimeMillis).map_err(|_| unexpected("a time", text))
        }
        Schema::TimeMicros => Ok(Value::TimeMicros(nanoseconds_of_day(text)? / 1_000)),
        Schema::TimestampMillis => instant(text, 1_000_000).map(Value::TimestampMillis),
        Schema::TimestampMicros => instant(text, 1_000).map(Value::TimestampMicros),
        Schema::TimestampNanos => instant(text, 1).map(Value::TimestampNanos),
        Schema::LocalTimestampMillis => local(text, 1_000_000).map(Value::LocalTimestampMillis),
        Schema::LocalTimestampMicros => local(text, 1_000).map(Value::LocalTimestampMicros),
        Schema::LocalTimestampNanos => local(text, 1).map(Value::LocalTimestampNanos),
        _ => Err("is not a time".to_owned()),
    }
}

/// An ISO 8601 duration such as `P1Y2M3DT4H5M6.789S`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let problem = || unexpected("a duration such as P1DT12H", text);
    let body = text.strip_prefix('P').filter(|body| !body.is_empty()).ok_or_else(problem)?;
    let (mut date, mut time) = body.split_once('T').unwrap_or((body, ""));
    let take = |rest: &mut &str, unit: char, scale: u32| -> Result<u32, String> {
        let Some((amount, after)) = rest.split_once(unit) else { return Ok(0) };
        *rest = after;
        let amount: u32 = amount.parse().map_err(|_| problem())?;
        amount.checked_mul(scale).ok_or_else(problem)
    };
    let months = [take(&mut date, 'Y', 12)?, take(&mut date, 'M', 1)?];
    let days = [take(&mut date, 'W', 7)?, take(&mut date, 'D', 1)?];
    let mut millis = vec![take(&mut time, 'H', 3_600_000)?, take(&mut time, 'M', 60_000)?];
    if let Some((seconds, after)) = time.split_once('S') {
        time = after;
        millis
            .push(number::decimal(seconds, 10, 3, 8).ok().and_then(unsigned).ok_or_else(problem)?);
    }
    if !date.is_empty() || !time.is_empty() || body.ends_with('T') {
        return Err(problem());
    }
    let sum = |parts: &[u32]| {
        parts.iter().try_fold(0u32, |sum, part| sum.checked_add(*part)).ok_or_else(problem)
    };
    Ok(Duration::new(
        Months::new(sum(&months)?),
        Days::new(sum(&days)?),
        Millis::new(sum(&millis)?),
    ))
}

fn unsigned(bytes: Vec<u8>) -> Option<u32> {
    u32::try_from(i64::from_be_bytes(bytes.try_into().ok()?)).ok()
}

fn instant(text: &str, nanoseconds: i128) -> Result<i64, String> {
    match date_and_time(text) {
        Some((time, Some(offset))) => in_unit(time.assume_offset(offset), nanoseconds, text),
        Some((_, None)) => {
            Err(format!("{text:?} has no time zone; add Z, or an offset such as +02:00"))
        }
        None => Err(unexpected("a time such as 2023-10-01T00:00:00Z", text)),
    }
}

fn local(text: &str, nanoseconds: i128) -> Result<i64, String> {
    match date_and_time(text) {
        Some((time, None)) => in_unit(time.assume_utc(), nanoseconds, text),
        Some((_, Some(_))) => {
            Err(format!("{text:?} has a time zone; a local timestamp must not have one"))
        }
        None => Err(unexpected("a local time such as 2023-10-01T00:00:00", text)),
    }
}

fn in_unit(time: OffsetDateTime, nanoseconds: i128, text: &str) -> Result<i64, String> {
    i64::try_from(time.unix_timestamp_nanos().div_euclid(nanoseconds))
        .map_err(|_| format!("{text} is out of range"))
}

/// The parts are read one by one because the `time` crate's own ISO 8601 parser takes fractions of
/// a second through a double.
fn date_and_time(text: &str) -> Option<(PrimitiveDateTime, Option<UtcOffset>)> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let (time, offset) = match rest.find(['Z', 'z', '+', '-']) {
        Some(position) => {
            let (time, offset) = rest.split_at_checked(position)?;
            (time, Some(offset))
        }
        None => (rest, None),
    };
    let offset = match offset.map(str::trim) {
        None => None,
        Some("Z" | "z") => Some(UtcOffset::UTC),
        Some(offset) => Some(UtcOffset::parse(offset, OFFSET).ok()?),
    };
    let (date, time) = (Date::parse(date, DATE).ok()?, Time::parse(time.trim_end(), TIME).ok()?);
    Some((PrimitiveDateTime::new(date, time), offset))
}

fn nanoseconds_of_day(text: &str) -> Result<i64, String> {
    let time =
        Time::parse(text, TIME).map_err(|_| unexpected("a time of day such as 23:59:59", text))?;
    i64::try_from((time - Time::MIDNIGHT).whole_nanoseconds())
        .map_err(|_| unexpected("a time of day", text))
}

fn unexpected(wanted: &str, text: &str) -> String {
    format!("expected {wanted}, found {:?}", shown(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_of_an_instant_is_the_same_instant() {
        for text in [
            "2016-11-24T13:58:59.334Z",
            "2016-11-24t13:58:59.334z",
            "2016-11-24 13:58:59.334+00:00",
            "2016-11-24 13:58:59.334 +0000",
            "2016-11-24T14:58:59.3349999999999+01",
            "2016-11-24T08:28:59.334-05:30",
        ] {
            let value = from_text(text, &Schema::TimestampMillis);
            assert_eq!(value, Ok(Value::TimestampMillis(1_479_995_939_334)), "{text}");
        }
    }

    #[test]
    fn an_instant_needs_a_time_zone_and_a_local_timestamp_refuses_one() {
        let plain = "2016-11-24T13:58:59";
        let zoned = "2016-11-24T13:58:59Z";
        let error = from_text(plain, &Schema::TimestampMillis).unwrap_err();
        assert!(error.contains("no time zone"), "{error}");
        let error = from_text(zoned, &Schema::LocalTimestampMicros).unwrap_err();
        assert!(error.contains("has a time zone"), "{error}");
        let local = from_text(plain, &Schema::LocalTimestampMicros);
        assert_eq!(local, Ok(Value::LocalTimestampMicros(1_479_995_939_000_000)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2016-11-24",
            "2016-13-01T00:00:00Z",
            "2016-11-24T25:00:00Z",
            "é Té Zé",
            "2016-11-24T00:00:00+99:99",
            "24/11/2016 13:58Z",
        ] {
            assert!(from_text(text, &Schema::TimestampMillis).is_err(), "{text}");
        }
        assert!(from_text("9999-12-31T00:00:00Z", &Schema::TimestampNanos).is_err());
        assert!(from_text("2016-11-24T00:00:00Z", &Schema::Date).is_err());
    }

    #[test]
    fn times_before_1970_are_cut_off_downwards() {
        let value = from_text("1969-12-31T23:59:59.9995Z", &Schema::TimestampMillis);
        assert_eq!(value, Ok(Value::TimestampMillis(-1)));
        assert_eq!(from_text("1969-12-31", &Schema::Date), Ok(Value::Date(-1)));
    }

    #[test]
    fn a_time_of_day_stays_within_its_day() {
        assert_eq!(
            from_text("23:59:59.999", &Schema::TimeMillis),
            Ok(Value::TimeMillis(86_399_999))
        );
        assert_eq!(from_text("12:30", &Schema::TimeMicros), Ok(Value::TimeMicros(45_000_000_000)));
        assert!(from_number("86400000", &Schema::TimeMillis).is_err());
        assert!(from_number("-1", &Schema::TimeMicros).is_err());
        assert!(from_text("24:00", &Schema::TimeMillis).is_err());
    }

    #[test]
    fn durations_are_iso_8601() {
        let expected = Duration::new(Months::new(14), Days::new(10), Millis::new(14_706_789));
        assert_eq!(duration("P1Y2M1W3DT4H5M6.789S"), Ok(expected));
        assert_eq!(duration("PT90S").map(|d| d.millis() == Millis::new(90_000)), Ok(true));
        for text in [
            "",
            "P",
            "PT",
            "1D",
            "P1",
            "P1S",
            "PT1D",
            "P2D1M",
            "P-1D",
            "PT0.0001S",
            "P4294967296D",
            "PT1193H2M48S1",
            "PT-1S",
            "PT5000000S",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
