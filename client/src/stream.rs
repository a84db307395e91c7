//! One conversation's stream: a task with a reading and a writing side, which
//! don't wait for each other.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use petrel_proto::code::Code;
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, Frame, frame::What};
use petrel_transport::{Connection, RecvStream, SendStream, WriteError, priority};
use tokio::sync::Notify;

use crate::conversation::Conversation;
use crate::dictionary;
use crate::frames::{FrameSource, StreamEnd, encode_into};
use crate::id::ConversationId;
use crate::incoming::{self, Incoming};
use crate::outbox::Outgoing;
use crate::shared::Shared;
use crate::state::{EarlyStream, State};

/// Bytes of frames that go out in one write, about.
const BATCH_BYTES: usize = 64 * 1024;

/// A larger write goes after small ones of other conversations.
const BULK_BYTES: usize = 4 * 1024;

impl Shared {
    /// Whether this is the conversation's stream.
    fn is_current(&self, id: ConversationId, generation: u64) -> bool {
        let state = self.state.lock();
        state.conversations.get(&id).is_some_and(|found| found.is_current(generation))
    }

    /// A task of one of our streams is over.
    fn stream_closed(&self) {
        let mut state = self.state.lock();
        state.streams_open = state.streams_open.saturating_sub(1);
    }

    /// A stream is served, or not any more: by how many more writers there are.
    fn writer_started(&self) {
        self.writers.send_modify(|writers| *writers += 1);
    }

    fn writer_done(&self) {
        self.writers.send_modify(|writers| *writers -= 1);
    }
}

/// Opens a stream of ours and serves it until it ends.
pub(crate) async fn open(
    shared: Arc<Shared>,
    connection: Connection,
    id: ConversationId,
    generation: u64,
    writer: Arc<Notify>,
    early: Option<EarlyStream>,
) {
    // An error here is the connection's end, which is heard of elsewhere. It may have been left meanwhile.
    if let Ok((send, recv)) = connection.open_bi().await
        && shared.is_current(id, generation)
    {
        let source = FrameSource::with_echo(recv, shared.echo());
        serve(&shared, id, generation, send, source, &writer).await;
    }
    drop(early);
    shared.stream_closed();
}

/// Serves a stream that the server has opened.
pub(crate) async fn accepted(
    shared: Arc<Shared>,
    connection: Connection,
    mut send: SendStream,
    recv: RecvStream,
) {
    let mut source = FrameSource::with_echo(recv, shared.echo());
    let attach = match source.next().await {
        Ok((_, What::Attach(said))) => match incoming::attach(&said) {
            Ok(attach) => attach,
            Err(bad) => return refuse(&mut send, &mut source, Code::Invalid, bad.0),
        },
        Ok(_) => {
            return refuse(&mut send, &mut source, Code::Unexpected, "not an Attach");
        }
        Err(StreamEnd::Broken(why)) => {
            return refuse(&mut send, &mut source, Code::Malformed, &why);
        }
        Err(_) => return,
    };
    let id = attach.conversation;
    let (generation, writer) = match shared.accept(&connection, &attach) {
        Ok(accepted) => accepted,
        Err(code) => return refuse(&mut send, &mut source, code, "too many conversations"),
    };
    shared.apply(id, generation, std::iter::once(Incoming::Attach(attach)));
    if let Some(writer) = writer {
        serve(&shared, id, generation, send, source, &writer).await;
    } else {
        // It ends when the server has seen our own Attach.
        drop(send);
        read(&shared, id, generation, &mut source).await;
    }
}

fn refuse(send: &mut SendStream, source: &mut FrameSource, code: Code, why: &str) {
    tracing::warn!(%code, why, "a stream of the server is refused");
    send.reset(code.number()).ok();
    source.stop(code);
}

/// A stream is over, as far as it is read; what has no answer goes elsewhere.
fn ended(shared: &Arc<Shared>, id: ConversationId, generation: u64, end: &StreamEnd) {
    let reset = match end {
        StreamEnd::Finished => None,
        // The connection's end is heard of elsewhere.
        StreamEnd::Lost(_) => return,
        StreamEnd::Reset(code) => Some(*code),
        StreamEnd::Broken(why) => {
            tracing::warn!(conversation = %id, why, "a conversation's stream is broken");
            Some(Code::Internal)
        }
    };
    shared.with(id, |conversation, cx, fx| {
        if conversation.is_current(generation) {
            conversation.stream_ended(reset, cx, fx);
        }
    });
}

async fn serve(
    shared: &Arc<Shared>,
    id: ConversationId,
    generation: u64,
    send: SendStream,
    mut source: FrameSource,
    writer: &Notify,
) {
    let reading = async {
        let end = read(shared, id, generation, &mut source).await;
        ended(shared, id, generation, &end);
        writer.notify_one();
    };
    let writing = async {
        shared.writer_started();
        write(shared, id, generation, send, writer).await;
        shared.writer_done();
    };
    tokio::join!(reading, writing);
}

async fn read(
    shared: &Arc<Shared>,
    id: ConversationId,
    generation: u64,
    source: &mut FrameSource,
) -> StreamEnd {
    let mut batch = Vec::new();
    loop {
        let end = collect(id, source, &mut batch);
        if !batch.is_empty() {
            shared.complete(dictionary::bodies(&mut batch)).await;
            shared.apply(id, generation, batch.drain(..));
            shared.events.room().await;
        }
        if let Err(end) = end {
            if let StreamEnd::Broken(_) = end {
                source.stop(Code::Malformed);
            }
            return end;
        }
        if let Err(end) = source.fill().await {
            return end;
        }
    }
}

/// All frames that were read already.
fn collect(
    id: ConversationId,
    source: &mut FrameSource,
    batch: &mut Vec<Incoming>,
) -> Result<(), StreamEnd> {
    while let Some((frame, what)) = source.buffered()? {
        let incoming =
            incoming::read(id, frame, what).map_err(|bad| StreamEnd::Broken(bad.0.to_owned()))?;
        batch.push(incoming);
    }
    Ok(())
}

async fn write(
    shared: &Arc<Shared>,
    id: ConversationId,
    generation: u64,
    mut send: SendStream,
    writer: &Notify,
) {
    let echo = shared.echo();
    let mut written = 0;
    let mut is_bulk = false;
    loop {
        let mut out = BytesMut::new();
        let is_background = shared.attention.is_background();
        let stream = (id, generation);
        let current = gather(&mut shared.state.lock(), stream, is_background, &mut out);
        if !out.is_empty() {
            let out = out.freeze();
            if (out.len() > BULK_BYTES) != is_bulk {
                is_bulk = !is_bulk;
                let priority = if is_bulk { priority::BULK } else { priority::LIVE };
                // An error means that the stream is over already.
                send.set_priority(priority).ok();
            }
            let handed = Instant::now();
            if let Err(error) = send.write_chunk(out.clone()).await {
                // The reading side hears of it too, and says what it means.
                tracing::debug!(conversation = %id, %error, "writing ended");
                if matches!(error, WriteError::Stopped(_)) {
                    ended(shared, id, generation, &StreamEnd::Finished);
                }
                return;
            }
            if let Some(echo) = &echo {
                echo.wrote(handed, send.id(), written, &out);
            }
            written += out.len() as u64;
            shared.busy.notify_one();
        } else if !current {
            if send.is_rejected() {
                return;
            }
            send.finish().ok();
            // So that closing the connection does not overtake what was written.
            drop(send.stopped().await);
            return;
        } else {
            writer.notified().await;
        }
    }
}

/// What is to be written on a conversation's stream now, with what goes along. `false` if the stream is
/// not the conversation's any more. In the background it is left with its receipts.
fn gather(
    state: &mut State,
    (id, generation): (ConversationId, u64),
    is_background: bool,
    out: &mut BytesMut,
) -> bool {
    let durable_upto = state.durable_upto;
    let Some(conversation) = state.conversations.get_mut(&id).filter(|c| c.is_current(generation))
    else {
        return false;
    };
    let wrote = batch(conversation, durable_upto, out);
    if conversation.is_closing() {
        conversation.stream_gone();
    } else if wrote.receipts && is_background && conversation.is_at_rest() {
        // Together they cost one packet; the server opens the next stream when there is news.
        conversation.leave_stream();
    }
    state.counters.resends += wrote.resends;
    if wrote.sends {
        let along = state.take_along(id, Instant::now());
        if !along.is_empty() {
            let receipts = wire::Receipts { along, ..wire::Receipts::default() };
            encode_into(out, &bare(What::Receipts(receipts)));
        }
    }
    true
}

/// What was put into one write.
struct Batch {
    /// Messages that were written before.
    resends: u64,
    /// Whether there is any message in it.
    sends: bool,
    /// Whether the conversation's receipts are in it.
    receipts: bool,
}

/// What a conversation has to say now.
fn batch(conversation: &mut Conversation, durable_upto: u64, out: &mut BytesMut) -> Batch {
    let now = Instant::now();
    let mut wrote = Batch { resends: 0, sends: false, receipts: false };
    if conversation.take_attach_due() {
        encode_into(out, &bare(What::Attach(attach(conversation))));
    }
    while out.len() < BATCH_BYTES {
        let Some(next) = conversation.outbox.next_to_write(now, durable_upto) else {
            break;
        };
        wrote.resends += u64::from(next.again);
        wrote.sends = true;
        let seen = conversation.receipts.seen();
        encode_into(out, &send_frame(next, seen));
    }
    if let Some((delivered, read)) = conversation.receipts.take(now, !out.is_empty()) {
        wrote.receipts = true;
        let members = vec![receipt(delivered, read)];
        let receipts = wire::Receipts { members, ..wire::Receipts::default() };
        encode_into(out, &bare(What::Receipts(receipts)));
    }
    if !out.is_empty() {
        conversation.used = now;
    }
    wrote
}

fn attach(conversation: &mut Conversation) -> wire::Attach {
    let trail = conversation.arrivals.trail();
    let cursor = trail.newest().map(incoming::write_cursor);
    let older = trail.older().iter().copied().map(incoming::write_cursor).collect();
    let (delivered, read) = conversation.receipts.current();
    wire::Attach {
        conversation: conversation.id.to_bytes(),
        peer: conversation.peer.map(|peer| peer.to_bytes()).unwrap_or_default(),
        cursor,
        older,
        own: (delivered > 0 || read > 0).then(|| receipt(delivered, read)),
        ..wire::Attach::default()
    }
}

fn receipt(delivered: u64, read: u64) -> wire::MemberReceipt {
    wire::MemberReceipt { delivered, read, ..wire::MemberReceipt::default() }
}

fn send_frame(message: Outgoing, seen: u64) -> Frame {
    let content = message.content;
    Frame {
        number: message.number,
        id: message.id.to_bytes(),
        entry_kind: content.kind.into(),
        encoding: content.encoding,
        body: content.body,
        target: content.target.unwrap_or(0),
        mentions: content.mentions.iter().map(|user| user.to_bytes()).collect(),
        what: Some(What::Send(wire::Send {
            again: message.again,
            seen,
            revision: content.revision,
        })),
        ..Frame::default()
    }
}
