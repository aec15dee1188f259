//! Where buckets of time begin: all are counted from one moment, here, in what is added up before
//! Postgres is told, and in SQL.

/// 2000-01-03, a Monday, so that buckets of 7d are weeks: in seconds since 1970,
const ORIGIN: i64 = 946_857_600;

/// in microseconds since 2000, as Postgres has it,
pub(super) const ORIGIN_MICROS: i64 = 2 * 86_400_000_000;

/// and in SQL.
pub(super) const ORIGIN_SQL: &str = "timestamptz '2000-01-03 00:00:00+00'";

/// Where the bucket of a moment begins, both in seconds since 1970.
pub(crate) fn bucket(second: i64, width: i64) -> i64 {
    second.saturating_sub(second.saturating_sub(ORIGIN).checked_rem_euclid(width).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_origin_is_one_moment_however_it_is_written() {
        let origin = datetime!(2000-01-03 00:00 UTC);
        assert_eq!(origin.unix_timestamp(), ORIGIN);
        let micros = (origin - datetime!(2000-01-01 00:00 UTC)).whole_microseconds();
        assert_eq!(micros, i128::from(ORIGIN_MICROS));
        assert_eq!(ORIGIN_SQL, format!("timestamptz '{} 00:00:00+00'", origin.date()));
    }
}
