//! All that the screen shows. Texts and names in here are clean.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use petrel_proto::code::Code;

use super::composer::Composer;
use crate::client::Stats;
use crate::event::{ConversationRef, GapReason};
use crate::id::{ConversationId, MessageId, UserId};

/// Conversations that are listed, at the most.
pub(super) const CONVERSATIONS_MAX: usize = 1_000;
/// Messages that are loaded of the conversation on the screen, at the most.
pub(super) const MESSAGES_MAX: usize = 2_000;
/// The same of one that is not on the screen.
pub(super) const MESSAGES_AWAY_MAX: usize = 50;
/// Names that are remembered, at the most; then all are asked for anew.
pub(super) const NAMES_MAX: usize = 10_000;
/// Unconfirmed messages of one conversation that are shown, at the most.
pub(super) const PENDING_MAX: usize = 4_096;
/// Previews of one conversation, at the most.
pub(super) const PREVIEWS_MAX: usize = 64;
/// Different reactions to one message that are shown, at the most.
pub(super) const REACTIONS_MAX: usize = 20;
/// Users of one conversation who are shown as writing, at the most.
pub(super) const TYPING_MAX: usize = 8;
/// How long a preview is shown.
pub(super) const PREVIEW_MS: u64 = 60_000;
/// How long a notice is shown.
pub(super) const NOTICE_MS: u64 = 8_000;

/// A message that is stored.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) sender: UserId,
    pub(super) time_ms: u64,
    pub(super) text: String,
    /// Whether it counts as unread.
    pub(super) is_countable: bool,
    /// It changes another one and is not shown itself.
    pub(super) is_change: bool,
    pub(super) is_edited: bool,
    pub(super) is_recalled: bool,
    /// The last entry that changed it.
    pub(super) changed: u64,
    pub(super) reactions: Vec<(String, u32)>,
    pub(super) reply_to: Option<u64>,
}

impl Message {
    pub(super) fn text(id: MessageId, sender: UserId, time_ms: u64, text: String) -> Self {
        Self {
            id,
            sender,
            time_ms,
            text,
            is_countable: true,
            is_change: false,
            is_edited: false,
            is_recalled: false,
            changed: 0,
            reactions: Vec::new(),
            reply_to: None,
        }
    }
}

/// An own message without an answer, or one that was refused.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) id: MessageId,
    pub(super) text: String,
    pub(super) refused: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) id: MessageId,
    pub(super) sender: UserId,
    pub(super) text: String,
    pub(super) until_ms: u64,
}

#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) to: ConversationRef,
    /// A group's.
    pub(super) name: Option<String>,
    pub(super) unread: u64,
    pub(super) mentions: u64,
    pub(super) typing: Vec<UserId>,
    pub(super) read: u64,
    pub(super) peer_delivered: u64,
    pub(super) peer_read: u64,
    pub(super) last_activity_ms: u64,
    /// The last message, for the list.
    pub(super) last: String,
    pub(super) messages: BTreeMap<u64, Message>,
    pub(super) gaps: BTreeMap<u64, (u64, GapReason)>,
    pub(super) pending: VecDeque<Pending>,
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
    pub(super) fn new(to: ConversationRef) -> Self {
        Self {
            to,
            name: None,
            unread: 0,
            mentions: 0,
            typing: Vec::new(),
            read: 0,
            peer_delivered: 0,
            peer_read: 0,
            last_activity_ms: 0,
            last: String::new(),
            messages: BTreeMap::new(),
            gaps: BTreeMap::new(),
            pending: VecDeque::new(),
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
        let first = self.messages.keys().next().copied();
        let gap = self.gaps.keys().next().copied();
        first.into_iter().chain(gap).min()
    }

    /// Drops the oldest messages above `max`.
    pub(super) fn trim(&mut self, max: usize) {
        while self.messages.len() > max {
            self.messages.pop_first();
            self.has_start = false;
        }
        if let Some(first) = self.messages.keys().next().copied() {
            let before = self.gaps.len();
            self.gaps.retain(|_, (to, _)| *to >= first || self.messages.len() < max);
            self.has_start &= self.gaps.len() == before;
        }
    }
}

/// How the connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    Connecting,
    Online,
    /// The next try is made at this time.
    Waiting {
        why: String,
        at_ms: u64,
    },
    /// No more tries.
    Stopped {
        why: String,
    },
}

/// What covers the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Overlay {
    Help { scroll: u16 },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    pub(super) text: String,
    /// The message that is shown now.
    pub(super) at: Option<u64>,
    pub(super) matches: usize,
}

/// What Tab goes through.
#[derive(Debug, Clone)]
pub(super) struct Completion {
    pub(super) choices: Vec<String>,
    pub(super) at: usize,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) me: UserId,
    pub(super) names: HashMap<UserId, String>,
    /// Who of those that are watched is there.
    pub(super) present: HashSet<UserId>,
    pub(super) conversations: HashMap<ConversationId, Conversation>,
    /// The list's order.
    pub(super) order: Vec<ConversationId>,
    pub(super) selected: Option<ConversationId>,
    pub(super) composer: Composer,
    pub(super) completion: Option<Completion>,
    pub(super) overlay: Option<Overlay>,
    pub(super) search: Option<Search>,
    /// A message that has to come onto the screen.
    pub(super) wanted: Option<u64>,
    pub(super) notice: Option<(String, u64)>,
    pub(super) link: Link,
    pub(super) stats: Stats,
    pub(super) now_ms: u64,
    /// What the last frame looked like.
    pub(super) drawn: super::view::Drawn,
}

impl Model {
    pub(super) fn new(me: UserId, my_name: &str, now_ms: u64) -> Self {
        Self {
            me,
            names: HashMap::from([(me, super::clean::line(my_name))]),
            present: HashSet::new(),
            conversations: HashMap::new(),
            order: Vec::new(),
            selected: None,
            composer: Composer::default(),
            completion: None,
            overlay: None,
            search: None,
            wanted: None,
            notice: None,
            link: Link::Connecting,
            stats: Stats::default(),
            now_ms,
            drawn: super::view::Drawn::default(),
        }
    }

    /// A user's name, or the start of the id as long as it is not known.
    pub(super) fn name(&self, user: UserId) -> String {
        self.names.get(&user).cloned().unwrap_or_else(|| {
            let mut id = user.to_string();
            id.truncate(8);
            id
        })
    }

    pub(super) fn title(&self, conversation: &Conversation) -> String {
        match (conversation.to.peer, &conversation.name) {
            (Some(peer), _) => self.name(peer),
            (None, Some(name)) => name.clone(),
            (None, None) => {
                let mut id = conversation.to.id.to_string();
                id.truncate(8);
                id
            }
        }
    }

    pub(super) fn on_screen(&self) -> Option<&Conversation> {
        self.conversations.get(&self.selected?)
    }

    pub(super) fn on_screen_mut(&mut self) -> Option<&mut Conversation> {
        self.conversations.get_mut(&self.selected?)
    }

    pub(super) fn say(&mut self, notice: impl Into<String>) {
        self.notice = Some((super::clean::line(&notice.into()), self.now_ms + NOTICE_MS));
    }

    /// The conversation, made if it is missing and there is room.
    pub(super) fn conversation(&mut self, to: ConversationRef) -> Option<&mut Conversation> {
        if !self.conversations.contains_key(&to.id) {
            if self.conversations.len() >= CONVERSATIONS_MAX {
                return None;
            }
            self.conversations.insert(to.id, Conversation::new(to));
            self.order.push(to.id);
        }
        let known = self.conversations.get_mut(&to.id)?;
        known.to.peer = known.to.peer.or(to.peer);
        Some(known)
    }

    /// Brings the list into its order: what happened last comes first.
    pub(super) fn sort(&mut self) {
        let conversations = &self.conversations;
        self.order.sort_by_key(|id| {
            let last = conversations.get(id).map_or(0, |known| known.last_activity_ms);
            (std::cmp::Reverse(last), *id.as_bytes())
        });
    }
}

/// What a refusal means to somebody who writes.
pub(super) fn refusal(code: Code, text: &str) -> String {
    let said = super::clean::line(text);
    let colon = if said.is_empty() { "" } else { ": " };
    format!("{code}{colon}{said}")
}
