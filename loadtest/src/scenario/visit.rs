//! What a bare person says and reads in pairs: for people who come and go.

use std::time::Instant;

use anyhow::{Context, bail};
use bytes::Bytes;
use petrel_client::{ConversationId, UserId};
use petrel_proto::frame;
use petrel_proto::wire::frame::What;
use petrel_proto::wire::{self, Frame};
use quinn::{Connection, SendStream};

use crate::dial::{self, Frames};

/// `entry_kind` of text.
const KIND_TEXT: u32 = 1;

/// A person's conversation with another, and what was last seen of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) conversation: ConversationId,
    pub(super) peer: UserId,
    /// The place of the last entry; 0: none.
    pub(super) seq: u64,
    /// The proof of which entry that was.
    tail: [u8; 8],
}

/// A conversation's open stream.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) send: SendStream,
    pub(super) frames: Frames,
}

/// What was missed, compared with what there was to miss.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Found {
    pub(super) entries: u64,
    pub(super) duplicated: u64,
    pub(super) gaps: u64,
    /// Bytes of bodies, as they came.
    pub(super) bytes: u64,
    /// When the first of them came.
    pub(super) first: Option<Instant>,
}

impl Found {
    pub(super) fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.duplicated += other.duplicated;
        self.gaps += other.gaps;
        self.bytes += other.bytes;
        self.first = self.first.into_iter().chain(other.first).min();
    }
}

impl Pair {
    pub(super) fn new(own: UserId, peer: UserId) -> Self {
        let conversation = ConversationId::of_pair(own, peer);
        Self { conversation, peer, seq: 0, tail: [0; 8] }
    }

    /// Opens the stream from the last entry on.
    pub(super) async fn attach(&self, connection: &Connection) -> anyhow::Result<Line> {
        let (mut send, recv) = connection.open_bi().await?;
        let cursor = wire::Cursor { seq: self.seq, tail: Bytes::copy_from_slice(&self.tail) };
        let attach = wire::Attach {
            conversation: Bytes::copy_from_slice(self.conversation.as_bytes()),
            // Needed only while the pair may not exist yet.
            peer: match self.seq {
                0 => Bytes::copy_from_slice(self.peer.as_bytes()),
                _ => Bytes::new(),
            },
            cursor: (self.seq > 0).then_some(cursor),
            ..wire::Attach::default()
        };
        send.write_all(&frame::encode(&frame::bare(What::Attach(attach)))).await?;
        Ok(Line { send, frames: Frames::new(recv) })
    }

    /// Reads up to this place.
    pub(super) async fn read_to(&mut self, line: &mut Line, to: u64) -> anyhow::Result<Found> {
        let mut found = Found::default();
        while self.seq < to {
            let Some((frame, what)) = line.frames.next().await? else {
                bail!("the stream ended at {} of {to}", self.seq);
            };
            match what {
                What::Push(_) => self.see(&frame, &mut found)?,
                What::Refusal(refusal) => return Err(dial::refused(refusal)),
                What::Gap(gap) => {
                    found.gaps += (gap.to + 1).saturating_sub(gap.from);
                    self.seq = self.seq.max(gap.to);
                }
                What::Reset(_) => bail!("a reset"),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Reads up to where the conversation stood when the server attached.
    pub(super) async fn catch_up(&mut self, line: &mut Line) -> anyhow::Result<Found> {
        match line.frames.next().await? {
            Some((_, What::Attach(attach))) => self.read_to(line, attach.head).await,
            Some((_, What::Refusal(refusal))) => Err(dial::refused(refusal)),
            other => bail!("Attach was answered with {other:?}"),
        }
    }

    fn see(&mut self, frame: &Frame, found: &mut Found) -> anyhow::Result<()> {
        found.first.get_or_insert_with(Instant::now);
        found.bytes += frame.body.len() as u64;
        let id: [u8; 16] = frame.id.as_ref().try_into().context("an id of another size")?;
        match frame.seq {
            seq if seq <= self.seq => found.duplicated += 1,
            seq => {
                found.gaps += seq - self.seq - 1;
                found.entries += 1;
                self.seq = seq;
            }
        }
        let mut tail = frame.time_ms.to_be_bytes();
        for (byte, of_id) in tail.iter_mut().zip(&id[8..]) {
            *byte ^= of_id;
        }
        self.tail = tail;
        Ok(())
    }

    /// Says some texts and waits until they are stored; the place of the last one.
    pub(super) async fn say(
        &self,
        connection: &Connection,
        texts: &[Bytes],
    ) -> anyhow::Result<u64> {
        let said = async {
            let mut line = self.attach(connection).await?;
            for (text, number) in texts.iter().zip(1..) {
                let frame = Frame {
                    number,
                    id: Bytes::copy_from_slice(uuid::Uuid::now_v7().as_bytes()),
                    entry_kind: KIND_TEXT,
                    body: text.clone(),
                    what: Some(What::Send(wire::Send::default())),
                    ..Frame::default()
                };
                line.send.write_chunk(frame::encode(&frame)).await?;
            }
            let mut last = 0;
            let mut stored = 0;
            while stored < texts.len() {
                match line.frames.next().await? {
                    Some((frame, What::Ack(_))) => (last, stored) = (frame.seq, stored + 1),
                    Some((_, What::Refusal(refusal))) => return Err(dial::refused(refusal)),
                    Some(_) => {}
                    None => bail!("the stream ended with {stored} of {} stored", texts.len()),
                }
            }
            line.send.finish()?;
            Ok(last)
        };
        tokio::time::timeout(dial::TIMEOUT, said).await.context("not stored in time")?
    }
}
