//! One conversation as it is shown. Texts in here are clean.

use std::collections::{BTreeMap, VecDeque};

use super::happened::{Happened, Profile};
use super::log::{Form, Log, Row};
use crate::event::{ConversationRef, GapReason, Receipt};
use crate::id::{MessageId, UserId};
use crate::request::{Group, MemberSettings, Role};

/// Members whose receipts are known, at the most (the protocol tells no more).
const RECEIPTS_MAX: usize = 100;

/// Own changes whose names are kept for the case that they are refused, at the most.
const CHANGES_MAX: usize = 256;

/// An own message without an answer, or one that was refused.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) id: MessageId,
    pub(super) text: String,
    pub(super) reply_to: Option<u64>,
    pub(super) refused: Option<String>,
}

/// A preview.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) id: MessageId,
    pub(super) sender: UserId,
    pub(super) text: String,
    pub(super) until_ms: u64,
}

/// A group, as its member knows it.
#[derive(Debug, Clone)]
pub(super) struct GroupState {
    pub(super) profile: Profile,
    pub(super) members: u64,
    pub(super) role: Role,
}

impl GroupState {
    pub(super) fn of(group: &Group) -> Self {
        let profile = Profile::of(&group.profile);
        Self { profile, members: group.members, role: group.role }
    }
}

/// What the list tells of a conversation's end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Last {
    #[default]
    Nothing,
    Said(UserId, String),
    Recalled(UserId),
    Happened(UserId, Happened),
}

impl Last {
    pub(super) fn of(row: &Row) -> Self {
        match &row.form {
            Form::Unseen => Self::Nothing,
            Form::Happened(happened) => Self::Happened(row.sender, happened.clone()),
            Form::Said | Form::System if row.is_recalled => Self::Recalled(row.sender),
            Form::Said | Form::System => Self::Said(row.sender, row.text.replace('\n', " ")),
        }
    }
}

#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) to: ConversationRef,
    pub(super) group: Option<GroupState>,
    pub(super) settings: MemberSettings,
    /// The names of its members, or of the first ones, were asked for.
    pub(super) is_introduced: bool,
    /// What the group is now is being asked for.
    pub(super) is_group_asked: bool,
    pub(super) unread: u64,
    pub(super) mentions: u64,
    pub(super) typing: Vec<UserId>,
    pub(super) read: u64,
    /// Others' cursors: delivered, read.
    pub(super) receipts: BTreeMap<UserId, (u64, u64)>,
    pub(super) last_activity_ms: u64,
    pub(super) last: Last,
    pub(super) log: Log,
    pub(super) gaps: BTreeMap<u64, (u64, GapReason)>,
    pub(super) pending: VecDeque<Pending>,
    /// Own changes without an answer, and what they are called.
    pub(super) changes: BTreeMap<MessageId, &'static str>,
    pub(super) previews: VecDeque<Shown>,
    pub(super) head: u64,
    pub(super) is_attached: bool,
    /// Older entries are being read.
    pub(super) is_loading: bool,
    /// There is nothing older.
    pub(super) has_start: bool,
    /// The first message that was new when the conversation came onto the screen.
    pub(super) new_from: Option<u64>,
    /// Rows below the screen.
    pub(super) scroll: usize,
}

impl Conversation {
    pub(super) fn new(me: UserId, to: ConversationRef) -> Self {
        Self {
            to,
            group: None,
            settings: MemberSettings::default(),
            is_introduced: false,
            is_group_asked: false,
            unread: 0,
            mentions: 0,
            typing: Vec::new(),
            read: 0,
            receipts: BTreeMap::new(),
            last_activity_ms: 0,
            last: Last::Nothing,
            log: Log::new(me, to.id),
            gaps: BTreeMap::new(),
            pending: VecDeque::new(),
            changes: BTreeMap::new(),
            previews: VecDeque::new(),
            head: 0,
            is_attached: false,
            is_loading: false,
            has_start: false,
            new_from: None,
            scroll: 0,
        }
    }

    /// The first place that is known, as an entry or as a gap.
    pub(super) fn oldest(&self) -> Option<u64> {
        let first = self.log.rows().keys().next().copied();
        let gap = self.gaps.keys().next().copied();
        first.into_iter().chain(gap).min()
    }

    /// Drops the oldest entries above `max`.
    pub(super) fn trim(&mut self, max: usize) {
        let above = self.log.rows().len().saturating_sub(max);
        if above > 0
            && let Some(first) = self.log.rows().keys().nth(above).copied()
        {
            self.log.forget_before(first);
            self.has_start = false;
        }
        if let Some(first) = self.log.rows().keys().next().copied() {
            let before = self.gaps.len();
            let is_full = self.log.rows().len() >= max;
            self.gaps.retain(|_, (to, _)| *to >= first || !is_full);
            self.has_start &= self.gaps.len() == before;
        }
    }

    /// A change is under way.
    pub(super) fn change(&mut self, id: MessageId, what: &'static str) {
        while self.changes.len() >= CHANGES_MAX {
            self.changes.pop_first();
        }
        self.changes.insert(id, what);
    }

    /// Takes another member's receipt.
    pub(super) fn receipt(&mut self, said: Receipt) {
        if self.receipts.len() < RECEIPTS_MAX || self.receipts.contains_key(&said.user) {
            let (delivered, read) = self.receipts.entry(said.user).or_default();
            *delivered = (*delivered).max(said.delivered);
            *read = (*read).max(said.read);
        }
    }

    /// How many others it has reached, and how many have read it.
    pub(super) fn reached(&self, seq: u64) -> (usize, usize) {
        let of = |(delivered, read): &(u64, u64)| (seq <= *delivered.max(read), seq <= *read);
        let all = self.receipts.values().map(of);
        all.fold((0, 0), |(reached, read), (has, saw)| {
            (reached + usize::from(has), read + usize::from(saw))
        })
    }

    /// Others' messages above the read cursor, as far as they are loaded.
    pub(super) fn count_unread(&mut self, me: UserId) {
        let above = self.log.rows().range(self.read + 1..).map(|(_, row)| row);
        let (mut unread, mut mentions) = (0, 0);
        for row in above.filter(|row| row.sender != me && row.is_countable()) {
            unread += 1;
            mentions += u64::from(row.is_mention);
        }
        (self.unread, self.mentions) = (unread, mentions);
    }

    /// What the list tells of its end follows what is loaded.
    pub(super) fn tell_last(&mut self) {
        if let Some((_, row)) = self.log.shown().next_back() {
            self.last = Last::of(row);
        }
    }
}
