//! One alert of one series, from bucket to bucket: what opens it and what resolves it.
//!
//! Pure. The condition has to hold in some buckets, one after the other, to open the alert, and to be
//! over in some to resolve it, so that a value that wavers around a limit makes one alert and not many.
//! A bucket that does not say whether it is so breaks either run and changes nothing.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::contract::Truth;

/// A series of an alert. Moments are the beginnings of buckets, in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    /// Its last bucket with an event.
    pub(super) seen_at: i64,
    pub(super) standing: Standing,
}

/// Whether the alert is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is not; the condition has held from this bucket on, if it holds.
    Quiet { holding_since: Option<i64> },
    /// It is; the condition has been over from this bucket on, if it is.
    Open { clearing_since: Option<i64> },
}

/// What opens and what resolves an alert.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    /// The width of a bucket in seconds.
    pub(super) every: i64,
    /// In how many buckets the condition must hold,
    pub(super) lasting: u32,
    /// and in how many it must be over.
    pub(super) clear_for: u32,
}

/// What a bucket makes of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is open, as the condition has held since a bucket.
    Opened { since: i64 },
    /// It is over.
    Cleared,
    /// Nothing has been heard of the series for so long that it is not expected any more.
    Forgotten,
}

impl Series {
    /// A series whose first event is in this bucket.
    pub(super) fn begin(bucket: i64) -> Series {
        Series { seen_at: bucket, standing: Standing::Quiet { holding_since: None } }
    }

    /// Goes on to the next bucket, in which the condition holds, or is over, or neither is known.
    pub(super) fn advance(
        &mut self,
        course: Course,
        bucket: i64,
        holds: Truth,
        is_over: Truth,
    ) -> Option<Change> {
        let lasts = |since: i64, buckets: u32| {
            let width = course.every.saturating_mul(i64::from(buckets));
            bucket.saturating_add(course.every).saturating_sub(since) >= width
        };
        match &mut self.standing {
            Standing::Quiet { holding_since } => {
                let since = run(holding_since, bucket, holds)?;
                if !lasts(since, course.lasting) {
                    return None;
                }
                self.standing = Standing::Open { clearing_since: None };
                Some(Change::Opened { since })
            }
            Standing::Open { clearing_since } => {
                let since = run(clearing_since, bucket, is_over)?;
                if !lasts(since, course.clear_for) {
                    return None;
                }
                self.standing = Standing::Quiet { holding_since: None };
                Some(Change::Cleared)
            }
        }
    }

    /// Whether the alert is open.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.standing, Standing::Open { .. })
    }

    /// Whether there is anything to remember of it until the next bucket.
    pub(super) fn is_under_way(&self) -> bool {
        self.standing != Standing::Quiet { holding_since: None }
    }
}

/// Goes on with a run of buckets, or breaks it; gives where it began.
fn run(since: &mut Option<i64>, bucket: i64, goes_on: Truth) -> Option<i64> {
    if goes_on != Truth::True {
        *since = None;
        return None;
    }
    Some(*since.get_or_insert(bucket))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COURSE: Course = Course { every: 60, lasting: 3, clear_for: 2 };

    /// What happens over buckets, each `+` (holds), `-` (over) or `?`: `O` opens, `R` resolves.
    fn told(course: Course, buckets: &str) -> String {
        let mut series = Series::begin(0);
        let mut told = String::new();
        for (n, sign) in (0..).zip(buckets.chars()) {
            let (holds, is_over) = match sign {
                '+' => (Truth::True, Truth::False),
                '-' => (Truth::False, Truth::True),
                _ => (Truth::Unknown, Truth::Unknown),
            };
            told.push(match series.advance(course, n * 60, holds, is_over) {
                Some(Change::Opened { .. }) => 'O',
                Some(Change::Cleared | Change::Forgotten) => 'R',
                None => '.',
            });
        }
        told
    }

    #[test]
    fn an_alert_opens_when_its_condition_has_lasted_and_resolves_when_it_has_been_over() {
        assert_eq!(told(COURSE, "-++++++--+"), "...O....R.");
        assert_eq!(told(COURSE, "++-++-+++-+--"), "........O...R");
        assert_eq!(told(Course { lasting: 1, clear_for: 1, ..COURSE }, "-+-+"), ".ORO");
    }

    #[test]
    fn a_bucket_that_does_not_say_breaks_a_run_and_leaves_an_open_alert_open() {
        assert_eq!(told(COURSE, "++?+++"), ".....O");
        assert_eq!(told(COURSE, "+++?????-?--"), "..O........R");
    }

    #[test]
    fn an_alert_tells_since_when_it_held() {
        let mut series = Series::begin(0);
        let mut advance = |bucket| series.advance(COURSE, bucket, Truth::True, Truth::False);
        assert_eq!((advance(600), advance(660)), (None, None));
        assert_eq!(advance(720), Some(Change::Opened { since: 600 }));
    }

    proptest! {
        #[test]
        fn opened_and_resolved_take_turns_and_neither_comes_before_its_time(
            buckets in "[+?-]{0,200}",
            lasting in 1u32..6,
            clear_for in 1u32..6,
        ) {
            let told = told(Course { every: 60, lasting, clear_for }, &buckets);
            let turns: String = told.chars().filter(|sign| *sign != '.').collect();
            prop_assert!("OR".repeat(100).starts_with(&turns), "{}", turns);
            for (n, sign) in told.chars().enumerate() {
                let (run, needed) = match sign {
                    'O' => ("+", lasting),
                    'R' => ("-", clear_for),
                    _ => continue,
                };
                let needed = needed as usize;
                prop_assert!(n + 1 >= needed);
                prop_assert_eq!(&buckets[n + 1 - needed..=n], run.repeat(needed));
            }
        }
    }
}
