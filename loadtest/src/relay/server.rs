//! The relay's server: a reader task per stream, one writer task per connection.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use petrel_proto::frame::FrameReader;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt};
use rustc_hash::FxHashMap;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::frame;
use crate::dial;

/// The relay's protocol on the wire.
pub const ALPN: &[u8] = b"petrel-relay/1";
/// What waits for one connection's writer, at the most; then its senders wait.
const QUEUE: usize = 1_024;
/// How much the writer takes at once.
const BATCH: usize = 64;
/// Conversation streams of one client, at the most.
const STREAMS_MAX: u32 = 64;

/// Every so many messages of a lane meet the fault.
const FAULT_EVERY: u64 = 50;
/// How long a delayed push waits.
const FAULT_DELAY: Duration = Duration::from_millis(400);

/// What a relay does wrong on purpose: by this the harness is shown to notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize)]
pub enum Fault {
    /// A message is acknowledged and not passed on.
    Drop,
    /// A message is passed on twice.
    Double,
    /// Two messages change places.
    Swap,
    /// A message comes with another body.
    Alter,
    /// A message, and all after it, comes late.
    Delay,
}

/// For a connection's writer. A stream is known by the first lane that joined on it.
enum Job {
    /// A new stream.
    Stream(u32, SendStream),
    /// Frames for a stream.
    Write(u32, Bytes),
}

/// Where a lane's member is reached: a connection's writer, and a stream of it.
type Place = (mpsc::Sender<Job>, u32);

/// Places by the lane that their member sends on.
type Table = Arc<Mutex<FxHashMap<u32, Place>>>;

/// A lane that joined on a stream.
#[derive(Default)]
struct Joined {
    peer: Option<Place>,
    /// To be passed on at the end of the chunk.
    pushes: BytesMut,
    /// Held back by a fault.
    held: BytesMut,
}

/// Runs the relay until its input ends or it is told to stop; says on stdout
/// where it listens, as the gateway does.
///
/// # Errors
/// When it cannot listen.
pub async fn run(fault: Option<Fault>) -> anyhow::Result<()> {
    let (config, fingerprint) = server_config()?;
    let endpoint = dial::endpoint(Some(config), (Ipv4Addr::LOCALHOST, 0).into())?;
    let hex: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
    crate::say(&format!("listening quic {}", endpoint.local_addr()?));
    crate::say(&format!("certificate sha256 {hex}"));
    let table = Table::default();
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let incoming = incoming.context("the socket was closed")?;
                let table = Arc::clone(&table);
                tokio::spawn(async move {
                    // A connection that fails or breaks concerns its client, which reports it.
                    if let Ok(connection) = incoming.await {
                        drop(serve(connection, table, fault).await);
                    }
                });
            }
            _ = stop.recv() => return Ok(()),
        }
    }
}

async fn serve(connection: Connection, table: Table, fault: Option<Fault>) -> anyhow::Result<()> {
    let (jobs, taken) = mpsc::channel(QUEUE);
    tokio::spawn(write(taken));
    loop {
        let (send, recv) = connection.accept_bi().await?;
        let (jobs, table) = (jobs.clone(), Arc::clone(&table));
        tokio::spawn(async move { read(recv, send, jobs, table, fault).await });
    }
}

/// One stream's reader: what one chunk holds is passed on and acknowledged at once. Several lanes
/// may share the stream.
async fn read(
    mut recv: RecvStream,
    send: SendStream,
    own: mpsc::Sender<Job>,
    table: Table,
    fault: Option<Fault>,
) -> anyhow::Result<()> {
    let mut frames = FrameReader::new(frame::FRAME_BYTES_MAX);
    let mut lanes: FxHashMap<u32, Joined> = FxHashMap::default();
    let mut key: Option<u32> = None;
    let mut send = Some(send);
    let mut acks = BytesMut::new();
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
        let mut bytes = chunk.bytes;
        while let Some(payload) = frames.next(&mut bytes)? {
            let read = frame::read(&payload).context("a frame that is too short")?;
            let has_room = lanes.len() < STREAMS_MAX as usize;
            match (read.tag, lanes.get_mut(&read.lane)) {
                (frame::JOIN, None) if has_room => {
                    if let Some(stream) = send.take() {
                        own.send(Job::Stream(read.lane, stream)).await?;
                    }
                    let key = *key.get_or_insert(read.lane);
                    table.lock().insert(read.lane, (own.clone(), key));
                    lanes.insert(read.lane, Joined::default());
                    frame::write(&mut acks, frame::ACK, read.lane, 0, frame::ACK_LEN, b"");
                }
                (frame::SEND, Some(joined)) => {
                    let body = read
                        .rest
                        .get(frame::SEND_OVERHEAD - frame::HEADER..)
                        .context("a Send that is too short")?;
                    let fault = fault.filter(|_| read.number.is_multiple_of(FAULT_EVERY));
                    if fault == Some(Fault::Delay) {
                        tokio::time::sleep(FAULT_DELAY).await;
                    }
                    let Joined { pushes, held, .. } = joined;
                    push(pushes, held, read.lane, read.number, body, fault);
                    frame::write(
                        &mut acks,
                        frame::ACK,
                        read.lane,
                        read.number,
                        frame::ACK_LEN,
                        b"",
                    );
                }
                _ => anyhow::bail!("a frame that has no place here"),
            }
        }
        for (lane, joined) in lanes.iter_mut().filter(|(_, joined)| !joined.pushes.is_empty()) {
            if joined.peer.is_none() {
                joined.peer = table.lock().get(&(lane ^ 1)).cloned();
            }
            let (peer, stream) = joined.peer.as_ref().context("nobody on the other side")?;
            peer.send(Job::Write(*stream, joined.pushes.split().freeze())).await?;
        }
        if let Some(key) = key
            && !acks.is_empty()
        {
            own.send(Job::Write(key, acks.split().freeze())).await?;
        }
    }
    Ok(())
}

fn push(
    pushes: &mut BytesMut,
    held: &mut BytesMut,
    lane: u32,
    number: u64,
    body: &[u8],
    fault: Option<Fault>,
) {
    let write = |out: &mut BytesMut, body: &[u8]| {
        frame::write(out, frame::PUSH, lane, number, frame::PUSH_OVERHEAD, body);
    };
    match fault {
        Some(Fault::Drop) => {}
        Some(Fault::Swap) => write(held, body),
        Some(Fault::Double) => {
            write(pushes, body);
            write(pushes, body);
        }
        Some(Fault::Alter) => write(pushes, &body[..body.len() / 2]),
        Some(Fault::Delay) | None => {
            write(pushes, body);
            pushes.unsplit(held.split());
        }
    }
}

/// One connection's writer: what waits for a stream is written at once.
async fn write(mut jobs: mpsc::Receiver<Job>) {
    let mut streams: FxHashMap<u32, SendStream> = FxHashMap::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut ready: Vec<(u32, BytesMut)> = Vec::new();
    while jobs.recv_many(&mut batch, BATCH).await > 0 {
        let only = batch.len() == 1;
        for job in batch.drain(..) {
            match job {
                Job::Stream(lane, stream) => {
                    streams.insert(lane, stream);
                }
                Job::Write(lane, bytes) if only => {
                    if write_to(&mut streams, lane, bytes).await.is_err() {
                        return;
                    }
                }
                Job::Write(lane, bytes) => match ready.iter_mut().find(|(l, _)| *l == lane) {
                    Some((_, waiting)) => waiting.extend_from_slice(&bytes),
                    None => ready.push((lane, BytesMut::from(bytes))),
                },
            }
        }
        for (lane, bytes) in ready.drain(..) {
            if write_to(&mut streams, lane, bytes.freeze()).await.is_err() {
                return;
            }
        }
    }
}

async fn write_to(
    streams: &mut FxHashMap<u32, SendStream>,
    lane: u32,
    bytes: Bytes,
) -> Result<(), quinn::WriteError> {
    match streams.get_mut(&lane) {
        Some(stream) => stream.write_chunk(bytes).await,
        None => Ok(()),
    }
}

fn server_config() -> anyhow::Result<(ServerConfig, [u8; 32])> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = made.cert.der().clone();
    let fingerprint = Sha256::digest(&certificate).into();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 1;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport()?));
    Ok((config, fingerprint))
}

/// The gateway's settings, so that both pay the same for a packet.
fn transport() -> anyhow::Result<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(96 * 1024))
        .receive_window(VarInt::from_u32(128 * 1024))
        .send_window(192 * 1024)
        .send_fairness(false)
        .max_idle_timeout(Some(Duration::from_secs(120).try_into()?))
        .initial_rtt(Duration::from_millis(100))
        .ack_frequency_config(Some(dial::ack_frequency()))
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .allow_spin(false);
    Ok(transport)
}
