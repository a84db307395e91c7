//! Entries of a log, as the application is given them.

use std::fmt;

use bytes::Bytes;

use crate::body::Undecodable;
use crate::id::{ConversationId, MessageId, UserId};

/// Entry kinds that this version knows (docs/protocol.md, "Kinds").
pub mod kind {
    /// UTF-8 text.
    pub const TEXT: u16 = 1;
    /// The application's own format.
    pub const CUSTOM: u16 = 2;
    /// A picture; the body refers to it.
    pub const IMAGE: u16 = 3;
    /// A file; the body refers to it.
    pub const FILE: u16 = 4;
    /// A voice message; the body refers to it.
    pub const VOICE: u16 = 5;
    /// A place.
    pub const LOCATION: u16 = 6;
    /// A card: a contact, a link, a form.
    pub const CARD: u16 = 7;
    /// UTF-8 text of the service itself; no client sends it.
    pub const SYSTEM: u16 = 8;
    /// Replaces the body of its target.
    pub const EDIT: u16 = 32;
    /// Removes the body of its target.
    pub const RECALL: u16 = 33;
    /// Adds a reaction to its target.
    pub const REACT: u16 = 34;
    /// Takes a reaction from its target.
    pub const UNREACT: u16 = 35;
    /// What happened to a group ([`crate::Entry::group_event`]).
    pub const GROUP: u16 = 48;
    /// In the own log: a contact has changed.
    pub const CONTACT: u16 = 64;
    /// In the own log: the account, privacy or a setting has changed.
    pub const ACCOUNT: u16 = 65;
    /// In the own log: devices have changed.
    pub const DEVICE: u16 = 66;
    /// In the own log: settings for one conversation, or entries hidden there.
    pub const CONVERSATION: u16 = 67;
    /// In the own log: a request to join a group.
    pub const JOIN_REQUEST: u16 = 68;

    /// Whether entries of this kind are messages: they count towards unread.
    pub fn is_message(kind: u16) -> bool {
        matches!(kind, TEXT..=SYSTEM)
    }

    /// Whether entries of this kind change an earlier one, their target.
    pub fn is_change(kind: u16) -> bool {
        matches!(kind, EDIT..=UNREACT)
    }
}

/// In place of a user in a list of mentions: all members.
pub const EVERYBODY: UserId = UserId([0; 16]);

/// How often one reaction was given to an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reaction {
    /// The reaction.
    pub emoji: String,
    /// By how many.
    pub count: u32,
    /// Whether the user is one of them.
    pub own: bool,
}

/// What became of an entry since it was committed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntryState {
    /// Edits and recalls so far. An edit names the revision that it was made from.
    pub revision: u32,
    /// The seq of the last entry that changed this one: changes up to it are in here already.
    pub changed: u64,
    /// It was recalled: the body is empty.
    pub recalled: bool,
    /// The user has hidden it: the body is empty.
    pub hidden: bool,
    /// Reactions to it.
    pub reactions: Vec<Reaction>,
}

/// An entry of a conversation's log.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose entry it is.
    pub conversation: ConversationId,
    /// Its place: 1, 2, 3, ...
    pub seq: u64,
    /// The message's id.
    pub id: MessageId,
    /// Who caused it.
    pub sender: UserId,
    /// When it was committed, Unix milliseconds.
    pub time_ms: u64,
    /// Countable entries up to and including it.
    pub count: u64,
    /// What it is ([`kind`]). Kinds of a newer version are handed out too, to be passed over.
    pub kind: u16,
    /// The decoded body as it is now, or why it cannot be decoded.
    pub body: Result<Bytes, Undecodable>,
    /// The entry that this one is about: a message replies to it, a change changes it.
    pub target: Option<u64>,
    /// Who is mentioned; [`EVERYBODY`] stands for all members.
    pub mentions: Vec<UserId>,
    /// What became of it, up to when it was sent to this client.
    pub state: EntryState,
}

impl Entry {
    /// Whether it is a message (not a change, an event or something newer).
    pub fn is_message(&self) -> bool {
        kind::is_message(self.kind)
    }

    /// The body as text; `None` if it is undecodable or not UTF-8.
    pub fn text(&self) -> Option<&str> {
        self.body.as_ref().ok().and_then(|body| std::str::from_utf8(body).ok())
    }

    /// Whether it mentions this user, or everybody.
    pub fn mentions(&self, user: UserId) -> bool {
        self.mentions.iter().any(|mentioned| *mentioned == user || *mentioned == EVERYBODY)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("conversation", &self.conversation)
            .field("seq", &self.seq)
            .field("id", &self.id)
            .field("sender", &self.sender)
            .field("kind", &self.kind)
            .field("body_bytes", &self.body.as_ref().map(Bytes::len))
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// A message that is not stored yet: shown greyed, dropped after 60 s or when
/// the entry with this sender and id comes.
#[derive(Clone, PartialEq, Eq)]
pub struct Preview {
    /// Where it will appear.
    pub conversation: ConversationId,
    /// The message's id.
    pub id: MessageId,
    /// Who sent it.
    pub sender: UserId,
    /// What it is ([`kind`]).
    pub kind: u16,
    /// The decoded body, or why it cannot be decoded.
    pub body: Result<Bytes, Undecodable>,
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preview")
            .field("conversation", &self.conversation)
            .field("id", &self.id)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}
