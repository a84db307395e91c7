//! A relay for one client's packets that can be silent, and can take down what the client sends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

    /// The client's packets that the server's first one followed.
    pub fn first_flight(&self) -> Vec<Vec<u8>> {
        self.state.taken.lock().clone()
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
                front.send_to(&down[..bytes], client).await.ok();
            }
        }
    }
}
