//! What a conversation with many handles puts in: entries that follow each other, joined once
//! and shared by all queues.

use bytes::{BufMut, Bytes, BytesMut};
use petrel_core::entry::EVERYBODY;
use petrel_core::id::{ConversationId, Seq, UserId};

use super::SendQueue;
use super::state::{FRAME_OVERHEAD, Mode};
use crate::metrics;

/// Pushes of entries that follow each other, in one piece.
#[derive(Debug)]
pub(crate) struct Run {
    first: Seq,
    joined: Bytes,
    /// Where each push begins.
    starts: Vec<usize>,
    /// Whom the entries mention, in order.
    mentioned: Vec<UserId>,
}

impl Run {
    /// Joins pushes, of which the first is that of the entry at `first`; their entries mention these.
    pub(crate) fn new(first: Seq, pushes: &[Bytes], mut mentioned: Vec<UserId>) -> Self {
        mentioned.sort_unstable();
        mentioned.dedup();
        let mut starts = Vec::with_capacity(pushes.len());
        let mut bytes = 0;
        for push in pushes {
            starts.push(bytes);
            bytes += push.len();
        }
        let joined = match pushes {
            [lone] => lone.clone(),
            _ => {
                let mut joined = BytesMut::with_capacity(bytes);
                pushes.iter().for_each(|push| joined.put_slice(push));
                joined.freeze()
            }
        };
        Self { first, joined, starts, mentioned }
    }

    /// Whether one of the entries mentions a user.
    pub(crate) fn calls(&self, user: UserId) -> bool {
        let is_mentioned = |id: &UserId| self.mentioned.binary_search(id).is_ok();
        is_mentioned(&user) || is_mentioned(&EVERYBODY)
    }

    /// The first entry.
    pub(crate) fn first(&self) -> Seq {
        self.first
    }

    /// How many entries.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The pushes one by one.
    pub(crate) fn pushes(&self) -> impl Iterator<Item = (Seq, Bytes)> + '_ {
        let ends = self.starts.iter().skip(1).copied().chain([self.joined.len()]);
        let ranges = self.starts.iter().zip(ends);
        let seqs = std::iter::successors(Some(self.first), |seq| Some(seq.next()));
        seqs.zip(ranges).map(|(seq, (from, to))| (seq, self.joined.slice(*from..to)))
    }

    /// The seq after the last entry.
    fn end(&self) -> Seq {
        Seq(self.first.0 + self.starts.len() as u64)
    }

    /// The pushes from `seq` on; `None` if it is not among them.
    fn rest_from(&self, seq: Seq) -> Option<Bytes> {
        let skipped = usize::try_from(seq.0.checked_sub(self.first.0)?).ok()?;
        self.starts.get(skipped).map(|start| self.joined.slice(*start..))
    }
}

impl SendQueue {
    /// Puts in what the slot does not have yet of a run; without room, or if entries before it are
    /// missing, the slot falls behind. `false` if there is no slot.
    pub(crate) fn deliver_run(
        &self,
        id: ConversationId,
        run: &Run,
        user: UserId,
        now_s: u32,
    ) -> bool {
        let entries = u32::try_from(run.len()).unwrap_or(u32::MAX);
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return true;
        }
        let (used, suspended) = (state.bytes, state.suspended);
        let Some(slot) = state.slots.get_mut(&id) else { return false };
        slot.used_s = now_s;
        if slot.mode == Mode::Live {
            if slot.next >= run.end() {
                return true;
            }
            let fitting = run.rest_from(slot.next).filter(|frame| {
                let bytes = frame.len() + FRAME_OVERHEAD;
                !suspended
                    && used + bytes <= self.bytes_max
                    && slot.bytes + bytes <= self.bytes_max / 2
            });
            if let Some(frame) = fitting {
                slot.next = run.end();
                state.delivered_s = Some(now_s);
                state.put(id, frame);
                state.hold.keep(now_s, entries, run.calls(user));
                self.wake(state);
                return true;
            }
            slot.mode = Mode::Behind;
            metrics::get().fallen_behind.increment(1);
        }
        if slot.mode == Mode::Behind {
            // Should its stream have drained already, the writer sees to it now.
            state.mark(id);
            state.hold.keep(now_s, entries, run.calls(user));
            self.wake(state);
        }
        true
    }

    /// Entries up to `to` are not put in: a live slot that lacks them falls behind and reads them
    /// from the store. `false` if there is no slot.
    pub(crate) fn skip(&self, id: ConversationId, to: Seq, now_s: u32) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return true;
        }
        let Some(slot) = state.slots.get_mut(&id) else { return false };
        if slot.mode == Mode::Live && slot.next <= to {
            slot.mode = Mode::Behind;
            metrics::get().fallen_behind.increment(1);
            state.mark(id);
            state.hold.keep(now_s, 0, false);
            self.wake(state);
        }
        true
    }

    /// Puts in the Ack that stands for the entry at `seq`, at once, and before it what the stream
    /// lacks of the entries below (`earlier` gives all from a seq on). Without those the slot
    /// falls behind; the Ack goes out whatever the state of the pushes.
    pub(crate) fn answer(
        &self,
        id: ConversationId,
        (generation, ack): (u64, Bytes),
        seq: Seq,
        earlier: impl FnOnce(Seq) -> Option<Vec<Bytes>>,
    ) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        let (used, suspended) = (state.bytes, state.suspended);
        let Some(slot) = state.slots.get_mut(&id).filter(|s| s.generation == generation) else {
            return;
        };
        if slot.mode == Mode::Live && slot.next <= seq {
            let fitting = earlier(slot.next).filter(|frames| {
                let lengths = frames.iter().chain([&ack]).map(|f| f.len() + FRAME_OVERHEAD);
                let bytes: usize = lengths.sum();
                !suspended
                    && used + bytes <= self.bytes_max
                    && slot.bytes + bytes <= self.bytes_max / 2
            });
            if let Some(frames) = fitting {
                slot.next = seq.next();
                frames.into_iter().for_each(|frame| state.put(id, frame));
            } else {
                slot.mode = Mode::Behind;
                metrics::get().fallen_behind.increment(1);
            }
        }
        state.put(id, ack);
        self.wake_now(state);
    }
}
