//! Nobody is flooded by way of our handshakes: an address that has not shown that it hears us is sent at
//! most three times what came from it (RFC 9000 §8.1). quinn keeps that bound too, but sends one whole
//! datagram beyond it, if only a byte is left.
//!
//! A stranger is who begins a handshake, until he sends a packet with one of our connection ids: then he
//! has heard us. Many connections may share an address (a proxy, a load test), so who was heard once is no stranger
//! again when another of them begins; quinn's bound holds for that one.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, UdpPoller};
use quinn_proto::ConnectionIdGenerator as _;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::connection_id::SignedIds;
use crate::metrics;

/// Strangers that are remembered, at the most; then all are forgotten, and quinn's bound holds alone.
const STRANGERS_MAX: usize = 65_536;
/// Addresses that have heard us and are remembered as such, in each of two generations.
const PROVEN_MAX: usize = 32_768;
/// What may be sent for each byte that came.
const FOLD: u64 = 3;

/// The socket behind the guard.
pub(crate) struct Guard {
    socket: Arc<dyn AsyncUdpSocket>,
    ids: SignedIds,
    addresses: Mutex<Addresses>,
    /// How many strangers there are: most of the time none.
    count: AtomicUsize,
}

#[derive(Default)]
struct Addresses {
    strangers: FxHashMap<SocketAddr, Balance>,
    /// Those that have heard us lately, and those before them.
    proven: [FxHashSet<SocketAddr>; 2],
}

impl Addresses {
    fn is_proven(&self, address: &SocketAddr) -> bool {
        self.proven.iter().any(|addresses| addresses.contains(address))
    }

    fn prove(&mut self, address: SocketAddr) {
        let [lately, before] = &mut self.proven;
        if lately.len() >= PROVEN_MAX {
            *before = std::mem::take(lately);
        }
        lately.insert(address);
    }
}

/// Bytes that came with the beginnings of handshakes, and all that were sent.
#[derive(Debug, Default)]
struct Balance {
    received: u64,
    sent: u64,
}

impl Guard {
    /// Guards a socket; our connection ids are known by `ids`.
    pub(crate) fn new(socket: Arc<dyn AsyncUdpSocket>, ids: SignedIds) -> Self {
        Self { socket, ids, addresses: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// A datagram has come.
    fn heard(&self, from: SocketAddr, packet: &[u8]) {
        let begins = is_initial(packet);
        if !begins && self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut addresses = self.addresses.lock();
        if begins {
            if addresses.is_proven(&from) {
                return;
            }
            let strangers = &mut addresses.strangers;
            if strangers.len() >= STRANGERS_MAX && !strangers.contains_key(&from) {
                strangers.clear();
            }
            strangers.entry(from).or_default().received += packet.len() as u64;
        } else if addresses.strangers.contains_key(&from)
            && destination(packet).is_some_and(|id| self.ids.validate(&id).is_ok())
        {
            addresses.strangers.remove(&from);
            addresses.prove(from);
        }
        self.count.store(addresses.strangers.len(), Ordering::Relaxed);
    }

    /// Whether a datagram may be sent, and what to note once it is.
    fn may_send(&self, to: SocketAddr, packet: &[u8]) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let addresses = self.addresses.lock();
        let Some(balance) = addresses.strangers.get(&to) else { return true };
        balance.sent + packet.len() as u64 <= FOLD * balance.received
    }

    fn sent(&self, to: SocketAddr, packet: &[u8]) {
        if self.count.load(Ordering::Relaxed) > 0
            && let Some(balance) = self.addresses.lock().strangers.get_mut(&to)
        {
            balance.sent += packet.len() as u64;
        }
    }
}

impl AsyncUdpSocket for Guard {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if !self.may_send(transmit.destination, transmit.contents) {
            metrics::get().guarded.increment(1);
            // As if it were lost on the way.
            return Ok(());
        }
        self.socket.try_send(transmit)?;
        self.sent(transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.socket.poll_recv(cx, buffers, metas))?;
        for (buffer, meta) in buffers.iter().zip(metas.iter()).take(received) {
            let datagrams = buffer.get(..meta.len).unwrap_or_default();
            for datagram in datagrams.chunks(meta.stride.max(1)) {
                self.heard(meta.addr, datagram);
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("strangers", &self.count).finish_non_exhaustive()
    }
}

/// RFC 9000 §17.2.
fn has_long_header(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0x80 != 0)
}

/// Initial or 0-RTT: what the first flight of a client consists of.
fn is_initial(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| matches!(first & 0xb0, 0x80 | 0x90))
}

/// The connection id that a packet is for, if it can be one of ours.
fn destination(packet: &[u8]) -> Option<ConnectionId> {
    let len = SignedIds::LEN;
    let id = if has_long_header(packet) {
        // After the first byte and the version.
        (usize::from(*packet.get(5)?) == len).then(|| packet.get(6..6 + len))??
    } else {
        packet.get(1..1 + len)?
    };
    Some(ConnectionId::new(id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use aws_lc_rs::hmac;
    use quinn::Runtime as _;

    const INITIAL: [u8; 1_200] = [0xc0; 1_200];

    fn guard() -> Guard {
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let socket = quinn::TokioRuntime.wrap_udp_socket(socket).unwrap();
        Guard::new(socket, ids())
    }

    fn ids() -> SignedIds {
        SignedIds::new(hmac::Key::new(hmac::HMAC_SHA256, b"secret"))
    }

    /// A packet with a short header, for one of our ids or for none.
    fn packet(is_ours: bool) -> Vec<u8> {
        let id = ids().generate_cid();
        let mut packet = [&[0x40], &id[..], &[0; 30]].concat();
        packet[2] ^= u8::from(!is_ours);
        packet
    }

    #[tokio::test]
    async fn who_does_not_answer_gets_three_times_what_he_sent() {
        let guard = guard();
        let to = ([192, 0, 2, 1], 7).into();
        let answer = [0xc0; 1_000];
        assert!(guard.may_send(to, &answer), "nothing is known of it");
        guard.heard(to, &INITIAL);
        for _ in 0..3 {
            assert!(guard.may_send(to, &answer));
            guard.sent(to, &answer);
        }
        assert!(!guard.may_send(to, &answer) && guard.may_send(to, &answer[..600]));
        guard.sent(to, &answer[..590]);
        assert!(!guard.may_send(to, &packet(true)), "nor anything that is no handshake's");
        // Another address is another matter.
        assert!(guard.may_send(([192, 0, 2, 1], 8).into(), &answer));
    }

    #[tokio::test]
    async fn who_answers_with_one_of_our_ids_is_no_stranger() {
        let guard = guard();
        let from = ([192, 0, 2, 1], 7).into();
        let answer = [0xe0; 1_200];
        guard.heard(from, &INITIAL);
        for _ in 0..3 {
            guard.sent(from, &answer);
        }
        // Of 65,536 guesses one is right; not each of three.
        (0..3).for_each(|_| guard.heard(from, &packet(false)[..4]));
        assert!(!guard.may_send(from, &answer));
        guard.heard(from, &packet(true));
        assert!(guard.may_send(from, &answer));
        assert_eq!(guard.count.load(Ordering::Relaxed), 0);
        // Nor is it when another connection begins there.
        guard.heard(from, &INITIAL);
        assert!(guard.may_send(from, &[0; 65_000]));
    }

    #[test]
    fn addresses_that_have_heard_us_are_bounded_and_the_last_are_kept() {
        let address = |n: usize| (std::net::Ipv4Addr::from(u32::try_from(n).unwrap()), 7).into();
        let mut addresses = Addresses::default();
        (0..3 * PROVEN_MAX).for_each(|n| addresses.prove(address(n)));
        assert!(!addresses.is_proven(&address(0)));
        assert!((2 * PROVEN_MAX..3 * PROVEN_MAX).all(|n| addresses.is_proven(&address(n))));
        assert!(addresses.proven.iter().all(|some| some.len() <= PROVEN_MAX));
    }

    #[tokio::test]
    async fn strangers_are_bounded() {
        let guard = guard();
        for n in 0..=STRANGERS_MAX {
            let from = (std::net::Ipv4Addr::from(u32::try_from(n).unwrap()), 7).into();
            guard.heard(from, &INITIAL);
        }
        assert_eq!(guard.count.load(Ordering::Relaxed), 1);
    }
}
