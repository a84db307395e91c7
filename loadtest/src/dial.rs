//! Bare connections that speak just enough of docs/protocol.md to sign in and
//! to read a history: for load that needs no client around it, and for a judge
//! that shares no code with the client it judges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use petrel_client::{Identity, Trust};
use petrel_proto::code::Code;
use petrel_proto::frame::{self, FrameReader};
use petrel_proto::version::ALPN;
use petrel_proto::wire::frame::What;
use petrel_proto::wire::{Frame, Hello, Login, ReadHistory};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};

/// Bytes of a frame, at the most.
pub const FRAME_BYTES_MAX: usize = 67_584;
/// Bytes of a decoded body, at the most.
const BODY_BYTES_MAX: usize = 65_536;
/// Bytes of each socket's buffers; the kernel may grant less.
const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// How long one sign-in or request may take.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// A server and how its certificate is known.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its UDP address.
    pub address: SocketAddr,
    /// Those of other gateways of the same service, among which users are spread.
    pub others: Vec<SocketAddr>,
    /// The name in its certificate.
    pub server_name: String,
    /// Which certificate is believed.
    pub trust: Trust,
    /// Whether each connection has a socket of its own, as a link emulator tells links by their
    /// addresses.
    pub apart: bool,
}

/// Reads a SHA-256 in hexadecimal.
pub fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    match Trust::from_fingerprint_hex(text) {
        Ok(Trust::Fingerprint(bytes)) => Some(bytes),
        _ => None,
    }
}

/// The first address of each `HOST:PORT` of a list with commas.
///
/// # Errors
/// When a name has none.
pub fn resolve(servers: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let resolve = |server: &str| {
        server
            .to_socket_addrs()
            .with_context(|| format!("--server {server}"))?
            .next()
            .ok_or_else(|| anyhow!("--server {server}: no address"))
    };
    servers.split(',').map(resolve).collect()
}

/// Client sockets for so many connections to `target`, with large buffers.
///
/// # Errors
/// When a socket cannot be opened.
pub fn endpoints(target: &Target, connections: usize) -> anyhow::Result<Vec<Endpoint>> {
    let per_socket = if target.apart { 1 } else { CONNECTIONS_PER_SOCKET };
    (0..connections.div_ceil(per_socket).max(1)).map(|_| endpoint(None, target.local())).collect()
}

impl Target {
    /// The addresses that the client of this number dials in turn: one of the gateways first.
    pub fn addresses(&self, number: usize) -> Vec<SocketAddr> {
        let mut all: Vec<_> =
            std::iter::once(self.address).chain(self.others.iter().copied()).collect();
        let first = number % all.len();
        all.rotate_left(first);
        all
    }

    /// Where a client's socket is bound.
    pub fn local(&self) -> SocketAddr {
        let local: IpAddr = match self.address.ip() {
            IpAddr::V4(address) if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        (local, 0).into()
    }
}

const CONNECTIONS_PER_SOCKET: usize = 4_000;

/// One socket, bound to `address`.
///
/// # Errors
/// When it cannot be opened.
pub fn endpoint(
    server: Option<quinn::ServerConfig>,
    address: SocketAddr,
) -> anyhow::Result<Endpoint> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    socket.bind(&address.into())?;
    let socket = with_buffers(socket.into())?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let config = petrel_client::endpoint_config();
    Ok(Endpoint::new(config, server, socket, runtime)?)
}

/// A socket with large buffers, for a runtime.
///
/// # Errors
/// When the kernel refuses.
pub fn with_buffers(socket: std::net::UdpSocket) -> std::io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::from(socket);
    // The kernel's own bound holds; what it grants is enough for the paced load.
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// How soon acknowledgements are asked for, as by gateway and SDK.
pub fn ack_frequency() -> quinn::AckFrequencyConfig {
    let mut frequency = quinn::AckFrequencyConfig::default();
    frequency.max_ack_delay(Some(petrel_proto::echo::ACK_DELAY_MAX));
    frequency
}

/// QUIC settings of a bare client, those of the SDK for a device in the foreground.
pub fn transport(server_streams_max: u32) -> anyhow::Result<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(server_streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(256 * 1024))
        .receive_window(VarInt::from_u32(1024 * 1024))
        .send_window(1024 * 1024)
        .send_fairness(false)
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .max_idle_timeout(Some(Duration::from_secs(120).try_into()?))
        .initial_rtt(Duration::from_millis(100))
        .ack_frequency_config(Some(ack_frequency()))
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false)
        .datagram_receive_buffer_size(None)
        .allow_spin(false);
    Ok(transport)
}

/// A configuration for connections to `target`. With `resumes`, tickets are
/// kept as by a client that means to come back; otherwise every handshake is a full one.
///
/// # Errors
/// When the authority's file is unusable.
pub fn client_config(
    target: &Target,
    alpn: &[u8],
    resumes: bool,
) -> anyhow::Result<quinn::ClientConfig> {
    config(target, alpn, if resumes { 256 } else { 0 }, false)
}

/// The same for one that keeps tickets and says its first words with the first packets.
///
/// # Errors
/// As [`client_config`].
pub fn early_config(target: &Target, alpn: &[u8]) -> anyhow::Result<quinn::ClientConfig> {
    config(target, alpn, 256, true)
}

fn config(
    target: &Target,
    alpn: &[u8],
    tickets: usize,
    early_data: bool,
) -> anyhow::Result<quinn::ClientConfig> {
    let mut tls = petrel_client::tls_config(&target.trust, tickets)?;
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.enable_early_data = early_data;
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(64)?));
    Ok(config)
}

/// Makes connections to one server over several sockets.
#[derive(Clone, Debug)]
pub struct Connector {
    endpoints: Arc<[Endpoint]>,
    config: quinn::ClientConfig,
    target: Target,
}

impl Connector {
    /// For so many connections.
    ///
    /// # Errors
    /// As [`endpoints`] and [`client_config`].
    pub fn new(target: &Target, connections: usize, resumes: bool) -> anyhow::Result<Self> {
        Ok(Self {
            endpoints: endpoints(target, connections)?.into(),
            config: client_config(target, ALPN, resumes)?,
            target: target.clone(),
        })
    }

    /// A new connection, over the socket of this number.
    ///
    /// # Errors
    /// When the server cannot be reached or is not the one expected.
    pub async fn connect(&self, number: usize) -> anyhow::Result<Connection> {
        let endpoint = &self.endpoints[number % self.endpoints.len()];
        let connecting = endpoint.connect_with(
            self.config.clone(),
            self.target.addresses(number)[0],
            &self.target.server_name,
        )?;
        Ok(tokio::time::timeout(TIMEOUT, connecting).await.context("no handshake in time")??)
    }

    /// Waits until everything said has left.
    pub async fn wait_idle(&self) {
        for endpoint in self.endpoints.iter() {
            let left = tokio::time::timeout(Duration::from_secs(3), endpoint.wait_idle()).await;
            drop(left);
        }
    }
}

/// One stream, read frame by frame.
#[derive(Debug)]
pub struct Frames {
    stream: RecvStream,
    reader: FrameReader,
    chunk: Bytes,
}

impl Frames {
    /// Reads frames from a stream.
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, reader: FrameReader::new(FRAME_BYTES_MAX), chunk: Bytes::new() }
    }

    /// The next frame; `None` at the stream's end.
    ///
    /// # Errors
    /// A broken stream, or what is no frame.
    pub async fn next(&mut self) -> anyhow::Result<Option<(Frame, What)>> {
        loop {
            if let Some(payload) = self.reader.next(&mut self.chunk)? {
                return Ok(Some(frame::decode(payload)?));
            }
            match self.stream.read_chunk(usize::MAX, true).await? {
                Some(chunk) => self.chunk = chunk.bytes,
                None => return Ok(None),
            }
        }
    }
}

/// A refusal as an error that tells its code.
#[derive(Debug, thiserror::Error)]
#[error("refused: {label} {text}")]
pub struct Refused {
    /// The code's name.
    pub label: &'static str,
    /// What the server said.
    pub text: String,
}

/// A refusal from the wire as an error.
pub fn refused(refusal: petrel_proto::wire::Refusal) -> anyhow::Error {
    let code = Code::from_number(refusal.code.into()).unwrap_or(Code::Internal);
    anyhow!(Refused { label: code.label(), text: refusal.text })
}

/// One request and all its answers.
///
/// # Errors
/// A refusal ([`Refused`]), a broken connection, or no end in time.
pub async fn request(connection: &Connection, what: What) -> anyhow::Result<Vec<(Frame, What)>> {
    let asked = async {
        let (mut send, recv) = connection.open_bi().await?;
        send.write_all(&frame::encode(&frame::bare(what))).await?;
        send.finish()?;
        let mut frames = Frames::new(recv);
        let mut answers = Vec::new();
        while let Some((frame, what)) = frames.next().await? {
            match what {
                What::Refusal(refusal) => return Err(refused(refusal)),
                What::Done(_) => {
                    answers.push((frame, what));
                    return Ok(answers);
                }
                other => answers.push((frame, other)),
            }
        }
        Ok(answers)
    };
    tokio::time::timeout(TIMEOUT, asked).await.context("no answer in time")?
}

/// Exchanges a device's secret for a token.
///
/// # Errors
/// As [`request`].
pub async fn login(connection: &Connection, identity: &Identity) -> anyhow::Result<String> {
    let what = What::Login(Login {
        device: Bytes::copy_from_slice(identity.device.as_bytes()),
        device_secret: Bytes::copy_from_slice(identity.secret.expose()),
    });
    match request(connection, what).await?.into_iter().next() {
        Some((_, What::Token(token))) => Ok(token.token),
        other => bail!("Login was answered with {other:?}"),
    }
}

/// The control stream of a signed-in connection. Dropping it ends the session.
#[derive(Debug)]
pub struct Control {
    /// Kept open.
    pub send: SendStream,
    /// What the server says.
    pub frames: Frames,
}

/// Signs in with a token.
///
/// # Errors
/// A refusal, a broken connection, or no answer in time.
pub async fn hello(connection: &Connection, token: String) -> anyhow::Result<Control> {
    let signed_in = async {
        let (mut send, recv) = connection.open_bi().await?;
        let hello = Hello { token, agent: "petrel-loadtest".to_owned(), ..Hello::default() };
        send.write_all(&frame::encode(&frame::bare(What::Hello(hello)))).await?;
        let mut frames = Frames::new(recv);
        match frames.next().await? {
            Some((_, What::Welcome(_))) => Ok(Control { send, frames }),
            Some((_, What::Refusal(refusal))) => Err(refused(refusal)),
            other => bail!("Hello was answered with {other:?}"),
        }
    };
    tokio::time::timeout(TIMEOUT, signed_in).await.context("no Welcome in time")?
}

/// How long a refused page waits.
pub const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// One entry of a history.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its id.
    pub id: [u8; 16],
    /// Its place.
    pub seq: u64,
    /// Who sent it.
    pub sender: [u8; 16],
    /// [`crate::body::hash`] of its decoded body; of nothing if it cannot be decoded.
    pub hash: u64,
}

/// Reads a conversation from `from` to its head, page by page. A page that is
/// refused is asked for again after a while if `again` says so.
///
/// # Errors
/// As [`request`]; a frame that has no place there.
pub async fn history(
    connection: &Connection,
    conversation: &[u8; 16],
    mut from: u64,
    mut again: impl FnMut(&Refused) -> bool,
) -> anyhow::Result<Vec<Stored>> {
    let mut all = Vec::new();
    loop {
        let what = What::ReadHistory(ReadHistory {
            conversation: Bytes::copy_from_slice(conversation),
            from,
            to: 0,
            limit: 200,
            newest: false,
        });
        let mut head = None;
        let mut read_up_to = from.saturating_sub(1);
        let answers = match request(connection, what).await {
            Ok(answers) => answers,
            Err(error) if error.downcast_ref::<Refused>().is_some_and(&mut again) => {
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        for (frame, what) in answers {
            match what {
                What::Push(_) => {
                    read_up_to = read_up_to.max(frame.seq);
                    all.push(stored(&frame)?);
                }
                What::Gap(gap) => read_up_to = read_up_to.max(gap.to),
                What::Done(done) => head = Some(done.head),
                other => bail!("ReadHistory was answered with {other:?}"),
            }
        }
        let head = head.context("ReadHistory: no Done")?;
        if read_up_to >= head {
            return Ok(all);
        }
        if read_up_to < from {
            bail!("ReadHistory: an empty page at {from}, head {head}");
        }
        from = read_up_to + 1;
    }
}

fn stored(frame: &Frame) -> anyhow::Result<Stored> {
    let id = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).context("an id of another size");
    let plain = petrel_proto::compression::decode(frame.encoding, &frame.body, BODY_BYTES_MAX);
    Ok(Stored {
        id: id(&frame.id)?,
        seq: frame.seq,
        sender: id(&frame.sender)?,
        hash: plain.map(|plain| crate::body::hash(&plain)).unwrap_or_default(),
    })
}
