//! TLS on TCP, for clients whose network lets no UDP through: the listener, and who comes in. What
//! a connection says once its handshake is done is no other than on QUIC.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use petrel_proto::code::Code;
use petrel_proto::version::ALPN;
use petrel_transport::{Kind, Settings, tcp};
use rustls::server::NoServerSessionStorage;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::connection::{self, Begun, STREAMS_BEFORE_SIGN_IN};
use crate::doors::{Doors, Place};
use crate::endpoint::{CurrentCertificate, RECEIVE_WINDOW, SEND_WINDOW, STREAM_WINDOW};
use crate::gateway::Gateway;
use crate::{datagram, keys, metrics, process};

/// Bytes that were written and wait for the socket.
const SEND_BUFFER: usize = 64 * 1024;
/// What TLS, and records that are being read or written, take beside.
const RECORDS: u64 = 64 * 1024;
// A connection on TCP takes no more memory than one on QUIC, so that one cap counts for both.
const _: () = assert!(SEND_BUFFER as u64 + RECORDS <= SEND_WINDOW);
/// Bytes of a datagram, at the most.
const DATAGRAM_BYTES: usize = 1_200;
/// The kernel's buffers of a connection, each way.
const SOCKET_BUFFER: usize = 128 * 1024;
/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 4_096;
/// Descriptors that connections leave to the store, the other ports and files.
pub(crate) const DESCRIPTORS_KEPT: usize = 192;
/// How long no connection is accepted after one could not be for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What accepts, and with which certificate.
pub(crate) struct Listener {
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
}

impl Listener {
    /// Listens at this address.
    ///
    /// # Errors
    /// If it cannot be bound; the text names the setting.
    pub(crate) fn open(at: SocketAddr, certificate: Arc<CurrentCertificate>) -> Result<Self> {
        let listener = listen(at)
            .with_context(|| format!("gateway.listen_tcp: cannot use TCP address {at}"))?;
        Ok(Self { listener, tls: Arc::new(tls(certificate)?) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    // A gateway that is started again listens although connections of the last one are dying away.
    socket.set_reuse_address(true)?;
    // What is accepted has the same.
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn tls(certificate: Arc<CurrentCertificate>) -> Result<rustls::ServerConfig> {
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(keys::provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS 1.3 is not available")?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // Resumption would save no round trip here, early data apart, which stays QUIC's.
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_half_rtt_data = true;
    Ok(tls)
}

fn settings(config: &Config) -> Settings {
    Settings {
        receive_window: RECEIVE_WINDOW,
        stream_receive_window: STREAM_WINDOW.into(),
        streams_max: STREAMS_BEFORE_SIGN_IN,
        send_buffer: SEND_BUFFER,
        datagram_max: DATAGRAM_BYTES,
        datagrams_in: datagram::RECEIVE_BYTES,
        datagrams_out: datagram::SEND_BYTES,
        idle_timeout: config.gateway.idle_timeout.duration(),
        keep_alive: None,
        answer_within: None,
    }
}

/// Accepts until the gateway stops; what was accepted is closed when `closing` says so.
pub(crate) async fn accept(gateway: Arc<Gateway>, listener: Listener, closing: CancellationToken) {
    let Listener { listener, tls } = listener;
    let connections_max = connections_max();
    let door = Arc::new(Door { tls, turn: Semaphore::new(1), connections_max, closing });
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((socket, from)) => admit(&gateway, &door, socket, from).await,
                Err(error) if is_of_one(error.kind()) => {}
                Err(error) => {
                    tracing::error!(%error, "no TCP connection can be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            // Whoever is in the middle of a chat has his turn between two connections.
            tokio::task::yield_now().await;
        }
    };
    gateway.stopping.run_until_cancelled(accepting).await;
}

/// Each connection takes a descriptor, which the store needs too.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number of files"
)]
fn connections_max() -> usize {
    process::open_files_max()
        .map_or(usize::MAX, |files| (files as usize).saturating_sub(DESCRIPTORS_KEPT).max(1))
}

/// Whether an accept failed for the connection's sake alone.
fn is_of_one(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    )
}

/// What all handshakes need.
struct Door {
    tls: Arc<rustls::ServerConfig>,
    turn: Semaphore,
    connections_max: usize,
    closing: CancellationToken,
}

/// Lets a connection in or hangs up, before any cryptography is done for it.
async fn admit(gateway: &Arc<Gateway>, door: &Arc<Door>, socket: TcpStream, from: SocketAddr) {
    if gateway.doors.connections_on_tcp() >= door.connections_max {
        return metrics::connection_refused(Kind::Tcp, "full");
    }
    let Some(place) = Doors::enter_by_tcp(gateway, from.ip()) else { return };
    gateway.pace.turn().await;
    let handshake = shake_hands(Arc::clone(gateway), Arc::clone(door), socket, place);
    gateway.tasks.spawn(connection::run(Arc::clone(gateway), handshake, Instant::now(), None));
}

async fn shake_hands(
    gateway: Arc<Gateway>,
    door: Arc<Door>,
    socket: TcpStream,
    place: Place,
) -> Option<Begun> {
    let limit = gateway.config.gateway.handshake_timeout.duration();
    let settings = settings(&gateway.config);
    let accepting = tcp::accept(socket, Arc::clone(&door.tls), settings, &door.turn);
    let (connection, driver) = match timeout(limit, accepting).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            connection::handshake_failed(Kind::Tcp, &error);
            return None;
        }
        Err(_) => {
            metrics::connection_refused(Kind::Tcp, "handshake_timeout");
            return None;
        }
    };
    gateway.tasks.spawn(async move {
        // For as long as the socket is open, which is a little longer than the connection lives.
        let _place = place;
        let closing = async {
            door.closing.cancelled().await;
            (Code::GoingAway.number(), Code::GoingAway.label())
        };
        driver.run_until(closing).await;
    });
    Some((connection, None))
}
