//! What of one conversation is on the screen: messages and events with the changes applied that
//! came since. Pure: the application gives it what it hears and what it reads.
//!
//! **Invariant:** a change is applied once, however often and on whichever way it comes: an entry
//! says up to where its changes are in it, and only later ones are applied, in rising order.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::entry::{Entry, EntryState, Reaction, kind};
use crate::event::{Event, GapReason};
use crate::id::{ConversationId, UserId};
use crate::logged::OwnChange;
use crate::request::Page;

/// Changes kept whose entry is not known yet; the oldest are dropped first, and are in the entry
/// when it is read later.
const EARLY_MAX: usize = 1_024;
/// Reactions of others that are remembered, so that one given twice counts once.
const REACTORS_MAX: usize = 4_096;
/// Different reactions to one entry that are shown (more than the protocol allows).
const REACTIONS_MAX: usize = 128;
/// Characters of a quoted message, at the most.
const EXCERPT_CHARS_MAX: usize = 100;

/// What is to be drawn anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Redraw {
    /// Nothing.
    Nothing,
    /// The entry at this place is new.
    New(u64),
    /// The entry at this place has changed.
    Changed(u64),
    /// Everything: entries are gone.
    All,
}

/// The message that another one replies to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Quoted {
    /// It is this one.
    Message {
        /// Whose it is.
        sender: UserId,
        /// What it is ([`kind`]).
        kind: u16,
        /// Its beginning, if it is text.
        excerpt: Option<String>,
    },
    /// It was recalled.
    Recalled,
    /// The user has hidden it.
    Hidden,
    /// It is not loaded.
    NotLoaded,
}

/// A change that came before the entry that it changes.
#[derive(Debug)]
struct Change {
    seq: u64,
    kind: u16,
    sender: UserId,
    body: Result<Bytes, crate::Undecodable>,
}

/// One conversation's entries, as they are now. Bounded: when it is full, new entries push out
/// the oldest, and older ones are not taken.
#[derive(Debug)]
pub struct Timeline {
    me: UserId,
    conversation: ConversationId,
    entries_max: usize,
    entries: BTreeMap<u64, Entry>,
    /// By their own place.
    early: BTreeMap<u64, (u64, Change)>,
    /// Whether a user's reaction is there, of those that changed here.
    reactors: HashMap<(u64, UserId, String), bool>,
}

impl Timeline {
    /// Nothing of a conversation yet, for the user `me`; at most `entries_max` entries of it.
    pub fn new(me: UserId, conversation: ConversationId, entries_max: usize) -> Self {
        Self {
            me,
            conversation,
            entries_max: entries_max.max(1),
            entries: BTreeMap::new(),
            early: BTreeMap::new(),
            reactors: HashMap::new(),
        }
    }

    /// Takes an event, if it is about this conversation.
    pub fn take(&mut self, event: &Event) -> Redraw {
        match event {
            Event::Entry(entry) => self.entry(entry.clone()),
            Event::Gap { conversation, to, reason, .. } if *conversation == self.conversation => {
                self.gap(*to, *reason)
            }
            Event::Reset { conversation, to } if *conversation == self.conversation => {
                self.reset(*to)
            }
            Event::Own(own) => match &own.change {
                OwnChange::EntriesHidden { conversation, seqs }
                    if *conversation == self.conversation =>
                {
                    self.hide(seqs)
                }
                _ => Redraw::Nothing,
            },
            _ => Redraw::Nothing,
        }
    }

    /// Takes a page of history. Says whether there was room for all of it.
    pub fn page(&mut self, page: &Page) -> bool {
        let mut room = true;
        // From the newest on, so that what does not fit is the oldest.
        for entry in page.entries.iter().rev() {
            let seq = entry.seq;
            let is_change = kind::is_change(entry.kind);
            self.entry(entry.clone());
            room &= is_change || self.entries.contains_key(&seq);
        }
        room
    }

    /// Takes an entry: live, or of a page.
    pub fn entry(&mut self, entry: Entry) -> Redraw {
        if entry.conversation != self.conversation {
            return Redraw::Nothing;
        }
        if kind::is_change(entry.kind) {
            return self.change(entry);
        }
        let seq = entry.seq;
        if let Some(known) = self.entries.get_mut(&seq) {
            if entry.state.changed < known.state.changed {
                return Redraw::Nothing;
            }
            if *known == entry {
                return Redraw::Nothing;
            }
            let hidden = known.state.hidden || entry.state.hidden;
            *known = entry;
            self.reactors.retain(|(of, _, _), _| *of != seq);
            if hidden {
                self.hide(&[seq]);
            }
            return Redraw::Changed(seq);
        }
        let oldest = self.entries.first_key_value().map(|(seq, _)| *seq);
        let full = self.entries.len() >= self.entries_max;
        if full && oldest.is_some_and(|oldest| seq < oldest) {
            return Redraw::Nothing;
        }
        if full && let Some((gone, _)) = self.entries.pop_first() {
            self.reactors.retain(|(of, _, _), _| *of != gone);
        }
        self.entries.insert(seq, entry);
        self.apply_early(seq);
        Redraw::New(seq)
    }

    /// Entries are hidden, as the user asked on this or another device.
    pub fn hide(&mut self, seqs: &[u64]) -> Redraw {
        let mut redraw = Redraw::Nothing;
        for seq in seqs {
            let Some(entry) = self.entries.get_mut(seq) else { continue };
            entry.state.hidden = true;
            entry.body = Ok(Bytes::new());
            redraw = match redraw {
                Redraw::Nothing => Redraw::Changed(*seq),
                _ => Redraw::All,
            };
        }
        redraw
    }

    /// Drops the entries before this place, for an application that shows fewer of them for a
    /// while. History reads them again.
    pub fn forget_before(&mut self, seq: u64) {
        self.entries = self.entries.split_off(&seq);
        let entries = &self.entries;
        self.reactors.retain(|(of, _, _), _| entries.contains_key(of));
    }

    /// The entries up to `to` are not handed out. What is before a skipped part may have changed
    /// there: it is dropped, to be read again when it is wanted.
    fn gap(&mut self, to: u64, reason: GapReason) -> Redraw {
        let before = self.entries.len();
        if reason == GapReason::Skipped {
            self.entries = self.entries.split_off(&(to + 1));
            self.reactors.clear();
        }
        if self.entries.len() < before { Redraw::All } else { Redraw::Nothing }
    }

    /// What lies above `to` never was, and neither were its changes.
    fn reset(&mut self, to: u64) -> Redraw {
        self.early.clear();
        self.reactors.clear();
        drop(self.entries.split_off(&(to + 1)));
        if self.entries.values().any(|entry| entry.state.changed > to) {
            self.entries.clear();
        }
        Redraw::All
    }

    fn change(&mut self, entry: Entry) -> Redraw {
        let Some(target) = entry.target else {
            return Redraw::Nothing;
        };
        let change =
            Change { seq: entry.seq, kind: entry.kind, sender: entry.sender, body: entry.body };
        if self.entries.contains_key(&target) {
            return self.apply(target, change);
        }
        self.early.insert(change.seq, (target, change));
        if self.early.len() > EARLY_MAX {
            self.early.pop_first();
        }
        Redraw::Nothing
    }

    /// What came before its entry, which is here now, in its order.
    fn apply_early(&mut self, seq: u64) {
        let due = self.early.extract_if(.., |_, (target, _)| *target == seq);
        let due: Vec<_> = due.map(|(_, (_, change))| change).collect();
        for change in due {
            self.apply(seq, change);
        }
    }

    fn apply(&mut self, target: u64, change: Change) -> Redraw {
        let Some(entry) = self.entries.get_mut(&target) else {
            return Redraw::Nothing;
        };
        if change.seq <= entry.state.changed || !entry.is_message() {
            return Redraw::Nothing;
        }
        entry.state.changed = change.seq;
        let state = &mut entry.state;
        match change.kind {
            kind::EDIT if !state.recalled => {
                state.revision = state.revision.saturating_add(1);
                if !state.hidden {
                    entry.body = change.body;
                }
            }
            kind::RECALL => {
                state.revision = state.revision.saturating_add(1);
                state.recalled = true;
                entry.body = Ok(Bytes::new());
            }
            kind::REACT | kind::UNREACT => {
                let Ok(body) = change.body else { return Redraw::Nothing };
                let Ok(emoji) = String::from_utf8(body.into()) else { return Redraw::Nothing };
                let is_me = change.sender == self.me;
                let given = change.kind == kind::REACT;
                let who = (target, change.sender, emoji);
                if is_me || remember(&mut self.reactors, &who, given) {
                    react(state, who.2, given, is_me);
                }
            }
            _ => return Redraw::Nothing,
        }
        Redraw::Changed(target)
    }

    /// The entry at this place, as it is now.
    pub fn get(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(&seq)
    }

    /// All entries that are shown, as they are now, in the order of the log. Those that are hidden
    /// are left out; so are changes, which are in the entries that they change.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.values().filter(|entry| !entry.state.hidden)
    }

    /// How many there are, hidden ones too.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The oldest place that is loaded: history before it is read with
    /// [`crate::PageRequest`]`{ to: oldest - 1, newest: true, .. }`.
    pub fn oldest(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(seq, _)| *seq)
    }

    /// What this entry, a message, replies to; `None` if it is no reply.
    pub fn quoted(&self, entry: &Entry) -> Option<Quoted> {
        let target = entry.target.filter(|_| entry.is_message())?;
        let Some(quoted) = self.entries.get(&target) else {
            return Some(Quoted::NotLoaded);
        };
        Some(if quoted.state.hidden {
            Quoted::Hidden
        } else if quoted.state.recalled {
            Quoted::Recalled
        } else {
            let is_text = matches!(quoted.kind, kind::TEXT | kind::SYSTEM);
            let text = quoted.text().filter(|_| is_text);
            Quoted::Message {
                sender: quoted.sender,
                kind: quoted.kind,
                excerpt: text.map(|text| text.chars().take(EXCERPT_CHARS_MAX).collect()),
            }
        })
    }
}

/// Notes whether another user's reaction is there. Says whether that is news, as far as is known.
fn remember(
    reactors: &mut HashMap<(u64, UserId, String), bool>,
    who: &(u64, UserId, String),
    given: bool,
) -> bool {
    if reactors.len() >= REACTORS_MAX && !reactors.contains_key(who) {
        return true;
    }
    reactors.insert(who.clone(), given) != Some(given)
}

fn react(state: &mut EntryState, emoji: String, given: bool, is_me: bool) {
    let at = state.reactions.iter().position(|reaction| reaction.emoji == emoji);
    let Some(reaction) = at.and_then(|at| state.reactions.get_mut(at)) else {
        if given && state.reactions.len() < REACTIONS_MAX {
            state.reactions.push(Reaction { emoji, count: 1, own: is_me });
        }
        return;
    };
    if is_me && reaction.own == given {
        return;
    }
    if is_me {
        reaction.own = given;
    }
    reaction.count =
        if given { reaction.count.saturating_add(1) } else { reaction.count.saturating_sub(1) };
    state.reactions.retain(|reaction| reaction.count > 0);
}

#[cfg(test)]
mod tests;
