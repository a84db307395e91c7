//! The sockets and threads of the emulator.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::counters::{Counts, count};
use super::course::{Course, Threads};
use super::path::{Path, nanos};
use super::profile::Profile;

/// Client addresses, at the most; packets of further ones are lost.
const LINKS_MAX: usize = 30_000;
/// The largest UDP payload.
const PACKET_BYTES_MAX: usize = 65_535;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Packets of one socket that are read before another has its turn.
const READS_PER_TURN: usize = 64;

const FRONT: Token = Token(usize::MAX);
const WAKE: Token = Token(usize::MAX - 1);

/// A running emulator. It stops when this is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Threads<Arc<Flow>>,
}

#[derive(Debug)]
struct Shared {
    course: Arc<Course<Arc<Flow>>>,
    front: UdpSocket,
    links: AtomicU64,
    rebinds: AtomicU64,
    switches: AtomicU64,
    server: SocketAddr,
    /// Packets leave from this socket instead of their own; what comes back to it is lost.
    detour: Mutex<Option<UdpSocket>>,
    /// Address changes that were asked for and are not done yet.
    asked_rebind: AtomicBool,
    asked_switch: AtomicBool,
}

/// One client's link, as its packets need it.
#[derive(Debug)]
struct Flow {
    client: SocketAddr,
    /// The socket that the server sees; replaced when the address changes.
    upstream: Mutex<Arc<UdpSocket>>,
}

/// How a client's address changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Port,
    Address,
}

impl Link {
    /// Starts an emulator on `listen` in front of `server`.
    ///
    /// # Errors
    /// If a socket cannot be opened or a thread not be started.
    pub fn start(
        profile: &Profile,
        listen: SocketAddr,
        server: SocketAddr,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut front = socket(listen).with_context(|| format!("the link's socket, {listen}"))?;
        let address = front.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut front, FRONT, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let shared = Arc::new(Shared {
            course: Arc::new(Course::new(profile)),
            front,
            links: AtomicU64::new(0),
            rebinds: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            server,
            detour: Mutex::default(),
            asked_rebind: AtomicBool::new(false),
            asked_switch: AtomicBool::new(false),
        });
        let reader = Reader {
            shared: Arc::clone(&shared),
            poll,
            server,
            seed,
            links: Vec::new(),
            by_client: FxHashMap::default(),
            next_rebind_ns: profile.rebind.map(nanos),
            next_switch_ns: profile.switch.map(nanos),
        };
        let sender = Arc::clone(&shared);
        let threads =
            Threads::start(&shared.course, waker, || reader.run(), move || sender.send())?;
        Ok(Self { address, shared, threads })
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            links: of(&self.shared.links),
            up: self.shared.course.up.read(),
            down: self.shared.course.down.read(),
            rebinds: of(&self.shared.rebinds),
            switches: of(&self.shared.switches),
        }
    }

    /// From now on nothing gets through for so long; zero ends it. What is on its way still comes.
    pub fn black_out(&self, lasting: Duration) {
        self.shared.course.black_out(lasting);
    }

    /// From now on the server sees all clients at another port, where nothing reaches them: a phone that
    /// tries a network which is none. They are seen at their own again when it ends.
    ///
    /// # Errors
    /// If no socket is to be had.
    pub fn detour(&self, on: bool) -> std::io::Result<()> {
        let any = if self.shared.server.is_ipv4() {
            IpAddr::from(Ipv4Addr::UNSPECIFIED)
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        *self.shared.detour.lock() = on.then(|| socket((any, 0).into())).transpose()?;
        Ok(())
    }

    /// The server sees every client at a new port from its next packet on. What comes to the old
    /// one is lost.
    ///
    /// # Errors
    /// If the emulator's thread cannot be woken.
    pub fn rebind(&self) -> std::io::Result<()> {
        self.shared.asked_rebind.store(true, Ordering::Relaxed);
        self.threads.wake()
    }

    /// The same with a new address, where the server is on a loopback address; else a new port.
    ///
    /// # Errors
    /// If the emulator's thread cannot be woken.
    pub fn switch(&self) -> std::io::Result<()> {
        self.shared.asked_switch.store(true, Ordering::Relaxed);
        self.threads.wake()
    }
}

impl Shared {
    /// Sends what is due.
    fn send(&self) {
        while let Some(parcel) = self.course.next() {
            let sent = if parcel.is_up {
                match &*self.detour.lock() {
                    Some(detour) => detour.send_to(&parcel.bytes, self.server),
                    None => parcel.to.upstream.lock().send(&parcel.bytes),
                }
            } else {
                self.front.send_to(&parcel.bytes, parcel.to.client)
            };
            let counters = self.course.counters(parcel.is_up);
            match sent {
                Ok(_) => count(&counters.forwarded),
                // Nobody listens there, as after a restart: that packet is lost as on any network.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => count(&counters.lost),
                Err(_) => count(&counters.failed),
            }
        }
    }
}

/// One client's link, as the thread that reads has it.
struct Ends {
    flow: Arc<Flow>,
    up: Path,
    down: Path,
}

struct Reader {
    shared: Arc<Shared>,
    poll: Poll,
    server: SocketAddr,
    seed: u64,
    /// By token.
    links: Vec<Ends>,
    by_client: FxHashMap<SocketAddr, usize>,
    next_rebind_ns: Option<u64>,
    next_switch_ns: Option<u64>,
}

impl Reader {
    fn run(mut self) {
        let mut events = Events::with_capacity(1_024);
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        // Tokens of sockets that may hold more; edges tell of each socket once.
        let mut ready: Vec<Token> = Vec::new();
        while !self.shared.course.is_stopped() {
            let timeout = if ready.is_empty() { self.until_change() } else { Some(Duration::ZERO) };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != ErrorKind::Interrupted
            {
                return;
            }
            self.change_addresses();
            for event in &events {
                if event.token() != WAKE && !ready.contains(&event.token()) {
                    ready.push(event.token());
                }
            }
            ready.retain(|token| match *token {
                FRONT => self.read_front(&mut buffer),
                Token(link) => self.read_upstream(link, &mut buffer),
            });
        }
    }

    fn until_change(&self) -> Option<Duration> {
        let next_ns = [self.next_rebind_ns, self.next_switch_ns].into_iter().flatten().min()?;
        Some(Duration::from_nanos(next_ns.saturating_sub(self.shared.course.clock.now())))
    }

    /// Reads what clients send; whether there may be more.
    fn read_front(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..READS_PER_TURN {
            let (length, client) = match self.shared.front.recv_from(buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                // An ICMP answer to an earlier packet.
                Err(_) => continue,
            };
            let Some(link) = self.link_of(client) else {
                count(&self.shared.course.up.failed);
                continue;
            };
            if let (Some(ends), Some(bytes)) = (self.links.get_mut(link), buffer.get(..length)) {
                self.shared.course.take(&ends.flow, &mut ends.up, true, bytes, length);
            }
        }
        true
    }

    /// Reads what the server sends to one client; whether there may be more.
    fn read_upstream(&mut self, link: usize, buffer: &mut [u8]) -> bool {
        let Some(ends) = self.links.get_mut(link) else { return false };
        let upstream = Arc::clone(&ends.flow.upstream.lock());
        for _ in 0..READS_PER_TURN {
            match upstream.recv(buffer) {
                Ok(length) => {
                    if let Some(bytes) = buffer.get(..length) {
                        self.shared.course.take(&ends.flow, &mut ends.down, false, bytes, length);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => {}
            }
        }
        true
    }

    fn link_of(&mut self, client: SocketAddr) -> Option<usize> {
        if let Some(link) = self.by_client.get(&client) {
            return Some(*link);
        }
        let link = self.links.len();
        if link >= LINKS_MAX {
            return None;
        }
        let upstream = self.upstream(link, self.any_address()).ok()?;
        let flow = Arc::new(Flow { client, upstream: Mutex::new(Arc::new(upstream)) });
        let (up, down) = self.shared.course.paths(self.seed, link);
        self.links.push(Ends { flow, up, down });
        self.by_client.insert(client, link);
        count(&self.shared.links);
        Some(link)
    }

    /// A socket towards the server.
    fn upstream(&self, link: usize, local: IpAddr) -> std::io::Result<UdpSocket> {
        let mut upstream = socket((local, 0).into())?;
        upstream.connect(self.server)?;
        self.poll.registry().register(&mut upstream, Token(link), Interest::READABLE)?;
        Ok(upstream)
    }

    fn any_address(&self) -> IpAddr {
        if self.server.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        }
    }

    fn change_addresses(&mut self) {
        let now_ns = self.shared.course.clock.now();
        let rebind = self.shared.asked_rebind.swap(false, Ordering::Relaxed)
            | is_due(&mut self.next_rebind_ns, self.shared.course.profile.rebind, now_ns);
        let switch = self.shared.asked_switch.swap(false, Ordering::Relaxed)
            | is_due(&mut self.next_switch_ns, self.shared.course.profile.switch, now_ns);
        if switch {
            self.change(Change::Address);
        } else if rebind {
            self.change(Change::Port);
        }
    }

    /// Gives every link a new socket. Where none is to be had, the old one stays, and the count
    /// does not move.
    fn change(&mut self, change: Change) {
        let counter = match change {
            Change::Port => &self.shared.rebinds,
            Change::Address => &self.shared.switches,
        };
        for (link, ends) in self.links.iter().enumerate() {
            let local = match change {
                Change::Port => {
                    ends.flow.upstream.lock().local_addr().map_or(self.any_address(), |a| a.ip())
                }
                Change::Address => self.other_address(counter.load(Ordering::Relaxed)),
            };
            if let Ok(upstream) = self.upstream(link, local) {
                *ends.flow.upstream.lock() = Arc::new(upstream);
                count(counter);
            }
        }
    }

    /// Another loopback address each time, where there are many.
    fn other_address(&self, number: u64) -> IpAddr {
        match self.server.ip() {
            IpAddr::V4(server) if server.is_loopback() => {
                let [.., third, fourth] = (number % 60_000 + 2).to_be_bytes();
                Ipv4Addr::new(127, 1, third, fourth).into()
            }
            _ => self.any_address(),
        }
    }
}

fn is_due(next_ns: &mut Option<u64>, every: Option<Duration>, now_ns: u64) -> bool {
    let (Some(next), Some(every)) = (next_ns, every) else { return false };
    let due = *next <= now_ns;
    while *next <= now_ns {
        *next += nanos(every).max(1);
    }
    due
}

fn socket(local: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(local),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    // The kernel's own bound holds.
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&local.into())?;
    socket.set_nonblocking(true)?;
    Ok(UdpSocket::from_std(socket.into()))
}
