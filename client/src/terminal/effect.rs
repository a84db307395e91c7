//! What the shell is to do, and what comes back.

use bytes::Bytes;

use super::view::Drawn;
use crate::draft::Draft;
use crate::event::{ConversationRef, Event};
use crate::id::{ConversationId, DeviceId, MessageId, UserId};
use crate::request::{
    Audience, Contact, ContactCommand, Contacts, Device, Group, GroupCommand, JoinBy, JoinRequest,
    Joins, Link, MemberSettings, Members, Page, Password, Role, Summaries, UserFound,
};
use crate::stats::Stats;

/// What is sent: a message, or a change of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Saying {
    Text { text: String, reply_to: Option<u64>, mentions: Vec<UserId> },
    Edit { target: u64, revision: u32, text: String },
    Recall { target: u64 },
    React { target: u64, emoji: String, is_given: bool },
}

impl Saying {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), reply_to: None, mentions: Vec::new() }
    }

    pub(super) fn draft(&self) -> Draft {
        match self {
            Self::Text { text, reply_to, mentions } => {
                let draft = Draft::text(text.clone());
                let draft = mentions.iter().fold(draft, |draft, user| draft.mention(*user));
                match reply_to {
                    Some(seq) => draft.reply_to(*seq),
                    None => draft,
                }
            }
            Self::Edit { target, revision, text } => {
                Draft::edit(*target, *revision, text.clone().into_bytes())
            }
            Self::Recall { target } => Draft::recall(*target),
            Self::React { target, emoji, is_given: true } => Draft::react(*target, emoji.clone()),
            Self::React { target, emoji, .. } => Draft::unreact(*target, emoji.clone()),
        }
    }

    /// What was typed for it.
    pub(super) fn typed(&self) -> Option<&str> {
        match self {
            Self::Text { text, .. } | Self::Edit { text, .. } => Some(text),
            Self::Recall { .. } | Self::React { .. } => None,
        }
    }
}

/// What a user is looked up for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    Open {
        text: String,
    },
    Contact(ContactCommand),
    /// Accepts or declines what the user asks for: to be friends, or to join a group.
    Answer {
        accepts: bool,
    },
    NewGroup {
        name: String,
    },
    Add(ConversationId),
    Remove(ConversationId),
    SetRole(ConversationId, Role),
    Mute(ConversationId, u64),
    Transfer(ConversationId),
}

/// One field of a group's profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProfileChange {
    Name(String),
    Muted(bool),
    Joins(Joins),
}

/// What others may do, each for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privately {
    Messages,
    Groups,
    Presence,
}

/// What the service is asked, beside what is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Removes an entry from the user's own view.
    Hide {
        conversation: ConversationId,
        seq: u64,
    },
    /// Who has read a message.
    ReadBy {
        conversation: ConversationId,
        seq: u64,
    },
    NewGroup {
        name: String,
        users: Vec<UserId>,
    },
    ChangeGroup {
        conversation: ConversationId,
        command: GroupCommand,
    },
    ChangeProfile {
        conversation: ConversationId,
        change: ProfileChange,
    },
    Join(JoinBy),
    Link(ConversationId),
    /// A page of members: to be shown, or so that their names are known.
    Members {
        conversation: ConversationId,
        page: Bytes,
        is_shown: bool,
    },
    JoinRequests(ConversationId),
    /// All contacts; from then on the own log is followed.
    Contacts,
    ChangeContact {
        user: UserId,
        command: ContactCommand,
    },
    Devices,
    /// Signs a device out for good; `None`: all others.
    Revoke(Option<DeviceId>),
    Settings {
        conversation: ConversationId,
        settings: MemberSettings,
    },
    Nick(String),
    Privacy {
        what: Privately,
        audience: Audience,
    },
    Password {
        old: Option<Password>,
        new: Password,
    },
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    DrawAnew,
    Attach(ConversationRef),
    List,
    /// A page of history that ends at `to`; 0: at the newest.
    History {
        conversation: ConversationId,
        to: u64,
    },
    Read {
        conversation: ConversationId,
        seq: u64,
    },
    Send {
        to: ConversationRef,
        what: Saying,
    },
    Ask(Ask),
    Names(Vec<UserId>),
    /// What a group is now.
    Group(ConversationId),
    /// Whose presence is to be told.
    Watch(Vec<UserId>),
    /// The user writes there, or does so no longer.
    Typing {
        conversation: ConversationId,
        is_typing: bool,
    },
    Find {
        names: Vec<String>,
        purpose: Purpose,
    },
}

/// What came.
#[derive(Debug)]
pub(super) enum Input {
    Terminal(crossterm::event::Event),
    Client(Event),
    Stats(Stats),
    /// A message went into the outbox.
    Queued {
        to: ConversationRef,
        id: MessageId,
        what: Saying,
    },
    Listed(Summaries),
    Page {
        conversation: ConversationId,
        page: Page,
    },
    NoPage {
        conversation: ConversationId,
        why: String,
    },
    Names(Vec<UserFound>),
    Group {
        conversation: ConversationId,
        group: Option<Group>,
    },
    Found {
        names: Vec<String>,
        purpose: Purpose,
        found: Vec<UserFound>,
    },
    Answered(Answer),
    /// Something was done, or was not.
    Said(String),
    Drawn(Drawn),
    Clock(u64),
}

/// What the service said to an [`Ask`].
#[derive(Debug)]
pub(super) enum Answer {
    Readers(Vec<UserId>),
    Hidden {
        conversation: ConversationId,
        seq: u64,
    },
    /// The user is in a group, or has asked to be.
    Joined(Group),
    /// What a group is after the user changed it.
    Changed(Group),
    Link {
        conversation: ConversationId,
        link: Link,
    },
    Members {
        conversation: ConversationId,
        members: Members,
        is_shown: bool,
    },
    JoinRequests {
        conversation: ConversationId,
        requests: Vec<JoinRequest>,
    },
    Contacts(Contacts),
    Contact(Contact),
    Devices(Vec<Device>),
    Settings {
        conversation: ConversationId,
        settings: MemberSettings,
    },
}
