//! What a slot gets from the store while it catches up: no more than there is room for, in the
//! queue as a whole and for one conversation.

use bytes::Bytes;
use petrel_core::id::{ConversationId, Seq};

use super::SendQueue;
use super::state::{FRAME_OVERHEAD, Mode, State};

impl SendQueue {
    /// Waits until there is room for a page, and gives the bytes of bodies that it may have: half of what
    /// is free, so that some is left for other conversations. `None` if the slot is gone.
    pub(crate) async fn room(&self, id: ConversationId, generation: u64) -> Option<usize> {
        loop {
            let notified = self.room.notified();
            {
                let state = self.state.lock();
                let slot = state.slots.get(&id).filter(|s| s.generation == generation)?;
                if state.ended.is_some() {
                    return None;
                }
                if slot.bytes <= self.bytes_max / 4 && self.is_open(&state) {
                    return Some((self.bytes_max - state.bytes) / 2);
                }
            }
            notified.await;
        }
    }

    /// Whether there is room for a page: a sixteenth of the whole.
    fn is_open(&self, state: &State) -> bool {
        state.bytes <= self.bytes_max - self.bytes_max / 16
    }

    /// Puts in what was read from the store, of which the last frame is followed by `next` and each but
    /// the first is one entry; what finds no room is left out, to be read again. The first frame
    /// exceeds the bound if it must, one at a time. `false` if the slot is gone.
    pub(crate) fn put_page(
        &self,
        id: ConversationId,
        generation: u64,
        frames: Vec<Bytes>,
        next: Seq,
    ) -> bool {
        let mut state = self.state.lock();
        let mut after = Seq(next.0.saturating_sub(frames.len().saturating_sub(1) as u64));
        for (n, frame) in frames.into_iter().enumerate() {
            let fits = state.bytes + frame.len() + FRAME_OVERHEAD <= self.bytes_max;
            if !fits && (n > 0 || !self.is_open(&state)) {
                break;
            }
            let slot = state.slots.get_mut(&id).filter(|s| s.generation == generation);
            let Some(slot) = slot else { return false };
            slot.next = after;
            state.put(id, frame);
            after = after.next();
        }
        self.wake_now(state);
        true
    }

    /// The next seq that the slot's stream gets, for one that is catching up.
    pub(crate) fn position(&self, id: ConversationId, generation: u64) -> Option<Seq> {
        let state = self.state.lock();
        state.slots.get(&id).filter(|s| s.generation == generation).map(|s| s.next)
    }

    /// Makes a slot live whose next seq is the next that will be handed out.
    /// Called with the conversation locked, so that no entry falls between.
    pub(crate) fn go_live(&self, id: ConversationId, generation: u64) {
        let mut state = self.state.lock();
        if let Some(slot) = state.slots.get_mut(&id)
            && slot.generation == generation
        {
            slot.mode = Mode::Live;
        }
    }
}
