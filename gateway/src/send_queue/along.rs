//! What shares the packets of entries: others' receipts.

use bytes::Bytes;
use petrel_core::id::ConversationId;

use super::SendQueue;

/// A session that got an entry so many seconds ago, at the most, is likely to get another soon.
const BUSY_S: u32 = 1;

impl SendQueue {
    /// Puts in a frame that may be left out and is in no hurry (others' receipts): only into a live
    /// slot with room. If entries are coming it goes with the next of them, and the answer is `true`:
    /// should none come, [`Self::hurry`] sends it. In the background it is only noted that it was left out.
    pub(crate) fn put_along(
        &self,
        conversation: ConversationId,
        frame: &Bytes,
        now_s: u32,
    ) -> bool {
        let mut state = self.state.lock();
        if state.owe_receipts(conversation) {
            return false;
        }
        if !self.takes_ephemeral(&state, frame) || !state.is_live(conversation) {
            return false;
        }
        let is_busy = state.delivered_s.is_some_and(|at| now_s.saturating_sub(at) <= BUSY_S);
        state.put_quietly(conversation, frame.clone());
        drop(state);
        if !is_busy {
            self.writer.wake();
        }
        is_busy
    }

    /// Has what was put along written now, if it still waits.
    pub(crate) fn hurry(&self) {
        if !self.state.lock().dirty.is_empty() {
            self.writer.wake();
        }
    }
}
