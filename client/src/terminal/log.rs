//! The entries of one conversation as they are shown: what a [`Timeline`] says, cleaned.
//!
//! **Invariant:** the timeline's texts are as they came; nobody but this file looks into it.

use std::collections::BTreeMap;

use super::clean;
use super::happened::Happened;
use super::model::{MESSAGES_MAX, REACTIONS_MAX};
use crate::body::Undecodable;
use crate::entry::{Entry, Reaction, kind};
use crate::event::Event;
use crate::id::{ConversationId, MessageId, UserId};
use crate::timeline::{Redraw, Timeline};

/// How an entry is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Somebody's message.
    Said,
    /// A message of the service.
    System,
    /// What happened to a group.
    Happened(Happened),
    /// Not at all: a change, something hidden, something of a newer version. It keeps its place.
    Unseen,
}

/// An entry as it is now. Texts are clean.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: MessageId,
    pub(super) sender: UserId,
    pub(super) time_ms: u64,
    pub(super) form: Form,
    pub(super) text: String,
    /// It is text, which its author may edit.
    pub(super) is_text: bool,
    pub(super) is_mention: bool,
    pub(super) is_recalled: bool,
    pub(super) is_hidden: bool,
    pub(super) revision: u32,
    pub(super) reactions: Vec<Reaction>,
    pub(super) reply_to: Option<u64>,
}

impl Row {
    pub(super) fn of(entry: &Entry, me: UserId) -> Self {
        let form = match entry.kind {
            _ if entry.state.hidden => Form::Unseen,
            kind::SYSTEM => Form::System,
            kind::GROUP => match entry.group_event() {
                Some(event) => Form::Happened(Happened::of(event)),
                None => Form::Unseen,
            },
            _ if entry.is_message() => Form::Said,
            _ => Form::Unseen,
        };
        let some = entry.state.reactions.iter().take(REACTIONS_MAX);
        let reactions = some.map(|one| Reaction { emoji: clean::line(&one.emoji), ..one.clone() });
        let is_empty = entry.state.recalled || form == Form::Unseen;
        Self {
            id: entry.id,
            sender: entry.sender,
            time_ms: entry.time_ms,
            text: if is_empty { String::new() } else { body(entry.kind, &entry.body) },
            form,
            is_text: entry.kind == kind::TEXT,
            is_mention: entry.is_message() && entry.mentions(me),
            is_recalled: entry.state.recalled,
            is_hidden: entry.state.hidden,
            revision: entry.state.revision,
            reactions: reactions.collect(),
            reply_to: entry.target.filter(|_| entry.is_message()),
        }
    }

    pub(super) fn is_shown(&self) -> bool {
        self.form != Form::Unseen
    }

    /// Whether it counts as unread, if it is somebody else's.
    pub(super) fn is_countable(&self) -> bool {
        self.is_hidden || matches!(self.form, Form::Said | Form::System)
    }

    pub(super) fn is_edited(&self) -> bool {
        self.revision > 0 && !self.is_recalled
    }
}

/// A body as it is shown.
pub(super) fn body(kind: u16, body: &Result<bytes::Bytes, Undecodable>) -> String {
    match body {
        Ok(bytes) if matches!(kind, kind::TEXT | kind::SYSTEM) => {
            clean::text(&String::from_utf8_lossy(bytes))
        }
        Ok(bytes) => format!("[{}, {} bytes]", named(kind), bytes.len()),
        Err(error) => format!("[{error}]"),
    }
}

fn named(kind: u16) -> String {
    match kind {
        kind::CUSTOM => "a message of another application".to_owned(),
        kind::IMAGE => "a picture".to_owned(),
        kind::FILE => "a file".to_owned(),
        kind::VOICE => "a voice message".to_owned(),
        kind::LOCATION => "a place".to_owned(),
        kind::CARD => "a card".to_owned(),
        other => format!("kind {other}"),
    }
}

#[derive(Debug)]
pub(super) struct Log {
    me: UserId,
    timeline: Timeline,
    rows: BTreeMap<u64, Row>,
}

impl Log {
    pub(super) fn new(me: UserId, conversation: ConversationId) -> Self {
        let timeline = Timeline::new(me, conversation, MESSAGES_MAX);
        Self { me, timeline, rows: BTreeMap::new() }
    }

    /// Every place that is loaded, also of what is not shown.
    pub(super) fn rows(&self) -> &BTreeMap<u64, Row> {
        &self.rows
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Row> {
        self.rows.get(&seq)
    }

    /// The user's own reaction that is shown like this, as it was given.
    pub(super) fn own_reaction(&self, seq: u64, shown: &str) -> Option<String> {
        let reactions = &self.timeline.get(seq)?.state.reactions;
        let own = reactions.iter().find(|one| one.own && clean::line(&one.emoji) == shown);
        own.map(|one| one.emoji.clone())
    }

    /// What is shown, in rising order.
    pub(super) fn shown(&self) -> impl DoubleEndedIterator<Item = (u64, &Row)> {
        self.rows.iter().filter(|(_, row)| row.is_shown()).map(|(seq, row)| (*seq, row))
    }

    /// Takes an entry, live or of a page.
    pub(super) fn entry(&mut self, entry: &Entry) {
        let redraw = self.timeline.entry(entry.clone());
        if kind::is_change(entry.kind) {
            self.rows.insert(entry.seq, Row::of(entry, self.me));
        }
        self.redraw(redraw);
    }

    /// The user has hidden entries, here or on another device.
    pub(super) fn hide(&mut self, seqs: &[u64]) {
        let redraw = self.timeline.hide(seqs);
        self.redraw(redraw);
    }

    pub(super) fn forget_before(&mut self, seq: u64) {
        self.timeline.forget_before(seq);
        self.rows = self.rows.split_off(&seq);
    }

    /// What lies above `to` never was.
    pub(super) fn reset(&mut self, conversation: ConversationId, to: u64) {
        let redraw = self.timeline.take(&Event::Reset { conversation, to });
        drop(self.rows.split_off(&(to + 1)));
        self.redraw(redraw);
    }

    fn redraw(&mut self, redraw: Redraw) {
        match redraw {
            Redraw::Nothing => {}
            Redraw::New(seq) | Redraw::Changed(seq) => {
                if let Some(entry) = self.timeline.get(seq) {
                    self.rows.insert(seq, Row::of(entry, self.me));
                }
            }
            Redraw::All => {
                let (timeline, me) = (&self.timeline, self.me);
                self.rows.retain(|seq, row| match timeline.get(*seq) {
                    Some(entry) => {
                        *row = Row::of(entry, me);
                        true
                    }
                    // Changes are in the entries that they change.
                    None => row.form == Form::Unseen && !row.is_hidden,
                });
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::entry::EntryState;

    const ME: UserId = UserId([1; 16]);
    const BOB: UserId = UserId([2; 16]);
    const HERE: ConversationId = ConversationId([9; 16]);

    fn entry(seq: u64, kind: u16, text: &str, target: Option<u64>) -> Entry {
        Entry {
            conversation: HERE,
            seq,
            id: MessageId([7; 16]),
            sender: BOB,
            time_ms: seq,
            count: seq,
            kind,
            body: Ok(text.to_owned().into()),
            target,
            mentions: vec![ME],
            state: EntryState::default(),
        }
    }

    #[test]
    fn texts_are_clean_before_anybody_sees_them() {
        let mut log = Log::new(ME, HERE);
        log.entry(&entry(1, kind::TEXT, "a\u{1b}[31mb", None));
        log.entry(&entry(2, kind::REACT, "x\u{202e}y", Some(1)));
        log.entry(&entry(3, kind::EDIT, "c\u{9b}d\u{200b}", Some(1)));
        let row = log.get(1).unwrap();
        assert_eq!(row.text, "c\u{fffd}d");
        assert_eq!(row.reactions[0].emoji, "x\u{fffd}y");
        assert!(row.is_edited() && row.is_mention);
        assert_eq!(log.shown().map(|(seq, _)| seq).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_is_gone_leaves_its_place() {
        let mut log = Log::new(ME, HERE);
        for seq in 1..=3 {
            log.entry(&entry(seq, kind::TEXT, "x", None));
        }
        log.entry(&entry(4, kind::RECALL, "", Some(1)));
        log.hide(&[2, 3]);
        assert!(log.get(1).is_some_and(|row| row.is_recalled && row.text.is_empty()));
        assert_eq!(log.shown().map(|(seq, _)| seq).collect::<Vec<_>>(), [1]);
        assert_eq!(log.rows().keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
        log.reset(HERE, 2);
        assert!(log.rows().is_empty(), "the recall is gone, so what it changed is read again");
        log.entry(&entry(5, 999, "of a newer version", None));
        assert_eq!(log.shown().count(), 0);
    }
}
