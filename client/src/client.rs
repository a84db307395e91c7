//! The client's handle.

use std::sync::Arc;

use bytes::Bytes;

use crate::cursor::Cursor;
use crate::error::{ClientError, SendError, SendOutcomeError};
use crate::event::{Acked, ConversationRef, Event, Observer};
use crate::id::{ConversationId, MessageId, UserId};
use crate::options::ClientOptions;
use crate::request::{Page, PageRequest, Summaries, UserFound};

/// A signed-in device that stays signed in. A clone is another handle on the same
/// client; when the last one is dropped the connection is closed.
#[derive(Clone, Debug)]
pub struct Client {}

/// The events of one client, in order. When they are not taken, the server is not read on.
#[derive(Debug)]
pub struct Events {}

impl Events {
    /// The next event; `None` once the client is closed and everything was taken. Asking for
    /// the next one says that the last one was dealt with: cursors and delivered receipts move then.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::pending().await
    }
}

/// How a client is doing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Whether it is signed in.
    pub online: bool,
    /// The smoothed round trip, in microseconds; 0 when not connected.
    pub rtt_us: u64,
    /// Packets lost on this connection.
    pub lost_packets: u64,
    /// Packets sent on this connection.
    pub sent_packets: u64,
    /// UDP payload received on this connection, in bytes.
    pub udp_rx_bytes: u64,
    /// UDP payload sent on this connection, in bytes.
    pub udp_tx_bytes: u64,
    /// Sign-ins after the first.
    pub reconnects: u64,
    /// Messages sent again.
    pub resends: u64,
    /// Entries that came twice and were dropped.
    pub duplicates: u64,
    /// Holes that were filled from history.
    pub fills: u64,
    /// Messages without an answer.
    pub outbox_len: usize,
    /// Bytes of their bodies.
    pub outbox_bytes: usize,
    /// Conversations that state is kept of.
    pub conversations: usize,
    /// Conversation streams that are open.
    pub streams: usize,
}

#[allow(
    unused_variables,
    clippy::unused_async,
    clippy::missing_panics_doc,
    reason = "the shape comes first"
)]
impl Client {
    /// Starts a client, which dials at once and stays online until it is closed.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] if an option or the outbox's file is not usable.
    pub async fn start(options: ClientOptions) -> Result<(Self, Events), ClientError> {
        unimplemented!()
    }

    /// The same, with events handed to `observer` on the tasks that cause them.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub async fn start_with_observer(
        options: ClientOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ClientError> {
        unimplemented!()
    }

    /// Waits until it is signed in.
    ///
    /// # Errors
    /// [`ClientError::Closed`] or [`ClientError::Refused`] when it has given up.
    pub async fn online(&self) -> Result<(), ClientError> {
        unimplemented!()
    }

    /// Whose client this is.
    pub fn user(&self) -> UserId {
        unimplemented!()
    }

    /// The conversation with another user.
    pub fn pair(&self, peer: UserId) -> ConversationRef {
        unimplemented!()
    }

    /// Puts a message into the outbox and returns at once. What becomes of it comes as
    /// [`Event::Acked`] or [`Event::Refused`].
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send(
        &self,
        conversation: &ConversationRef,
        kind: u16,
        body: impl Into<Bytes>,
    ) -> Result<MessageId, SendError> {
        unimplemented!()
    }

    /// Sends a message and waits for its place, however long that takes.
    ///
    /// # Errors
    /// [`SendOutcomeError`].
    pub async fn send_and_wait(
        &self,
        conversation: &ConversationRef,
        kind: u16,
        body: impl Into<Bytes>,
    ) -> Result<Acked, SendOutcomeError> {
        unimplemented!()
    }

    /// Shows a conversation live: everything after `from` (`None`: after what this client
    /// handed out last, or from the start), then everything new, across reconnects.
    ///
    /// # Errors
    /// [`SendError::TooManyConversations`] or [`SendError::Closed`].
    pub fn attach(
        &self,
        conversation: &ConversationRef,
        from: Option<Cursor>,
    ) -> Result<(), SendError> {
        unimplemented!()
    }

    /// Shows it no longer live; its cursor is kept.
    pub fn detach(&self, conversation: ConversationId) {
        unimplemented!()
    }

    /// Everything up to `seq` was on the screen.
    pub fn read_up_to(&self, conversation: ConversationId, seq: u64) {
        unimplemented!()
    }

    /// The newest cursor that is handed out and dealt with, for applications that keep their own.
    pub fn cursor(&self, conversation: ConversationId) -> Option<Cursor> {
        unimplemented!()
    }

    /// One page of a conversation's log.
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn history(&self, page: PageRequest) -> Result<Page, ClientError> {
        unimplemented!()
    }

    /// One page of the list of conversations, most recently active first; `page` is empty or
    /// [`Summaries::next_page`].
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn list(&self, page: Bytes, limit: u32) -> Result<Summaries, ClientError> {
        unimplemented!()
    }

    /// Those of these users that exist; at most 100 names and ids in all.
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn find_users(
        &self,
        names: &[&str],
        users: &[UserId],
    ) -> Result<Vec<UserFound>, ClientError> {
        unimplemented!()
    }

    /// Blocks a user, or lifts the block.
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn set_block(&self, user: UserId, blocks: bool) -> Result<(), ClientError> {
        unimplemented!()
    }

    /// The device's network changed: the connection moves to a new socket (if the
    /// endpoint is the client's own), and a client that waits to dial dials at once.
    pub fn network_changed(&self) {
        unimplemented!()
    }

    /// How it is doing. Takes the connection's lock: sample it, don't call it per message.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }

    /// Waits until the outbox is empty.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn flush(&self) -> Result<(), ClientError> {
        unimplemented!()
    }

    /// Says what is still to be said (receipts), closes the connection and waits until
    /// all tasks have ended and the outbox's file is closed.
    pub async fn close(self) {
        unimplemented!()
    }
}
