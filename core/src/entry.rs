//! Entries: what a conversation's log consists of.

use bytes::Bytes;

use crate::id::{ClientMessageId, ConversationId, RightsVersion, Seq, UserId};

/// What an entry is. Numbers are the wire's and the store's; they never change
/// their meaning, and new kinds only add numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum EntryKind {
    /// A message with text in UTF-8.
    Text = 1,
    /// A message whose body only the application understands.
    Custom = 2,
}

impl EntryKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 2] = [Self::Text, Self::Custom];

    /// The number on the wire and in the store.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The kind with this number; `None` if this version knows none.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|k| u32::from(k.number()) == number)
    }

    /// Whether it counts towards unread (a message does).
    pub fn is_countable(self) -> bool {
        match self {
            Self::Text | Self::Custom => true,
        }
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
    /// The opaque body, as stored.
    pub body: Bytes,
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
