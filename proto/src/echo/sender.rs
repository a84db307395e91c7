//! The sending side of one connection's echo: how lossy the path is, and what is sent once more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Counts, Due, EchoQueue, Flights, Heard, Loss, Offered};

/// Of one connection.
#[derive(Debug, Default)]
pub struct EchoSender {
    loss: Loss,
    queue: EchoQueue,
    path: Option<Path>,
}

/// The path that a connection is on.
#[derive(Clone, Debug)]
pub struct Path {
    /// What became of its packets.
    pub flights: Arc<Mutex<Flights>>,
    /// Where the peer is.
    pub peer: SocketAddr,
    /// Packets that were declared lost on this connection.
    pub lost: u64,
}

impl EchoSender {
    /// To be called before each write: now and then it asks which path the connection is on, and what was
    /// heard from the peer.
    pub fn look(
        &mut self,
        now: Instant,
        path: impl FnOnce() -> Option<Path>,
        heard: impl FnOnce() -> Heard,
    ) {
        if !self.loss.is_due(now) {
            return;
        }
        let Heard { notices, copies } = heard();
        self.loss.hear(notices, copies);
        let Some(path) = path() else { return };
        let counts = {
            let flights = path.flights.lock();
            Counts { sent: flights.sent(), lost: path.lost, losses: flights.losses() }
        };
        self.go_on(now, path);
        if self.loss.sample(now, counts) {
            self.queue.notice(now);
        }
    }

    /// Notes the path that the connection is on. If the peer has moved, what was not heard of goes again at once.
    pub fn go_on(&mut self, now: Instant, path: Path) {
        let before = self.path.replace(path);
        if let (Some(before), Some(path)) = (before, &self.path)
            && before.peer != path.peer
        {
            self.loss.moved(now);
            self.queue.moved(now, &before.flights.lock());
        }
    }

    /// Notes a write to a stream at this offset, handed to QUIC at `written`.
    pub fn wrote(&mut self, written: Instant, place: (u64, u64), data: &Bytes) -> Offered {
        let Some(path) = &self.path else { return Offered::Unfit };
        if !super::is_worth_a_copy(data) {
            return Offered::Unfit;
        }
        let rtt = path.flights.lock().rtt();
        self.queue.offer(written, self.loss.copies(), rtt, place, data)
    }

    /// How many copies pay now.
    pub fn copies(&self) -> u8 {
        self.loss.copies()
    }

    /// When something is to be looked at next.
    pub fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    /// What is to be sent now, in datagrams of `bytes_max` at the most.
    pub fn take_due(&mut self, now: Instant, bytes_max: usize) -> Due {
        let Some(path) = &self.path else { return Due::default() };
        self.queue.take_due(now, &path.flights.lock(), bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Scene {
        start: Instant,
        flights: Arc<Mutex<Flights>>,
        lost: u64,
        sender: EchoSender,
    }

    impl Scene {
        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// Some packets, as many lost as said, each by itself; then a look.
        fn look(&mut self, ms: u64, port: u16, lost: u64) {
            for _ in 0..20 {
                self.flights.lock().on_sent(self.at(ms), 100);
            }
            for _ in 0..lost {
                self.flights.lock().on_lost();
            }
            self.lost += lost;
            let flights = Arc::clone(&self.flights);
            let peer = SocketAddr::from(([127, 0, 0, 1], port));
            let path = Path { flights, peer, lost: self.lost };
            self.sender.look(self.at(ms), || Some(path), Heard::default);
        }
    }

    #[test]
    fn a_new_port_is_no_loss_and_a_new_path_is_looked_at_anew() {
        let start = Instant::now();
        let flights = Arc::new(Mutex::new(Flights::new(start)));
        let mut scene = Scene { start, flights, lost: 0, sender: EchoSender::default() };
        let data = Bytes::from_static(b"\x05hello");
        let unfit = scene.sender.wrote(start, (4, 0), &data);
        assert_eq!(unfit, Offered::Unfit, "no path yet");
        for port in 0..10 {
            scene.look(u64::from(port) * 5_000, port, u64::from(port > 0));
        }
        assert_eq!((scene.sender.copies(), scene.sender.next_due()), (0, None));
        scene.look(60_000, 9, 1);
        assert_eq!(scene.sender.take_due(scene.at(60_000), 1_200).notices, 1);
        scene.look(61_000, 9, 1);
        assert_eq!((scene.sender.copies(), scene.sender.next_due()), (1, None));
        scene.flights = Arc::new(Mutex::new(Flights::new(scene.at(62_000))));
        scene.look(62_000, 9, 0);
        assert_eq!(scene.sender.copies(), 0);
        assert_eq!(scene.sender.wrote(scene.at(62_000), (4, 0), &data), Offered::Taken);
        assert_eq!(scene.sender.next_due(), Some(scene.at(62_300)));
    }
}
