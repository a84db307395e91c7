//! How a connection behaves below the streams, where QUIC alone sees it: packets, changes of its address,
//! probes of others. Looked at now and then; who goes far beyond what a chat needs is done with.

use petrel_transport::Connection;

use crate::metrics::Excess;

/// Packets of one connection: in a second, and at once.
const PACKETS: (f64, f64) = (5_000.0, 50_000.0);
/// Challenges that we sent because its address changed (two for each change).
const PATH_CHANGES: (f64, f64) = (4.0, 256.0);
/// Challenges from it; each is answered with a padded packet, wherever it seems to come from.
const PATH_PROBES: (f64, f64) = (1.0, 32.0);

/// What QUIC counted since the connection began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// UDP datagrams received.
    pub packets: u64,
    /// PATH_CHALLENGE frames sent.
    pub path_changes: u64,
    /// PATH_CHALLENGE frames received.
    pub path_probes: u64,
}

impl Counters {
    /// Of a connection, now.
    pub(crate) fn of(connection: &Connection) -> Self {
        // What is no QUIC has neither packets nor paths of its own.
        let Some(quic) = connection.quic() else { return Self::default() };
        let stats = quic.stats();
        Self {
            packets: stats.udp_rx.datagrams,
            path_changes: stats.frame_tx.path_challenge,
            path_probes: stats.frame_rx.path_challenge,
        }
    }
}

/// What was seen of a connection.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    last: Counters,
    at_s: u32,
    packets: f64,
    path_changes: f64,
    path_probes: f64,
}

impl Conduct {
    /// Looks at the counters at second `now_s`; says what is beyond its rate.
    pub(crate) fn look(&mut self, now: Counters, now_s: u32) -> Option<Excess> {
        let passed_s = f64::from(now_s.saturating_sub(self.at_s));
        let last = std::mem::replace(&mut self.last, now);
        self.at_s = now_s;
        let over = |level: &mut f64, now: u64, last: u64, (per_s, burst): (f64, f64)| {
            *level = (*level - passed_s * per_s).max(0.0) + now.saturating_sub(last) as f64;
            *level > burst
        };
        let packets = over(&mut self.packets, now.packets, last.packets, PACKETS);
        let changes =
            over(&mut self.path_changes, now.path_changes, last.path_changes, PATH_CHANGES);
        let probes = over(&mut self.path_probes, now.path_probes, last.path_probes, PATH_PROBES);
        [(packets, Excess::Packets), (changes, Excess::PathChanges), (probes, Excess::PathProbes)]
            .into_iter()
            .find_map(|(is_over, what)| is_over.then_some(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_changes_every_five_seconds_is_no_excess() {
        let mut conduct = Conduct::default();
        for n in 1..=1_000u32 {
            let n64 = u64::from(n);
            let now = Counters { packets: 2_000 * n64, path_changes: 2 * n64, path_probes: n64 };
            assert_eq!(conduct.look(now, 5 * n), None);
        }
    }

    #[test]
    fn changes_probes_and_packets_without_end_are() {
        for (now, what) in [
            (Counters { path_changes: 300, ..Counters::default() }, Excess::PathChanges),
            (Counters { path_probes: 40, ..Counters::default() }, Excess::PathProbes),
            (Counters { packets: 80_000, ..Counters::default() }, Excess::Packets),
        ] {
            assert_eq!(Conduct::default().look(now, 1), Some(what));
        }
    }
}
