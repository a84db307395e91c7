//! Fan-out to many handles: entries wait in the conversation's own bounded queue, and one task
//! per busy conversation hands them out in slices, without the conversation's lock.
//!
//! What is in the queue counts as handed out for whoever attaches or catches up: those read it
//! from the store, and the queue's copy finds their slots ahead of it. Only live slots rely on it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use petrel_core::conversation::{Conversation, Ready, View};
use petrel_core::entry::EntryKind;
use petrel_core::id::{Seq, UserId};
use petrel_core::store::ConversationKind;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Origin;
use crate::conversation_table::Cell;
use crate::gateway::Gateway;
use crate::send_queue::{Delivery, Put, Run};
use crate::{clock, metrics, translate};

/// Live handles up to which entries are handed out directly.
const DIRECT_HANDLES_MAX: usize = 32;
/// Entries that wait in one conversation's queue, at the most.
pub(crate) const WAITING_ENTRIES_MAX: usize = 1_024;
/// Bytes that wait in one conversation's queue, at the most (one entry always fits).
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Entries that are handed out together, at the most.
const RUN_ENTRIES_MAX: usize = 128;
/// Bytes that are handed out together, at the most (one entry always fits).
const RUN_BYTES_MAX: usize = 16 * 1024;
/// Users between two chances for other tasks. Each hop of another message waits for the tasks that a slice has
/// woken, some 20 us a user.
const SLICE_USERS: usize = 12;
/// Entries that follow others are held so long, so that several share a packet, unless there are
/// enough for a run. Below the 20 ms that are allowed by what a timer is late.
const HOLD: Duration = Duration::from_millis(18);

/// The queue of one conversation. Its lock comes last of all; nothing is locked under it.
#[derive(Debug, Default)]
pub(crate) struct LargeQueue {
    /// `None` while no task drains it, as nearly always.
    busy: Mutex<Option<Box<Busy>>>,
}

#[derive(Debug, Default)]
struct Busy {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// What is being handed out.
    current: Vec<Waiting>,
    /// Everything behind what waits, up to here, found no room.
    skipped: Option<Seq>,
    /// Ends the holding.
    enough: Arc<Notify>,
}

impl Busy {
    /// Whether a run would be full.
    fn has_enough(&self) -> bool {
        self.waiting.len() >= RUN_ENTRIES_MAX || self.bytes >= RUN_BYTES_MAX
    }
}

#[derive(Clone, Debug)]
struct Waiting {
    seq: Seq,
    push: Bytes,
    mentions: Vec<UserId>,
    /// Members may come or go with it.
    is_event: bool,
}

/// What the draining task has to do next.
#[derive(Debug)]
enum Work {
    /// Hand these out; whether members may leave with it.
    Run(Run, bool),
    /// Let everybody who lacks entries up to here read the store.
    Skipped(Seq),
}

impl LargeQueue {
    /// Whether entries wait, or others are held behind them.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.lock().is_some()
    }

    /// Takes an entry. `true` if a task has to be started to drain the queue.
    fn put(&self, new: Waiting) -> bool {
        let mut locked = self.busy.lock();
        let starts = locked.is_none();
        let busy = locked.get_or_insert_default();
        let is_urgent = new.is_event;
        let has_room = busy.waiting.is_empty()
            || (busy.waiting.len() < WAITING_ENTRIES_MAX
                && busy.bytes + new.push.len() <= WAITING_BYTES_MAX);
        if busy.skipped.is_none() && has_room {
            busy.bytes += new.push.len();
            busy.waiting.push_back(new);
            metrics::get().fanout_waiting.increment(1.0);
        } else {
            busy.skipped = Some(new.seq);
            metrics::get().fanout_overflows.increment(1);
        }
        if is_urgent || busy.has_enough() {
            busy.enough.notify_one();
        }
        starts
    }

    /// The next thing to do; `None` if nothing waits.
    fn take(&self) -> Option<Work> {
        let mut locked = self.busy.lock();
        let busy = locked.as_mut()?;
        busy.current.clear();
        let mut bytes = 0;
        while let Some(next) = busy.waiting.front() {
            let is_apart = next.is_event || busy.current.last().is_some_and(|w| w.is_event);
            let is_full =
                busy.current.len() >= RUN_ENTRIES_MAX || bytes + next.push.len() > RUN_BYTES_MAX;
            if !busy.current.is_empty() && (is_apart || is_full) {
                break;
            }
            let Some(taken) = busy.waiting.pop_front() else { break };
            bytes += taken.push.len();
            busy.current.push(taken);
        }
        busy.bytes -= bytes;
        let Some(first) = busy.current.first() else {
            return busy.skipped.take().map(Work::Skipped);
        };
        let (seq, is_event) = (first.seq, first.is_event);
        let pushes: Vec<Bytes> = busy.current.iter().map(|w| w.push.clone()).collect();
        let mentioned = busy.current.iter().flat_map(|w| &w.mentions).copied().collect();
        drop(locked);
        metrics::get().fanout_waiting.decrement(u32::try_from(pushes.len()).unwrap_or(0));
        Some(Work::Run(Run::new(seq, &pushes, mentioned), is_event))
    }

    /// What ends the holding early; `None` if nothing is to be held.
    fn enough(&self) -> Option<Arc<Notify>> {
        let locked = self.busy.lock();
        let busy = locked.as_ref()?;
        let is_urgent = busy.waiting.iter().any(|waiting| waiting.is_event);
        (!is_urgent && !busy.has_enough()).then(|| Arc::clone(&busy.enough))
    }

    /// Ends the draining if nothing has come. `false` if something has.
    fn rest(&self) -> bool {
        let mut locked = self.busy.lock();
        let is_over =
            locked.as_ref().is_none_or(|busy| busy.waiting.is_empty() && busy.skipped.is_none());
        if is_over {
            *locked = None;
        }
        is_over
    }

    /// Drops what waits, after a panic: whoever lacks it notices with the next entry.
    fn abandon(&self) {
        if let Some(busy) = self.busy.lock().take() {
            let left = u32::try_from(busy.waiting.len()).unwrap_or(u32::MAX);
            metrics::get().fanout_waiting.decrement(left);
        }
    }

    /// All pushes from `from` to the one before `before`; `None` if some are not here any more.
    fn between(&self, from: Seq, before: Seq) -> Option<Vec<Bytes>> {
        let missing = usize::try_from(before.0.saturating_sub(from.0)).ok()?;
        if missing == 0 {
            return Some(Vec::new());
        }
        let locked = self.busy.lock();
        let busy = locked.as_ref()?;
        let all = busy.current.iter().chain(&busy.waiting);
        let wanted = all.filter(|w| from <= w.seq && w.seq < before);
        let wanted: Vec<_> = wanted.map(|w| w.push.clone()).collect();
        (wanted.len() == missing).then_some(wanted)
    }
}

/// Makes the queue usable again should its task panic.
struct Guard(Arc<Cell>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.large().abandon();
        }
    }
}

impl Gateway {
    /// Whether entries of this conversation go through its queue. As long as some wait there,
    /// none may overtake them.
    pub(super) fn is_large(&self, cell: &Cell, conversation: &Conversation<Origin>) -> bool {
        if !matches!(conversation.kind(), ConversationKind::Group(_)) {
            return false;
        }
        let mut handles = 0;
        cell.large().is_busy()
            || conversation.members().any(|user| {
                handles += self.sessions.count(user);
                handles > DIRECT_HANDLES_MAX
            })
    }

    /// Puts entries whose turn has come into the conversation's queue; the senders are answered
    /// here and now. The conversation is locked.
    pub(super) fn queue_up(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        conversation: &Conversation<Origin>,
        ready: Vec<Ready<Origin>>,
    ) {
        let queue = cell.large();
        for Ready { entry, origins, .. } in ready {
            let seq = entry.placed.seq;
            for origin in &origins {
                let ack = (origin.generation, origin.ack(&entry));
                let earlier = |from| {
                    // Who was out meanwhile reads what is his from the store.
                    let view = conversation.view(entry.sender, from);
                    let is_all_shown =
                        matches!(view, Ok(View::Shown(until)) if until.is_none_or(|u| u >= seq));
                    is_all_shown.then(|| queue.between(from, seq)).flatten()
                };
                origin.session.queue().answer(cell.id(), ack, seq, earlier);
            }
            let is_event = entry.kind == EntryKind::Group.number();
            let (push, mentions) = (translate::push(&entry), entry.mentions);
            if queue.put(Waiting { seq, push, mentions, is_event }) {
                self.tasks.spawn(drain(Arc::clone(self), Arc::clone(cell)));
            }
        }
    }

    async fn hand_out_run(&self, cell: &Cell, run: &Run, is_event: bool) {
        let now_s = clock::coarse_s();
        let users: Vec<_> = cell.with(|c| c.readers(run.first()).collect()).unwrap_or_default();
        for slice in users.chunks(SLICE_USERS) {
            let (mut handles, mut without_slot) = (0u64, Vec::new());
            for user in slice {
                self.sessions.for_each(*user, |session| {
                    handles += 1;
                    if !session.queue().deliver_run(cell.id(), run, *user, now_s) {
                        without_slot.push(Arc::clone(session));
                    }
                });
            }
            metrics::get().deliveries.increment(handles * run.len() as u64);
            if !without_slot.is_empty() {
                cell.with(|conversation| {
                    for session in &without_slot {
                        self.hand_out_first_run(conversation, session, run, now_s);
                    }
                });
            }
            tokio::task::yield_now().await;
        }
        if is_event {
            cell.with(|conversation| self.dismiss(conversation, run.first()));
        }
    }

    /// To a session that has no stream in this conversation yet.
    fn hand_out_first_run(
        &self,
        conversation: &Conversation<Origin>,
        session: &crate::session::Session,
        run: &Run,
        now_s: u32,
    ) {
        for (seq, push) in run.pushes() {
            let (id, calls) = (conversation.id(), run.calls(session.user()));
            let delivery = Delivery { conversation: id, seq, push: &push, ack: None, calls };
            let attach = |after| self.attach_frame(conversation, session, after);
            if session.queue().deliver(delivery, now_s, attach) == Put::Hint {
                return self.send_hint(session, conversation);
            }
        }
    }

    /// Entries up to `to` found no room: live streams read the store, the others' clients are told.
    async fn hand_out_skipped(&self, cell: &Cell, to: Seq) {
        let now_s = clock::coarse_s();
        let users: Vec<_> = cell.with(|c| c.known().collect()).unwrap_or_default();
        for slice in users.chunks(SLICE_USERS) {
            let mut without_slot = Vec::new();
            for user in slice {
                self.sessions.for_each(*user, |session| {
                    if !session.queue().skip(cell.id(), to, now_s) {
                        without_slot.push(Arc::clone(session));
                    }
                });
            }
            cell.with(|conversation| {
                for session in &without_slot {
                    if conversation.is_member(session.user()) {
                        self.send_hint(session, conversation);
                    }
                }
            });
            tokio::task::yield_now().await;
        }
    }
}

/// Hands out what waits in a conversation's queue until nothing comes for a while. A run begins
/// [`HOLD`] after the one before it at the earliest, however long that one took, unless there is
/// enough for a whole one: what comes meanwhile shares its packets.
async fn drain(gateway: Arc<Gateway>, cell: Arc<Cell>) {
    let guard = Guard(cell);
    let cell = &guard.0;
    loop {
        let began = Instant::now();
        match cell.large().take() {
            Some(Work::Run(run, is_event)) => gateway.hand_out_run(cell, &run, is_event).await,
            Some(Work::Skipped(to)) => gateway.hand_out_skipped(cell, to).await,
            None if cell.large().rest() => return,
            None => {}
        }
        if let Some(enough) = cell.large().enough() {
            // Either is a reason to go on.
            tokio::time::timeout_at(began + HOLD, enough.notified()).await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn put(queue: &LargeQueue, seq: u64, bytes: usize, is_event: bool) -> bool {
        let push = Bytes::from(vec![u8::try_from(seq % 251).unwrap(); bytes]);
        queue.put(Waiting { seq: Seq(seq), push, mentions: Vec::new(), is_event })
    }

    fn taken(queue: &LargeQueue) -> Option<(u64, usize)> {
        match queue.take()? {
            Work::Run(run, _) => Some((run.first().0, run.len())),
            Work::Skipped(to) => Some((to.0, 0)),
        }
    }

    #[test]
    fn what_follows_is_handed_out_together_and_events_by_themselves() {
        let queue = LargeQueue::default();
        assert!(put(&queue, 1, 10, false), "the first one starts the task");
        for seq in 2..=7 {
            assert!(!put(&queue, seq, 10, seq == 4));
        }
        assert_eq!(taken(&queue), Some((1, 3)));
        assert_eq!(taken(&queue), Some((4, 1)));
        assert_eq!(taken(&queue), Some((5, 3)));
        assert_eq!(taken(&queue), None);
        assert!(queue.is_busy(), "until the task rests, nothing goes past the queue");
        assert!(queue.rest() && !queue.is_busy());
        assert!(put(&queue, 8, 10, false));
    }

    #[test]
    fn what_finds_no_room_is_left_out_up_to_the_last_and_order_stays() {
        let queue = LargeQueue::default();
        let half = WAITING_BYTES_MAX / 2;
        put(&queue, 1, half, false);
        put(&queue, 2, half, false);
        put(&queue, 3, 1, false);
        assert_eq!(taken(&queue), Some((1, 1)));
        put(&queue, 4, 1, false);
        assert!(!queue.rest());
        assert_eq!(taken(&queue), Some((2, 1)));
        assert_eq!(taken(&queue), Some((4, 0)), "3 and 4 are left out, though 4 had room");
        put(&queue, 5, 1, false);
        assert_eq!(taken(&queue), Some((5, 1)));
    }

    #[test]
    fn a_sender_gets_what_waits_before_his_own_or_nothing() {
        let queue = LargeQueue::default();
        for seq in 1..=6 {
            put(&queue, seq, 1, seq == 5);
        }
        assert_eq!(taken(&queue), Some((1, 4)));
        assert_eq!(queue.between(Seq(3), Seq(5)).unwrap().len(), 2, "of what is under way too");
        assert_eq!(queue.between(Seq(7), Seq(7)).unwrap().len(), 0);
        assert_eq!(queue.between(Seq(3), Seq(7)).unwrap().len(), 4, "events too");
        assert_eq!(taken(&queue), Some((5, 1)));
        assert!(queue.between(Seq(4), Seq(5)).is_none(), "handed out already");
    }
}
