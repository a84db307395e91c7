//! The highest rate that holds: up a geometric ladder, then bisection.

/// One step's outcome.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Step {
    /// What was offered, messages a second.
    pub rate: f64,
    /// Whether every condition held.
    pub held: bool,
}

/// How the search goes.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Where the ladder begins, messages a second.
    pub start: f64,
    /// The highest rate that is tried.
    pub ceiling: f64,
    /// The search ends once the known bounds are this close, as a ratio.
    pub precision: f64,
    /// At most so many steps.
    pub steps_max: usize,
}

/// One rung above another, as a ratio.
const RUNG: f64 = 1.5;

impl Search {
    /// The default search from `start`.
    pub fn from(start: f64) -> Self {
        Self { start, ceiling: 1_000_000.0, precision: 1.04, steps_max: 40 }
    }

    /// Runs `step` at one rate after another; the highest rate that held, or
    /// 0 if none did. A step that fails is tried once more before it is
    /// believed, because one stall of a shared machine is no limit of the server.
    /// `step` answers `None` to end the search with what is known.
    pub fn run(&self, mut step: impl FnMut(f64) -> Option<bool>) -> (f64, Vec<Step>) {
        let mut steps = Vec::new();
        let mut holds = |rate: f64| -> Option<bool> {
            for _ in 0..2 {
                if steps.len() >= self.steps_max {
                    return None;
                }
                let held = step(rate)?;
                steps.push(Step { rate, held });
                if held {
                    return Some(true);
                }
            }
            Some(false)
        };
        let best = self.highest(&mut holds);
        (best, steps)
    }

    fn highest(&self, holds: &mut impl FnMut(f64) -> Option<bool>) -> f64 {
        let (mut low, mut high) = (0.0, self.ceiling);
        let mut rate = self.start;
        // Down first, should even the start be too much; then up to the first failure.
        loop {
            match holds(rate) {
                None => return low,
                Some(true) => {
                    low = rate;
                    if rate >= self.ceiling {
                        return low;
                    }
                    if high < self.ceiling {
                        break;
                    }
                    rate = (rate * RUNG).min(self.ceiling);
                }
                Some(false) => {
                    high = rate;
                    if low > 0.0 {
                        break;
                    }
                    rate /= RUNG * RUNG;
                    if rate < 1.0 {
                        return 0.0;
                    }
                }
            }
        }
        while high / low > self.precision {
            let middle = (low * high).sqrt();
            match holds(middle) {
                None => return low,
                Some(true) => low = middle,
                Some(false) => high = middle,
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_limit_of_a_server_wherever_that_lies() {
        for limit in [3.0, 150.0, 999.0, 1_000.0, 1_001.0, 23_456.0, 400_000.0] {
            let (best, steps) = Search::from(1_000.0).run(|rate| Some(rate <= limit));
            assert!(best <= limit && best > limit / 1.05, "{best} for {limit}: {steps:?}");
        }
    }

    #[test]
    fn a_server_that_stalls_now_and_then_is_still_found_out_right() {
        let mut calls = 0;
        let (best, _) = Search::from(1_000.0).run(|rate| {
            calls += 1;
            Some(rate <= 20_000.0 && calls % 5 != 0)
        });
        assert!(best > 19_000.0 && best <= 20_000.0, "{best}");
    }

    #[test]
    fn a_queue_model_is_bounded_by_its_latency_bound() {
        // M/M/1: p99 = ln(100) / (mu - lambda); with mu = 10,000 and 200 ms that
        // allows up to mu - ln(100) / 0.2.
        let (best, _) = Search::from(500.0).run(|rate| {
            let p99_ms =
                if rate < 10_000.0 { 100f64.ln() / (10_000.0 - rate) * 1e3 } else { f64::INFINITY };
            Some(p99_ms <= 200.0)
        });
        assert!(best > 9_500.0 && best < 9_980.0, "{best}");
    }

    #[test]
    fn nothing_held_is_zero_and_steps_are_bounded() {
        let (best, steps) = Search::from(1_000.0).run(|_| Some(false));
        assert_eq!(best, 0.0);
        assert!(steps.len() <= 40);
        assert_eq!(Search::from(1_000.0).run(|_| None).0, 0.0);
        assert_eq!(Search::from(1_000.0).run(|_| Some(true)).0, 1_000_000.0);
    }
}
