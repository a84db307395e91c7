//! TLS 1.3 on TCP, for networks that let no UDP through.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use crate::connection::Connection;
use crate::mux::{self, Driver, Settings, Side};

/// Bytes that the kernel takes before the network does: more would stand before every message that
/// comes after them.
const NOT_SENT_BYTES: u32 = 8 * 1024;
/// Bytes that rustls takes before the socket does.
const TLS_BUFFER_BYTES: usize = 16 * 1024;

/// The task of a connection that was accepted.
pub type ServerDriver = Driver<server::TlsStream<TcpStream>>;
/// The task of a connection that was dialed.
pub type ClientDriver = Driver<client::TlsStream<TcpStream>>;

/// Serves the handshake of a connection that was accepted; its [`Driver`] is to be run. The caller
/// bounds the time. The dear part is done in `turn`, and others have theirs after it: in a storm of
/// handshakes whoever chats waits for as many at the most as there are turns.
///
/// With `ServerConfig::send_half_rtt_data` what this side allows goes with its part of the
/// handshake, so that the client need not wait for it.
///
/// # Errors
/// What the socket or TLS say; also if the peer does not name the protocol.
pub async fn accept(
    socket: TcpStream,
    tls: Arc<ServerConfig>,
    settings: Settings,
    turn: &Semaphore,
) -> io::Result<(Connection, ServerDriver)> {
    let remote = prepare(&socket)?;
    let introduction = mux::introduction(Side::Server, &settings);
    let mut introduced = Ok(());
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
    let turn = turn.acquire().await.map_err(io::Error::other)?;
    let accepting = start.into_stream_with(tls, |tls| {
        tls.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        introduced = tls.writer().write_all(&introduction);
    });
    tokio::task::yield_now().await;
    drop(turn);
    let stream = accepting.await?;
    introduced?;
    negotiated(stream.get_ref().1.alpn_protocol())?;
    let (mux, driver) = mux::start(stream, Side::Server, settings, remote, true);
    Ok((Connection::from(mux), driver))
}

/// Dials; the connection's [`Driver`] is to be run. The caller bounds the time.
///
/// # Errors
/// What the socket or TLS say; also if the peer does not name the protocol.
pub async fn connect(
    address: SocketAddr,
    server_name: &str,
    tls: Arc<ClientConfig>,
    settings: Settings,
) -> io::Result<(Connection, ClientDriver)> {
    let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
    let socket = TcpStream::connect(address).await?;
    let remote = prepare(&socket)?;
    let connecting = TlsConnector::from(tls).connect_with(name, socket, |tls| {
        tls.set_buffer_limit(Some(TLS_BUFFER_BYTES));
    });
    let stream = connecting.await?;
    negotiated(stream.get_ref().1.alpn_protocol())?;
    let (mux, driver) = mux::start(stream, Side::Client, settings, remote, false);
    Ok((Connection::from(mux), driver))
}

fn prepare(socket: &TcpStream) -> io::Result<SocketAddr> {
    socket.set_nodelay(true)?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    SockRef::from(socket).set_tcp_notsent_lowat(NOT_SENT_BYTES)?;
    socket.peer_addr()
}

fn negotiated(protocol: Option<&[u8]>) -> io::Result<()> {
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "no protocol was negotiated");
    protocol.map(|_| ()).ok_or_else(missing)
}
