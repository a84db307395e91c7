//! The cached state of one conversation, and the rules over it: who may send,
//! in which order entries are handed out here, what a member may see.
//!
//! **Invariant:** no IO, no await, no clock: decisions over plain data. The
//! state is always allowed to be stale; the transaction that stores a message
//! checks its rights again.

mod admission;
mod membership;
mod refused;
mod typing;

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::entry::{Cursor, Entry, EntryKind};
use crate::error::Rejection;
use crate::event::Event;
use crate::id::{ClientMessageId, ContentDigest, ConversationId, RightsVersion, Seq, UserId};
use crate::limits;
use crate::store::{ConversationKind, ConversationRecord, Member, Receipt};

pub use admission::{SendRules, check_send, judge_change, judge_id};
pub use membership::View;
pub use refused::Refused;

/// A conversation as this gateway knows it. `O` is where the answer to a send
/// goes (the gateway's business).
#[derive(Debug)]
pub struct Conversation<O> {
    id: ConversationId,
    kind: ConversationKind,
    rights_version: RightsVersion,
    members: Vec<Member>,
    floor: Seq,
    /// The next entry to hand out to this gateway's sessions.
    next: Seq,
    /// The cursor on the entry before `next`.
    last: Cursor,
    /// Countable entries before `next`.
    count: u64,
    held: BTreeMap<Seq, Ready<O>>,
    in_flight: FxHashMap<(UserId, ClientMessageId), InFlight<O>>,
    receipts: Vec<(UserId, Receipt)>,
    repairing: bool,
    /// The head, and the count there, that the store told of; behind `next` mostly.
    told: (Seq, u64),
    /// Where the log ended when it was loaded: what is up to here was not handed out by this state, and perhaps by nobody.
    loaded: Seq,
    /// `None` while nothing is kept, as nearly always.
    refused: Option<Box<Refused>>,
}

/// An entry whose turn has come, with the sends that it answers.
#[derive(Debug)]
pub struct Ready<O> {
    /// The entry.
    pub entry: Entry,
    /// What happened to the group with it, where that is known.
    pub event: Option<Event>,
    /// The sends (of this gateway's sessions) that it answers.
    pub origins: Vec<O>,
}

#[derive(Debug)]
struct InFlight<O> {
    digest: ContentDigest,
    origins: Vec<O>,
}

/// What becomes of a send whose id is already on its way to the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Join {
    /// It is not on its way: admit it.
    NotUnderWay,
    /// It joined the first one and will get the same answer.
    Joined,
}

/// What is to be done after an entry was offered.
#[derive(Debug)]
pub struct Offered<O> {
    /// Entries to hand out now, in order.
    pub ready: Vec<Ready<O>>,
    /// Sends to answer at once: their entry was handed out before, or finds no room behind a hole and will be
    /// handed out by the repair.
    pub answered: Option<Ready<O>>,
    /// Whether somebody has to call the store: an entry before these is
    /// missing here, or the members are older than an entry. At most one
    /// repair is asked for at a time.
    pub repair: bool,
}

impl<O> Conversation<O> {
    /// The state after loading.
    pub fn new(record: ConversationRecord) -> Self {
        Self {
            id: record.id,
            kind: record.kind,
            rights_version: record.rights_version,
            members: record.members,
            floor: record.floor,
            next: record.head.next(),
            last: record.head_entry.map_or_else(Cursor::default, |(id, time_ms)| Cursor {
                seq: record.head,
                tail: Cursor::tail_of(id, time_ms),
            }),
            count: record.count,
            held: BTreeMap::new(),
            in_flight: FxHashMap::default(),
            receipts: record.receipts,
            repairing: false,
            told: (record.head, record.count),
            loaded: record.head,
            refused: None,
        }
    }

    /// Takes over members and rights from a later look at the store. What was
    /// handed out stays as it is: entries between here and the store's
    /// head come by [`Self::offer`]. Where the log ends is not learned from it: the look may have been taken before what
    /// is known by now.
    pub fn refresh(&mut self, record: ConversationRecord) {
        if record.rights_version >= self.rights_version {
            self.rights_version = record.rights_version;
            self.members = record.members;
            self.kind = record.kind;
        }
        self.floor = self.floor.max(record.floor);
        for (user, receipt) in record.receipts {
            self.merge_receipt(user, receipt);
        }
    }

    /// Which conversation this is.
    pub fn id(&self) -> ConversationId {
        self.id
    }

    /// What it is.
    pub fn kind(&self) -> &ConversationKind {
        &self.kind
    }

    /// The rights that [`Self::admit`] judges by.
    pub fn rights_version(&self) -> RightsVersion {
        self.rights_version
    }

    /// The next entry to hand out.
    pub fn next(&self) -> Seq {
        self.next
    }

    /// Entries up to here were removed by retention.
    pub fn floor(&self) -> Seq {
        self.floor
    }

    /// The last entry that is known to exist, and how many countable ones there are up to it: the
    /// last one handed out here, unless another gateway has stored more.
    pub fn head(&self) -> (Seq, u64) {
        (self.next.previous(), self.count).max(self.told)
    }

    /// Notes where the store says that the log ends. Whether a repair has to read
    /// what is missing here; at most one is asked for at a time.
    #[must_use]
    pub fn learn_head(&mut self, head: Seq, count: u64) -> bool {
        self.told = self.told.max((head, count));
        let repair = !self.repairing && self.is_missing_any();
        self.repairing |= repair;
        repair
    }

    /// The store has nothing up to `to`, where it was said to end, and ends here: it was taken back.
    pub fn unlearn_head(&mut self, to: Seq, head: Seq, count: u64) {
        if self.told.0 == to && head < to {
            self.told = (head, count);
        }
    }

    /// Whether an entry of which is heard now was in the log already when that was loaded, so that nobody was told of it here.
    /// Said once.
    pub fn take_unseen(&mut self, seq: Seq) -> bool {
        let is_unseen = seq <= self.loaded;
        if is_unseen {
            self.loaded = Seq(0);
        }
        is_unseen
    }

    fn is_missing_any(&self) -> bool {
        !self.held.is_empty() || self.told.0 >= self.next
    }

    /// Whether nothing is under way, so that this state may be forgotten.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
            && self.held.is_empty()
            && !self.repairing
            && self.refused.is_none()
    }

    /// Forgets refusals of which no older copy can come any more.
    pub fn forget_refused(&mut self, now_s: u32) {
        if let Some(refused) = &mut self.refused {
            refused.forget(now_s);
            if refused.is_empty() {
                self.refused = None;
            }
        }
    }

    /// Whether the last entry handed out is the one at this cursor, so that nothing is missing.
    pub fn is_up_to_date(&self, cursor: Cursor) -> bool {
        cursor == self.last && cursor.seq.next() == self.next
    }

    /// Joins a send to the same message that is already on its way.
    ///
    /// # Errors
    /// [`Rejection::IdConflict`] if the one on its way has other content.
    pub fn join(
        &mut self,
        sender: UserId,
        id: ClientMessageId,
        digest: ContentDigest,
        origin: &O,
    ) -> Result<Join, Rejection>
    where
        O: Clone,
    {
        match self.in_flight.get_mut(&(sender, id)) {
            None => Ok(Join::NotUnderWay),
            Some(first) if first.digest != digest => Err(Rejection::IdConflict),
            Some(first) => {
                if first.origins.len() >= ORIGINS_MAX {
                    first.origins.remove(0);
                }
                first.origins.push(origin.clone());
                Ok(Join::Joined)
            }
        }
    }

    /// The refusal for good that this message got before, if an older copy of it may still come.
    pub fn refused_before(
        &self,
        sender: UserId,
        id: ClientMessageId,
        digest: ContentDigest,
    ) -> Option<&Rejection> {
        self.refused.as_ref()?.of(sender, id, digest)
    }

    /// Says with what to answer a message that the store was asked about and that is refused
    /// at `now_s`. A refusal for good is kept until `until_s`, so that no older copy of the message
    /// is stored after it; without room for that it is a retryable one. What another message
    /// was stored for ([`Rejection::IdConflict`]) needs no keeping.
    pub fn refuse(
        &mut self,
        message: (UserId, ClientMessageId),
        digest: ContentDigest,
        rejection: Rejection,
        now_s: u32,
        until_s: u32,
    ) -> Rejection {
        if rejection.is_retryable() || rejection == Rejection::IdConflict {
            return rejection;
        }
        let refused = self.refused.get_or_insert_default();
        if refused.keep(message, digest, &rejection, now_s, until_s) {
            return rejection;
        }
        Rejection::Overloaded { what: "what is known of refused messages" }
    }

    /// Notes that a message is on its way to the store.
    pub fn begin(&mut self, sender: UserId, id: ClientMessageId, digest: ContentDigest, origin: O) {
        self.in_flight.insert((sender, id), InFlight { digest, origins: vec![origin] });
    }

    /// Where the answer to a message under way goes.
    pub fn origins(&self, sender: UserId, id: ClientMessageId) -> &[O] {
        self.in_flight.get(&(sender, id)).map_or(&[], |i| &i.origins)
    }

    /// Notes that a message's way is over, and gives back whom to answer.
    pub fn end(&mut self, sender: UserId, id: ClientMessageId) -> Vec<O> {
        self.in_flight.remove(&(sender, id)).map(|i| i.origins).unwrap_or_default()
    }

    /// Takes a committed entry, and says what to hand out now. Each entry is
    /// handed out once, in the order of seq, whatever order they come in.
    pub fn offer(&mut self, entry: Entry, origins: Vec<O>) -> Offered<O> {
        self.take(Ready { entry, event: None, origins })
    }

    /// The same with an entry of which it is known what happened to the group with it. If it is
    /// exactly one version ahead, the members follow it without a look at the store.
    pub fn offer_event(&mut self, entry: Entry, event: Event) -> Offered<O> {
        self.take(Ready { entry, event: Some(event), origins: Vec::new() })
    }

    fn take(&mut self, new: Ready<O>) -> Offered<O> {
        let seq = new.entry.placed.seq;
        if seq < self.next {
            let answered = (!new.origins.is_empty()).then_some(new);
            return Offered { ready: Vec::new(), answered, repair: false };
        }
        let has_room = self.held.len() < limits::HELD_ENTRIES_MAX || seq == self.next;
        let answered = match self.held.entry(seq) {
            std::collections::btree_map::Entry::Occupied(mut held) => {
                held.get_mut().origins.extend(new.origins);
                None
            }
            std::collections::btree_map::Entry::Vacant(free) if has_room => {
                free.insert(new);
                None
            }
            // The repair will read the entry again, but not who waits for its answer.
            std::collections::btree_map::Entry::Vacant(_) => {
                self.told = self.told.max((seq, new.entry.placed.count));
                (!new.origins.is_empty()).then_some(new)
            }
        };
        let ready = self.release();
        let repair = !self.repairing && !self.held.is_empty();
        self.repairing |= repair;
        Offered { ready, answered, repair }
    }

    /// Hands out what a repair has made possible. Returns also whether
    /// another round is needed; if not, the repair is over.
    pub fn repaired(&mut self) -> (Vec<Ready<O>>, bool) {
        let ready = self.release();
        self.repairing = self.is_missing_any();
        (ready, self.repairing)
    }

    /// The hole before what is held, or up to where the store says that the log ends: what a
    /// repair has to read. `None` if only the members are too old.
    pub fn hole(&self) -> Option<(Seq, Seq)> {
        let last = self.held.keys().next().map_or(self.told.0, |first| first.previous());
        (last >= self.next).then_some((self.next, last))
    }

    fn release(&mut self) -> Vec<Ready<O>> {
        let mut ready = Vec::new();
        while let Some(first) = self.held.first_entry() {
            if *first.key() < self.next {
                first.remove();
                continue;
            }
            if *first.key() != self.next {
                break;
            }
            let rights = first.get().entry.placed.rights_version;
            let is_next = rights.0 == self.rights_version.0 + 1 && first.get().event.is_some();
            if rights > self.rights_version && !is_next {
                break;
            }
            let first = first.remove();
            if let Some(event) = first.event.as_ref().filter(|_| is_next) {
                self.follow(event, first.entry.sender, first.entry.placed.seq);
                self.rights_version = rights;
            }
            self.pass(&first.entry);
            ready.push(first);
        }
        ready
    }

    /// Notes that an entry is handed out.
    fn pass(&mut self, entry: &Entry) {
        self.next = self.next.next();
        self.last = Cursor::of(entry);
        self.count = entry.placed.count;
        if EntryKind::from_number(entry.kind.into()).is_some_and(EntryKind::is_countable) {
            let sender = self.members.iter_mut().filter(|m| m.user == entry.sender);
            sender.for_each(|m| m.has_written = true);
        }
    }

    /// Raises a member's receipt. Gives back the new one if that moved it;
    /// cursors never go back and never pass the head. With more members than
    /// [`limits::RECEIPT_MEMBERS_MAX`] only what was read counts.
    pub fn raise_receipt(&mut self, user: UserId, receipt: Receipt) -> Option<Receipt> {
        let (head, _) = self.head();
        let read = receipt.read.min(head);
        let delivered = if self.shares_receipts() { receipt.delivered.min(head) } else { read };
        let delivered = delivered.max(read);
        self.merge_receipt(user, Receipt { delivered, read })
    }

    /// The members' receipts.
    pub fn receipts(&self) -> &[(UserId, Receipt)] {
        &self.receipts
    }

    /// The receipts that a member is told of: all, or only his own where there are too many members.
    pub fn receipts_for(&self, user: UserId) -> &[(UserId, Receipt)] {
        if self.shares_receipts() {
            return &self.receipts;
        }
        let own = self.receipts.iter().position(|(u, _)| *u == user);
        own.and_then(|at| self.receipts.get(at..=at)).unwrap_or(&[])
    }

    fn merge_receipt(&mut self, user: UserId, new: Receipt) -> Option<Receipt> {
        let position = self.receipts.iter().position(|(u, _)| *u == user);
        let at = position.unwrap_or_else(|| {
            self.receipts.push((user, Receipt::default()));
            self.receipts.len() - 1
        });
        let old = &mut self.receipts.get_mut(at)?.1;
        let merged =
            Receipt { delivered: old.delivered.max(new.delivered), read: old.read.max(new.read) };
        let moved = merged != *old;
        *old = merged;
        moved.then_some(merged)
    }
}

/// Sends that wait for one answer, at the most; the oldest (of connections
/// long gone) make room.
const ORIGINS_MAX: usize = 4;

#[cfg(test)]
#[path = "conversation/tests.rs"]
mod tests;
