//! A token bucket as a pure function of time (GCRA, the virtual scheduling
//! form of ITU-T I.371 annex A): one number of state.

/// How much is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Nanoseconds that one unit takes at the sustained rate.
    interval_ns: u64,
    /// Nanoseconds by which use may run ahead of the sustained rate.
    tolerance_ns: u64,
}

impl Rate {
    /// `per_second` in the long run, `burst` at once; both at least 1.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(per_second.max(1));
        Self { interval_ns, tolerance_ns: interval_ns * u64::from(burst.max(1) - 1) }
    }

    /// One in `interval_ms` milliseconds in the long run, `burst` at once; both at least 1.
    pub fn one_in(interval_ms: u64, burst: u32) -> Self {
        let interval_ns = interval_ms.max(1).saturating_mul(1_000_000);
        let tolerance_ns = interval_ns.saturating_mul(u64::from(burst.max(1) - 1));
        Self { interval_ns, tolerance_ns }
    }
}

/// What one caller has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When the next unit is due at the sustained rate, in nanoseconds of the caller's monotonic clock.
    due_ns: u64,
}

impl Bucket {
    /// Whether nothing is in use at monotonic time `now_ns`: as if it were new.
    pub fn is_full(&self, now_ns: u64) -> bool {
        self.due_ns <= now_ns
    }

    /// Takes one unit at monotonic time `now_ns`.
    ///
    /// # Errors
    /// The nanoseconds until a unit is free.
    pub fn take(&mut self, rate: Rate, now_ns: u64) -> Result<(), u64> {
        let due = self.due_ns.max(now_ns);
        let wait = (due - now_ns).saturating_sub(rate.tolerance_ns);
        if wait > 0 {
            return Err(wait);
        }
        self.due_ns = due + rate.interval_ns;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_sustained_rate() {
        let rate = Rate::new(10, 5);
        let mut bucket = Bucket::default();
        let start = 1_000_000_000_000;
        assert!(bucket.is_full(start));
        assert!((0..5).all(|_| bucket.take(rate, start).is_ok()));
        assert_eq!(bucket.take(rate, start), Err(100_000_000));
        assert!(!bucket.is_full(start + 499_999_999) && bucket.is_full(start + 500_000_000));
        assert_eq!(bucket.take(rate, start + 100_000_000), Ok(()));
        assert!(bucket.take(rate, start + 150_000_000).is_err());
    }
}
