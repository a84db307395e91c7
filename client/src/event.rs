//! What a client hears.

use std::fmt;
use std::time::Duration;

use petrel_proto::code::Code;
use petrel_transport::Kind as TransportKind;

use crate::entry::{Entry, Preview};
use crate::id::{ConversationId, MessageId, UserId};
use crate::logged::OwnEvent;

/// Which conversation is meant: its id, and the other user when it is a pair's
/// (needed until the pair's conversation exists).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConversationRef {
    /// The conversation.
    pub id: ConversationId,
    /// The other one of a pair.
    pub peer: Option<UserId>,
}

impl From<ConversationId> for ConversationRef {
    fn from(id: ConversationId) -> Self {
        Self { id, peer: None }
    }
}

/// An own message is stored, here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acked {
    /// In which conversation.
    pub conversation: ConversationId,
    /// Which message.
    pub id: MessageId,
    /// Its place.
    pub seq: u64,
    /// When it was committed, Unix milliseconds; 0 if the server did not say.
    pub time_ms: u64,
}

/// An own message will not be stored; it has left the outbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// In which conversation.
    pub conversation: ConversationId,
    /// Which message.
    pub id: MessageId,
    /// Why. With [`Code::TooOld`] it may be stored; nobody knows any more. With
    /// [`Code::FromTheFuture`] the device's clock is wrong.
    pub code: Code,
    /// What was wrong, for people.
    pub text: String,
    /// The server's Unix time in milliseconds, if it said it.
    pub server_time_ms: Option<u64>,
}

/// Why entries are not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GapReason {
    /// They exist; [`crate::Client::history`] reads them.
    Skipped,
    /// Outside of the member's intervals.
    NotAMember,
    /// Removed by retention.
    Retention,
}

/// Another member's cursors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Whose; may be the client's own user (another device read on).
    pub user: UserId,
    /// All entries up to here have reached a device of theirs.
    pub delivered: u64,
    /// All up to here were on the screen.
    pub read: u64,
}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OfflineReason {
    /// The server could not be reached, or the connection broke.
    Lost(String),
    /// The server closed the connection, with this code.
    Closed(Code),
    /// Signing in was refused.
    SignInRefused(Code, String),
}

impl fmt::Display for OfflineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => write!(f, "connection lost: {why}"),
            Self::Closed(code) => write!(f, "closed by the server: {code}"),
            Self::SignInRefused(code, text) => write!(f, "sign-in refused: {code}: {text}"),
        }
    }
}

/// What a client hears. Those of one conversation come in the order of its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Signed in; after an Offline with the same session as before: the server is heard again.
    Online {
        /// Who the server says we are.
        user: UserId,
        /// The session's id, for reports.
        session: [u8; 16],
        /// The server's clock minus this device's, in milliseconds.
        clock_offset_ms: i64,
        /// What carries the connection.
        transport: TransportKind,
    },
    /// Not connected any more.
    Offline {
        /// Why.
        why: OfflineReason,
        /// When the next try is made; `None`: the client has given up.
        retry_in: Option<Duration>,
    },
    /// The next entry of a conversation; each comes once, in order, own ones too.
    Entry(Entry),
    /// A message that is not stored yet.
    Preview(Preview),
    /// An own message is stored.
    Acked(Acked),
    /// An own message will not be stored.
    Refused(Refused),
    /// Members' receipts moved.
    Receipts {
        /// Where.
        conversation: ConversationId,
        /// Whose, and where to.
        members: Vec<Receipt>,
    },
    /// These entries are not handed out; what follows them is.
    Gap {
        /// Where.
        conversation: ConversationId,
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
        /// Why.
        reason: GapReason,
    },
    /// The server's history is another one above `to`: drop what lies above; it comes anew.
    Reset {
        /// Where.
        conversation: ConversationId,
        /// The last entry that both sides have.
        to: u64,
    },
    /// The server confirms that a conversation's stream is attached.
    Attached {
        /// Where.
        conversation: ConversationId,
        /// The last entry's place.
        head: u64,
        /// Countable entries up to there.
        count: u64,
        /// The other one of a pair.
        peer: Option<UserId>,
    },
    /// A conversation cannot be attached; it is not shown live any more.
    AttachRefused {
        /// Which.
        conversation: ConversationId,
        /// Why.
        code: Code,
        /// What was wrong, for people.
        text: String,
    },
    /// Something happened in a conversation that has no stream.
    Hint {
        /// Where.
        conversation: ConversationId,
        /// Its last entry's place.
        head: u64,
        /// The other one of a pair.
        peer: Option<UserId>,
    },
    /// The user's own log says: a contact, the account, a device or a setting has changed.
    Own(OwnEvent),
    /// A part of the user's own log is not handed out, or has changed its history: load contacts,
    /// account and conversations anew.
    OwnMissed,
    /// Somebody writes, or does so no longer (also 6 s after the last sign of it, and with the
    /// message).
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// Whether.
        typing: bool,
    },
    /// A user that is watched is there, or is not.
    Presence {
        /// Who.
        user: UserId,
        /// Whether the user is there.
        online: bool,
        /// When the user was last there, Unix milliseconds; 0: never, or not known.
        seen_ms: u64,
    },
    /// The outbox's file cannot be written; nothing new is sent until it can.
    OutboxUnavailable {
        /// What the file system or database said.
        why: String,
    },
}

/// Hears events at once, on the task that caused them.
///
/// `event` must not block and must not wait; it may call [`crate::Client::send`] and the
/// like. Calls for one client never overlap.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn event(&self, event: Event);
}
