//! Open-loop arrivals: when each message is *meant* to be sent is fixed
//! beforehand by a seeded Poisson process, whatever the server does.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One message that is to be sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Arrival {
    /// Nanoseconds after the phase's start.
    pub at_ns: u64,
    /// Which lane of the layout sends it.
    pub lane: usize,
    /// Which of the prepared bodies it has.
    pub body: usize,
}

/// An endless, seeded Poisson process over lanes and bodies.
#[derive(Debug)]
pub struct Arrivals {
    random: StdRng,
    mean_gap_ns: f64,
    at_ns: f64,
    lanes: usize,
    bodies: usize,
}

impl Arrivals {
    /// `rate` messages a second over `lanes` lanes and `bodies` bodies, each
    /// drawn uniformly.
    pub fn new(seed: u64, rate: f64, lanes: usize, bodies: usize) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            mean_gap_ns: 1e9 / rate,
            at_ns: 0.0,
            lanes,
            bodies,
        }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "non-negative nanoseconds of one run, far below 2^53"
    )]
    fn next(&mut self) -> Option<Arrival> {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let unit: f64 = self.random.random();
        self.at_ns += -(1.0 - unit).ln() * self.mean_gap_ns;
        Some(Arrival {
            at_ns: self.at_ns as u64,
            lane: self.random.random_range(0..self.lanes),
            body: self.random.random_range(0..self.bodies),
        })
    }
}

/// Sleeps until `deadline`; returns at once if it has passed. The last
/// [`SPIN`] is given back to the scheduler in a loop instead of a timer, as a
/// timer's wake-up is that late.
pub fn sleep_until(deadline: Instant) {
    loop {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return;
        };
        if left > SPIN {
            std::thread::sleep(left - SPIN);
        } else {
            std::thread::yield_now();
        }
    }
}

/// How long before a deadline [`sleep_until`] stops using the timer.
const SPIN: Duration = Duration::from_micros(10);

/// Lets this process's timers fire within a nanosecond of their time instead
/// of the kernel's 50 us of slack. To be called before any thread is started
/// (threads inherit it); without the file, slips are merely a little longer.
pub fn tighten_timers() -> bool {
    std::fs::write("/proc/self/timerslack_ns", "1").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_as_asked_and_gaps_are_exponential() {
        let count = 200_000;
        let times: Vec<u64> =
            Arrivals::new(7, 5_000.0, 10, 3).take(count).map(|a| a.at_ns).collect();
        let seconds = times[count - 1] as f64 / 1e9;
        let rate = count as f64 / seconds;
        assert!((rate / 5_000.0 - 1.0).abs() < 0.01, "{rate}");
        // Of exponential gaps a share of 1/e is longer than the mean.
        let longer = times.windows(2).filter(|pair| pair[1] - pair[0] > 200_000).count();
        let share = longer as f64 / count as f64;
        assert!((share - (-1.0f64).exp()).abs() < 0.01, "{share}");
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals_and_another_gives_others() {
        let take = |seed| Arrivals::new(seed, 100.0, 8, 8).take(100).collect::<Vec<_>>();
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }

    #[test]
    fn every_lane_gets_its_share() {
        let mut hits = [0u32; 8];
        for arrival in Arrivals::new(3, 100.0, 8, 1).take(80_000) {
            hits[arrival.lane] += 1;
        }
        assert!(hits.iter().all(|h| (9_000..11_000).contains(h)), "{hits:?}");
    }
}
