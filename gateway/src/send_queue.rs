//! What waits to be written to one session: bounded in bytes, one slot per
//! conversation, so that a conversation whose stream is blocked holds up no other.
//!
//! A slot knows the next seq that its stream gets. While it is *live*, committed
//! entries are put in as they come. When there is no room it falls *behind*:
//! nothing is put in any more, and once its stream has drained, it catches up
//! from the store, from the seq where it stopped (`attach.rs`). The fan-out never
//! waits, and nobody but the slow reader notices.
//!
//! For a session in the background the writer is kept from taking what can wait ([`hold`]); what is held
//! waits in the same slots, within the same bounds.

mod along;
mod background;
mod catching_up;
mod hold;
mod proof;
mod run;
mod state;

use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use petrel_core::id::{ConversationId, Seq};
use petrel_proto::code::Code;
use petrel_transport::SendStream;
use tokio::sync::Notify;

use crate::metrics;
pub(crate) use run::Run;
use state::{FRAME_OVERHEAD, Mode, State};

/// The queue of one session.
#[derive(Debug)]
pub(crate) struct SendQueue {
    state: Mutex<State>,
    bytes_max: usize,
    slots_max: usize,
    writer: AtomicWaker,
    room: Notify,
}

/// What the writer takes at once.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Frames of the control stream.
    pub control: Vec<Bytes>,
    /// Frames of conversations.
    pub slots: Vec<TakenSlot>,
    /// The session is over.
    pub ended: Option<Code>,
    /// When the first of the conversations' frames was put in, if they were not held.
    pub waiting_since: Option<Instant>,
    /// The session is in the background.
    pub is_background: bool,
}

/// What the writer takes of one conversation.
#[derive(Debug)]
pub(crate) struct TakenSlot {
    /// Which.
    pub conversation: ConversationId,
    /// Of which of its streams.
    pub generation: u64,
    /// The stream, when the client has just opened it.
    pub stream: Option<SendStream>,
    /// What to write, in order.
    pub frames: Vec<Bytes>,
    /// Finish the stream after that.
    pub finish: bool,
}

/// A committed entry on its way to one session.
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    /// The conversation.
    pub conversation: ConversationId,
    /// The entry's place.
    pub seq: Seq,
    /// The Push, encoded.
    pub push: &'a Bytes,
    /// For the stream that sent it: its generation, and the Ack that stands for the Push.
    pub ack: Option<(u64, Bytes)>,
    /// It mentions the session's user: in the background it goes out all the same.
    pub calls: bool,
}

/// What became of something that was put in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Put {
    /// It will be written, or the slot will read it from the store.
    Queued,
    /// No stream and no room for another slot: tell the client by a hint.
    Hint,
}

impl SendQueue {
    /// An empty queue of at most `bytes_max` bytes (frames and their bookkeeping)
    /// and `slots_max` conversations.
    pub(crate) fn new(bytes_max: usize, slots_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            bytes_max,
            slots_max,
            writer: AtomicWaker::new(),
            room: Notify::new(),
        }
    }

    /// Conversations that may be open at once.
    pub(crate) fn slots_max(&self) -> usize {
        self.slots_max
    }

    /// Puts a committed entry in. `attach` makes the first frame of a stream that
    /// the server opens, whose pushes start after the given seq.
    pub(crate) fn deliver(
        &self,
        delivery: Delivery<'_>,
        now_s: u32,
        attach: impl FnOnce(Seq) -> Bytes,
    ) -> Put {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Put::Queued;
        }
        let Delivery { conversation, seq, push, ack, calls } = delivery;
        if !state.slots.contains_key(&conversation) {
            if state.slots.len() >= self.slots_max {
                return Put::Hint;
            }
            let first = attach(seq.previous());
            state.add_slot(conversation, None, seq, Mode::Live, vec![first], now_s);
        }
        let (used, suspended) = (state.bytes, state.suspended);
        let Some(slot) = state.slots.get_mut(&conversation) else {
            return Put::Queued;
        };
        slot.used_s = now_s;
        let own = ack.filter(|(generation, _)| *generation == slot.generation);
        if slot.mode == Mode::Live && slot.next <= seq {
            let frame = own.as_ref().map_or(push, |(_, ack)| ack);
            let fits = slot.next == seq
                && used + frame.len() + FRAME_OVERHEAD <= self.bytes_max
                && slot.bytes + frame.len() + FRAME_OVERHEAD <= self.bytes_max / 2;
            if fits && !suspended {
                slot.next = seq.next();
                state.delivered_s = Some(now_s);
                match own {
                    Some((_, ack)) => {
                        state.put(conversation, ack);
                        state.hold.open();
                    }
                    None => {
                        state.put(conversation, push.clone());
                        state.hold.keep(now_s, 1, calls);
                    }
                }
                self.wake(state);
                return Put::Queued;
            }
            slot.mode = Mode::Behind;
            metrics::get().fallen_behind.increment(1);
        }
        let behind = slot.mode == Mode::Behind;
        // An answer goes out whatever the state of the pushes: its number is
        // bounded by what the session may have under way.
        if let Some((_, ack)) = own {
            state.put(conversation, ack);
            state.hold.open();
        } else if behind {
            // Should its stream have drained already, the writer sees to it now.
            state.mark(conversation);
            state.hold.keep(now_s, 1, calls);
        } else {
            return Put::Queued;
        }
        self.wake(state);
        Put::Queued
    }

    /// Has the writer look around, though nothing was put in.
    pub(crate) fn nudge(&self) {
        self.writer.wake();
    }

    /// Wakes the writer, unless it may take nothing.
    fn wake(&self, state: MutexGuard<'_, State>) {
        let is_shut = state.hold.is_shut();
        drop(state);
        if !is_shut {
            self.writer.wake();
        }
    }

    /// The same for something that does not wait, in the background either.
    fn wake_now(&self, mut state: MutexGuard<'_, State>) {
        state.hold.open();
        self.wake(state);
    }

    /// Puts in a frame that has no place in the order of seqs (answers,
    /// receipts), if that stream is still the conversation's.
    pub(crate) fn put_beside(&self, conversation: ConversationId, generation: u64, frame: Bytes) {
        let mut state = self.state.lock();
        if state.slots.get(&conversation).is_some_and(|s| s.generation == generation) {
            state.put(conversation, frame);
            self.wake_now(state);
        }
    }

    /// Puts in a stream's last frame: it is finished once that is written. What comes
    /// for the conversation afterwards opens another stream.
    pub(crate) fn put_last(&self, conversation: ConversationId, generation: u64, frame: Bytes) {
        let mut state = self.state.lock();
        if state.slots.get(&conversation).is_some_and(|s| s.generation == generation) {
            state.put(conversation, frame);
            if let Some(slot) = state.slots.get_mut(&conversation) {
                slot.finish = true;
            }
            self.wake_now(state);
        }
    }

    /// The conversation is over for this session: a live stream ends with this frame. One that
    /// is behind finds out once it has caught up. In the background it waits with the entry that says so.
    pub(crate) fn put_end(&self, conversation: ConversationId, frame: Bytes) {
        let mut state = self.state.lock();
        let live = state.slots.get(&conversation).filter(|s| s.mode == Mode::Live);
        if live.is_some() {
            state.put(conversation, frame);
            if let Some(slot) = state.slots.get_mut(&conversation) {
                slot.finish = true;
            }
            self.wake(state);
        }
    }

    /// Puts in a frame that may be left out (a preview): only into a live slot with room, and not in
    /// the background. With `attach`, a missing slot is made for it; its pushes start at `next`.
    pub(crate) fn put_ephemeral(
        &self,
        conversation: ConversationId,
        frame: &Bytes,
        now_s: u32,
        attach: Option<(Seq, impl FnOnce(Seq) -> Bytes)>,
    ) {
        let mut state = self.state.lock();
        if !self.takes_ephemeral(&state, frame) {
            return;
        }
        if !state.slots.contains_key(&conversation) {
            let Some((next, attach)) = attach else { return };
            if state.slots.len() >= self.slots_max {
                return;
            }
            let first = attach(next.previous());
            state.add_slot(conversation, None, next, Mode::Live, vec![first], now_s);
        }
        if state.is_live(conversation) {
            state.put(conversation, frame.clone());
            drop(state);
            self.writer.wake();
        }
    }

    fn takes_ephemeral(&self, state: &State, frame: &Bytes) -> bool {
        let fits = state.bytes + frame.len() + FRAME_OVERHEAD <= self.bytes_max / 2;
        fits && state.ended.is_none() && !state.suspended && !state.hold.is_background()
    }

    /// Puts in frames of the control stream, in one piece; `false` if there is no room.
    pub(crate) fn put_control(&self, frames: Bytes) -> bool {
        let mut state = self.state.lock();
        let is_in = self.add_control(&mut state, frames);
        if is_in {
            self.wake_now(state);
        }
        is_in
    }

    /// A client attached: its stream takes over from any older one. The slot
    /// catches up from `next` on; its first frames are `first`. Gives back the
    /// stream's generation.
    ///
    /// # Errors
    /// The stream itself, if the session has too many conversations open.
    pub(crate) fn attach(
        &self,
        conversation: ConversationId,
        stream: SendStream,
        next: Seq,
        first: Vec<Bytes>,
        now_s: u32,
    ) -> Result<u64, SendStream> {
        let mut state = self.state.lock();
        if state.slots.len() >= self.slots_max && !state.slots.contains_key(&conversation) {
            return Err(stream);
        }
        let left = state.slots.remove(&conversation).map_or(0, |old| old.bytes);
        state.bytes = state.bytes.saturating_sub(left);
        let generation =
            state.add_slot(conversation, Some(stream), next, Mode::CatchingUp, first, now_s);
        self.wake_now(state);
        Ok(generation)
    }

    /// Gives up a slot, as far as it is still this stream's. Whatever was not
    /// written is read from the store when the client attaches again.
    pub(crate) fn drop_slot(&self, conversation: ConversationId, generation: u64) {
        let mut state = self.state.lock();
        if state.slots.get(&conversation).is_some_and(|s| s.generation == generation) {
            let left = state.slots.remove(&conversation).map_or(0, |old| old.bytes);
            state.bytes = state.bytes.saturating_sub(left);
        }
        drop(state);
        self.room.notify_waiters();
    }

    /// Finishes the streams on which nothing moved since `before_s`.
    pub(crate) fn finish_idle(&self, before_s: u32, now_s: u32) {
        let mut state = self.state.lock();
        let idle: Vec<_> = state
            .slots
            .iter()
            .filter(|(_, s)| s.used_s < before_s && s.bytes == 0 && s.mode == Mode::Live)
            .filter(|(_, s)| !s.finish)
            .map(|(c, _)| *c)
            .collect();
        for conversation in &idle {
            if let Some(slot) = state.slots.get_mut(conversation) {
                slot.finish = true;
            }
            state.mark(*conversation);
        }
        if !idle.is_empty() {
            state.hold.keep(now_s, 0, false);
            self.wake(state);
        }
    }

    /// The client has finished its side of a stream: ours ends too once all is written, unless
    /// there is more to say meanwhile.
    pub(crate) fn finish(&self, conversation: ConversationId, generation: u64) {
        let mut state = self.state.lock();
        // What was put along is no reason to keep a stream.
        let is_quiet = state.waiting_since.is_none();
        if let Some(slot) = state.slots.get_mut(&conversation)
            && slot.generation == generation
            && slot.mode == Mode::Live
            && (slot.frames.is_empty() || is_quiet)
        {
            slot.finish = true;
            state.mark(conversation);
            self.wake_now(state);
        }
    }

    /// Notes that something moved on a conversation's stream.
    pub(crate) fn touch(&self, conversation: ConversationId, generation: u64, now_s: u32) {
        if let Some(slot) = self.state.lock().slots.get_mut(&conversation)
            && slot.generation == generation
        {
            slot.used_s = now_s;
        }
    }

    /// Stops pushes (the token has expired) or lets them go on from where they stopped.
    pub(crate) fn suspend(&self, suspended: bool) {
        let mut state = self.state.lock();
        if state.suspended == suspended {
            return;
        }
        state.suspended = suspended;
        if !suspended {
            let behind: Vec<_> = state
                .slots
                .iter()
                .filter(|(_, s)| s.mode == Mode::Behind)
                .map(|(c, _)| *c)
                .collect();
            behind.into_iter().for_each(|c| state.mark(c));
            self.wake_now(state);
        }
    }

    /// Ends the session: the writer closes the connection with this code.
    pub(crate) fn end(&self, code: Code) {
        let mut state = self.state.lock();
        state.ended.get_or_insert(code);
        self.wake_now(state);
        self.room.notify_waiters();
    }

    /// Whether the session is over.
    pub(crate) fn ended(&self) -> Option<Code> {
        self.state.lock().ended
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Takes what waits; with nothing there, the task of `cx` is woken when there is.
    pub(crate) fn poll_take(&self, cx: &std::task::Context<'_>, taken: &mut Taken) -> bool {
        self.writer.register(cx.waker());
        let mut state = self.state.lock();
        if state.hold.is_shut() {
            return false;
        }
        taken.ended = state.ended;
        taken.is_background = state.hold.is_background();
        let waiting_since = state.waiting_since.take();
        let held = state.hold.taken();
        taken.waiting_since = waiting_since.filter(|_| held == 0);
        if held > 0 {
            metrics::background::released(held);
        }
        std::mem::swap(&mut taken.control, &mut state.control);
        let dirty = std::mem::take(&mut state.dirty);
        for conversation in dirty {
            let Some(slot) = state.slots.get_mut(&conversation) else { continue };
            slot.dirty = false;
            taken.slots.push(TakenSlot {
                conversation,
                generation: slot.generation,
                stream: slot.stream.take(),
                frames: std::mem::take(&mut slot.frames),
                finish: slot.finish,
            });
            // Whatever is put in calls the finishing off, so nothing is left here.
            if slot.finish {
                // What was taken stays counted until the writer is done with the stream.
                state.slots.remove(&conversation);
            }
        }
        !taken.slots.is_empty() || !taken.control.is_empty() || taken.ended.is_some()
    }

    /// Notes that frames which belong to no slot (any more) were written, or never will be.
    pub(crate) fn released(&self, frames: usize, bytes: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes + frames * FRAME_OVERHEAD);
        drop(state);
        self.room.notify_waiters();
    }

    /// Notes that frames were written. `true`: the slot was behind and has drained; catch up now.
    pub(crate) fn written(
        &self,
        conversation: ConversationId,
        generation: u64,
        frames: usize,
        bytes: usize,
    ) -> bool {
        let bytes = bytes + frames * FRAME_OVERHEAD;
        let mut state = self.state.lock();
        let stopped = state.suspended || state.unproven;
        let Some(slot) = state.slots.get_mut(&conversation) else { return false };
        if slot.generation != generation {
            return false;
        }
        slot.bytes = slot.bytes.saturating_sub(bytes);
        let catch_up = slot.mode == Mode::Behind && slot.bytes == 0 && !stopped;
        if catch_up {
            slot.mode = Mode::CatchingUp;
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        drop(state);
        if bytes > 0 {
            self.room.notify_waiters();
        }
        catch_up
    }
}

#[cfg(test)]
mod tests;
