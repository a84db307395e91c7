//! How lossy a path is, from the sender's own counts.

use std::time::{Duration, Instant};

/// After so long a packet weighs half.
const HALF_LIFE: Duration = Duration::from_secs(20);
/// Counts are read no more often than this.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// Nothing is copied before so many packets were lost (as they weigh now), ...
const LOST_MIN: f64 = 0.9;
/// ... and below this share of all packets.
const ONE_COPY_FROM: f64 = 0.003;
/// A second copy pays from here on, ...
const TWO_COPIES_FROM: f64 = 0.075;
/// ... once so many packets were counted.
const TWO_COPIES_PACKETS_MIN: f64 = 120.0;
/// What is on stays on down to this part of its threshold.
const STAYS_ON: f64 = 0.75;
/// And nothing is off while losses weigh as much as this.
const STAYS_ON_LOST: f64 = 0.25;

/// The loss of one direction of one path: packets sent and packets declared lost (RFC 9002, section
/// 6.1), older ones weighing less.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    sent: f64,
    lost: f64,
    seen_sent: u64,
    seen_lost: u64,
    sampled: Option<Instant>,
    copies: u8,
}

impl Default for Loss {
    fn default() -> Self {
        Self { sent: 0.0, lost: 0.0, seen_sent: 0, seen_lost: 0, sampled: None, copies: 0 }
    }
}

impl Loss {
    /// Whether it is time to read the counts.
    pub fn is_due(&self, now: Instant) -> bool {
        self.sampled.is_none_or(|at| now >= at + SAMPLE_INTERVAL)
    }

    /// Takes the connection's counts since its beginning.
    pub fn sample(&mut self, now: Instant, sent: u64, lost: u64) {
        if let Some(before) = self.sampled {
            let passed = now.saturating_duration_since(before).as_secs_f64();
            let weight = 0.5f64.powf(passed / HALF_LIFE.as_secs_f64());
            self.sent *= weight;
            self.lost *= weight;
        }
        self.sampled = Some(now);
        self.sent += sent.saturating_sub(self.seen_sent) as f64;
        self.lost += lost.saturating_sub(self.seen_lost) as f64;
        (self.seen_sent, self.seen_lost) = (sent, lost);
        self.copies = self.judge();
    }

    /// How many copies pay now: 0, 1 or 2.
    pub fn copies(&self) -> u8 {
        self.copies
    }

    /// The share of packets that is lost.
    pub fn share(&self) -> f64 {
        if self.sent < 1.0 { 0.0 } else { self.lost / self.sent }
    }

    fn judge(&self) -> u8 {
        let from = |threshold: f64, on: bool| if on { threshold * STAYS_ON } else { threshold };
        let share = self.share();
        let lost_min = if self.copies > 0 { STAYS_ON_LOST } else { LOST_MIN };
        if self.lost < lost_min || share < from(ONE_COPY_FROM, self.copies > 0) {
            return 0;
        }
        let is_high = share >= from(TWO_COPIES_FROM, self.copies > 1);
        if is_high && self.sent >= TWO_COPIES_PACKETS_MIN { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples each second; of `per_s` packets every `nth` is lost. What is said at the end.
    fn after(loss: &mut Loss, from: Instant, seconds: u64, per_s: u64, nth: Option<u64>) -> u8 {
        for second in 1..=seconds {
            let sent = loss.seen_sent + per_s;
            let lost = nth.map_or(loss.seen_lost, |nth| loss.seen_lost.max(sent / nth));
            loss.sample(from + Duration::from_secs(second), sent, lost);
        }
        loss.copies()
    }

    #[test]
    fn copies_follow_the_loss() {
        for (nth, copies) in
            [(None, 0), (Some(2_000), 0), (Some(100), 1), (Some(20), 1), (Some(10), 2)]
        {
            let mut loss = Loss::default();
            assert_eq!(after(&mut loss, Instant::now(), 60, 30, nth), copies, "1 in {nth:?}");
        }
    }

    #[test]
    fn the_first_lost_packet_of_a_slow_path_turns_it_on_and_quiet_turns_it_off() {
        let start = Instant::now();
        let mut loss = Loss::default();
        assert_eq!(after(&mut loss, start, 3, 10, Some(30)), 1);
        let later = start + Duration::from_secs(3);
        assert_eq!(after(&mut loss, later, 20, 10, None), 1, "it may not be over");
        assert_eq!(after(&mut loss, later + Duration::from_secs(20), 60, 10, None), 0);
    }

    #[test]
    fn a_few_packets_do_not_ask_for_a_second_copy() {
        let mut loss = Loss::default();
        assert_eq!(after(&mut loss, Instant::now(), 1, 20, Some(5)), 1);
    }

    #[test]
    fn counts_are_read_now_and_then() {
        let now = Instant::now();
        let mut loss = Loss::default();
        assert!(loss.is_due(now));
        loss.sample(now, 1, 0);
        assert!(!loss.is_due(now) && loss.is_due(now + SAMPLE_INTERVAL));
    }
}
