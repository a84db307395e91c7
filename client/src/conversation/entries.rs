//! Entries on their way to the application: their order, and what is missing.

use std::time::Duration;

use super::{Context, Conversation, Effects};
use crate::arrivals::{Offered, Out};
use crate::cursor::Cursor;
use crate::entry::{Entry, Preview};
use crate::event::{Event, GapReason};
use crate::logged::OwnEvent;

/// How long a hole may stay that the stream should close by itself.
const HOLE_PATIENCE: Duration = Duration::from_secs(2);

impl Conversation {
    pub(super) fn take_push(
        &mut self,
        entry: Entry,
        current: bool,
        cx: &Context,
        fx: &mut Effects,
    ) {
        self.fill_entry(entry, cx, fx);
        self.look_for_hole(current, cx, fx);
    }

    pub(super) fn take_entry(&mut self, entry: Entry, fx: &mut Effects) {
        let at = Cursor::of(&entry);
        self.arrivals.remember(entry.id.tail());
        let bytes = entry.body.as_ref().map_or(0, bytes::Bytes::len);
        let mut out = Vec::new();
        match self.arrivals.offer(at, bytes, entry, &mut out) {
            Ok(Offered::Duplicate) => fx.duplicates += 1,
            Ok(Offered::Next | Offered::Held) => {}
            Err(entry) => {
                // Too much waits for what is missing: say so and go on.
                self.give_up_hole(&mut out);
                if self.arrivals.offer(at, bytes, entry, &mut out).is_err() {
                    self.arrivals.clear_held();
                }
            }
        }
        self.hand_out(out, fx);
    }

    pub(super) fn take_gap(
        &mut self,
        from: u64,
        to: u64,
        reason: GapReason,
        cx: &Context,
        fx: &mut Effects,
    ) {
        let first = from.max(self.arrivals.position() + 1);
        let missing = (to + 1).saturating_sub(first);
        if reason == GapReason::Skipped && missing <= cx.fill_max {
            if missing > 0 && first == self.arrivals.position() + 1 && self.filling.is_none() {
                self.start_fill(first, to, fx);
            }
            return;
        }
        let mut out = Vec::new();
        self.arrivals.gap(from, to, reason, &mut out);
        self.hand_out(out, fx);
    }

    /// What a page of history says about a gap of ours.
    pub(crate) fn fill_gap(&mut self, from: u64, to: u64, reason: GapReason, fx: &mut Effects) {
        let mut out = Vec::new();
        self.arrivals.gap(from, to, reason, &mut out);
        self.hand_out(out, fx);
    }

    /// An entry from a page of history.
    pub(crate) fn fill_entry(&mut self, entry: Entry, cx: &Context, fx: &mut Effects) {
        if entry.sender == cx.me
            && let Some(message) = self.outbox.remove(entry.id)
        {
            self.answered(&entry, message, fx);
        }
        self.take_entry(entry, fx);
    }

    /// Reading a gap has ended; what is still missing up to `to` is told as a gap.
    pub(crate) fn fill_ended(&mut self, fill: u64, to: u64, cx: &Context, fx: &mut Effects) {
        if !self.is_filling(fill) {
            return;
        }
        self.filling = None;
        self.hole_since = None;
        let next = self.arrivals.position() + 1;
        self.fill_gap(next, to, GapReason::Skipped, fx);
        self.look_for_hole(true, cx, fx);
    }

    /// Whether what this reading finds is still wanted.
    pub(crate) fn is_filling(&self, fill: u64) -> bool {
        self.filling == Some(fill)
    }

    fn start_fill(&mut self, from: u64, to: u64, fx: &mut Effects) {
        self.fills += 1;
        self.filling = Some(self.fills);
        fx.fill = Some((self.fills, from, to));
    }

    pub(super) fn look_for_hole(&mut self, at_once: bool, cx: &Context, fx: &mut Effects) {
        let Some((from, to)) = self.arrivals.hole() else {
            self.hole_since = None;
            return;
        };
        if self.filling.is_some() {
            return;
        }
        let since = *self.hole_since.get_or_insert(cx.now);
        if !at_once && cx.now < since + HOLE_PATIENCE {
            fx.wake_at(since + HOLE_PATIENCE);
            return;
        }
        if to - from < cx.fill_max {
            self.start_fill(from, to, fx);
        } else {
            let mut out = Vec::new();
            self.give_up_hole(&mut out);
            self.hand_out(out, fx);
        }
    }

    fn give_up_hole(&mut self, out: &mut Vec<Out<Entry>>) {
        if let Some((from, to)) = self.arrivals.hole() {
            self.filling = None;
            self.hole_since = None;
            self.arrivals.gap(from, to, GapReason::Skipped, out);
        }
    }

    fn hand_out(&mut self, out: Vec<Out<Entry>>, fx: &mut Effects) {
        for out in out {
            fx.events.push(match out {
                Out::Entry(entry) if self.is_own_log => Event::Own(OwnEvent::of(&entry)),
                Out::Gap { .. } if self.is_own_log => Event::OwnMissed,
                Out::Entry(entry) => Event::Entry(entry),
                Out::Gap { from, to, reason } => {
                    Event::Gap { conversation: self.id, from, to, reason }
                }
            });
        }
    }

    pub(super) fn take_preview(&mut self, preview: Preview, fx: &mut Effects) {
        if !self.arrivals.knows(preview.id.tail()) {
            fx.events.push(Event::Preview(preview));
        }
    }

    pub(super) fn take_reset(&mut self, generation: u64, to: u64, fx: &mut Effects) {
        self.filling = None;
        self.hole_since = None;
        self.reset_generation = generation;
        self.receipts.clamp(to);
        self.member_receipts.clamp(to);
        self.arrivals.reset(to);
        self.handled = self.arrivals.trail().newest();
        fx.events.push(if self.is_own_log {
            Event::OwnMissed
        } else {
            Event::Reset { conversation: self.id, to }
        });
    }
}
