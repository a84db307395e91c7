//! How lossy a path is, from the sender's own counts.

use std::time::{Duration, Instant};

/// After so many packets, and so long, what was seen weighs half: a path with little traffic remembers
/// longer, as its losses are rare in time.
const HALF_LIFE_PACKETS: f64 = 200.0;
const HALF_LIFE: Duration = Duration::from_secs(20);
/// After so long without any packet it weighs half, too: it may be another time of the day.
const HALF_LIFE_IDLE: Duration = Duration::from_secs(900);
/// Counts are read no more often than this.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// Losses that are found so soon after the peer's address has changed were on their way to the old one.
const FORGIVEN: Duration = Duration::from_secs(1);
/// One loss happens on every path. Copies begin with the second one (as they weigh now); the peer's,
/// in the other direction, speak for this one too, ...
const LOSSES_MIN: f64 = 1.5;
/// ... and not below this share of all packets.
const ONE_COPY_FROM: f64 = 0.005;
/// After so many packets this direction speaks for itself.
const PACKETS_ENOUGH: f64 = 250.0;
/// A second copy pays from here on, ...
const TWO_COPIES_FROM: f64 = 0.075;
/// ... once so many packets were counted.
const TWO_COPIES_PACKETS_MIN: f64 = 100.0;
/// What is on stays on down to this part of its threshold.
const ONE_STAYS_ON: f64 = 0.5;
const TWO_STAY_ON: f64 = 0.8;
/// And while losses weigh as much as this.
const LOSSES_STAY_ON: f64 = 0.25;

/// The loss of one direction of one path: packets sent, and how often some were found to be lost,
/// older ones weighing less.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    sent: f64,
    lost: f64,
    /// Losses that the peer found in its direction.
    peer: f64,
    seen: Counts,
    sampled: Option<Instant>,
    moved: Option<Instant>,
    copies: u8,
}

/// Counts of a path since its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that were declared lost (RFC 9002, section 6.1).
    pub lost: u64,
    /// How often packets that had to be acknowledged were: those lost together are counted once. So a burst
    /// is no high share, however much was sent into it.
    pub losses: u64,
}

impl Loss {
    /// Whether it is time to read the counts.
    pub fn is_due(&self, now: Instant) -> bool {
        self.sampled.is_none_or(|at| now >= at + SAMPLE_INTERVAL)
    }

    /// Takes the path's counts. Says whether losses were found that the peer should hear of.
    pub fn sample(&mut self, now: Instant, counts: Counts) -> bool {
        if counts.sent < self.seen.sent {
            // Another path. What the old one was like says nothing about it.
            *self = Self { seen: Counts { sent: 0, ..counts }, ..Self::default() };
        }
        let sent = counts.sent.saturating_sub(self.seen.sent) as f64;
        let lost = counts.lost.saturating_sub(self.seen.lost);
        let losses = counts.losses.saturating_sub(self.seen.losses);
        if let Some(before) = self.sampled {
            let passed = now.saturating_duration_since(before).as_secs_f64();
            let busy = (passed / HALF_LIFE.as_secs_f64()).min(sent / HALF_LIFE_PACKETS);
            let weight = 0.5f64.powf(busy + passed / HALF_LIFE_IDLE.as_secs_f64());
            self.sent *= weight;
            self.lost *= weight;
            self.peer *= weight;
        }
        let is_forgiven = self.moved.is_some_and(|at| now < at + FORGIVEN);
        // What needs no acknowledgement is lost without a count of its own: about as much again.
        let losses = if lost == 0 || is_forgiven { 0 } else { (losses * 2).clamp(1, lost) };
        self.sampled = Some(now);
        self.sent += sent;
        self.lost += losses as f64;
        self.seen = counts;
        self.copies = self.judge();
        losses > 0 && self.copies == 0
    }

    /// The peer has a new address, on the same path: a new port. To be told before the next sample.
    pub fn moved(&mut self, now: Instant) {
        self.moved = Some(now);
    }

    /// The peer has found so many losses in its direction, or sends copies because of them. To be told
    /// before the next sample.
    pub fn hear(&mut self, losses: u32, copies: bool) {
        self.peer += f64::from(losses);
        if copies {
            self.peer = self.peer.max(LOSSES_MIN);
        }
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
        let is_on = self.copies > 0;
        let mut lost = self.lost;
        let mut share = self.share();
        if self.sent < PACKETS_ENOUGH || self.lost >= LOSSES_STAY_ON {
            lost += self.peer;
            share = share.max(lost / (2.0 * self.sent.max(1.0)));
        }
        let lost_min = if is_on { LOSSES_STAY_ON } else { LOSSES_MIN };
        let one_from = if is_on { ONE_COPY_FROM * ONE_STAYS_ON } else { ONE_COPY_FROM };
        if lost < lost_min || share < one_from {
            return 0;
        }
        let two_from =
            if self.copies > 1 { TWO_COPIES_FROM * TWO_STAY_ON } else { TWO_COPIES_FROM };
        if self.share() >= two_from && self.sent >= TWO_COPIES_PACKETS_MIN { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sent: u64, lost: u64) -> Counts {
        Counts { sent, lost, losses: lost }
    }

    /// Samples each second; of `per_s` packets every `nth` is lost. What is said at the end.
    fn after(loss: &mut Loss, from: Instant, seconds: u64, per_s: u64, nth: Option<u64>) -> u8 {
        for second in 1..=seconds {
            let sent = loss.seen.sent + per_s;
            let lost = nth.map_or(loss.seen.lost, |nth| loss.seen.lost.max(sent / nth));
            loss.sample(from + Duration::from_secs(second), counts(sent, lost));
        }
        loss.copies()
    }

    #[test]
    fn copies_follow_the_loss() {
        for (nth, copies) in
            [(None, 0), (Some(1_000), 0), (Some(100), 1), (Some(20), 1), (Some(10), 2)]
        {
            let mut loss = Loss::default();
            assert_eq!(after(&mut loss, Instant::now(), 100, 30, nth), copies, "1 in {nth:?}");
        }
    }

    #[test]
    fn one_lost_packet_is_no_reason_and_a_second_one_is() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut loss = Loss::default();
        assert!(!loss.sample(start, counts(10, 0)));
        assert!(loss.sample(at(1), counts(20, 1)), "the peer should hear of it");
        assert_eq!(loss.copies(), 0);
        assert!(!loss.sample(at(2), counts(30, 1)));
        assert!(!loss.sample(at(5), counts(50, 2)), "it will hear copies");
        assert_eq!(loss.copies(), 1);
    }

    #[test]
    fn losses_of_both_directions_speak_for_both_until_one_knows_itself() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut loss = Loss::default();
        loss.hear(1, false);
        loss.sample(start, counts(20, 0));
        assert_eq!(loss.copies(), 0);
        loss.sample(at(1), counts(30, 1));
        assert_eq!(loss.copies(), 1);
        let mut loss = Loss::default();
        loss.hear(0, true);
        loss.sample(start, counts(50, 0));
        assert_eq!(loss.copies(), 1);
        for second in 1..200 {
            loss.hear(0, true);
            loss.sample(at(second), counts(50 + second * 10, 0));
        }
        assert_eq!(loss.copies(), 0, "nothing is lost in this direction");
    }

    #[test]
    fn a_burst_is_no_high_share() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut loss = Loss::default();
        loss.sample(start, counts(100, 0));
        loss.sample(at(1), Counts { sent: 120, lost: 1, losses: 1 });
        loss.sample(at(5), Counts { sent: 150, lost: 40, losses: 2 });
        assert_eq!(loss.copies(), 1);
        assert!(loss.share() < 0.03, "{}", loss.share());
        loss.sample(at(6), Counts { sent: 160, lost: 50, losses: 2 });
        assert!(loss.share() < 0.04, "acknowledgements alone were lost, but at another time");
    }

    #[test]
    fn losses_at_a_change_of_address_do_not_count_and_another_path_begins_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut loss = Loss::default();
        loss.sample(start, counts(100, 0));
        for change in 1..10 {
            loss.moved(at(change * 5));
            assert!(!loss.sample(at(change * 5), counts(100 + change * 50, change)));
        }
        assert_eq!((loss.copies(), loss.share()), (0, 0.0));
        assert_eq!(after(&mut loss, at(60), 60, 30, Some(10)), 2);
        loss.sample(at(121), counts(5, 300));
        assert_eq!((loss.copies(), loss.share()), (0, 0.0));
    }

    #[test]
    fn quiet_turns_it_off_and_little_traffic_does_not() {
        let start = Instant::now();
        let mut loss = Loss::default();
        assert_eq!(after(&mut loss, start, 30, 10, Some(50)), 1);
        let later = start + Duration::from_secs(30);
        assert_eq!(after(&mut loss, later, 100, 1, None), 1, "too little to tell");
        assert_eq!(after(&mut loss, later + Duration::from_secs(100), 120, 10, None), 0);
    }

    #[test]
    fn a_few_packets_do_not_ask_for_a_second_copy() {
        let mut loss = Loss::default();
        assert_eq!(after(&mut loss, Instant::now(), 2, 20, Some(5)), 1);
    }

    #[test]
    fn counts_are_read_now_and_then() {
        let now = Instant::now();
        let mut loss = Loss::default();
        assert!(loss.is_due(now));
        loss.sample(now, counts(1, 0));
        assert!(!loss.is_due(now) && loss.is_due(now + SAMPLE_INTERVAL));
    }
}
