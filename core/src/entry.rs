//! Entries: what a conversation's log consists of.

use bytes::Bytes;

use crate::id::{ClientMessageId, ConversationId, RightsVersion, Seq, UserId};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $family:ident;)*) => {
        /// What an entry is. Numbers are the wire's and the store's; they never change
        /// their meaning, and new kinds only add numbers.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u16)]
        pub enum EntryKind {
            $($(#[$doc])* $name = $number,)*
        }

        impl EntryKind {
            /// Every kind, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Who may write it, and what it does.
            pub fn family(self) -> Family {
                match self { $(Self::$name => Family::$family,)* }
            }
        }
    };
}

kinds! {
    /// A message with text in UTF-8.
    Text = 1, Message;
    /// A message whose body only the application understands.
    Custom = 2, Message;
    /// A picture: the body refers to it.
    Image = 3, Message;
    /// A file: the body refers to it.
    File = 4, Message;
    /// A voice message: the body refers to it.
    Voice = 5, Message;
    /// A place.
    Location = 6, Message;
    /// A card: a contact, a link, a form.
    Card = 7, Message;
    /// A message of the service itself; no client sends it.
    System = 8, Service;

    /// The body replaces that of the target.
    Edit = 32, Change;
    /// The target's body is removed, for everybody.
    Recall = 33, Change;
    /// The body, an emoji, is added to the target's reactions of this sender.
    React = 34, Change;
    /// The body, an emoji, is taken from them.
    Unreact = 35, Change;

    /// The members or the profile of a group have changed; the body is an Event.
    Group = 48, Event;

    /// In a user's own log: a contact has changed; the body is an Event.
    Contact = 64, Event;
    /// In a user's own log: account, privacy or a setting has changed; the body is an Event.
    Account = 65, Event;
    /// In a user's own log: a device was added or revoked; the body is an Event.
    Device = 66, Event;
    /// In a user's own log: settings for one conversation, or entries hidden there; the body is an Event.
    Conversation = 67, Event;
    /// In a user's own log: somebody asks to join a group that the user looks after; the body is an Event.
    JoinRequest = 68, Event;
}

/// Who may write entries of a kind, and what they do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// Members send it; it counts towards unread.
    Message,
    /// The service writes it; it counts towards unread.
    Service,
    /// Members send it; it changes an earlier entry, its target.
    Change,
    /// A committed request wrote it: what happened, in the order of the log.
    Event,
}

impl EntryKind {
    /// The number on the wire and in the store.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The kind with this number; `None` if this version knows none.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| u32::from(k.number()) == number)
    }

    /// Whether it counts towards unread (a message does).
    pub fn is_countable(self) -> bool {
        matches!(self.family(), Family::Message | Family::Service)
    }

    /// Whether a client may send it.
    pub fn is_sendable(self) -> bool {
        matches!(self.family(), Family::Message | Family::Change)
    }
}

/// Where a committed entry stands, as the committing transaction gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Its place in the conversation.
    pub seq: Seq,
    /// How many countable entries there are up to and including it.
    pub count: u64,
    /// When it was committed: Unix milliseconds of the committing host's clock, read
    /// after the conversation's lock was taken.
    pub time_ms: u64,
    /// The conversation's rights version at the commit.
    pub rights_version: RightsVersion,
}

/// One committed entry of a conversation's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The conversation whose log it is in.
    pub conversation: ConversationId,
    /// Its place, count, time and rights version.
    pub placed: Placed,
    /// Its id: the sender's `client_msg_id`.
    pub id: ClientMessageId,
    /// Who caused it.
    pub sender: UserId,
    /// The kind's number. Not [`EntryKind`]: an entry of a kind that a newer
    /// version wrote is handed on unread.
    pub kind: u16,
    /// How `body` is encoded (the table in `petrel_proto::compression`).
    pub encoding: u32,
    /// The opaque body, as it is now (an edit replaces it, a recall empties it).
    pub body: Bytes,
    /// The entry that it is about: of a message the one that it replies to, of a change the
    /// one that it changes.
    pub target: Option<Seq>,
    /// Who is mentioned; [`EVERYBODY`] stands for all members.
    pub mentions: Vec<UserId>,
    /// What changed it since it was committed.
    pub changes: Changes,
    /// Whether its reader wants to see it no more: a page gives it with an empty body.
    pub hidden: bool,
}

/// In place of a user in a list of mentions: all members.
pub const EVERYBODY: UserId = UserId([0; 16]);

/// What later entries did to an entry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Edits and recalls so far. An edit names the revision that it was made from.
    pub revision: u32,
    /// Whether it was recalled.
    pub recalled: bool,
    /// The last entry that changed it (edit, recall, reaction): readers skip changes up to it.
    pub last: Seq,
    /// Its reactions, most frequent first.
    pub reactions: Vec<ReactionCount>,
}

/// How often one reaction was given to an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReactionCount {
    /// The reaction.
    pub emoji: String,
    /// Members who gave it.
    pub count: u32,
    /// Whether the reader is one of them.
    pub own: bool,
}

/// A position in a conversation, proved by the entry there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Cursor {
    /// The last entry that was seen; zero for none.
    pub seq: Seq,
    /// Proves which entry that was ([`Self::tail_of`]); zeros when `seq` is zero.
    pub tail: [u8; 8],
}

impl Cursor {
    /// What a cursor carries of the entry it stands on: the last 8 bytes of its id, XOR the
    /// time of its commit as 8 bytes (big-endian Unix milliseconds). The id alone would not do: after a
    /// restored backup a message that is sent again can get its old place back
    /// behind a history that has changed.
    pub fn tail_of(id: ClientMessageId, time_ms: u64) -> [u8; 8] {
        let mut tail = time_ms.to_be_bytes();
        for (byte, of_id) in tail.iter_mut().zip(&id.as_bytes()[8..]) {
            *byte ^= of_id;
        }
        tail
    }

    /// The cursor that stands on an entry.
    pub fn of(entry: &Entry) -> Self {
        let Placed { seq, time_ms, .. } = entry.placed;
        Self { seq, tail: Self::tail_of(entry.id, time_ms) }
    }
}
