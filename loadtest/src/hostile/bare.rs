//! A connection whose packets are in our hands.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use petrel_client::{ConversationId, Identity, UserId};
use petrel_proto::frame::{FrameReader, bare, decode, encode};
use petrel_proto::version::{ALPN, FEATURES};
use petrel_proto::wire::{self, Frame, frame::What};
use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::congestion::{Controller, ControllerFactory};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, RttEstimator, StreamId, TransportConfig, VarInt, WriteError,
};
use rustls::crypto::aws_lc_rs;

use super::trust::NoVerification;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of the largest datagram that is read.
const DATAGRAM_BYTES: usize = 2_048;
/// By how much the connection's clock is put on when it is asked for packets: no pacing holds it up.
const AHEAD: Duration = Duration::from_millis(5);

/// How a connection is made.
#[derive(Clone, Copy, Debug)]
pub struct BareOptions {
    /// The address that it comes from.
    pub local: IpAddr,
    /// Bytes that the server may send before any are read.
    pub window: u32,
}

impl Default for BareOptions {
    fn default() -> Self {
        Self { local: Ipv4Addr::LOCALHOST.into(), window: 1 << 20 }
    }
}

/// The connection. Nothing happens but in its methods: no packet leaves, none is read, no timer runs.
pub struct Bare {
    socket: UdpSocket,
    server: SocketAddr,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    /// How far its clock is ahead.
    ahead: Duration,
    ended: Option<String>,
    arrived: VecDeque<BytesMut>,
    readers: HashMap<StreamId, (FrameReader, Bytes)>,
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bare").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Bare {
    /// A connection of which nothing has been sent.
    ///
    /// # Errors
    /// No socket.
    pub fn begin(server: SocketAddr, options: &BareOptions) -> Result<Self> {
        let socket = UdpSocket::bind((options.local, 0))?;
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
        let config = client_config(options.window)?;
        let (handle, connection) = endpoint
            .connect(Instant::now(), config, server, "localhost")
            .map_err(|error| anyhow!("{error}"))?;
        Ok(Self {
            socket,
            server,
            endpoint,
            handle,
            connection,
            ahead: Duration::ZERO,
            ended: None,
            arrived: VecDeque::new(),
            readers: HashMap::new(),
        })
    }

    /// A connection after its handshake.
    ///
    /// # Errors
    /// It does not come about.
    pub fn dial(server: SocketAddr, options: &BareOptions) -> Result<Self> {
        let mut this = Self::begin(server, options)?;
        this.until("a handshake", |bare| (!bare.connection.is_handshaking()).then_some(()))?;
        Ok(this)
    }

    /// A signed-in connection.
    ///
    /// # Errors
    /// It is refused.
    pub fn sign_in(server: SocketAddr, identity: &Identity, options: &BareOptions) -> Result<Self> {
        let mut this = Self::dial(server, options)?;
        let login = What::Login(wire::Login {
            device: Bytes::copy_from_slice(&identity.device.0),
            device_secret: Bytes::copy_from_slice(identity.secret.expose()),
        });
        let What::Token(token) = this.ask(login)? else { bail!("no token") };
        let hello = What::Hello(wire::Hello {
            token: token.token,
            features: FEATURES.iter().map(|&feature| feature.to_owned()).collect(),
            ..wire::Hello::default()
        });
        match this.ask(hello)? {
            What::Welcome(_) => Ok(this),
            other => bail!("instead of Welcome: {other:?}"),
        }
    }

    /// Attaches the conversation with a peer; gives its stream.
    ///
    /// # Errors
    /// It is refused.
    pub fn attach(&mut self, me: UserId, peer: UserId) -> Result<StreamId> {
        let stream = self.attach_unheard(me, peer)?;
        match self.answer(stream)? {
            What::Attach(_) => Ok(stream),
            other => bail!("instead of Attach: {other:?}"),
        }
    }

    /// The same without a look at the answer.
    ///
    /// # Errors
    /// There is no credit in time.
    pub fn attach_unheard(&mut self, me: UserId, peer: UserId) -> Result<StreamId> {
        let stream = self.open()?;
        let attach = What::Attach(wire::Attach {
            conversation: Bytes::copy_from_slice(&ConversationId::of_pair(me, peer).0),
            peer: Bytes::copy_from_slice(&peer.0),
            ..wire::Attach::default()
        });
        self.write(stream, &encode(&bare(attach)));
        self.send()?;
        Ok(stream)
    }

    /// Writes a frame on a new stream and reads one.
    ///
    /// # Errors
    /// There is none in time.
    pub fn ask(&mut self, what: What) -> Result<What> {
        let stream = self.open()?;
        self.write(stream, &encode(&bare(what)));
        self.send()?;
        self.answer(stream)
    }

    /// Says something of so many bytes on a conversation's stream, so many times, and waits for the Acks.
    ///
    /// # Errors
    /// It is refused.
    pub fn say(&mut self, stream: StreamId, messages: u64, bytes: usize) -> Result<()> {
        for number in 1..=messages {
            let mut body: Vec<u8> = Vec::with_capacity(bytes);
            // Letters that do not compress by much.
            body.extend(std::iter::repeat_with(|| rand::random_range(b' '..=b'~')).take(bytes));
            let frame = Frame {
                number,
                id: Bytes::copy_from_slice(uuid::Uuid::now_v7().as_bytes()),
                entry_kind: 1,
                body: body.into(),
                what: Some(What::Send(wire::Send::default())),
                ..Frame::default()
            };
            self.write_all(stream, &encode(&frame))?;
            loop {
                match self.answer(stream)? {
                    What::Ack(_) => break,
                    What::Refusal(said) => bail!("refused: {}", said.text),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The next frame of a stream.
    ///
    /// # Errors
    /// There is none in time.
    pub fn answer(&mut self, stream: StreamId) -> Result<What> {
        let new = || (FrameReader::new(crate::dial::FRAME_BYTES_MAX), Bytes::new());
        let (mut reader, mut rest) = self.readers.remove(&stream).unwrap_or_else(new);
        let payload = self.until("an answer", |bare| {
            loop {
                if rest.is_empty() {
                    rest = bare.read(stream)?;
                }
                match reader.next(&mut rest) {
                    Ok(None) => {}
                    found => return Some(found),
                }
            }
        })??;
        self.readers.insert(stream, (reader, rest));
        Ok(decode(payload.unwrap_or_default())?.1)
    }

    /// The next bytes of a stream, if there are any.
    fn read(&mut self, stream: StreamId) -> Option<Bytes> {
        let mut receiving = self.connection.recv_stream(stream);
        let mut chunks = receiving.read(true).ok()?;
        let chunk = chunks.next(usize::MAX).ok().flatten();
        // What it says to send leaves with the next packets.
        let _ = chunks.finalize().should_transmit();
        chunk.map(|chunk| chunk.bytes)
    }

    /// Opens a stream, once there is credit.
    ///
    /// # Errors
    /// There is none in time.
    pub fn open(&mut self) -> Result<StreamId> {
        self.until("stream credit", Self::try_open)
    }

    /// Opens a stream, if there is credit.
    pub fn try_open(&mut self) -> Option<StreamId> {
        self.connection.streams().open(Dir::Bi)
    }

    /// Writes as much as credit allows; how much that was.
    pub fn write(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        self.connection.send_stream(stream).write(bytes).unwrap_or(0)
    }

    /// Writes all of it, as credit comes, or what the server wants of it: it may stop the stream.
    ///
    /// # Errors
    /// There is no credit in time.
    pub fn write_all(&mut self, stream: StreamId, mut bytes: &[u8]) -> Result<()> {
        self.until("credit", |bare| {
            match bare.connection.send_stream(stream).write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(WriteError::Blocked) => {}
                // The stream is over.
                Err(_) => bytes = &[],
            }
            bytes.is_empty().then_some(())
        })
    }

    /// Gives a stream up, in both directions.
    pub fn reset(&mut self, stream: StreamId) {
        // Either may be over already.
        self.connection.send_stream(stream).reset(VarInt::from_u32(0)).ok();
        self.connection.recv_stream(stream).stop(VarInt::from_u32(0)).ok();
    }

    /// Puts a datagram into the next packet, which fills it.
    pub fn pad(&mut self, bytes: usize) {
        self.connection.datagrams().send(vec![0; bytes].into(), true).ok();
    }

    /// All packets that are due.
    pub fn packets(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for _ in 0..2 {
            self.ahead += AHEAD;
            let now = self.now();
            loop {
                let mut packet = Vec::with_capacity(DATAGRAM_BYTES);
                if self.connection.poll_transmit(now, 1, &mut packet).is_none() {
                    break;
                }
                packets.push(packet);
            }
        }
        packets
    }

    /// Sends what is due; how many bytes that was.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&mut self) -> Result<usize> {
        let mut bytes = 0;
        for packet in self.packets() {
            bytes += self.socket.send_to(&packet, self.server)?;
        }
        Ok(bytes)
    }

    /// Lets what is due get lost, and never sends it again.
    pub fn lose(&mut self) {
        self.packets();
    }

    /// Takes what has come, waiting for the first of it for so long; says whether something had.
    ///
    /// # Errors
    /// The socket's.
    pub fn hear(&mut self, patience: Duration) -> Result<bool> {
        let mut packet = [0; DATAGRAM_BYTES];
        self.socket.set_nonblocking(patience.is_zero())?;
        if !patience.is_zero() {
            self.socket.set_read_timeout(Some(patience))?;
        }
        let mut heard = false;
        while let Ok((len, from)) = self.socket.recv_from(&mut packet) {
            self.socket.set_nonblocking(true)?;
            heard = true;
            if from == self.server {
                self.arrived.push_back(packet.get(..len).unwrap_or_default().into());
            }
        }
        while let Some(packet) = self.arrived.pop_front() {
            self.take(packet);
        }
        Ok(heard)
    }

    fn take(&mut self, packet: BytesMut) {
        let (now, mut response) = (self.now(), Vec::new());
        let event = self.endpoint.handle(now, self.server, None, None, packet, &mut response);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.connection.handle_event(event);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
        while let Some(event) = self.connection.poll() {
            if let Event::ConnectionLost { reason } = event {
                self.ended = Some(reason.to_string());
            }
        }
    }

    /// Sends packets as they are, perhaps from elsewhere.
    ///
    /// # Errors
    /// The socket's.
    pub fn send_from(&self, socket: &UdpSocket, packets: &[Vec<u8>]) -> Result<usize> {
        let mut bytes = 0;
        for packet in packets {
            bytes += socket.send_to(packet, self.server)?;
        }
        Ok(bytes)
    }

    /// Its own socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Ends it in an orderly way.
    pub fn close(mut self) {
        let now = self.now();
        self.connection.close(now, VarInt::from_u32(0), Bytes::new());
        // Nobody waits for it.
        self.send().ok();
    }

    /// Why it has ended, if it has.
    pub fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// Behaves until something has come about.
    ///
    /// # Errors
    /// It does not in time, or the connection ends.
    pub fn until<T>(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(done) = done(self) {
                self.send()?;
                return Ok(done);
            }
            if let Some(reason) = &self.ended {
                bail!("no {what}: the connection ended: {reason}");
            }
            if Instant::now() > deadline {
                bail!("no {what} in time");
            }
            self.send().context("sending")?;
            if !self.hear(Duration::from_millis(20))? {
                let now = self.now();
                if self.connection.poll_timeout().is_some_and(|due| due <= now) {
                    self.connection.handle_timeout(now);
                    self.settle();
                }
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::now() + self.ahead
    }
}

fn client_config(window: u32) -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NoVerification(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(Reckless))
        .max_concurrent_bidi_streams(VarInt::from_u32(64))
        .stream_receive_window(VarInt::from_u32(window))
        .receive_window(VarInt::from_u32(window))
        .send_window(64 << 20)
        .datagram_send_buffer_size(64 << 20)
        .mtu_discovery_config(None)
        .max_idle_timeout(None);
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Congestion is for others.
#[derive(Clone, Debug)]
struct Reckless;

impl Controller for Reckless {
    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}

    fn on_ack(&mut self, _: Instant, _: Instant, _: u64, _: bool, _: &RttEstimator) {}

    fn on_mtu_update(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        u64::from(u32::MAX)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl ControllerFactory for Reckless {
    fn build(self: Arc<Self>, _: Instant, _: u16) -> Box<dyn Controller> {
        Box::new(Self)
    }
}
