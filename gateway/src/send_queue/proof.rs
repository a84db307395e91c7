//! Sessions whose first words came before the handshake's end.

use super::SendQueue;
use super::state::Mode;

impl SendQueue {
    /// The session's handshake is not done, and fan-out does not know of it: it gets answers alone,
    /// until [`Self::proven`].
    pub(crate) fn wait_for_proof(&self) {
        self.state.lock().unproven = true;
    }

    /// Fan-out knows of the session from here on: each slot reads what it has missed.
    pub(crate) fn proven(&self) {
        let mut state = self.state.lock();
        state.unproven = false;
        let slots: Vec<_> = state.slots.keys().copied().collect();
        for conversation in slots {
            if let Some(slot) = state.slots.get_mut(&conversation)
                && slot.mode != Mode::CatchingUp
            {
                slot.mode = Mode::Behind;
                state.mark(conversation);
            }
        }
        // The device is awake: what it has missed does not wait for others.
        self.wake_now(state);
    }
}
