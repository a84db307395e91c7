//! What the batch function does once it holds its locks.

use std::collections::{BTreeMap, BTreeSet};

use petrel_core::entry::{Changes, Cursor, Entry, Placed};
use petrel_core::id::{ClientMessageId, ContentDigest, ConversationId, RightsVersion, Seq, UserId};
use petrel_core::store::{Append, AppendOutcome};

use crate::store::{Logged, State};
use crate::world::Sabotage;

/// The batch function's second statement.
pub(crate) struct Statement<'a> {
    state: &'a State,
    snapshot: u64,
    sabotage: Sabotage,
    looked_up: Option<Vec<Option<Placed>>>,
    heads: BTreeMap<ConversationId, u64>,
    caught: BTreeSet<(ConversationId, UserId)>,
    writes: Vec<Logged>,
    /// Read after the locks were taken.
    time_ms: u64,
}

impl<'a> Statement<'a> {
    pub(crate) fn new(
        state: &'a State,
        snapshot: u64,
        sabotage: Sabotage,
        looked_up: Option<Vec<Option<Placed>>>,
    ) -> Self {
        Self {
            state,
            snapshot,
            sabotage,
            looked_up,
            heads: BTreeMap::new(),
            caught: BTreeSet::new(),
            writes: Vec::new(),
            time_ms: state
                .begun
                .map_or(0, |begun| u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)),
        }
    }

    pub(crate) fn run(mut self, batch: &[Append]) -> (Vec<AppendOutcome>, Vec<Logged>) {
        let mut outcomes = Vec::new();
        for (place, append) in batch.iter().enumerate() {
            outcomes.push(self.one(place, append));
        }
        (outcomes, self.writes)
    }

    fn stored_before(&self, place: usize, append: &Append) -> Option<(Placed, ContentDigest)> {
        if let Some(looked_up) = &self.looked_up {
            return looked_up[place].map(|placed| (placed, append.digest));
        }
        if self.sabotage == Sabotage::NoDedupeKey {
            return None;
        }
        let log = self.state.conversations[&append.conversation].log.iter();
        let seen = log.filter(|logged| logged.commit <= self.snapshot);
        seen.chain(&self.writes)
            .find(|logged| (logged.entry.sender, logged.entry.id) == (append.sender, append.id))
            .map(|logged| (logged.entry.placed, logged.digest))
    }

    fn one(&mut self, place: usize, append: &Append) -> AppendOutcome {
        if let Some((placed, digest)) = self.stored_before(place, append) {
            return match digest == append.digest {
                true => AppendOutcome::Duplicate(placed),
                false => AppendOutcome::IdConflict,
            };
        }
        // The locked row is read again at its newest, whatever the snapshot.
        let row = &self.state.conversations[&append.conversation];
        let current = RightsVersion(row.rights_version);
        let is_current = match append.admitted_by {
            None => false,
            Some(version) => version == current || self.sabotage == Sabotage::NoRightsCheck,
        };
        let line = (append.conversation, append.sender);
        if !is_current || self.caught.contains(&line) {
            self.caught.insert(line);
            return AppendOutcome::Stale;
        }
        let head = self.heads.entry(append.conversation).or_insert(row.head);
        *head += 1;
        let placed = Placed {
            seq: Seq(*head),
            count: *head,
            time_ms: self.time_ms,
            rights_version: current,
        };
        self.writes.push(Logged {
            commit: 0,
            entry: entry_of(append, placed),
            digest: append.digest,
        });
        AppendOutcome::New(placed)
    }
}

pub(crate) fn entry_of(append: &Append, placed: Placed) -> Entry {
    Entry {
        conversation: append.conversation,
        placed,
        id: append.id,
        sender: append.sender,
        kind: append.kind.number(),
        encoding: append.encoding,
        body: append.body.clone(),
        target: append.target,
        mentions: append.mentions.clone(),
        changes: Changes::default(),
        hidden: false,
    }
}

/// The cursor on an entry.
pub(crate) fn cursor(seq: u64, id: ClientMessageId, time_ms: u64) -> Cursor {
    Cursor { seq: Seq(seq), tail: Cursor::tail_of(id, time_ms) }
}
