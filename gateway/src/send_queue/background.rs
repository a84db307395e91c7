//! A session goes to the background and comes back.

use bytes::Bytes;
use petrel_core::id::ConversationId;

use super::SendQueue;
use super::state::{FRAME_OVERHEAD, State};

impl State {
    /// Whether the session is in the background; then it is owed the receipts of this conversation.
    pub(super) fn owe_receipts(&mut self, conversation: ConversationId) -> bool {
        let is_background = self.hold.is_background();
        if is_background && let Some(slot) = self.slots.get_mut(&conversation) {
            slot.owes_receipts = true;
        }
        is_background
    }
}

impl SendQueue {
    /// Goes to the background, where what can wait is held for `hold_s` seconds, or comes back
    /// (`None`): what was held goes out at once. `None` if that is nothing new; else the conversations
    /// in whose streams others' receipts were left out meanwhile.
    pub(crate) fn set_background(&self, hold_s: Option<u32>) -> Option<Vec<ConversationId>> {
        let mut state = self.state.lock();
        let something_waits = !state.dirty.is_empty() || !state.control.is_empty();
        if !state.hold.set(hold_s, something_waits) {
            return None;
        }
        let mut owed = Vec::new();
        if hold_s.is_none() {
            for (conversation, slot) in &mut state.slots {
                if std::mem::take(&mut slot.owes_receipts) {
                    owed.push(*conversation);
                }
            }
        }
        self.wake(state);
        Some(owed)
    }

    /// Whether the session is in the background.
    pub(crate) fn is_background(&self) -> bool {
        self.state.lock().hold.is_background()
    }

    /// Lets go what was held for long enough; not while pushes are stopped.
    pub(crate) fn release_due(&self, now_s: u32) {
        let mut state = self.state.lock();
        if !state.suspended && state.hold.open_if_due(now_s) {
            self.wake(state);
        }
    }

    /// Entries that are held.
    pub(crate) fn held(&self) -> u32 {
        self.state.lock().hold.entries()
    }

    /// Puts in frames of the control stream that can wait, in the background; `false` if there is no room.
    pub(crate) fn put_control_later(&self, frames: Bytes, now_s: u32) -> bool {
        let mut state = self.state.lock();
        if !self.add_control(&mut state, frames) {
            return false;
        }
        state.hold.keep(now_s, 0, false);
        self.wake(state);
        true
    }

    /// Adds frames of the control stream; `false` if there is no room.
    pub(super) fn add_control(&self, state: &mut State, frames: Bytes) -> bool {
        let bytes = frames.len() + FRAME_OVERHEAD;
        let has_room = state.bytes + bytes <= self.bytes_max;
        if has_room {
            state.bytes += bytes;
            state.control.push(frames);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::task::{Context, Waker};

    use petrel_core::id::Seq;

    use super::super::{Delivery, Taken};
    use super::*;

    const MAX: usize = 4096;
    const PUSH: Bytes = Bytes::from_static(&[7; 200]);
    const RECEIPTS: Bytes = Bytes::from_static(&[8; 20]);

    fn conversation(number: u8) -> ConversationId {
        ConversationId([number; 16])
    }

    fn in_background() -> SendQueue {
        let queue = SendQueue::new(MAX, 8);
        assert_eq!(queue.set_background(Some(60)), Some(vec![]));
        queue
    }

    fn deliver(queue: &SendQueue, number: u8, seq: u64, calls: bool) {
        let conversation = conversation(number);
        let delivery = Delivery { conversation, seq: Seq(seq), push: &PUSH, ack: None, calls };
        queue.deliver(delivery, 100, |_| Bytes::new());
    }

    /// What the writer takes: the conversations and how many frames of each, in order.
    fn taken(queue: &SendQueue) -> Option<Vec<(u8, u64, usize)>> {
        let mut taken = Taken::default();
        let cx = Context::from_waker(Waker::noop());
        queue.poll_take(&cx, &mut taken).then(|| {
            let slots = taken.slots.iter();
            slots.map(|s| (s.conversation.as_bytes()[0], s.generation, s.frames.len())).collect()
        })
    }

    #[test]
    fn once_the_handshake_is_done_nothing_waits_behind_what_was_taken_before() {
        let queue = in_background();
        queue.wait_for_proof();
        deliver(&queue, 1, 1, true);
        assert_eq!(taken(&queue).unwrap(), [(1, 1, 2)], "with its Attach");
        queue.proven();
        assert_eq!(taken(&queue).unwrap(), [(1, 1, 0)], "its slot, to read what it has missed");
    }

    #[test]
    fn what_is_pushed_to_the_background_comes_together() {
        let queue = in_background();
        deliver(&queue, 1, 1, false);
        deliver(&queue, 2, 5, false);
        deliver(&queue, 1, 2, false);
        assert!(queue.put_control_later(PUSH, 100));
        queue.release_due(159);
        assert_eq!((taken(&queue), queue.held()), (None, 3));
        queue.release_due(160);
        assert_eq!(taken(&queue).unwrap(), [(1, 1, 3), (2, 2, 2)], "each with its Attach");
        deliver(&queue, 1, 3, false);
        assert_eq!(taken(&queue), None, "held again");
        deliver(&queue, 2, 6, true);
        assert_eq!(taken(&queue).unwrap(), [(1, 1, 1), (2, 2, 1)], "a call takes all along");
    }

    #[test]
    fn an_answer_is_never_held_and_takes_all_along_in_order() {
        let queue = in_background();
        deliver(&queue, 1, 1, false);
        queue.release_due(160);
        let (_, generation, _) = taken(&queue).unwrap()[0];
        deliver(&queue, 1, 2, false);
        let (conversation, ack) = (conversation(1), Some((generation, RECEIPTS)));
        let own = Delivery { conversation, seq: Seq(3), push: &PUSH, ack, calls: false };
        queue.deliver(own, 101, |_| Bytes::new());
        assert_eq!(taken(&queue).unwrap(), [(1, generation, 2)]);
        queue.put_beside(conversation, generation, RECEIPTS);
        assert_eq!(taken(&queue).unwrap(), [(1, generation, 1)]);
        assert!(queue.put_control(RECEIPTS));
        assert_eq!(taken(&queue).unwrap(), [], "the control stream's");
    }

    #[test]
    fn what_finds_no_room_is_read_from_the_store_after_the_release() {
        let queue = in_background();
        for seq in 1..50 {
            deliver(&queue, 1, seq, false);
        }
        assert!(queue.bytes() <= MAX / 2 && taken(&queue).is_none());
        queue.release_due(160);
        let (_, generation, frames) = taken(&queue).unwrap()[0];
        let (id, pushes) = (conversation(1), frames - 1);
        assert!(queue.written(id, generation, frames, pushes * PUSH.len()), "drained, and behind");
        let next = queue.position(id, generation).unwrap();
        assert_eq!(next.0, frames as u64);
        deliver(&queue, 2, 1, false);
        queue.put_page(id, generation, vec![PUSH], next.next());
        assert_eq!(taken(&queue).unwrap().len(), 2, "pages do not wait");
    }

    #[test]
    fn who_comes_back_gets_all_at_once_and_is_told_where_receipts_were_left_out() {
        let queue = in_background();
        deliver(&queue, 1, 1, false);
        queue.put_along(conversation(1), &RECEIPTS, 100);
        queue.put_along(conversation(2), &RECEIPTS, 100);
        queue.put_ephemeral(conversation(1), &PUSH, 100, None::<(_, fn(_) -> _)>);
        assert!(queue.is_background() && queue.set_background(Some(60)).is_none());
        assert_eq!(queue.set_background(None), Some(vec![conversation(1)]));
        assert_eq!(taken(&queue).unwrap(), [(1, 1, 2)], "the Attach and the push alone");
        queue.put_along(conversation(1), &RECEIPTS, 100);
        assert_eq!(taken(&queue).unwrap(), [(1, 1, 1)]);
    }

    #[test]
    fn an_idle_stream_is_finished_with_what_goes_out_next() {
        let queue = in_background();
        deliver(&queue, 1, 1, false);
        queue.release_due(160);
        let (_, generation, frames) = taken(&queue).unwrap()[0];
        queue.written(conversation(1), generation, frames, PUSH.len());
        for now_s in 200..260 {
            queue.finish_idle(150, now_s);
            queue.release_due(now_s);
            assert_eq!(taken(&queue), None, "{now_s}");
        }
        queue.release_due(260);
        assert_eq!(taken(&queue).unwrap(), [(1, generation, 0)]);
    }

    #[test]
    fn the_end_is_told_in_the_background_too() {
        let queue = in_background();
        deliver(&queue, 1, 1, false);
        queue.end(petrel_proto::code::Code::GoingAway);
        assert_eq!(taken(&queue).unwrap().len(), 1);
    }
}
