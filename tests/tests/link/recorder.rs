//! A relay for one client's packets that can be silent and lossy, and takes down what comes by.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// The bit of a packet's first byte that says: part of a handshake.
const LONG_HEADER: u8 = 0x80;
/// The largest UDP payload.
const PACKET_BYTES_MAX: usize = 65_535;

/// The relay. It stops when this is dropped.
#[derive(Debug)]
pub struct Recorder {
    /// Where the client finds it.
    pub address: SocketAddr,
    state: Arc<State>,
    _relaying: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    is_dark: AtomicBool,
    /// What the client sent since, until the server says something.
    flight: Mutex<Option<Vec<Vec<u8>>>>,
    taken: Mutex<Vec<Vec<u8>>>,
    /// One in so many is lost, each way; 0: none.
    lost_of: AtomicUsize,
    /// All that came by after the handshake, if it is wanted.
    capture: Mutex<Option<Vec<Captured>>>,
}

/// A packet that came by, lost or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Whether the client sent it.
    pub is_up: bool,
    /// Of the UDP payload.
    pub bytes: usize,
}

impl Recorder {
    /// Starts one in front of a server.
    pub async fn start(server: SocketAddr) -> Result<Self> {
        let front = UdpSocket::bind(("127.0.0.1", 0)).await?;
        let back = UdpSocket::bind(("127.0.0.1", 0)).await?;
        back.connect(server).await?;
        let address = front.local_addr()?;
        let state = Arc::new(State::default());
        let mut relaying = JoinSet::new();
        relaying.spawn(relay(front, back, Arc::clone(&state)));
        Ok(Self { address, state, _relaying: relaying })
    }

    /// Nothing gets through from here on.
    pub fn go_dark(&self) {
        self.state.is_dark.store(true, Ordering::SeqCst);
    }

    /// All gets through again; what the client sends is taken down until the server answers.
    pub fn light_up(&self) {
        *self.state.flight.lock() = Some(Vec::new());
        self.state.is_dark.store(false, Ordering::SeqCst);
    }

    /// From here on one packet in so many is lost, each way, and all are captured.
    pub fn lose_one_in(&self, packets: usize) {
        *self.state.capture.lock() = Some(Vec::new());
        self.state.lost_of.store(packets, Ordering::SeqCst);
    }

    /// What came by since; nothing is lost any more.
    pub fn captured(&self) -> Vec<Captured> {
        self.state.lost_of.store(0, Ordering::SeqCst);
        self.state.capture.lock().take().unwrap_or_default()
    }

    /// The client's packets that the server's first one followed.
    pub fn first_flight(&self) -> Vec<Vec<u8>> {
        self.state.taken.lock().clone()
    }
}

impl State {
    /// A packet comes by; whether it is lost.
    fn loses(&self, is_up: bool, packet: &[u8]) -> bool {
        let mut capture = self.capture.lock();
        let Some(capture) = capture.as_mut().filter(|_| packet[0] & LONG_HEADER == 0) else {
            return false;
        };
        capture.push(Captured { is_up, bytes: packet.len() });
        let lost_of = self.lost_of.load(Ordering::SeqCst);
        lost_of > 0
            && capture.iter().filter(|one| one.is_up == is_up).count().is_multiple_of(lost_of)
    }
}

async fn relay(front: UdpSocket, back: UdpSocket, state: Arc<State>) {
    let (mut up, mut down) = (vec![0; PACKET_BYTES_MAX], vec![0; PACKET_BYTES_MAX]);
    let mut client = None;
    loop {
        tokio::select! {
            Ok((bytes, from)) = front.recv_from(&mut up) => {
                client = Some(from);
                if state.is_dark.load(Ordering::SeqCst) {
                    continue;
                }
                if let Some(flight) = state.flight.lock().as_mut()
                    // Whatever is left of an older connection has short headers.
                    && (!flight.is_empty() || up[0] & LONG_HEADER != 0)
                {
                    flight.push(up[..bytes].to_vec());
                }
                if state.loses(true, &up[..bytes]) {
                    continue;
                }
                // A packet that cannot be sent is lost.
                back.send(&up[..bytes]).await.ok();
            }
            Ok(bytes) = back.recv(&mut down) => {
                let Some(client) = client.filter(|_| !state.is_dark.load(Ordering::SeqCst)) else {
                    continue;
                };
                let is_answer = down[0] & LONG_HEADER != 0
                    && state.flight.lock().as_ref().is_some_and(|flight| !flight.is_empty());
                if is_answer && let Some(flight) = state.flight.lock().take() {
                    *state.taken.lock() = flight;
                }
                if state.loses(false, &down[..bytes]) {
                    continue;
                }
                front.send_to(&down[..bytes], client).await.ok();
            }
        }
    }
}
