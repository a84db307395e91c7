//! Receipts of one conversation: the client's own, gathered and sent together; the members',
//! which never run back. Pure.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use petrel_proto::version::FEATURE_RECEIPTS_ALONG;

use crate::event::Receipt;
use crate::id::{ConversationId, UserId};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Cursors {
    delivered: u64,
    read: u64,
}

impl Cursors {
    fn is_beyond(self, other: Self) -> bool {
        self.delivered > other.delivered || self.read > other.read
    }
}

/// What the server has shown to have is stored after this, if it still lives then: many
/// times the interval in which a gateway gathers receipts.
const STORED_AFTER: Duration = Duration::from_secs(10);

/// A client that sent a message so long ago, at the most, is likely to send another soon.
const CHATTY: Duration = Duration::from_secs(2);
/// How long receipts of such a client wait for the packet of a message, at the least.
const ALONG_WAIT: Duration = Duration::from_secs(1);
/// Receipts that one message takes along, at the most (the protocol's limit).
const ALONG_MAX: usize = 32;

/// Conversations with receipts to be said, which may go along with a message of another conversation: a
/// packet of their own, and its acknowledgement, would cost as much as a message does.
#[derive(Debug, Default)]
pub(crate) struct Along {
    in_use: bool,
    waiting: BTreeSet<ConversationId>,
    sent_at: Option<Instant>,
}

impl Along {
    /// Signed in, with these features.
    pub(crate) fn connected(&mut self, features: &[String]) {
        self.in_use = features.iter().any(|feature| feature == FEATURE_RECEIPTS_ALONG);
    }

    /// This conversation has something to say. The answer is how long it may wait, if it
    /// would else wait for `delay`.
    pub(crate) fn board(&mut self, id: ConversationId, now: Instant, delay: Duration) -> Duration {
        if !self.in_use {
            return delay;
        }
        self.waiting.insert(id);
        let is_chatty = self.sent_at.is_some_and(|at| now.saturating_duration_since(at) <= CHATTY);
        if is_chatty { delay.max(ALONG_WAIT) } else { delay }
    }

    /// A message is written: those that go along. Some of them may have said all by themselves.
    pub(crate) fn passengers(&mut self, now: Instant) -> Vec<ConversationId> {
        self.sent_at = Some(now);
        let going: Vec<_> = self.waiting.iter().copied().take(ALONG_MAX).collect();
        for id in &going {
            self.waiting.remove(id);
        }
        going
    }
}

/// Own receipts: what is so, what was said on this stream.
#[derive(Debug, Default)]
pub(crate) struct OwnReceipts {
    now: Cursors,
    said: Cursors,
    /// The stream that `said` was said on is gone.
    is_gone: bool,
    /// What the server has shown to have, and when it did first.
    proved: Option<(Cursors, Instant)>,
    /// What needs no more saying, whatever becomes of the gateway.
    stored: Cursors,
    /// When what is new is sent.
    send_at: Option<Instant>,
}

impl OwnReceipts {
    /// Everything up to `seq` is at the application. The answer is when to look again.
    pub(crate) fn delivered(&mut self, seq: u64, now: Instant, delay: Duration) -> Option<Instant> {
        if seq <= self.now.delivered {
            return None;
        }
        self.now.delivered = seq;
        self.plan(now, delay)
    }

    /// Everything up to `seq` was on the screen.
    pub(crate) fn read(&mut self, seq: u64, now: Instant, delay: Duration) -> Option<Instant> {
        if seq <= self.now.read {
            return None;
        }
        self.now.read = seq;
        self.now.delivered = self.now.delivered.max(seq);
        self.plan(now, delay)
    }

    fn plan(&mut self, now: Instant, delay: Duration) -> Option<Instant> {
        if self.send_at.is_some() {
            return None;
        }
        self.send_at = Some(now + delay);
        self.send_at
    }

    /// What is new is sent with the next write, which comes now.
    pub(crate) fn hurry(&mut self) {
        if let Some(at) = &mut self.send_at {
            *at = at.checked_sub(Duration::from_secs(3_600)).unwrap_or(*at);
        }
    }

    /// When to look again, if not now.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        self.send_at.filter(|at| *at > now)
    }

    /// Whether the read cursor should be said, even if a stream has to be opened for it.
    pub(crate) fn read_due(&self) -> bool {
        self.now.read > self.said.read && self.send_at.is_some()
    }

    /// The `seen` of a send: the read cursor, if it was not said yet.
    pub(crate) fn seen(&mut self) -> u64 {
        if self.now.read <= self.said.read {
            return 0;
        }
        self.said.read = self.now.read;
        self.now.read
    }

    /// What to say now: (delivered, read). With `in_passing` something else is written
    /// anyway, so that it need not wait.
    pub(crate) fn take(&mut self, now: Instant, in_passing: bool) -> Option<(u64, u64)> {
        let at = self.send_at?;
        if !in_passing && now < at {
            return None;
        }
        self.send_at = None;
        if self.now == self.said {
            return None;
        }
        self.said = self.now;
        Some((self.now.delivered, self.now.read))
    }

    /// What an Attach or a Hello says; 0, 0 says nothing.
    pub(crate) fn current(&mut self) -> (u64, u64) {
        self.send_at = None;
        self.is_gone = false;
        self.said = self.now;
        (self.now.delivered, self.now.read)
    }

    /// The server has shown to have these.
    pub(crate) fn prove(&mut self, delivered: u64, read: u64, now: Instant) {
        let shown = Cursors { delivered, read };
        if self.proved.is_none_or(|(before, _)| shown.is_beyond(before)) {
            self.proved = Some((shown, now));
        }
    }

    /// The connection is lost.
    pub(crate) fn disconnected(&mut self, now: Instant) {
        if let Some((proved, since)) = self.proved.take()
            && now.saturating_duration_since(since) >= STORED_AFTER
        {
            self.stored.delivered = self.stored.delivered.max(proved.delivered);
            self.stored.read = self.stored.read.max(proved.read);
        }
    }

    /// The stream that they were said on is gone.
    pub(crate) fn unconfirmed(&mut self) {
        self.is_gone = true;
    }

    /// What was said of them last did not arrive: they are said again.
    pub(crate) fn unsaid(&mut self, now: Instant) {
        self.said = Cursors::default();
        self.is_gone = true;
        self.send_at = Some(now);
    }

    /// Whether they should be said again at the next sign-in.
    pub(crate) fn is_in_doubt(&self) -> bool {
        (self.is_gone && self.said.is_beyond(self.stored)) || self.send_at.is_some()
    }

    /// The history above `to` is gone.
    pub(crate) fn clamp(&mut self, to: u64) {
        self.proved = None;
        for cursors in [&mut self.now, &mut self.said, &mut self.stored] {
            cursors.delivered = cursors.delivered.min(to);
            cursors.read = cursors.read.min(to);
        }
    }

    /// Nobody wants to hear them.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Members whose receipts are remembered, at the most; others' are passed on as they come.
const MEMBERS_MAX: usize = 1_024;

/// What is known of the members' receipts. They only rise: a gateway that was killed, or
/// another one, may know older ones than the application was shown.
#[derive(Debug, Default)]
pub(crate) struct MemberReceipts(BTreeMap<UserId, Cursors>);

impl MemberReceipts {
    /// Takes what was said; gives those that moved, none of them back.
    pub(crate) fn raise(&mut self, mut said: Vec<Receipt>) -> Vec<Receipt> {
        said.retain_mut(|receipt| {
            let room = self.0.len() < MEMBERS_MAX;
            let known = match self.0.entry(receipt.user) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) if room => new.insert(Cursors::default()),
                Entry::Vacant(_) => return true,
            };
            let before = *known;
            known.delivered = known.delivered.max(receipt.delivered);
            known.read = known.read.max(receipt.read);
            (receipt.delivered, receipt.read) = (known.delivered, known.read);
            *known != before
        });
        said
    }

    /// The history above `to` is gone.
    pub(crate) fn clamp(&mut self, to: u64) {
        for known in self.0.values_mut() {
            known.delivered = known.delivered.min(to);
            known.read = known.read.min(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(300);

    #[test]
    fn who_sends_waits_longer_so_that_receipts_go_along() {
        let start = Instant::now();
        let of = |n: u8| ConversationId([n; 16]);
        let mut along = Along::default();
        assert_eq!(along.board(of(1), start, DELAY), DELAY);
        assert!(along.passengers(start).is_empty(), "the server does not take them");
        along.connected(&[FEATURE_RECEIPTS_ALONG.to_owned()]);
        assert_eq!(along.board(of(1), start + CHATTY + DELAY, DELAY), DELAY);
        assert_eq!(along.passengers(start + CHATTY * 2), [of(1)]);
        assert_eq!(along.board(of(1), start + CHATTY * 3, DELAY), ALONG_WAIT);
        for n in 2..=40 {
            along.board(of(n), start, DELAY);
        }
        assert_eq!(along.passengers(start).len(), ALONG_MAX);
        assert_eq!(along.passengers(start).len(), 40 - ALONG_MAX);
    }

    #[test]
    fn receipts_are_gathered_for_a_while_and_sent_once() {
        let start = Instant::now();
        let mut own = OwnReceipts::default();
        assert_eq!(own.delivered(1, start, DELAY), Some(start + DELAY));
        assert_eq!(own.delivered(2, start, DELAY), None);
        assert_eq!(own.delivered(1, start, DELAY), None);
        assert_eq!(own.take(start, false), None);
        assert_eq!(own.take(start + DELAY, false), Some((2, 0)));
        assert_eq!(own.take(start + DELAY, false), None);
    }

    #[test]
    fn what_is_written_anyway_takes_them_along() {
        let start = Instant::now();
        let mut own = OwnReceipts::default();
        own.read(5, start, DELAY);
        assert!(own.read_due());
        assert_eq!(own.seen(), 5);
        assert_eq!(own.seen(), 0);
        assert_eq!(own.take(start, true), Some((5, 5)));
        assert!(!own.read_due());
    }

    #[test]
    fn what_was_said_on_a_lost_stream_is_said_again() {
        let start = Instant::now();
        let mut own = OwnReceipts::default();
        own.delivered(3, start, DELAY);
        assert_eq!(own.current(), (3, 0));
        assert!(!own.is_in_doubt());
        own.unconfirmed();
        assert!(own.is_in_doubt());
        assert_eq!(own.current(), (3, 0));
        assert!(!own.is_in_doubt());
        own.clamp(1);
        assert_eq!(own.current(), (1, 0));
    }

    #[test]
    fn what_the_server_has_shown_to_have_for_a_while_is_not_said_for_ever() {
        let start = Instant::now();
        let mut own = OwnReceipts::default();
        own.read(3, start, DELAY);
        assert_eq!(own.current(), (3, 3));
        let lose = |own: &mut OwnReceipts, at| {
            own.disconnected(at);
            own.unconfirmed();
            own.is_in_doubt()
        };
        // A gateway that dies at once after it has said so may not have stored them.
        own.prove(3, 3, start);
        assert!(lose(&mut own, start + STORED_AFTER / 2));
        assert_eq!(own.current(), (3, 3));
        own.prove(3, 3, start);
        own.prove(3, 3, start + STORED_AFTER);
        assert!(!lose(&mut own, start + STORED_AFTER));
        assert!(!lose(&mut own, start + STORED_AFTER * 9), "nor after the next loss");
        // What is newer is in doubt again.
        own.read(4, start, DELAY);
        assert_eq!(own.current(), (4, 4));
        assert!(lose(&mut own, start + STORED_AFTER * 9));
    }

    #[test]
    fn members_receipts_never_run_back_but_for_a_reset() {
        let of = |user: u8, delivered, read| Receipt { user: UserId([user; 16]), delivered, read };
        let mut members = MemberReceipts::default();
        assert_eq!(members.raise(vec![of(1, 5, 2), of(2, 0, 0)]), [of(1, 5, 2)]);
        assert_eq!(members.raise(vec![of(1, 4, 3)]), [of(1, 5, 3)]);
        assert_eq!(members.raise(vec![of(1, 4, 1)]), []);
        members.clamp(4);
        assert_eq!(members.raise(vec![of(1, 3, 1)]), []);
        assert_eq!(members.raise(vec![of(1, 5, 3)]), [of(1, 5, 3)]);
    }
}
