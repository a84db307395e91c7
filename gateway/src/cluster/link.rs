//! Links to other gateways: QUIC with certificates on both sides. Each gateway dials each other one and speaks on
//! the connections that it dialed; on those that it accepted it listens. So neither has to agree with anybody on which
//! of two connections counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::future::try_join_all;
use petrel_core::id::NodeId;
use petrel_proto::frame::FrameReader;
use petrel_proto::wire::{self, node_frame::What};
use prost::Message as _;
use quinn::{ClientConfig, ServerConfig, TransportConfig, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::identity::{Identity, is_of};
use super::peer::{LANES, Peer, Receivers, Room};
use super::routes::{RosterEntry, RosterReader};
use super::wire::{FRAME_BYTES_MAX, ROSTER_LINES};
use super::{Cluster, Standing, wire as said};
use crate::gateway::Gateway;
use crate::metrics;
use crate::session_table::SHARDS;

/// Versions of what is spoken on them.
const VERSIONS: (u32, u32) = (1, 1);
/// A peer that is silent for so long is not linked any more.
const IDLE: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// For the handshake and the hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Waits between two tries to dial: from, to.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Frames that are written together.
const FRAMES_AT_ONCE: usize = 64;
/// What a peer may have under way, in all streams.
const WINDOW: u32 = 8 * 1024 * 1024;
/// Connections that are being accepted, or listened to, at once.
const ACCEPTED_MAX: usize = 1_024;

/// Why a link ended, in a peer's CLOSE.
const CODE_GOING: u32 = 0;
const CODE_REFUSED: u32 = 1;

fn transport() -> Result<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IDLE.try_into()?))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(u32::try_from(LANES + 1)?))
        .receive_window(VarInt::from_u32(WINDOW))
        .stream_receive_window(VarInt::from_u32(WINDOW / 4))
        .send_window(u64::from(WINDOW))
        .datagram_receive_buffer_size(None);
    Ok(transport)
}

/// Opens the endpoint of the links.
///
/// # Errors
/// If the address cannot be used; the text names the setting.
pub(crate) fn open(listen: SocketAddr, identity: &Identity) -> Result<quinn::Endpoint> {
    let transport = Arc::new(transport()?);
    let mut server = ServerConfig::with_crypto(Arc::new(identity.server()?));
    server.transport_config(Arc::clone(&transport)).migration(false);
    let mut client = ClientConfig::new(Arc::new(identity.client()?));
    client.transport_config(transport);
    let mut endpoint = quinn::Endpoint::server(server, listen)
        .with_context(|| format!("cluster.listen: cannot use UDP address {listen}"))?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

/// Keeps a link to a peer until it is gone.
pub(super) async fn keep(
    gateway: Arc<Gateway>,
    endpoint: quinn::Endpoint,
    peer: Arc<Peer>,
    mut lanes: Receivers,
) {
    let gone = peer.gone.clone();
    let keeping = async {
        let mut pause = AGAIN.0;
        loop {
            match dial(&gateway.cluster, &endpoint, &peer.node).await {
                Ok(connection) => {
                    tracing::info!(peer = peer.node.name, at = peer.node.address, "linked");
                    pause = AGAIN.0;
                    let standing = Standing::new(&gateway.cluster, &peer);
                    let ended = speak(&gateway, &peer, &connection, &mut lanes).await;
                    drop(standing);
                    connection.close(VarInt::from_u32(CODE_GOING), b"");
                    tracing::warn!(peer = peer.node.name, error = ended, "the link has ended");
                }
                Err(error) => {
                    tracing::debug!(peer = peer.node.name, error = format!("{error:#}"), "no link");
                }
            }
            metrics::cluster::link_failed();
            // What waited while there was no link is told by the journal.
            for lane in &mut lanes {
                while let Ok(frame) = lane.try_recv() {
                    peer.released(frame.len());
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    };
    tokio::select! {
        never = keeping => never,
        () = gone.cancelled() => {}
        () = gateway.cluster.closing.cancelled() => {}
    }
}

/// Dials a node and greets it.
async fn dial(
    cluster: &Cluster,
    endpoint: &quinn::Endpoint,
    node: &petrel_core::store::NodeRecord,
) -> Result<quinn::Connection> {
    let dialing = async {
        let found = tokio::net::lookup_host(&node.address).await;
        let mut found = found.with_context(|| format!("{} is not found", node.address))?;
        let address = found.next().with_context(|| format!("{} is nowhere", node.address))?;
        let connection = endpoint.connect(address, &node.name)?.await?;
        let (mut send, recv) = connection.open_bi().await?;
        let hello = said::frame(What::Hello(wire::NodeHello {
            version_min: VERSIONS.0,
            version_max: VERSIONS.1,
            node: said::node_id(cluster.own().id),
            name: cluster.own().name,
            service: cluster.service().to_owned(),
        }));
        send.write_chunk(hello).await?;
        send.finish()?;
        match Frames::new(recv).next().await? {
            Some(What::Welcome(welcome)) => {
                anyhow::ensure!(welcome.version == VERSIONS.1, "it speaks another version");
                let answers = NodeId::from_slice(&welcome.node);
                anyhow::ensure!(answers == Some(node.id), "another run of it answers");
                Ok(connection)
            }
            _ => anyhow::bail!("no welcome"),
        }
    };
    timeout(HELLO_TIMEOUT, dialing).await.context("no answer")?
}

/// Says what there is to say until the connection ends; why it did.
async fn speak(
    gateway: &Gateway,
    peer: &Peer,
    connection: &quinn::Connection,
    lanes: &mut Receivers,
) -> String {
    let lanes = lanes.iter_mut().map(|lane| speak_in_lane(peer, connection, lane));
    let speaking = async { try_join_all(lanes).await.map(|_| ()) };
    tokio::select! {
        ended = speaking => ended.err().map_or_else(String::new, |error| format!("{error:#}")),
        ended = tell_roster(gateway, peer, connection) => {
            ended.err().map_or_else(String::new, |error| format!("{error:#}"))
        }
        error = connection.closed() => error.to_string(),
    }
}

async fn speak_in_lane(
    peer: &Peer,
    connection: &quinn::Connection,
    lane: &mut mpsc::Receiver<Bytes>,
) -> Result<()> {
    let mut stream = connection.open_uni().await?;
    let mut frames = Vec::with_capacity(FRAMES_AT_ONCE);
    while lane.recv_many(&mut frames, FRAMES_AT_ONCE).await > 0 {
        let _room = Room(peer, frames.iter().map(Bytes::len).sum());
        stream.write_all_chunks(&mut frames).await?;
        frames.clear();
    }
    Ok(())
}

/// Tells who is signed in here: everybody at first, then who comes and goes.
async fn tell_roster(gateway: &Gateway, peer: &Peer, connection: &quinn::Connection) -> Result<()> {
    let mut stream = connection.open_uni().await?;
    let line = |user| {
        let attendance = gateway.sessions.attendance(user);
        RosterEntry {
            user,
            sessions: u32::try_from(attendance.sessions).unwrap_or(u32::MAX),
            attentive: u32::try_from(attendance.attentive).unwrap_or(u32::MAX),
        }
    };
    loop {
        let changed = peer.take_changed();
        if changed.everybody {
            stream.write_chunk(said::roster(true, false, &[])).await?;
            let mut users = Vec::new();
            for shard in 0..SHARDS {
                gateway.sessions.users_of_shard(shard, &mut users);
                while users.len() >= ROSTER_LINES {
                    let lines: Vec<_> = users.drain(..ROSTER_LINES).map(line).collect();
                    stream.write_chunk(said::roster(false, false, &lines)).await?;
                }
            }
            let lines: Vec<_> = users.drain(..).map(line).collect();
            stream.write_chunk(said::roster(false, true, &lines)).await?;
        }
        let users: Vec<_> = changed.users.into_iter().collect();
        for users in users.chunks(ROSTER_LINES) {
            let lines: Vec<_> = users.iter().copied().map(line).collect();
            stream.write_chunk(said::roster(false, false, &lines)).await?;
        }
        peer.roster.notified().await;
    }
}

/// Accepts links until the gateway stops.
pub(super) async fn accept(gateway: Arc<Gateway>, endpoint: quinn::Endpoint) {
    let accepted = Arc::new(tokio::sync::Semaphore::new(ACCEPTED_MAX));
    let accepting = async {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(place) = Arc::clone(&accepted).try_acquire_owned() else {
                incoming.ignore();
                continue;
            };
            let gateway = Arc::clone(&gateway);
            let listening = Arc::clone(&gateway);
            let listening = async move {
                let _place = place;
                let from = incoming.remote_address();
                if let Err(error) = listen(&listening, incoming).await {
                    tracing::debug!(%from, error = format!("{error:#}"), "a peer is not heard any more");
                }
            };
            gateway.tasks.spawn(listening);
        }
    };
    gateway.cluster.closing.run_until_cancelled(accepting).await;
}

/// Greets a peer that dialed, and listens to it until its connection ends.
async fn listen(gateway: &Arc<Gateway>, incoming: quinn::Incoming) -> Result<()> {
    let greeting = async {
        let connection = incoming.await?;
        let (send, recv) = connection.accept_bi().await?;
        let Some(What::Hello(hello)) = Frames::new(recv).next().await? else {
            anyhow::bail!("no hello");
        };
        anyhow::Ok((connection, send, hello))
    };
    let (connection, mut send, hello) =
        timeout(HELLO_TIMEOUT, greeting).await.context("silent")??;
    let refuse = |why: &'static str| {
        connection.close(VarInt::from_u32(CODE_REFUSED), why.as_bytes());
        anyhow::anyhow!("{why}")
    };
    if !is_named(&connection, &hello.name) {
        return Err(refuse("the certificate is of another node"));
    }
    if hello.service != gateway.cluster.service() {
        return Err(refuse("another service (auth.audience)"));
    }
    let Some(node) = NodeId::from_slice(&hello.node) else {
        return Err(refuse("no node"));
    };
    let version = hello.version_max.min(VERSIONS.1);
    let is_spoken = version >= hello.version_min.max(VERSIONS.0);
    let welcome = wire::NodeWelcome {
        version: if is_spoken { version } else { 0 },
        node: said::node_id(gateway.cluster.own().id),
    };
    send.write_chunk(said::frame(What::Welcome(welcome))).await?;
    send.finish()?;
    if !is_spoken {
        send.stopped().await.ok();
        return Err(refuse("no version in common"));
    }
    // Who links before the list of nodes tells of it is on it by now.
    gateway.cluster.look_for(node).await;
    let Some(peer) = gateway.cluster.peer(node) else {
        return Err(refuse("not in the list of nodes"));
    };
    if peer.node.name != hello.name {
        return Err(refuse("the list of nodes has another name for it"));
    }
    let replaced = peer.listen();
    let hearing = async {
        while let Ok(stream) = connection.accept_uni().await {
            let (gateway, peer) = (Arc::clone(gateway), Arc::clone(&peer));
            gateway.tasks.clone().spawn(async move {
                if let Err(error) = hear(&gateway, &peer, stream).await {
                    tracing::debug!(
                        peer = peer.node.name,
                        error = format!("{error:#}"),
                        "a stream of a peer"
                    );
                }
            });
        }
    };
    tokio::select! {
        () = hearing => {}
        () = peer.gone.cancelled() => {}
        () = replaced.cancelled() => {}
        () = gateway.cluster.closing.cancelled() => {}
    }
    connection.close(VarInt::from_u32(CODE_GOING), b"");
    Ok(())
}

/// Whether the other side's certificate names this node.
fn is_named(connection: &quinn::Connection, name: &str) -> bool {
    let identity = connection.peer_identity();
    let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    chain.and_then(|chain| chain.first().map(|own| is_of(own, name))).unwrap_or(false)
}

/// Carries out what a peer says on one stream, in its order.
async fn hear(gateway: &Arc<Gateway>, peer: &Arc<Peer>, stream: quinn::RecvStream) -> Result<()> {
    let mut frames = Frames::new(stream);
    let mut roster = None;
    while let Some(what) = frames.next().await? {
        anyhow::ensure!(!peer.gone.is_cancelled(), "it is gone");
        match what {
            What::Roster(said) => {
                hear_roster(gateway, peer, &mut roster, &said)?;
                // What it has said while it was taken out goes with it.
                if peer.gone.is_cancelled() {
                    gateway.forget_users_of(peer);
                }
            }
            What::Entry(entry) => {
                let entry = said::read_entry(entry).context("an entry that makes no sense")?;
                gateway.hear_entry(entry);
            }
            What::Preview(preview) => gateway.hear_preview(&preview),
            What::Receipts(receipts) => gateway.hear_receipts(&receipts),
            What::Typing(typing) => gateway.hear_peers_typing(&typing),
            What::Hello(_) | What::Welcome(_) => anyhow::bail!("a greeting out of its place"),
        }
    }
    Ok(())
}

/// Takes a piece of a roster; `own` is the number of the one that this stream tells.
fn hear_roster(
    gateway: &Gateway,
    peer: &Peer,
    own: &mut Option<u32>,
    said: &wire::Roster,
) -> Result<()> {
    let cluster = &gateway.cluster;
    if said.begins {
        *own = Some(peer.newest_roster.fetch_add(1, Ordering::Relaxed) + 1);
    }
    let roster = own.context("a roster without a beginning")?;
    anyhow::ensure!(
        peer.newest_roster.load(Ordering::Relaxed) == roster,
        "a newer roster has begun"
    );
    let reader = RosterReader { peer: peer.number, roster, users: &peer.users };
    for line in &said.lines {
        let line = said::read_roster_line(line).context("a roster that makes no sense")?;
        if cluster.routes.take(reader, line) {
            gateway.presence.note(line.user);
        }
    }
    if said.ends {
        for user in cluster.routes.sweep(peer.number, Some(roster), &peer.users) {
            gateway.presence.note(user);
        }
    }
    Ok(())
}

/// The frames of one stream.
struct Frames {
    stream: quinn::RecvStream,
    reader: FrameReader,
    chunk: Bytes,
}

impl Frames {
    fn new(stream: quinn::RecvStream) -> Self {
        Self { stream, reader: FrameReader::new(FRAME_BYTES_MAX), chunk: Bytes::new() }
    }

    /// The next one; `None` at the stream's end. Kinds that a newer version knows are left out.
    async fn next(&mut self) -> Result<Option<What>> {
        loop {
            if let Some(payload) = self.reader.next(&mut self.chunk)? {
                match wire::NodeFrame::decode(payload)?.what {
                    Some(what) => return Ok(Some(what)),
                    None => continue,
                }
            }
            match self.stream.read_chunk(FRAME_BYTES_MAX, true).await? {
                Some(chunk) => self.chunk = chunk.bytes,
                None => {
                    self.reader.finish()?;
                    return Ok(None);
                }
            }
        }
    }
}
