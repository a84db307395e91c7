//! The user's own log: what changes contacts, account, devices and settings, on whichever device.

use crate::client::Client;
use crate::cursor::Cursor;
use crate::error::ClientError;
use crate::event::ConversationRef;
use crate::id::ConversationId;
use crate::request::PageRequest;

impl Client {
    /// The user's own log, a conversation that only the service writes into.
    pub fn own_log(&self) -> ConversationId {
        self.shared().own_log
    }

    /// Follows the own log from here on, across reconnects: after `from`, or where this client
    /// stood last, or from its start. Changes come as [`crate::Event::Own`], those made while the
    /// client was away too; [`crate::Event::OwnMissed`] says that some are not told.
    ///
    /// # Errors
    /// [`crate::SendError::TooManyConversations`] or [`crate::SendError::Closed`].
    pub fn follow_own_log(&self, from: Option<Cursor>) -> Result<(), crate::SendError> {
        self.attach(&ConversationRef::from(self.own_log()), from)
    }

    /// The cursor of an entry of the own log, for [`Client::follow_own_log`]: after loading
    /// everything, that of [`crate::Contacts::head`]. `None` for 0, or if the entry is not there.
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn own_log_cursor(&self, seq: u64) -> Result<Option<Cursor>, ClientError> {
        if seq == 0 {
            return Ok(None);
        }
        let conversation = self.own_log();
        let page = PageRequest { conversation, from: seq, to: seq, limit: 1, newest: false };
        let page = self.history(page).await?;
        Ok(page.entries.first().filter(|entry| entry.seq == seq).map(Cursor::of))
    }
}
