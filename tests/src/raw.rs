//! The protocol by hand: frames as bytes, no rules kept. For what the client library
//! would never do.

mod deaf;
mod returning;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use petrel_client::{ConversationId, Identity, UserId};
use petrel_loadtest::hostile::NoVerification;
use petrel_proto::code::Code;
use petrel_proto::frame::{FrameReader, bare, decode, encode};
use petrel_proto::wire::{self, Frame, frame::What};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;

use crate::cluster::Gateway;

pub use returning::Returning;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a frame that are read.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// QUIC settings of a raw connection.
#[derive(Clone, Debug)]
pub struct RawOptions {
    /// The protocol that is asked for.
    pub alpn: Vec<u8>,
    /// Bytes that the server may send on one stream before they are read.
    pub stream_window: u32,
    /// The same for the connection.
    pub window: u32,
    /// Streams that the server may open.
    pub server_streams: u32,
}

impl Default for RawOptions {
    fn default() -> Self {
        Self {
            alpn: petrel_proto::version::ALPN.to_vec(),
            stream_window: 1 << 20,
            window: 4 << 20,
            server_streams: 64,
        }
    }
}

/// A connection; its certificate is not checked.
#[derive(Debug)]
pub struct Raw {
    /// The connection.
    pub connection: Connection,
    _endpoint: quinn::Endpoint,
}

/// One stream, by frames.
#[derive(Debug)]
pub struct RawStream {
    /// Its writing side.
    pub send: SendStream,
    /// Its reading side.
    pub recv: RecvStream,
    reader: FrameReader,
    chunk: Bytes,
}

/// A refusal as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its code.
    pub code: Code,
    /// The number it answers.
    pub number: u64,
    /// Its text.
    pub text: String,
    /// When to come again.
    pub retry_after_ms: u32,
    /// The server's time, if it said it.
    pub server_time_ms: u64,
}

impl Raw {
    /// Dials.
    ///
    /// # Errors
    /// What the handshake says.
    pub async fn dial(gateway: &Gateway, options: &RawOptions) -> Result<Self> {
        let config = config(options)?;
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
        let connecting = endpoint.connect_with(config, gateway.quic, "localhost")?;
        let connection =
            tokio::time::timeout(PATIENCE, connecting).await.context("no handshake")??;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// Dials and signs in; gives the control stream.
    ///
    /// # Errors
    /// Either is refused.
    pub async fn sign_in(gateway: &Gateway, identity: &Identity) -> Result<(Self, RawStream)> {
        Self::sign_in_with(gateway, identity, &RawOptions::default()).await
    }

    /// The same with options of one's own.
    ///
    /// # Errors
    /// Either is refused.
    pub async fn sign_in_with(
        gateway: &Gateway,
        identity: &Identity,
        options: &RawOptions,
    ) -> Result<(Self, RawStream)> {
        let raw = Self::dial(gateway, options).await?;
        let token = raw.log_in(identity).await?;
        let mut control = raw.open().await?;
        control.write(bare(What::Hello(hello(&token)))).await?;
        match control.next().await? {
            Some((_, What::Welcome(_))) => Ok((raw, control)),
            other => bail!("instead of Welcome: {other:?}"),
        }
    }

    /// Gets a token.
    ///
    /// # Errors
    /// It is refused.
    pub async fn log_in(&self, identity: &Identity) -> Result<String> {
        let login = What::Login(wire::Login {
            device: Bytes::copy_from_slice(&identity.device.0),
            device_secret: Bytes::copy_from_slice(identity.secret.expose()),
        });
        match self.ask(login).await?.pop() {
            Some((_, What::Token(token))) => Ok(token.token),
            other => bail!("instead of a token: {other:?}"),
        }
    }

    /// Makes one request and reads all its answers.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn ask(&self, request: What) -> Result<Vec<(Frame, What)>> {
        let mut stream = self.open().await?;
        stream.write(bare(request)).await?;
        stream.send.finish().ok();
        let mut answers = Vec::new();
        while let Some(answer) = stream.next().await? {
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// The connection is lost, or there is no credit in time.
    pub async fn open(&self) -> Result<RawStream> {
        let opening = self.connection.open_bi();
        let (send, recv) =
            tokio::time::timeout(PATIENCE, opening).await.context("no stream credit")??;
        Ok(RawStream::new(send, recv))
    }

    /// Takes a stream that the server opened.
    ///
    /// # Errors
    /// None comes in time.
    pub async fn accept(&self) -> Result<RawStream> {
        let accepting = self.connection.accept_bi();
        let (send, recv) =
            tokio::time::timeout(PATIENCE, accepting).await.context("no stream")??;
        Ok(RawStream::new(send, recv))
    }

    /// Attaches a conversation's stream and gives it with the server's Attach.
    ///
    /// # Errors
    /// It is refused.
    pub async fn attach(&self, attach: wire::Attach) -> Result<(RawStream, wire::Attach)> {
        let mut stream = self.open().await?;
        stream.write(bare(What::Attach(attach))).await?;
        match stream.next().await? {
            Some((_, What::Attach(answer))) => Ok((stream, answer)),
            other => bail!("instead of Attach: {other:?}"),
        }
    }

    /// With which code the server closed the connection.
    ///
    /// # Errors
    /// It did not in time, or it ended otherwise.
    pub async fn closed_with(&self) -> Result<Code> {
        let closed = tokio::time::timeout(PATIENCE, self.connection.closed()).await;
        match closed.context("the connection lives")? {
            ConnectionError::ApplicationClosed(close) => code(close.error_code.into_inner()),
            other => bail!("it ended with {other}"),
        }
    }

    /// The server's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let chain = self.connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>();
        Some(chain.ok()?.first()?.to_vec())
    }
}

impl RawStream {
    fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv, reader: FrameReader::new(FRAME_BYTES_MAX), chunk: Bytes::new() }
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// The server wants no more.
    pub async fn write(&mut self, frame: Frame) -> Result<()> {
        self.write_bytes(&encode(&frame)).await
    }

    /// Writes bytes that may be no frame.
    ///
    /// # Errors
    /// The server wants no more.
    pub async fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        tokio::time::timeout(PATIENCE, self.send.write_all(bytes)).await.context("no room")??;
        Ok(())
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// The stream is reset, or nothing comes in time.
    pub async fn next(&mut self) -> Result<Option<(Frame, What)>> {
        tokio::time::timeout(PATIENCE, self.read()).await.context("no frame in time")?
    }

    async fn read(&mut self) -> Result<Option<(Frame, What)>> {
        loop {
            if let Some(payload) = self.reader.next(&mut self.chunk)? {
                return Ok(Some(decode(payload)?));
            }
            match self.recv.read_chunk(64 * 1024, true).await? {
                Some(chunk) => self.chunk = chunk.bytes,
                None => {
                    self.reader.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The next frame that is an answer to a send, or a refusal: pushes and receipts are left out.
    ///
    /// # Errors
    /// The stream ends, or nothing comes in time.
    pub async fn answer(&mut self) -> Result<Result<Frame, Refused>> {
        loop {
            match self.next().await? {
                Some((frame, What::Ack(_))) => return Ok(Ok(frame)),
                Some((frame, What::Refusal(said))) => {
                    return Ok(Err(Refused {
                        code: code(said.code.into())?,
                        number: frame.number,
                        text: said.text,
                        retry_after_ms: said.retry_after_ms,
                        server_time_ms: said.server_time_ms,
                    }));
                }
                Some(_) => {}
                None => bail!("the stream ended without an answer"),
            }
        }
    }

    /// The next refusal.
    ///
    /// # Errors
    /// As [`RawStream::answer`], or an Ack comes.
    pub async fn refusal(&mut self) -> Result<Refused> {
        match self.answer().await? {
            Err(refused) => Ok(refused),
            Ok(ack) => bail!("it is stored, at {}", ack.seq),
        }
    }

    /// The place of the next Ack.
    ///
    /// # Errors
    /// As [`RawStream::answer`], or a refusal comes.
    pub async fn ack(&mut self) -> Result<u64> {
        match self.answer().await? {
            Ok(ack) => Ok(ack.seq),
            Err(refused) => bail!("refused: {refused:?}"),
        }
    }
}

fn config(options: &RawOptions) -> Result<quinn::ClientConfig> {
    let mut tls = tls(&options.alpn)?;
    tls.enable_early_data = true;
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = quinn::TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(options.stream_window))
        .receive_window(VarInt::from_u32(options.window))
        .max_concurrent_bidi_streams(VarInt::from_u32(options.server_streams))
        .keep_alive_interval(Some(Duration::from_secs(5)));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// TLS that believes every certificate and names this protocol; an empty one: none.
///
/// # Errors
/// TLS 1.3 is not available.
pub fn tls(alpn: &[u8]) -> Result<rustls::ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NoVerification(provider)))
        .with_no_client_auth();
    if !alpn.is_empty() {
        tls.alpn_protocols = vec![alpn.to_vec()];
    }
    Ok(tls)
}

/// The code of this number.
///
/// # Errors
/// There is none.
pub fn code(number: u64) -> Result<Code> {
    let found = Code::ALL.iter().find(|code| u64::from(code.number()) == number);
    found.copied().with_context(|| format!("{number} is no code"))
}

/// A Hello with this token and all features.
#[must_use]
pub fn hello(token: &str) -> wire::Hello {
    wire::Hello {
        token: token.to_owned(),
        features: petrel_proto::version::FEATURES.iter().map(|&f| f.to_owned()).collect(),
        ..wire::Hello::default()
    }
}

/// An Attach of the conversation of two users, from nothing.
#[must_use]
pub fn attach(me: UserId, peer: UserId) -> wire::Attach {
    wire::Attach {
        conversation: Bytes::copy_from_slice(&ConversationId::of_pair(me, peer).0),
        peer: Bytes::copy_from_slice(&peer.0),
        ..wire::Attach::default()
    }
}

/// A Send.
#[must_use]
pub fn send(number: u64, id: [u8; 16], body: &[u8]) -> Frame {
    Frame {
        number,
        id: Bytes::copy_from_slice(&id),
        entry_kind: 1,
        body: Bytes::copy_from_slice(body),
        what: Some(What::Send(wire::Send::default())),
        ..Frame::default()
    }
}

/// A request that blocks a user, or lifts the block.
#[must_use]
pub fn block(user: Bytes, blocks: bool) -> What {
    let what = Some(wire::change_contact::What::Block(blocks));
    What::ChangeContact(wire::ChangeContact { user, what })
}

/// A UUIDv7 of this time.
#[must_use]
pub fn message_id(time_ms: u64) -> [u8; 16] {
    let mut id: [u8; 16] = rand::random();
    id[..6].copy_from_slice(&time_ms.to_be_bytes()[2..]);
    id[6] = 0x70 | (id[6] & 0x0f);
    id[8] = 0x80 | (id[8] & 0x3f);
    id
}

/// Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
