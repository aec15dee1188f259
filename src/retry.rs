//! Waiting for a dependency: longer each time, and not all at the same moment.

use std::time::Duration;

use rand::RngExt;

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
}
