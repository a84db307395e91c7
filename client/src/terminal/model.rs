//! All that the screen shows. Texts and names in here are clean.

use std::collections::{BTreeMap, HashMap};

use petrel_proto::code::Code;
use petrel_transport::Kind as TransportKind;

use ratatui::layout::Position;

use super::action::Action;
use super::composer::Composer;
pub(super) use super::conversation::{Conversation, GroupState, Last, Pending, Shown};
use super::people::People;
use super::prompt::Prompt;
use super::sheet::Sheet;
use crate::event::ConversationRef;
use crate::id::{ConversationId, DeviceId, UserId};
use crate::stats::Stats;

/// Conversations that are listed, at the most.
pub(super) const CONVERSATIONS_MAX: usize = 1_000;
/// Messages that are loaded of the conversation on the screen, at the most.
pub(super) const MESSAGES_MAX: usize = 2_000;
/// The same of one that is not on the screen.
pub(super) const MESSAGES_AWAY_MAX: usize = 50;
/// Requests to join that are known, at the most.
const JOINS_MAX: usize = 1_000;
/// Users whose presence is watched, at the most (the protocol's limit).
pub(super) const PRESENT_MAX: usize = 500;
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

/// Whether somebody is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// Was there last at this time; 0: not known.
    Away(u64),
}

/// How the connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    Connecting,
    Online(TransportKind),
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
    Sheet(Sheet),
    Menu(Menu),
}

/// What can be done with the selected message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Menu {
    pub(super) actions: Vec<Action>,
    pub(super) at: usize,
    /// Where it was asked for.
    pub(super) place: Position,
}

/// What the text that is written will be, if it is no new message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Composing {
    Reply { seq: u64 },
    Edit { seq: u64, revision: u32 },
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
    pub(super) people: People,
    /// Whose presence is watched.
    pub(super) watched: Vec<UserId>,
    /// What was told of it.
    pub(super) present: HashMap<UserId, Presence>,
    pub(super) conversations: HashMap<ConversationId, Conversation>,
    /// Who asks to join a group, with what text.
    pub(super) joins: BTreeMap<(ConversationId, UserId), String>,
    /// The devices that were listed last.
    pub(super) devices: Vec<DeviceId>,
    /// The list's order.
    pub(super) order: Vec<ConversationId>,
    pub(super) selected: Option<ConversationId>,
    pub(super) composer: Composer,
    /// Where others are told that the user writes.
    pub(super) writing: Option<ConversationId>,
    /// A password is asked for.
    pub(super) prompt: Option<Prompt>,
    pub(super) composing: Option<Composing>,
    pub(super) completion: Option<Completion>,
    /// The message that is selected.
    pub(super) picked: Option<u64>,
    /// Keys move the selection and do something with it.
    pub(super) is_picking: bool,
    pub(super) overlay: Option<Overlay>,
    pub(super) search: Option<Search>,
    /// A message that has to come onto the screen.
    pub(super) wanted: Option<u64>,
    pub(super) notice: Option<(String, u64)>,
    pub(super) link: Link,
    /// Contacts are known, and changes of them are told.
    pub(super) has_contacts: bool,
    pub(super) stats: Stats,
    pub(super) now_ms: u64,
    /// What the last frame looked like.
    pub(super) drawn: super::view::Drawn,
}

impl Model {
    pub(super) fn new(me: UserId, my_name: &str, now_ms: u64) -> Self {
        Self {
            me,
            people: People::new(me, my_name),
            watched: Vec::new(),
            present: HashMap::new(),
            conversations: HashMap::new(),
            joins: BTreeMap::new(),
            devices: Vec::new(),
            order: Vec::new(),
            selected: None,
            composer: Composer::default(),
            writing: None,
            prompt: None,
            composing: None,
            completion: None,
            picked: None,
            is_picking: false,
            overlay: None,
            search: None,
            wanted: None,
            notice: None,
            link: Link::Connecting,
            has_contacts: false,
            stats: Stats::default(),
            now_ms,
            drawn: super::view::Drawn::default(),
        }
    }

    /// A user's name as it is shown.
    pub(super) fn name(&self, user: UserId) -> String {
        self.people.name(user)
    }

    pub(super) fn title(&self, conversation: &Conversation) -> String {
        match (conversation.to.peer, &conversation.group) {
            (Some(peer), _) => self.name(peer),
            (None, Some(group)) => group.profile.name.clone(),
            (None, None) => {
                let mut id = conversation.to.id.to_string();
                id.truncate(8);
                id
            }
        }
    }

    /// Somebody asks to join a group.
    pub(super) fn join_asked(&mut self, conversation: ConversationId, user: UserId, text: &str) {
        if self.joins.len() < JOINS_MAX {
            self.joins.insert((conversation, user), super::clean::line(text));
        }
    }

    pub(super) fn is_present(&self, user: UserId) -> bool {
        self.present.get(&user) == Some(&Presence::Here)
    }

    /// How many ask for something: to be friends, to join a group.
    pub(super) fn asking(&self) -> usize {
        self.people.asking() + self.joins.len()
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

    /// The conversation, made if it is missing and there is room. The own log is none to be shown.
    pub(super) fn conversation(&mut self, to: ConversationRef) -> Option<&mut Conversation> {
        if to.id == ConversationId::of_user(self.me) {
            return None;
        }
        if !self.conversations.contains_key(&to.id) {
            if self.conversations.len() >= CONVERSATIONS_MAX {
                return None;
            }
            self.conversations.insert(to.id, Conversation::new(self.me, to));
            self.order.push(to.id);
        }
        let known = self.conversations.get_mut(&to.id)?;
        known.to.peer = known.to.peer.or(to.peer);
        Some(known)
    }

    /// Brings the list into its order: what is pinned, then what happened last comes first; what
    /// is archived comes last.
    pub(super) fn sort(&mut self) {
        let conversations = &self.conversations;
        self.order.sort_by_key(|id| {
            let known = conversations.get(id);
            let settings = known.map(|known| known.settings).unwrap_or_default();
            let last = known.map_or(0, |known| known.last_activity_ms);
            (
                settings.archived,
                std::cmp::Reverse(settings.pinned_ms),
                std::cmp::Reverse(last),
                *id.as_bytes(),
            )
        });
    }
}

/// What a refusal means to somebody who writes.
pub(super) fn refusal(code: Code, text: &str) -> String {
    let said = super::clean::line(text);
    let colon = if said.is_empty() { "" } else { ": " };
    format!("{code}{colon}{said}")
}
