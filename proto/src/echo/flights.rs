//! What became of the packets of one path, as far as the echo has to know.

use std::time::{Duration, Instant};

/// Packets that are remembered: those of some milliseconds.
const RECENT: usize = 8;
/// A smaller packet carries nothing that is echoed: an acknowledgement, a PING.
const PACKET_BYTES_MIN: u64 = 48;
/// What is assumed before the first measurement.
const FIRST_RTT: Duration = Duration::from_millis(100);

/// The packets of one path. Who sends them writes it; times are since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Flights {
    since: Instant,
    /// When the last packets were sent, and how large they were; a ring.
    recent: [(Duration, u64); RECENT],
    /// How many there were that large.
    large: u64,
    sent: u64,
    losses: u64,
    acked_bytes: u64,
    /// When the newest of the packets that are known to have come was sent.
    acked: Option<Duration>,
    rtt: Duration,
}

impl Flights {
    /// Of a path on which nothing was sent yet.
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            recent: [(Duration::ZERO, 0); RECENT],
            large: 0,
            sent: 0,
            losses: 0,
            acked_bytes: 0,
            acked: None,
            rtt: FIRST_RTT,
        }
    }

    /// A packet of so many bytes leaves.
    pub fn on_sent(&mut self, now: Instant, bytes: u64) {
        self.sent += 1;
        if bytes >= PACKET_BYTES_MIN {
            self.recent[Self::place(self.large)] = (self.at(now), bytes);
            self.large += 1;
        }
    }

    /// The peer has a packet of so many bytes that was sent then; the path's round trip, as it is estimated now.
    pub fn on_acked(&mut self, sent: Instant, bytes: u64, rtt: Duration) {
        self.acked_bytes += bytes;
        self.acked = self.acked.max(Some(self.at(sent)));
        self.rtt = rtt;
    }

    /// Packets are found to be lost, together.
    pub fn on_lost(&mut self) {
        self.losses += 1;
    }

    /// Packets that were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How often packets were found to be lost: those that are lost together count once.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// Bytes of packets that have come.
    pub fn acked_bytes(&self) -> u64 {
        self.acked_bytes
    }

    /// The round trip.
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Whether what was handed to QUIC then, so many bytes, has left since: a packet of that size did.
    pub fn has_left(&self, handed: Instant, bytes: usize) -> bool {
        let handed = self.at(handed);
        let oldest = self.recent[Self::place(self.large)];
        // If all that is remembered is newer, enough was sent.
        (self.large >= RECENT as u64 && oldest.0 > handed)
            || self.recent.iter().any(|(sent, size)| *sent >= handed && *size >= bytes as u64)
    }

    /// Whether a packet that was sent since then has come. If what was sent before it has not, QUIC
    /// knows and sends it again.
    pub fn is_heard(&self, since: Instant) -> bool {
        self.acked >= Some(self.at(since))
    }

    fn at(&self, time: Instant) -> Duration {
        time.saturating_duration_since(self.since)
    }

    fn place(number: u64) -> usize {
        usize::try_from(number % RECENT as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    #[test]
    fn what_was_written_has_left_with_a_packet_that_has_room_for_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut flights = Flights::new(start);
        flights.on_sent(at(1), 300);
        assert!(!flights.has_left(at(2), 200), "that was before");
        flights.on_sent(at(3), 40);
        flights.on_sent(at(3), 90);
        assert!(!flights.has_left(at(2), 200), "too small");
        flights.on_sent(at(4), 260);
        assert!(flights.has_left(at(2), 200) && flights.has_left(at(4), 200));
        for ms in 5..15 {
            flights.on_sent(at(ms), 60);
        }
        assert!(flights.has_left(at(2), 200), "so many packets since");
        assert!(!flights.has_left(at(8), 200));
    }

    #[test]
    fn silence_ends_with_any_packet_that_was_sent_since() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut flights = Flights::new(start);
        assert!(!flights.is_heard(start));
        flights.on_sent(at(1), 100);
        flights.on_sent(at(5), 100);
        flights.on_acked(at(5), 100, RTT);
        flights.on_acked(at(1), 100, RTT);
        assert!(flights.is_heard(at(1)) && flights.is_heard(at(5)) && !flights.is_heard(at(6)));
        assert_eq!((flights.rtt(), flights.acked_bytes()), (RTT, 200));
    }
}
