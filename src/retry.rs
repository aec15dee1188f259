//! Waiting for a dependency: longer each time, and not all at the same moment.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::metrics::{Waiting, waiting};

/// How long a dependency that is there may be at work.
const WORK: Duration = Duration::from_secs(30);

/// Full-jitter back-off: each delay is anywhere between nothing and a bound that doubles.
#[derive(Debug, Clone)]
pub struct Backoff {
    bound: Duration,
    max: Duration,
}

impl Backoff {
    /// What a database, a registry or a broker is waited for with.
    pub fn for_dependencies() -> Backoff {
        Backoff { bound: Duration::from_millis(200), max: Duration::from_secs(15) }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// Always another delay.
    fn next(&mut self) -> Option<Duration> {
        let delay = self.bound.mul_f64(rand::rng().random_range(0.0..=1.0));
        self.bound = self.bound.saturating_mul(2).min(self.max);
        Some(delay)
    }
}

/// One dependency's absence, from its first failure on.
#[derive(Debug)]
pub struct Outage {
    longest: Option<Duration>,
    now: Option<(Instant, Backoff)>,
    waiting: Option<Waiting>,
}

/// A dependency has been away for longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("away for longer than --max-outage {0:?}")]
pub struct TooLong(pub Duration);

impl Outage {
    /// With how long it may last, if there is a limit.
    pub fn new(longest: Option<Duration>) -> Outage {
        Outage { longest, now: None, waiting: None }
    }

    /// Notes a failure; gives how long to wait before the next attempt, which is no shorter than
    /// what the dependency itself asked for and ends no later than the limit.
    pub fn failed(&mut self, asked_for: Option<Duration>) -> Result<Duration, TooLong> {
        let fresh = || (Instant::now(), Backoff::for_dependencies());
        let (since, backoff) = self.now.get_or_insert_with(fresh);
        let delay = backoff.next().unwrap_or_default().max(asked_for.unwrap_or_default());
        match self.longest {
            None => Ok(delay),
            Some(longest) => {
                let left = longest.saturating_sub(since.elapsed());
                if left.is_zero() { Err(TooLong(longest)) } else { Ok(delay.min(left)) }
            }
        }
    }

    /// How long one attempt may take: less than `most` where the whole may not last as long, but not
    /// so little that work is taken for absence.
    pub fn attempt(&self, most: Duration) -> Duration {
        self.longest.map_or(most, |longest| longest.max(WORK).min(most))
    }

    /// Lets others see that a stream waits, until the dependency answers or the value is dropped:
    /// while it is tried again, too.
    pub(crate) fn is_waited_for(&mut self, stream: &str, dependency: &'static str) {
        if self.waiting.as_ref().is_none_or(|waiting| waiting.dependency() != dependency) {
            self.waiting = Some(waiting(stream, dependency));
        }
    }

    /// Nobody waits for the dependency any more, whether it is back or not.
    pub(crate) fn is_not_waited_for(&mut self) {
        self.waiting = None;
    }

    /// Notes that the dependency answers.
    pub fn ended(&mut self) {
        self.now = None;
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_anywhere_under_a_bound_that_grows_to_its_maximum() {
        let mut bound = Duration::from_millis(200);
        let mut long = 0;
        for delay in Backoff::for_dependencies().take(100) {
            assert!(delay <= bound, "{delay:?} is above {bound:?}");
            long += usize::from(delay > bound / 2);
            bound = (bound * 2).min(Duration::from_secs(15));
        }
        // by chance none or all of them would be once in 2^99 runs
        assert!((1..100).contains(&long), "{long} of 100 delays are longer than half their bound");
    }

    #[test]
    fn an_outage_is_waited_for_as_long_as_it_takes_unless_there_is_a_limit() {
        let mut outage = Outage::new(None);
        assert!((0..1_000).all(|_| outage.failed(None).is_ok()));
        let limit = Duration::from_secs(3_600);
        let mut outage = Outage::new(Some(limit));
        assert!((0..1_000).all(|_| outage.failed(None).is_ok_and(|delay| delay <= limit)));
        assert_eq!(Outage::new(Some(Duration::ZERO)).failed(None), Err(TooLong(Duration::ZERO)));
    }

    #[test]
    fn a_dependency_is_left_alone_for_as_long_as_it_asks() {
        let asked = Duration::from_secs(60);
        assert!(Outage::new(None).failed(Some(asked)).is_ok_and(|delay| delay >= asked));
        let limit = Duration::from_secs(20);
        assert!(Outage::new(Some(limit)).failed(Some(asked)).is_ok_and(|delay| delay <= limit));
    }
}
