//! Writes one session's queue to its streams: one task per session, all streams
//! polled side by side, so that a blocked one holds up no other.

mod echo;
mod probe;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::join_all;
use petrel_core::id::ConversationId;
use petrel_proto::code::Code;
use petrel_proto::{frame, wire};
use petrel_transport::{SendStream, WriteError, priority};
use rustc_hash::FxHashMap;

use crate::connection::Fuse;
use crate::gateway::Gateway;
use crate::send_queue::{SendQueue, Taken, TakenSlot};
use crate::session::Session;
use crate::{attach, metrics, stream};
use echo::Echo;
use probe::Probes;

/// Frames are joined into one write up to this size: fewer segments for QUIC to track.
const JOINED_BYTES_MAX: usize = 16 * 1024;

/// What waits for one stream is bulk from here on: pages, and what piled up. It goes after small writes.
const BULK_BYTES: usize = 4 * 1024;

/// How long the end of a session waits for its last frames to arrive.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

/// Streams being finished at once, at the most.
const LEAVING_MAX: usize = 8;

/// A stream being written.
struct Outgoing {
    generation: u64,
    stream: SendStream,
    /// Bytes that were written.
    offset: u64,
    pending: Vec<Bytes>,
    /// Of what was taken and is not reported as written yet.
    frames: usize,
    bytes: usize,
    finish: bool,
    /// It has the priority of bulk.
    is_bulk: bool,
    /// What is left counts as the session queue's still.
    is_counted: bool,
}

/// What is left to do for a session after a round of writing.
enum Next {
    /// These conversations are behind and have drained.
    CatchUp(Vec<(ConversationId, u64)>),
    /// The session is over.
    End(Code),
}

struct Writer {
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    control: Outgoing,
    streams: FxHashMap<ConversationId, Outgoing>,
    /// Streams that a newer one replaced, or that are idle: being flushed and finished.
    leaving: Vec<Outgoing>,
    taken: Taken,
    /// If both sides have the feature.
    echo: Option<Echo>,
    /// If both sides have the feature.
    probes: Option<Probes>,
}

/// Runs until the session ends or its connection does.
pub(crate) fn run(
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    control: SendStream,
) -> impl Future<Output = ()> + Send {
    // An error means that the stream is over already.
    control.set_priority(priority::CONTROL).ok();
    let mut writer = Writer {
        control: Outgoing::new(0, control),
        streams: FxHashMap::default(),
        leaving: Vec::new(),
        taken: Taken::default(),
        echo: session.echo_inboxes().map(|inboxes| Echo::of(session.connection(), inboxes)),
        probes: session.takes_probes().then(|| Probes::of(session.connection())),
        gateway,
        session,
    };
    // A block, as a function's future would hold what it is given twice.
    async move {
        let _fuse = Fuse::of(writer.session.connection());
        loop {
            match poll_fn(|cx| writer.poll_round(cx)).await {
                Next::CatchUp(behind) => {
                    for (conversation, generation) in behind {
                        attach::spawn_catch_up(
                            &writer.gateway,
                            &writer.session,
                            conversation,
                            generation,
                        );
                    }
                }
                // Boxed: an idle session is not to keep room for its end.
                Next::End(code) => return Box::pin(writer.flush(code)).await,
            }
        }
    }
}

impl Writer {
    fn poll_round(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut behind = Vec::new();
        // Taking registers the waker, so taking comes before each return of Pending.
        while self.session.queue().poll_take(cx, &mut self.taken) {
            if let Some(code) = self.taken.ended {
                return Poll::Ready(Next::End(code));
            }
            self.control.add(std::mem::take(&mut self.taken.control));
            for slot in std::mem::take(&mut self.taken.slots) {
                let conversation = slot.conversation;
                self.place(slot, cx);
                self.poll_stream(conversation, cx, &mut behind);
            }
            if let Some(since) = self.taken.waiting_since {
                metrics::get().commit_to_write.record(since.elapsed());
            }
            if self.poll_control(cx).is_err() {
                return Poll::Ready(Next::End(Code::Ok));
            }
        }
        let blocked: Vec<_> =
            self.streams.iter().filter(|(_, s)| !s.pending.is_empty()).map(|(c, _)| *c).collect();
        for conversation in blocked {
            self.poll_stream(conversation, cx, &mut behind);
        }
        if self.poll_control(cx).is_err() {
            return Poll::Ready(Next::End(Code::Ok));
        }
        let queue = self.session.queue();
        self.leaving.retain_mut(|leaving| leaving.poll_leave(cx, queue).is_pending());
        if let Some(echo) = &mut self.echo {
            if self.session.take_moved() {
                echo.moved();
            }
            echo.poll_send(cx);
        }
        if let Some(probes) = &mut self.probes {
            probes.poll(cx, self.session.probes_answered());
        }
        if behind.is_empty() { Poll::Pending } else { Poll::Ready(Next::CatchUp(behind)) }
    }

    /// Puts taken frames to the stream they belong to.
    fn place(&mut self, slot: TakenSlot, cx: &mut Context<'_>) {
        let TakenSlot { conversation, generation, stream, frames, finish } = slot;
        let is_new = self.streams.get(&conversation).is_none_or(|s| s.generation != generation);
        if is_new {
            if let Some(mut old) = self.streams.remove(&conversation) {
                let superseded = wire::frame::What::Superseded(wire::Superseded {});
                old.add(vec![frame::encode(&frame::bare(superseded))]);
                // Its slot went with the attaching of the new stream, and what was in it.
                old.is_counted = false;
                self.leave(old);
            }
            let Some(stream) = stream.or_else(|| self.open(conversation, generation, cx)) else {
                if finish {
                    // Its slot is gone already.
                    let bytes = frames.iter().map(Bytes::len).sum();
                    self.session.queue().released(frames.len(), bytes);
                }
                return;
            };
            self.streams.insert(conversation, Outgoing::new(generation, stream));
        }
        let Some(outgoing) = self.streams.get_mut(&conversation) else { return };
        outgoing.add(frames);
        outgoing.finish = finish;
        if finish && let Some(idle) = self.streams.remove(&conversation) {
            self.leave(idle);
        }
    }

    /// Lets a stream end by itself. A peer that reads none of those it was
    /// given up on does not get to pile them up.
    fn leave(&mut self, outgoing: Outgoing) {
        if self.leaving.len() >= LEAVING_MAX {
            let mut oldest = self.leaving.remove(0);
            // An error means that the stream is over already.
            oldest.stream.reset(Code::Superseded.number()).ok();
            oldest.release(self.session.queue());
        }
        self.leaving.push(outgoing);
    }

    /// Opens a stream for something to say. Without credit the client is told
    /// by a hint and attaches when it can.
    fn open(
        &mut self,
        conversation: ConversationId,
        generation: u64,
        cx: &mut Context<'_>,
    ) -> Option<SendStream> {
        let opening = pin!(self.session.connection().open_bi());
        match opening.poll(cx) {
            Poll::Ready(Ok((send, recv))) => {
                stream::spawn_opened(&self.gateway, &self.session, conversation, generation, recv);
                Some(send)
            }
            Poll::Ready(Err(_)) => None,
            Poll::Pending => {
                metrics::get().hints.increment(1);
                self.session.queue().drop_slot(conversation, generation);
                self.gateway.hint(&self.session, conversation);
                None
            }
        }
    }

    fn poll_stream(
        &mut self,
        conversation: ConversationId,
        cx: &mut Context<'_>,
        behind: &mut Vec<(ConversationId, u64)>,
    ) {
        let Some(outgoing) = self.streams.get_mut(&conversation) else { return };
        // Who is in the background can wait for what is lost, and not for more packets.
        let echo = self.echo.as_mut().filter(|_| !self.taken.is_background);
        let copied = echo.and_then(|echo| echo.look(outgoing));
        match outgoing.poll_write(cx) {
            Ok((frames, bytes)) => {
                if let (Some(echo), Some(copied)) = (&mut self.echo, copied) {
                    echo.wrote(outgoing, copied);
                }
                if frames > 0
                    && let Some(probes) = &mut self.probes
                {
                    probes.wrote();
                }
                let generation = outgoing.generation;
                if self.session.queue().written(conversation, generation, frames, bytes) {
                    behind.push((conversation, generation));
                }
            }
            // The peer does not want this stream (or the connection is gone): a
            // stream is a cache, the cursor is the truth.
            Err(_) => {
                let generation = outgoing.generation;
                self.streams.remove(&conversation);
                self.session.queue().drop_slot(conversation, generation);
            }
        }
    }

    fn poll_control(&mut self, cx: &mut Context<'_>) -> Result<(), WriteError> {
        let (frames, bytes) = self.control.poll_write(cx)?;
        if frames > 0 {
            self.session.queue().released(frames, bytes);
            if let Some(probes) = &mut self.probes {
                probes.wrote();
            }
        }
        Ok(())
    }

    /// Writes what is left as far as it goes without waiting, and closes the connection.
    async fn flush(&mut self, code: Code) {
        poll_fn(|cx| {
            // Taking replaces what was taken together with the end, so that comes first.
            self.control.add(std::mem::take(&mut self.taken.control));
            self.session.queue().poll_take(cx, &mut self.taken);
            self.control.add(std::mem::take(&mut self.taken.control));
            for slot in std::mem::take(&mut self.taken.slots) {
                self.place(slot, cx);
            }
            let open: Vec<_> = self.streams.keys().copied().collect();
            for conversation in open {
                self.poll_stream(conversation, cx, &mut Vec::new());
            }
            // The connection is closed next, whether or not this went out.
            self.poll_control(cx).ok();
            Poll::Ready(())
        })
        .await;
        // CLOSE would overtake what was just written; wait until it has arrived.
        let mut streams: Vec<_> = self.streams.drain().map(|(_, open)| open.stream).collect();
        let control = &mut self.control.stream;
        let arrived = join_all(streams.iter_mut().chain([control]).map(|stream| {
            // An error means that the stream is over already.
            stream.finish().ok();
            stream.stopped()
        }));
        tokio::time::timeout(FLUSH_TIMEOUT, arrived).await.ok();
        self.session.connection().close(code.number(), code.label().as_bytes());
    }
}

impl Outgoing {
    fn new(generation: u64, stream: SendStream) -> Self {
        Self {
            generation,
            stream,
            offset: 0,
            pending: Vec::new(),
            frames: 0,
            bytes: 0,
            finish: false,
            is_bulk: false,
            is_counted: true,
        }
    }

    /// Takes frames over; many small ones become one.
    fn add(&mut self, mut frames: Vec<Bytes>) {
        self.frames += frames.len();
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        self.bytes += bytes;
        if frames.len() > 1 && bytes <= JOINED_BYTES_MAX {
            let mut joined = BytesMut::with_capacity(bytes);
            for frame in &frames {
                joined.put_slice(frame);
            }
            self.pending.push(joined.freeze());
        } else if self.pending.is_empty() {
            self.pending = frames;
        } else {
            self.pending.append(&mut frames);
        }
    }

    /// Writes as much as the stream takes now. Once all is written, gives the number
    /// of frames and bytes since the last time; before, zeros.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(usize, usize), WriteError> {
        let is_bulk = self.pending.iter().map(Bytes::len).sum::<usize>() > BULK_BYTES;
        if is_bulk != self.is_bulk && !self.pending.is_empty() {
            self.is_bulk = is_bulk;
            let priority = if is_bulk { priority::BULK } else { priority::LIVE };
            // An error means that the stream is over already.
            self.stream.set_priority(priority).ok();
        }
        while !self.pending.is_empty() {
            let polled = {
                let writing = pin!(self.stream.write_chunks(&mut self.pending));
                writing.poll(cx)
            };
            let Poll::Ready(written) = polled else { return Ok((0, 0)) };
            let written = written?;
            self.offset += written.bytes as u64;
            self.pending.drain(..written.chunks);
        }
        Ok((std::mem::take(&mut self.frames), std::mem::take(&mut self.bytes)))
    }

    /// Flushes and finishes; ready once nothing is left to do.
    fn poll_leave(&mut self, cx: &mut Context<'_>, queue: &SendQueue) -> Poll<()> {
        match self.poll_write(cx) {
            Ok(_) if !self.pending.is_empty() => return Poll::Pending,
            Ok((frames, bytes)) => {
                (self.frames, self.bytes) = (frames, bytes);
                // An error means that the stream is over already.
                self.stream.finish().ok();
            }
            Err(_) => {}
        }
        self.release(queue);
        Poll::Ready(())
    }

    /// What was taken for this stream takes no room any more.
    fn release(&mut self, queue: &SendQueue) {
        let (frames, bytes) = (std::mem::take(&mut self.frames), std::mem::take(&mut self.bytes));
        if self.is_counted && frames > 0 {
            queue.released(frames, bytes);
        }
    }
}
