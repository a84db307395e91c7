//! Probes: small packets that want an answer, while what was sent has none.
//!
//! QUIC doubles the wait before each of its own tries, without a bound that would help (RFC 9002,
//! section 6.2.1): after a tunnel of ten seconds the next may be six seconds away. It finds out at once
//! what was lost when anything later is acknowledged, so either side sends a Probe now and then while it
//! hears nothing, and the other answers it, which makes both sides acknowledge something new. The
//! same is noticed by a gateway that has started anew, which answers by a reset.
//!
//! Sans-IO: the caller reads the connection's counts, tells the time and does the sending.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use crate::frame::bare;
use crate::wire::{self, frame::What};

/// Between two probes of one connection.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// For so long a silent connection is probed.
pub const PROBING_MAX: Duration = Duration::from_secs(15);
/// A side that waits for more than QUIC's acknowledgement waits at least so long: a
/// store may be slow.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// Of the longest round trips so much is waited, at the most.
const PATIENCE_MAX: Duration = Duration::from_secs(3);

/// The datagram with a Probe, or with the answer to one.
pub fn datagram(answer: bool) -> Bytes {
    bare(What::Probe(wire::Probe { answer })).encode_to_vec().into()
}

/// What a connection has counted since its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Packets that came.
    pub heard: u64,
    /// Frames that were sent and want to be acknowledged, retransmissions too.
    pub asked: u64,
}

/// What is to be done after a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Send a probe.
    pub probe: bool,
    /// Look again then; `None`: when something is sent.
    pub again: Option<Instant>,
}

/// Decides when one side of one connection probes.
#[derive(Clone, Copy, Debug)]
pub struct Prober {
    /// The shortest silence that is worth a probe.
    patience: Duration,
    /// As of the last look.
    seen: Counts,
    /// When that was, if another look was planned then.
    looked: Option<Instant>,
    /// `asked` when something was heard last: what was sent up to there is supposed to have arrived. If it
    /// has not, QUIC sends it again, which counts.
    settled: u64,
    /// Since when something has no answer.
    silent_since: Option<Instant>,
    /// When probing began, and when the next is due.
    probing: Option<(Instant, Instant)>,
}

impl Prober {
    /// For a connection on which all is well. Silence is borne for `patience`, or three of the path's round
    /// trips if that is longer.
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            seen: Counts::default(),
            looked: None,
            settled: 0,
            silent_since: None,
            probing: None,
        }
    }

    /// Something is being sent and no look is planned: when to take one.
    pub fn stir(&mut self, now: Instant) -> Instant {
        self.looked = Some(now);
        now + self.patience
    }

    /// Looks at the counts. `waiting`: an answer of the application's own is due.
    pub fn look(&mut self, now: Instant, counts: Counts, rtt: Duration, waiting: bool) -> Look {
        let look = self.judge(now, counts, rtt, waiting);
        self.seen = counts;
        self.looked = look.again.map(|_| now);
        look
    }

    fn judge(&mut self, now: Instant, counts: Counts, rtt: Duration, waiting: bool) -> Look {
        const NOTHING: Look = Look { probe: false, again: None };
        let patience = (rtt * 3).clamp(self.patience, PATIENCE_MAX.max(self.patience));
        if counts.heard != self.seen.heard {
            self.settled = counts.asked;
            self.silent_since = None;
            self.probing = None;
            // What was sent since the last look may have gone out after what was heard.
            let is_busy = waiting || counts.asked != self.seen.asked;
            return Look { probe: false, again: is_busy.then(|| now + patience) };
        }
        let is_unacknowledged = counts.asked > self.settled;
        if !is_unacknowledged && !waiting && self.probing.is_none() {
            self.silent_since = None;
            return NOTHING;
        }
        // What is new at this look may have been sent just now.
        let sent = self.looked.filter(|_| self.seen.asked == counts.asked).unwrap_or(now);
        let since = *self.silent_since.get_or_insert(sent);
        let patience = if is_unacknowledged { patience } else { patience.max(ANSWER_PATIENCE) };
        let (began, due) = self.probing.unwrap_or((since + patience, since + patience));
        if now < due {
            return Look { probe: false, again: Some(due) };
        }
        let began = if due == began { now } else { began };
        if now >= began + PROBING_MAX {
            return NOTHING;
        }
        let next = now + PROBE_INTERVAL;
        self.probing = Some((began, next));
        Look { probe: true, again: Some(next) }
    }

    /// The network is another one: the next look probes, and probing begins anew.
    pub fn start_over(&mut self, now: Instant) {
        self.silent_since.get_or_insert(now);
        self.probing = Some((now, now));
    }

    /// For how long something has had no answer.
    pub fn silent(&self, now: Instant) -> Duration {
        self.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(250);

    /// A connection with a round trip of 50 ms, whose looks are taken when they are due.
    struct Watched {
        start: Instant,
        prober: Prober,
        counts: Counts,
        again: Option<Instant>,
        probes_ms: Vec<u128>,
        waiting: bool,
    }

    impl Watched {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                prober: Prober::new(PATIENCE),
                counts: Counts::default(),
                again: None,
                probes_ms: Vec::new(),
                waiting: false,
            }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn send(&mut self, ms: u64) {
            self.counts.asked += 1;
            if self.again.is_none() {
                self.again = Some(self.prober.stir(self.at(ms)));
            }
        }

        fn run(&mut self, until_ms: u64) {
            while let Some(due) = self.again.filter(|due| *due <= self.at(until_ms)) {
                let rtt = Duration::from_millis(50);
                let look = self.prober.look(due, self.counts, rtt, self.waiting);
                if look.probe {
                    self.counts.asked += 1;
                    self.probes_ms.push((due - self.start).as_millis());
                }
                self.again = look.again;
            }
        }
    }

    #[test]
    fn what_is_answered_is_looked_at_twice_and_never_probed() {
        let mut watched = Watched::new();
        for second in 0..10 {
            watched.send(second * 1_000);
            watched.run(second * 1_000 + 100);
            watched.counts.heard += 1;
            watched.run(second * 1_000 + 999);
            assert_eq!(watched.again, None);
        }
        assert_eq!(watched.probes_ms, [0; 0]);
    }

    #[test]
    fn silence_is_probed_five_times_a_second_for_fifteen_seconds() {
        let mut watched = Watched::new();
        watched.send(1_000);
        watched.run(60_000);
        assert_eq!(watched.probes_ms.first(), Some(&1_500));
        assert_eq!(watched.probes_ms.last(), Some(&16_300));
        assert!(watched.probes_ms.windows(2).all(|pair| pair[1] - pair[0] == 200));
        assert_eq!(watched.prober.silent(watched.at(61_250)), Duration::from_secs(60));
        // Neither more to send nor time begins it anew, but the first packet that comes.
        watched.send(61_000);
        watched.run(70_000);
        assert_eq!(watched.probes_ms.len(), 75);
        watched.counts.heard += 1;
        watched.send(70_000);
        watched.run(80_000);
        assert_eq!(watched.prober.silent(watched.at(80_000)), Duration::ZERO);
        watched.send(80_000);
        watched.run(81_000);
        assert_eq!(watched.probes_ms.get(75), Some(&80_500));
    }

    #[test]
    fn what_was_lost_as_something_else_came_is_noticed_by_its_retransmission() {
        let mut watched = Watched::new();
        watched.send(0);
        watched.run(100);
        watched.counts.heard += 1;
        // Lost, in the same interval; QUIC sends it again at 350 ms.
        watched.send(240);
        watched.run(300);
        watched.counts.asked += 1;
        watched.run(800);
        assert_eq!(watched.probes_ms, [750]);
    }

    #[test]
    fn who_waits_for_an_answer_asks_after_a_second() {
        let mut watched = Watched::new();
        watched.waiting = true;
        watched.send(0);
        watched.run(100);
        // Acknowledged, but not answered.
        watched.counts.heard += 1;
        watched.run(1_200);
        assert_eq!(watched.probes_ms, [0; 0]);
        watched.run(1_300);
        assert_eq!(watched.probes_ms, [1_250]);
        watched.counts.heard += 1;
        watched.waiting = false;
        watched.run(5_000);
        assert_eq!(watched.probes_ms, [1_250]);
    }

    #[test]
    fn another_network_is_probed_at_once_and_as_long_again() {
        let mut watched = Watched::new();
        watched.prober.start_over(watched.at(10));
        watched.again = Some(watched.at(10));
        watched.run(20_000);
        assert_eq!((watched.probes_ms.first(), watched.probes_ms.len()), (Some(&10), 75));
        watched.prober.start_over(watched.at(20_000));
        watched.again = Some(watched.at(20_000));
        watched.run(20_500);
        assert_eq!(watched.probes_ms.get(75..), Some(&[20_000, 20_200, 20_400][..]));
        watched.counts.heard += 1;
        watched.run(30_000);
        assert_eq!(watched.probes_ms.len(), 78);
    }

    #[test]
    fn a_long_way_is_given_longer() {
        let mut prober = Prober::new(PATIENCE);
        let start = Instant::now();
        let look_at = prober.stir(start);
        let counts = Counts { heard: 0, asked: 1 };
        let look = prober.look(look_at, counts, Duration::from_millis(700), false);
        assert_eq!(look.again, Some(look_at + Duration::from_millis(2_100)));
        let look = prober.look(look_at, counts, Duration::from_secs(60), false);
        assert_eq!(look.again, Some(look_at + PATIENCE_MAX));
    }
}
