//! Requests: one stream each.

use bytes::Bytes;
use petrel_proto::wire;

use crate::error::ClientError;
use crate::event::{Entry, GapReason};
use crate::id::{ConversationId, UserId};

/// Which part of a conversation's log to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// Of which conversation.
    pub conversation: ConversationId,
    /// The first seq wanted.
    pub from: u64,
    /// The last seq wanted; 0: the head.
    pub to: u64,
    /// Entries, at most 200; 0: the server's choice.
    pub limit: u32,
    /// Whether the page ends at `to` instead of starting at `from`.
    pub newest: bool,
}

/// A part of a conversation's log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The entries, in rising order.
    pub entries: Vec<Entry>,
    /// What is missing among them: first, last, why.
    pub gaps: Vec<(u64, u64, GapReason)>,
    /// The conversation's last entry's place.
    pub head: u64,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserFound {
    /// Who.
    pub user: UserId,
    /// The user's name.
    pub name: String,
}

/// One conversation of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Which.
    pub conversation: ConversationId,
    /// Of a pair: the other one.
    pub peer: Option<UserFound>,
    /// Messages of others above the read cursor.
    pub unread: u64,
    /// Own cursors: delivered and read.
    pub own: (u64, u64),
    /// The peer's cursors: delivered and read.
    pub peer_receipt: (u64, u64),
    /// When something happened last, Unix milliseconds.
    pub last_activity_ms: u64,
    /// The last entry.
    pub last: Option<Entry>,
}

/// One page of the list of conversations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summaries {
    /// Most recently active first.
    pub summaries: Vec<Summary>,
    /// Where the next page starts; empty after the last.
    pub next_page: Bytes,
}

pub(crate) async fn register(
    _connection: &quinn::Connection,
    _user_name: &str,
    _device_label: &str,
) -> Result<wire::Registered, ClientError> {
    std::future::pending().await
}
