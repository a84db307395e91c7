//! Requests for the list of conversations and for parts of a log.

use bytes::Bytes;
use petrel_proto::wire::{self, Frame, frame::What};

use super::account::{MemberSettings, UserFound, member_settings, user_found};
use super::check;
use super::group::{Group, group};
use super::{bad, unexpected};
use crate::client::Client;
use crate::entry::Entry;
use crate::error::ClientError;
use crate::event::GapReason;
use crate::id::ConversationId;
use crate::incoming;
use crate::shared::Shared;

/// Lines of one page of the list that are believed.
const LINES_MAX: usize = 200;

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

/// Which part of the list of conversations to read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListRequest {
    /// Empty, or [`Summaries::next_page`].
    pub page: Bytes,
    /// Conversations, at most 100; 0: the server's choice.
    pub limit: u32,
    /// Only those with an entry at or after this Unix time in milliseconds; 0: all.
    pub since_ms: u64,
}

/// One conversation of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Which.
    pub conversation: ConversationId,
    /// Of a pair: the other one.
    pub peer: Option<UserFound>,
    /// Of a group: what it is.
    pub group: Option<Group>,
    /// Messages of others above the read cursor.
    pub unread: u64,
    /// Entries above the read cursor that mention the user.
    pub mentions: u64,
    /// The user's settings for it.
    pub settings: MemberSettings,
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

fn summary(frame: &Frame, said: wire::Summary) -> Result<Summary, ClientError> {
    let conversation = check::conversation(&said.conversation)?;
    let cursors = |receipt: Option<wire::MemberReceipt>| {
        receipt.map_or((0, 0), |receipt| (receipt.delivered, receipt.read))
    };
    let last =
        (frame.seq > 0).then(|| incoming::entry(conversation, frame).map_err(bad)).transpose()?;
    Ok(Summary {
        conversation,
        peer: said.peer.map(user_found).transpose()?,
        group: said.group.map(group).transpose()?,
        unread: said.unread,
        mentions: said.mentions,
        settings: said.settings.map(member_settings).unwrap_or_default(),
        own: cursors(said.own),
        peer_receipt: cursors(said.peer_receipt),
        last_activity_ms: said.last_activity_ms,
        last,
    })
}

impl Shared {
    pub(crate) async fn history(&self, page: PageRequest) -> Result<Page, ClientError> {
        let request = What::ReadHistory(wire::ReadHistory {
            conversation: page.conversation.to_bytes(),
            from: page.from,
            to: page.to,
            limit: page.limit,
            newest: page.newest,
        });
        let answered = self
            .request(request, move |answer: &mut Page, frame, what| {
                match what {
                    What::Push(_) => answer
                        .entries
                        .push(incoming::entry(page.conversation, &frame).map_err(bad)?),
                    What::Gap(gap) => answer.gaps.push(incoming::read_gap(&gap).map_err(bad)?),
                    What::Done(done) => {
                        answer.head = done.head;
                        return Ok(true);
                    }
                    _ => return Err(unexpected()),
                }
                Ok(false)
            })
            .await;
        let mut page = answered?;
        self.complete(page.entries.iter_mut().map(|entry| &mut entry.body)).await;
        Ok(page)
    }
}

impl Client {
    /// One page of a conversation's log.
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn history(&self, page: PageRequest) -> Result<Page, ClientError> {
        self.shared().history(page).await
    }

    /// One page of the list of conversations, most recently active first; `page` is empty or
    /// [`Summaries::next_page`].
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn list(&self, page: Bytes, limit: u32) -> Result<Summaries, ClientError> {
        self.list_since(ListRequest { page, limit, since_ms: 0 }).await
    }

    /// The same, with all that may be asked: conversations since a time, for a client that comes back.
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn list_since(&self, request: ListRequest) -> Result<Summaries, ClientError> {
        let ListRequest { page, limit, since_ms } = request;
        let request = What::ListConversations(wire::ListConversations { page, limit, since_ms });
        let shared = self.shared();
        let take = |answer: &mut Summaries, frame: Frame, what| match what {
            What::Summary(said) if answer.summaries.len() < LINES_MAX => {
                answer.summaries.push(summary(&frame, said)?);
                Ok(false)
            }
            What::Done(done) => {
                answer.next_page = check::page(done.next_page)?;
                Ok(true)
            }
            _ => Err(unexpected()),
        };
        let mut page = shared.request(request, take).await?;
        let last = page.summaries.iter_mut().filter_map(|line| line.last.as_mut());
        shared.complete(last.map(|entry| &mut entry.body)).await;
        Ok(page)
    }
}
