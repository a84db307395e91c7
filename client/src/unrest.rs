//! A network that gives the device another address now and then (a NAT that forgets, a walk between access points). The
//! device does not notice, and what the server sends goes to the old address until the next packet of the
//! device. So after a change, while something is being said, the server is shown the address often.
//!
//! That there was a change is known from the server: QUIC asks for proof of a new address (PATH_CHALLENGE, RFC 9000,
//! section 9.3).

use std::time::{Duration, Instant};

use petrel_transport::Stats;

/// For so long after a change another one is expected.
const EXPECTED_FOR: Duration = Duration::from_secs(20);
/// Nothing was said for so long: nothing is waited for.
const TALK_PAUSE: Duration = Duration::from_secs(2);
/// The address is shown each half round trip, within these bounds.
const INTERVAL_MIN: Duration = Duration::from_millis(25);
const INTERVAL_MAX: Duration = Duration::from_millis(200);

/// What is known of a network's changes of address. Pure.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unrest {
    challenged: u64,
    /// Until then another change is expected.
    until: Option<Instant>,
    stream_frames: u64,
    /// When something was said last, as far as looks tell.
    said: Option<Instant>,
    /// Packets that were sent at the last look, and the one that it sent.
    sent: u64,
}

/// What is to be done after a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Show {
    /// Send a small packet.
    pub(crate) now: bool,
    /// Look again then.
    pub(crate) again: Option<Instant>,
}

impl Unrest {
    /// Looks at the connection's counts.
    pub(crate) fn look(&mut self, now: Instant, stats: &Stats) -> Show {
        if stats.challenged != self.challenged {
            self.until = Some(now + EXPECTED_FOR);
        }
        if stats.stream_frames != self.stream_frames {
            self.said = Some(now);
        }
        let is_shown = stats.sent_packets != self.sent;
        self.rest(stats);
        let is_unquiet = self.until.is_some_and(|until| now < until);
        if !is_unquiet || self.said.is_none_or(|said| now >= said + TALK_PAUSE) {
            return Show::default();
        }
        if !is_shown {
            self.sent += 1;
        }
        let interval = (stats.rtt / 2).clamp(INTERVAL_MIN, INTERVAL_MAX);
        Show { now: !is_shown, again: Some(now + interval) }
    }

    /// Notes the counts and does nothing.
    pub(crate) fn rest(&mut self, stats: &Stats) -> Show {
        self.challenged = stats.challenged;
        self.stream_frames = stats.stream_frames;
        self.sent = stats.sent_packets;
        Show::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Device {
        start: Instant,
        stats: Stats,
        unrest: Unrest,
    }

    impl Device {
        fn new() -> Self {
            let mut stats = Stats::default();
            stats.rtt = Duration::from_millis(60);
            Self { start: Instant::now(), stats, unrest: Unrest::default() }
        }

        /// How often the address is shown by looks from one time to another, each when it is due; and
        /// when nothing more is planned.
        fn looks(&mut self, from_ms: u64, until_ms: u64) -> (u32, Option<u128>) {
            let mut due = self.start + Duration::from_millis(from_ms);
            let mut shown = 0;
            while due < self.start + Duration::from_millis(until_ms) {
                let show = self.unrest.look(due, &self.stats);
                if show.now {
                    shown += 1;
                    self.stats.sent_packets += 1;
                }
                match show.again {
                    Some(again) => due = again,
                    None => return (shown, Some((due - self.start).as_millis())),
                }
            }
            (shown, None)
        }
    }

    #[test]
    fn after_a_change_the_address_is_shown_each_half_round_trip_while_there_is_talk() {
        let mut device = Device::new();
        device.stats.stream_frames += 1;
        assert_eq!(device.looks(0, 1_000), (0, Some(0)), "no change");
        device.stats.challenged += 1;
        device.stats.stream_frames += 1;
        assert_eq!(
            device.looks(1_000, 10_000),
            (67, Some(3_010)),
            "two seconds of talk, then quiet"
        );
        device.stats.stream_frames += 1;
        assert_eq!(
            device.looks(20_990, 30_000),
            (1, Some(21_020)),
            "no change is expected any more"
        );
    }

    #[test]
    fn what_is_sent_anyway_shows_it_too() {
        let mut device = Device::new();
        device.stats.challenged += 1;
        device.stats.stream_frames += 1;
        for look in 0..10 {
            device.stats.sent_packets += 1;
            assert_eq!(device.looks(look * 30, look * 30 + 1), (0, None));
        }
        assert_eq!(device.looks(300, 301), (1, None));
    }
}
