//! How long to wait before the next dial.

use std::time::Duration;

/// Waits that double up to a limit, each evenly between nearly nothing and twice that: of many clients
/// that lost their gateway together no two moments see more than others.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits from about `min` to at most `max`.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// Changes the longest wait.
    pub(crate) fn set_max(&mut self, max: Duration) {
        self.max = max;
    }

    /// The next wait; `random` is even in 0..1 and fresh for each call.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let doubled = self.min.saturating_mul(2u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(self.max).mul_f64(2.0 * random.clamp(0.0, 1.0));
        wait.clamp((self.min / 2).min(self.max), self.max)
    }

    /// Starts again from the shortest wait.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `wait` times a factor of 0.5 to 1.5.
pub(crate) fn jittered(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(0.5 + random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_the_shortest_to_the_longest_and_start_again() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(15));
        let mut backoff = Backoff::new(min, max);
        let waits: Vec<u128> = (0..10).map(|_| backoff.next(0.5).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]);
        for random in [0.0, 0.3, 1.0, 7.0] {
            assert!(backoff.next(random) <= max);
        }
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(50));
        assert_eq!(backoff.next(1.0), Duration::from_millis(400));
        assert_eq!(backoff.next(0.9), Duration::from_millis(720));
        assert_eq!(backoff.next(0.1), Duration::from_millis(160));
    }
}
