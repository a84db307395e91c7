//! The relay's users: one connection each, a stream per conversation, or one for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use petrel_proto::frame::FrameReader;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;

use super::{frame, server::ALPN};
use crate::body::{self, Body};
use crate::dial::{self, Target};
use crate::layout::{Lane, Layout};
use crate::ledger::{Clock, Id, Ledger, Seen};
use crate::traffic::Outbound;

/// What waits for one user's writer, at the most.
const QUEUE: usize = 4_096;
/// How much the writer takes at once.
const BATCH: usize = 64;

/// All users of the relay.
///
/// In the ledger, each lane is a conversation of its own with the sender as
/// member 0: the relay knows no order between the two directions.
#[derive(Debug)]
pub struct Crowd {
    connections: Vec<Connection>,
    lanes: Vec<Sender>,
}

/// By which a lane sends.
#[derive(Debug)]
struct Sender {
    writer: mpsc::Sender<(usize, Bytes)>,
    /// Which of its user's streams.
    stream: usize,
    /// The next message's number.
    numbers: AtomicU64,
}

impl Outbound for Crowd {
    fn send(&self, lane: Lane, body: &Body) -> Result<Id, String> {
        let index = lane.conversation * 2 + lane.member;
        let Sender { writer, stream, numbers } = &self.lanes[index];
        let number = numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let lane = wire_lane(index);
        let mut out = BytesMut::with_capacity(frame::SEND_OVERHEAD + body.text.len() + 4);
        frame::write(&mut out, frame::SEND, lane, number, frame::SEND_OVERHEAD, &body.text);
        match writer.try_send((*stream, out.freeze())) {
            Ok(()) => Ok(id(lane, number)),
            Err(_) => Err("relay_queue_full".to_owned()),
        }
    }

    fn udp_bytes(&self) -> u64 {
        self.connections
            .iter()
            .map(|connection| {
                let stats = connection.stats();
                stats.udp_rx.bytes + stats.udp_tx.bytes
            })
            .sum()
    }
}

/// Lanes are few: options bound users and conversations.
fn wire_lane(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn id(lane: u32, number: u64) -> Id {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&lane.to_be_bytes());
    id[4..12].copy_from_slice(&number.to_be_bytes());
    id
}

impl Crowd {
    /// Connects everyone and joins all conversations, each on a stream of its own or with `one_stream` all of
    /// a user on one.
    ///
    /// # Errors
    /// When somebody cannot connect or join.
    pub async fn start(
        target: &Target,
        layout: &Layout,
        ledger: &Arc<Ledger>,
        clock: Clock,
        one_stream: bool,
    ) -> anyhow::Result<Self> {
        let endpoints = dial::endpoints(target, layout.users())?;
        let config = dial::client_config(target, ALPN, true)?;
        let joined = Arc::new(AtomicUsize::new(0));
        let mut connections = Vec::with_capacity(layout.users());
        let mut lanes: Vec<Option<_>> = Vec::new();
        lanes.resize_with(layout.lanes(), || None);
        for (user, own) in layout.by_user().into_iter().enumerate() {
            let connection = endpoints[user % endpoints.len()]
                .connect_with(config.clone(), target.address, &target.server_name)?
                .await?;
            let (writer, taken) = mpsc::channel(QUEUE);
            let mut streams = Vec::with_capacity(own.len());
            for lane in own {
                let index = lane.conversation * 2 + lane.member;
                if streams.is_empty() || !one_stream {
                    let (send, recv) = connection.open_bi().await?;
                    let listener =
                        Listener { ledger: Arc::clone(ledger), clock, joined: Arc::clone(&joined) };
                    tokio::spawn(listener.listen(recv));
                    streams.push(send);
                }
                let stream = streams.len() - 1;
                let mut out = BytesMut::new();
                frame::write(&mut out, frame::JOIN, wire_lane(index), 0, frame::HEADER, b"");
                streams[stream].write_all(&out).await?;
                let (writer, numbers) = (writer.clone(), AtomicU64::new(0));
                lanes[index] = Some(Sender { writer, stream, numbers });
            }
            tokio::spawn(write(taken, streams));
            connections.push(connection);
        }
        let all = layout.lanes();
        tokio::time::timeout(dial::TIMEOUT, async {
            while joined.load(Ordering::Relaxed) < all {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .context("not everyone joined the relay in time")?;
        Ok(Self { connections, lanes: lanes.into_iter().flatten().collect() })
    }

    /// Closes all connections.
    pub fn close(&self) {
        for connection in &self.connections {
            connection.close(0u32.into(), b"");
        }
    }
}

struct Listener {
    ledger: Arc<Ledger>,
    clock: Clock,
    joined: Arc<AtomicUsize>,
}

impl Listener {
    async fn listen(self, mut recv: RecvStream) {
        let mut frames = FrameReader::new(frame::FRAME_BYTES_MAX);
        while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await {
            let now = self.clock.now();
            let mut bytes = chunk.bytes;
            while let Ok(Some(payload)) = frames.next(&mut bytes) {
                match frame::read(&payload) {
                    Some(frame) => self.hear(&frame, now),
                    None => self.ledger.error("relay_frame"),
                }
            }
        }
    }

    fn hear(&self, frame: &frame::Frame, now: u64) {
        let lane = |member| Lane { conversation: frame.lane as usize, member };
        match (frame.tag, frame.number) {
            (frame::ACK, 0) => {
                self.joined.fetch_add(1, Ordering::Relaxed);
            }
            (frame::ACK, number) => {
                self.ledger.acked(lane(0), id(frame.lane, number), number, now);
            }
            (frame::PUSH, number) => {
                let filling = frame::PUSH_OVERHEAD - frame::HEADER;
                let seen = Seen {
                    id: id(frame.lane, number),
                    seq: number,
                    hash: body::hash(frame.rest.get(filling..).unwrap_or_default()),
                };
                self.ledger.entered(lane(1), seen, now);
            }
            _ => self.ledger.error("relay_frame"),
        }
    }
}

/// One user's writer.
async fn write(mut jobs: mpsc::Receiver<(usize, Bytes)>, mut streams: Vec<SendStream>) {
    let mut batch = Vec::with_capacity(BATCH);
    while jobs.recv_many(&mut batch, BATCH).await > 0 {
        for (place, stream) in streams.iter_mut().enumerate() {
            let to = batch.iter().filter(|(to, _)| *to == place);
            let mut waiting: Vec<Bytes> = to.map(|(_, bytes)| bytes.clone()).collect();
            if !waiting.is_empty() && stream.write_all_chunks(&mut waiting).await.is_err() {
                return;
            }
        }
        batch.clear();
    }
}
