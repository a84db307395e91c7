//! The events of a history: what a client or the fault injector saw, and when.
//!
//! They are recorded *above* the client library: a delivery is what an
//! application was given, after the library has sorted and deduplicated. What
//! the library threw away may be recorded too, marked [`Way::Repeat`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// A fixed-width number written in hexadecimal, in JSON as a string.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $digits, "x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let whole = text.len() == $digits && text.bytes().all(|b| b.is_ascii_hexdigit());
                match <$inner>::from_str_radix(&text, 16) {
                    Ok(number) if whole => Ok(Self(number)),
                    _ => Err(format!("expected {} hex digits, found {text:?}", $digits)),
                }
            }
        }
    };
}

hex_id!(
    /// A user.
    User, u128, 32
);
hex_id!(
    /// A conversation.
    Conversation, u128, 32
);
hex_id!(
    /// The name a sender gave a message (`client_msg_id`), or the server one of its own entries.
    MessageId, u128, 32
);
hex_id!(
    /// A body's fingerprint; make it with [`Body::of`].
    Body, u64, 16
);

macro_rules! from_bytes {
    ($($name:ident)*) => {$(
        impl From<[u8; 16]> for $name {
            fn from(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }
    )*};
}
from_bytes!(User Conversation MessageId);

impl Body {
    /// FNV-1a, 64 bits: the same in every process and every build.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Self(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Microseconds; never falls within a process, comparable between the processes of a
    /// run up to [`Expectations::clock_skew_us`](super::Expectations::clock_skew_us).
    pub at_us: u64,
    /// The recording process. With the session number it names a device: a client that is
    /// started again with its device's stored state keeps both numbers.
    pub process: u32,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. `session` is one device's client, through all its reconnects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A session began; from now on it is online.
    SignIn { session: u64, user: User },
    /// A session ended by its own will, or its process was killed: nothing reaches it.
    SignOut { session: u64 },
    /// A message is handed over for sending. Once for every transmission: the same id again
    /// is a resend. A send without an outcome below is unknown.
    InvokeSend { session: u64, sender: User, conversation: Conversation, id: MessageId, body: Body },
    /// The server's acknowledgement. For the sending session it stands for the delivery too.
    AckSend { session: u64, conversation: Conversation, id: MessageId, seq: u64 },
    /// A refusal, or the client gave up. `definite`: this transmission was certainly not
    /// stored; otherwise its outcome is as unknown as without this event.
    FailSend {
        session: u64,
        conversation: Conversation,
        id: MessageId,
        code: String,
        definite: bool,
    },
    /// The application was given an entry.
    Deliver {
        session: u64,
        conversation: Conversation,
        seq: u64,
        /// None: an entry of the server's own (a membership change, a notice).
        sender: Option<User>,
        id: MessageId,
        body: Body,
        #[serde(default)]
        way: Way,
    },
    /// The application was shown a message that is not stored yet.
    Preview { session: u64, conversation: Conversation, sender: User, id: MessageId, body: Body },
    /// The session attached; the next delivery is `from + 1`. Before its first, a session
    /// counts as attached from 0. It may resume below where it was (its device lost its
    /// copy), never above.
    Resume { session: u64, conversation: Conversation, from: u64 },
    /// The session was told that it is not given `from..=to`.
    Gap { session: u64, conversation: Conversation, from: u64, to: u64, reason: GapReason },
    /// The session was told to drop its copy above `to`.
    Reset { session: u64, conversation: Conversation, to: u64 },
    /// `seq` is the first entry that the user may see.
    Join { user: User, conversation: Conversation, seq: u64 },
    /// `seq` is the last entry that the user may see.
    Leave { user: User, conversation: Conversation, seq: u64 },
    /// The marks of `user`, as this session knows them (its own, or a peer's).
    Receipt { session: u64, user: User, conversation: Conversation, delivered: u64, read: u64 },
    /// A conversation's line in the list that a session was given.
    Sync { session: u64, conversation: Conversation, head: u64, unread: u64 },
    /// A fault was injected, and took effect.
    Fault { kind: FaultKind, detail: String },
    /// From here on no fault is at work.
    Heal,
    /// What a fresh client that may see everything read at the end.
    FinalLog { conversation: Conversation, entries: Vec<LogEntry> },
    /// The recorder was full: so many events are missing.
    Truncated { missing: u64 },
}

/// One entry of the final log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogEntry {
    pub seq: u64,
    /// None: an entry of the server's own.
    pub sender: Option<User>,
    pub id: MessageId,
    pub body: Body,
}

/// How an entry came to the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// In the conversation's order: each the previous plus one.
    #[default]
    Live,
    /// In a page of history, or to fill a gap: in no order.
    Page,
    /// A wire-level repeat that the client library dropped; counted, and its content compared.
    Repeat,
}

/// Why a session is not given some entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// They lie outside the user's membership.
    NotMember,
    /// They lie below the retention floor.
    Expired,
    /// They are too many to push; the client fetches them in pages.
    TooMany,
}

/// The kinds of injected faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A process is killed without warning.
    Kill,
    /// A process is stopped, to go on later.
    Pause,
    /// A gateway is asked to drain.
    Drain,
    /// A network path is cut.
    Cut,
    /// A network path loses, delays or reorders packets.
    Degrade,
    /// A client's address changes.
    Rebind,
    /// The database answers late or not at all.
    StoreStall,
    /// The database restarts or fails over.
    StoreRestart,
    /// The database is set back to an earlier state.
    Restore,
    /// Redis is away, or has lost everything.
    RedisLoss,
}
