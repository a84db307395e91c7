//! The emulator for TCP, whose losses have to be made below it: a network device of its own (TUN), whose
//! IP packets it delays, loses and so on. It takes the right to make a device (`CAP_NET_ADMIN`).
//!
//! The device's network has two addresses: this machine's own one, where the server listens, and its
//! mirror image, where clients dial. What the kernel sends to the mirror comes here, and goes back
//! with both addresses swapped, as if from there. A sum over both is the same whichever comes
//! first, so the checksums of IPv4 (RFC 791) and TCP (RFC 9293) stay right.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use anyhow::Context as _;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustc_hash::FxHashMap;
use tun::Configuration;

use super::counters::{Counts, count};
use super::course::{Course, Threads};
use super::path::Path;
use super::profile::Profile;

/// The largest IP packet.
const MTU: u16 = 1_500;
/// Client ports, at the most.
const LINKS_MAX: usize = 30_000;
/// Headers that are not counted, as for UDP: those of IPv4 and UDP.
const UNCOUNTED_BYTES: usize = 28;

const DEVICE: Token = Token(0);
const WAKE: Token = Token(1);

/// A running emulator. It stops when this is dropped, and the device goes.
#[derive(Debug)]
pub struct PacketLink {
    own: Ipv4Addr,
    mirror: Ipv4Addr,
    shared: Arc<Shared>,
    _threads: Threads<()>,
}

#[derive(Debug)]
struct Shared {
    course: Arc<Course<()>>,
    device: Device,
    /// Where the server listens; 0: not yet.
    server_port: AtomicU16,
    links: AtomicU64,
}

struct Device(tun::Device);

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Device").field(&self.0.as_raw_fd()).finish()
    }
}

impl PacketLink {
    /// Makes the device and starts.
    ///
    /// # Errors
    /// If there can be no device, mostly for lack of rights, or a thread cannot be started.
    pub fn start(profile: &Profile, seed: u64) -> anyhow::Result<Self> {
        let [own, mirror] = addresses(std::process::id());
        let mut configuration = Configuration::default();
        configuration.address(own).netmask((255, 255, 255, 252)).mtu(MTU).up();
        let device = tun::create(&configuration)
            .context("a network device for TCP over a link (/dev/net/tun; takes CAP_NET_ADMIN)")?;
        device.set_nonblock()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&device.as_raw_fd()), DEVICE, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let shared = Arc::new(Shared {
            course: Arc::new(Course::new(profile)),
            device: Device(device),
            server_port: AtomicU16::new(0),
            links: AtomicU64::new(0),
        });
        let (reader, sender) = (Arc::clone(&shared), Arc::clone(&shared));
        let read = move || reader.read(poll, seed);
        let threads = Threads::start(&shared.course, waker, read, move || sender.send())?;
        Ok(Self { own, mirror, shared, _threads: threads })
    }

    /// Where the server has to listen.
    pub fn own(&self) -> Ipv4Addr {
        self.own
    }

    /// The server listens at this port; where clients reach it.
    pub fn towards(&self, port: u16) -> SocketAddr {
        self.shared.server_port.store(port, Ordering::Relaxed);
        (self.mirror, port).into()
    }

    /// What it did so far. Each client port is a link.
    pub fn counts(&self) -> Counts {
        Counts {
            links: self.shared.links.load(Ordering::Relaxed),
            up: self.shared.course.up.read(),
            down: self.shared.course.down.read(),
            ..Counts::default()
        }
    }
}

impl Shared {
    fn read(&self, mut poll: Poll, seed: u64) {
        let mut events = Events::with_capacity(8);
        let mut buffer = vec![0; usize::from(MTU)];
        let mut links: FxHashMap<u16, (Path, Path)> = FxHashMap::default();
        while !self.course.is_stopped() {
            if let Err(error) = poll.poll(&mut events, None)
                && error.kind() != ErrorKind::Interrupted
            {
                return;
            }
            while let Some(length) = received(self.device.0.recv(&mut buffer)) {
                if let Some(packet) = buffer.get_mut(..length) {
                    self.take(packet, &mut links, seed);
                }
            }
        }
    }

    fn take(&self, packet: &mut [u8], links: &mut FxHashMap<u16, (Path, Path)>, seed: u64) {
        let Some((from, to)) = turn_round(packet) else { return };
        let is_up = to == self.server_port.load(Ordering::Relaxed);
        let client = if is_up { from } else { to };
        let known = links.len();
        if known >= LINKS_MAX && !links.contains_key(&client) {
            return count(&self.course.counters(is_up).failed);
        }
        let (up, down) = links.entry(client).or_insert_with(|| {
            count(&self.links);
            self.course.paths(seed, known)
        });
        let path = if is_up { up } else { down };
        let size = packet.len().saturating_sub(UNCOUNTED_BYTES);
        self.course.take(&(), path, is_up, packet, size);
    }

    fn send(&self) {
        while let Some(parcel) = self.course.next() {
            let counters = self.course.counters(parcel.is_up);
            match self.device.0.send(&parcel.bytes) {
                Ok(_) => count(&counters.forwarded),
                Err(_) => count(&counters.failed),
            }
        }
    }
}

/// The bytes of a packet that was there; what cannot be read is passed over.
fn received(read: io::Result<usize>) -> Option<usize> {
    match read {
        Ok(length) => Some(length),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(_) => Some(0),
    }
}

/// Swaps both addresses of a TCP packet; its ports, source and destination. `None`: it is none.
fn turn_round(packet: &mut [u8]) -> Option<(u16, u16)> {
    const TCP: u8 = 6;
    let first = *packet.first()?;
    let header = usize::from(first & 0x0f) * 4;
    let is_tcp = first >> 4 == 4 && header >= 20 && *packet.get(9)? == TCP;
    let ports: [u8; 4] = packet.get(header..header + 4)?.try_into().ok()?;
    if !is_tcp {
        return None;
    }
    let (source, destination) = packet.get_mut(12..20)?.split_at_mut(4);
    source.swap_with_slice(destination);
    let [a, b, c, d] = ports;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Two addresses of a network that few others use at once, out of those for tests of networks
/// (RFC 2544: 198.18.0.0/15).
fn addresses(number: u32) -> [Ipv4Addr; 2] {
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + ((number << 2) & 0x1_fffc);
    [Ipv4Addr::from(first + 1), Ipv4Addr::from(first + 2)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    /// Its checksum field left out.
    fn sum(bytes: &[u8]) -> u32 {
        let words = bytes.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        (sum & 0xffff) + (sum >> 16)
    }

    fn packet() -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[9] = 6;
        packet[12..16].copy_from_slice(&[198, 18, 0, 1]);
        packet[16..20].copy_from_slice(&[198, 18, 0, 2]);
        packet[20..24].copy_from_slice(&[0x12, 0x34, 0x56, 0x78]);
        packet
    }

    #[test]
    fn a_packet_turns_round_with_its_sums() {
        let (before, mut after) = (packet(), packet());
        assert_eq!(turn_round(&mut after), Some((0x1234, 0x5678)));
        assert_eq!((&after[12..16], &after[16..20]), (&before[16..20], &before[12..16]));
        assert_eq!(sum(&after[..20]), sum(&before[..20]));
        assert_eq!((&after[..12], &after[20..]), (&before[..12], &before[20..]));
    }

    #[test]
    fn what_is_no_tcp_is_left_alone() {
        let whole = packet();
        for length in 0..24 {
            assert_eq!(turn_round(&mut whole[..length].to_vec()), None, "{length}");
        }
        for (at, byte) in [(0, 0x65), (0, 0x41), (9, 17)] {
            let mut other = whole.clone();
            other[at] = byte;
            assert_eq!(turn_round(&mut other), None, "{at}");
        }
    }

    #[test]
    fn networks_lie_in_their_range_and_do_not_overlap() {
        for number in [0, 1, 32_767, 32_768, u32::MAX] {
            let [own, mirror] = addresses(number);
            let own_bits = u32::from(own);
            assert_eq!((own_bits % 4, u32::from(mirror)), (1, own_bits + 1), "{number}");
            assert!([18, 19].contains(&own.octets()[1]) && own.octets()[0] == 198, "{own}");
        }
        assert_ne!(addresses(1), addresses(2));
    }
}
