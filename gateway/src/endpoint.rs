//! The QUIC endpoint: sockets, TLS, and every window, count and buffer of quinn,
//! whose defaults are not for a public server.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_lc_rs::hkdf;
use parking_lot::RwLock;
use petrel_proto::echo::{ACK_DELAY_MAX, WitnessConfig};
use petrel_proto::version::ALPN;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    AckFrequencyConfig, EndpointConfig, Runtime as _, ServerConfig, TokioRuntime, TransportConfig,
    VarInt,
};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Config;
use crate::connection::STREAMS_BEFORE_SIGN_IN;
use crate::connection_id::SignedIds;
use crate::datagram;
use crate::guard::Guard;
use crate::keys::{self, Certificate};
use crate::tls_sessions::TlsSessions;

/// Bytes that a peer may send on one stream before we have read them.
pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes that a peer may send on all streams before we have read them.
pub(crate) const RECEIVE_WINDOW: u64 = 96 * 1024;
/// Bytes that we keep for a peer until it has acknowledged them.
pub(crate) const SEND_WINDOW: u64 = 128 * 1024;
/// What a connection takes besides: quinn's state, our tasks and tables with streams open, and the
/// allocator's share of all. Measured, all together, by `tests/tests/hostile/memory.rs`.
pub(crate) const STATE_BYTES: u64 = 168 * 1024;
/// Bytes of the handshake that may be out of order.
const CRYPTO_BUFFER: usize = 16 * 1024;
/// Connection attempts that wait to be taken up.
const INCOMING_MAX: usize = 4_096;
/// Bytes that one of them may send meanwhile, and all together.
const INCOMING_BUFFER: u64 = 64 * 1024;
const INCOMING_BUFFER_TOTAL: u64 = 16 * 1024 * 1024;
/// The kernel's buffers for the socket; it may give less.
pub(crate) const SOCKET_BUFFER: usize = 8 * 1024 * 1024;
/// Between two resets. Who dials anew because of one has waited for it: with quinn's 20 ms the last of
/// 10,000 clients of a gateway that was restarted would have waited for minutes. Each is smaller than the packet
/// that asked for it and goes only to who knows an id that we signed, so a flood of them is not to be had.
const RESET_INTERVAL: Duration = Duration::from_micros(50);
/// What is assumed before the first measurement, instead of 333 ms (RFC 9002 §6.2.2).
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// The certificate in use; new connections get the newest.
#[derive(Debug)]
pub(crate) struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl CurrentCertificate {
    /// Begins with this one.
    pub(crate) fn new(certificate: &Certificate) -> Self {
        Self(RwLock::new(Arc::clone(&certificate.key)))
    }

    /// Replaces it.
    pub(crate) fn set(&self, certificate: &Certificate) {
        *self.0.write() = Arc::clone(&certificate.key);
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

/// Opens the endpoint.
///
/// # Errors
/// If the address cannot be bound; the text names the setting.
pub(crate) fn open(
    config: &Config,
    certificate: Arc<CurrentCertificate>,
) -> Result<quinn::Endpoint> {
    let listen = config.gateway.listen;
    let socket = socket(listen)
        .with_context(|| format!("gateway.listen: cannot use UDP address {listen}"))?;
    let keys = keys::reset_keys(&config.data_dir, listen)?;
    let mut endpoint = EndpointConfig::new(Arc::new(keys.resets));
    let (ids, known, tokens) = (keys.ids.clone(), SignedIds::new(keys.ids), keys.tokens);
    endpoint.cid_generator(move || Box::new(SignedIds::new(ids.clone())));
    endpoint.supported_versions(vec![1]).min_reset_interval(RESET_INTERVAL);
    let same = socket.try_clone().context("gateway.listen")?;
    let server = server_config(config, certificate, tokens)?;
    let runtime = Arc::new(TokioRuntime);
    let socket = runtime.wrap_udp_socket(socket).context("gateway.listen")?;
    take_datagrams_apart(&same);
    let guard = Arc::new(Guard::new(socket, known));
    quinn::Endpoint::new_with_abstract_socket(endpoint, Some(server), guard, runtime)
        .context("cannot start the QUIC endpoint")
}

/// Lets the kernel give each datagram by itself. quinn asks it to join those of one sender (UDP GRO),
/// and keeps up to 64 KiB of them in one piece of memory, which the smallest fragment of a stream in
/// one of them would hold.
#[cfg(target_os = "linux")]
fn take_datagrams_apart(socket: &UdpSocket) {
    use nix::sys::socket::{setsockopt, sockopt::UdpGroSegment};
    if let Err(error) = setsockopt(socket, UdpGroSegment, &false) {
        tracing::warn!(%error, "the kernel goes on joining datagrams");
    }
}

#[cfg(not(target_os = "linux"))]
fn take_datagrams_apart(_socket: &UdpSocket) {}

fn socket(listen: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    for set in [Socket::set_recv_buffer_size, Socket::set_send_buffer_size] {
        if let Err(error) = set(&socket, SOCKET_BUFFER) {
            tracing::warn!(%error, "the kernel refuses a larger UDP buffer");
        }
    }
    socket.bind(&listen.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn server_config(
    config: &Config,
    certificate: Arc<CurrentCertificate>,
    tokens: hkdf::Prk,
) -> Result<ServerConfig> {
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(keys::provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS 1.3 is not available")?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // QUIC knows all or nothing here; what of it is done before the handshake: `early.rs`. rustls
    // takes early data from sessions that it keeps itself, so there are no stateless tickets.
    let early_data = config.gateway.early_data;
    tls.max_early_data_size = if early_data { u32::MAX } else { 0 };
    tls.send_tls13_tickets = 1;
    tls.session_storage = match config.gateway.tls_sessions.to_usize() {
        0 => Arc::new(NoServerSessionStorage {}),
        sessions => Arc::new(TlsSessions::new(sessions, early_data)),
    };
    let quic = QuicServerConfig::try_from(tls).context("TLS for QUIC is not available")?;
    // Clients that were here get tokens, by which their address is known when they come back: such a
    // one is answered in full at once, not with three times what it has sent.
    let mut server = ServerConfig::new(Arc::new(quic), Arc::new(tokens));
    server
        .transport_config(Arc::new(transport(config)?))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
    Ok(server)
}

/// How clients are to acknowledge.
fn ack_frequency() -> AckFrequencyConfig {
    let mut frequency = AckFrequencyConfig::default();
    frequency.max_ack_delay(Some(ACK_DELAY_MAX));
    frequency
}

fn transport(config: &Config) -> Result<TransportConfig> {
    let mut transport = TransportConfig::default();
    let idle = config.gateway.idle_timeout.duration();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_BEFORE_SIGN_IN))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u64(RECEIVE_WINDOW)?)
        .send_window(SEND_WINDOW)
        .send_fairness(false)
        .max_idle_timeout(Some(idle.try_into().context("gateway.idle_timeout")?))
        .keep_alive_interval(None)
        .initial_rtt(INITIAL_RTT)
        .ack_frequency_config(Some(ack_frequency()))
        .congestion_controller_factory(Arc::new(WitnessConfig::new(
            petrel_transport::congestion_control(),
        )))
        .crypto_buffer_size(CRYPTO_BUFFER)
        .allow_spin(false)
        .datagram_receive_buffer_size(Some(datagram::RECEIVE_BYTES))
        .datagram_send_buffer_size(datagram::SEND_BYTES)
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false);
    Ok(transport)
}
