//! Requests about contacts.

use bytes::Bytes;
use petrel_proto::wire::{self, frame::What};

use super::account::{UserFound, user_found};
use super::check::{self, NAME_BYTES_MAX, TEXT_BYTES_MAX, numbered};
use super::unexpected;
use crate::client::Client;
use crate::error::ClientError;
use crate::id::UserId;

/// Contacts of one page, at the most.
pub(super) const PAGE_MAX: usize = 200;
/// Pages of one whole list, at the most (more contacts than a user may have).
const PAGES_MAX: usize = 256;
/// Bytes of the text of a request, at the most.
pub(super) const REQUEST_TEXT_BYTES_MAX: usize = 256;

numbered! {
    /// How far a friendship has come.
    Friendship {
        /// There is none.
        None = 0,
        /// The user has asked.
        Asked = 1,
        /// The other one has asked.
        Invited = 2,
        /// They are friends.
        Friends = 3,
    }
}

/// The user's relation to another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contact {
    /// The other one.
    pub user: UserFound,
    /// Whether they are friends.
    pub friendship: Friendship,
    /// The user follows the other one.
    pub follows: bool,
    /// The other one follows the user.
    pub is_followed: bool,
    /// The user blocks the other one.
    pub blocks: bool,
    /// The user's own name for the other one; empty for none.
    pub remark: String,
    /// What came with the open request.
    pub text: String,
    /// When it changed last, Unix milliseconds.
    pub changed_ms: u64,
}

impl Contact {
    /// Whether anything is left of it: without friendship, follows, remark and block it is no contact.
    pub fn is_gone(&self) -> bool {
        self.friendship == Friendship::None
            && !self.follows
            && !self.is_followed
            && !self.blocks
            && self.remark.is_empty()
    }
}

/// A change of the user's relation to another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ContactCommand {
    /// Asks to be friends, with a text of at most 256 bytes.
    Ask(String),
    /// Accepts the other one's request.
    Accept,
    /// Declines it, or takes back an own request.
    Decline,
    /// Friends no longer.
    Remove,
    /// The user's own name for the other one, at most 64 bytes; empty removes it.
    Remark(String),
    /// Follows, or does so no longer.
    Follow(bool),
    /// Blocks, or does so no longer.
    Block(bool),
}

/// One page of contacts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contacts {
    /// In the order of the users' ids.
    pub contacts: Vec<Contact>,
    /// Where the next page starts; empty after the last.
    pub next_page: Bytes,
    /// The head of the user's own log before this page was read.
    pub head: u64,
}

pub(crate) fn contact(said: wire::Contact) -> Result<Contact, ClientError> {
    let user =
        said.user.ok_or_else(|| ClientError::Protocol("a Contact without a user".to_owned()))?;
    Ok(Contact {
        user: user_found(user)?,
        friendship: Friendship::from_number(said.friendship),
        follows: said.follows,
        is_followed: said.is_followed,
        blocks: said.blocks,
        remark: check::text("a remark", said.remark, NAME_BYTES_MAX)?,
        text: check::text("a request's text", said.text, TEXT_BYTES_MAX)?,
        changed_ms: said.changed_ms,
    })
}

fn contact_command(command: ContactCommand) -> Result<wire::change_contact::What, ClientError> {
    use wire::change_contact::What as Wire;
    Ok(match command {
        ContactCommand::Ask(text) => {
            check::argument("text", text.len(), REQUEST_TEXT_BYTES_MAX)?;
            Wire::Ask(text)
        }
        ContactCommand::Accept => Wire::Accept(true),
        ContactCommand::Decline => Wire::Decline(true),
        ContactCommand::Remove => Wire::Remove(true),
        ContactCommand::Remark(remark) => {
            check::argument("remark", remark.len(), 64)?;
            Wire::Remark(remark)
        }
        ContactCommand::Follow(follow) => Wire::Follow(follow),
        ContactCommand::Block(block) => Wire::Block(block),
    })
}

impl Client {
    /// Changes the user's relation to another one; the answer is what it is now.
    ///
    /// # Errors
    /// What a request may meet; `NotFound` if there is no such user or request, `NotAccepted` or
    /// `Blocked` if the other one wants no requests, `LimitReached` for one contact too many.
    pub async fn change_contact(
        &self,
        user: UserId,
        command: ContactCommand,
    ) -> Result<Contact, ClientError> {
        let what = Some(contact_command(command)?);
        let request = What::ChangeContact(wire::ChangeContact { user: user.to_bytes(), what });
        let answer = self
            .shared()
            .request(request, |answer: &mut Option<Contact>, _, what| match what {
                What::Contact(said) => {
                    *answer = Some(contact(said)?);
                    Ok(true)
                }
                _ => Err(unexpected()),
            })
            .await?;
        answer.ok_or_else(unexpected)
    }

    /// One page of contacts; `page` is empty or [`Contacts::next_page`], `limit` at most 200, 0
    /// for the server's choice.
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn contacts(&self, page: Bytes, limit: u32) -> Result<Contacts, ClientError> {
        let request = What::ListContacts(wire::ListContacts { page, limit });
        let take = |answer: &mut Contacts, _, what| match what {
            What::Contact(said) if answer.contacts.len() < PAGE_MAX => {
                answer.contacts.push(contact(said)?);
                Ok(false)
            }
            What::Done(done) => {
                answer.next_page = check::page(done.next_page)?;
                answer.head = done.head;
                Ok(true)
            }
            _ => Err(unexpected()),
        };
        self.shared().request(request, take).await
    }

    /// All contacts, page by page. [`Contacts::head`] is that of before the first page: following
    /// the own log from there ([`Client::follow_own_log`]) misses no change.
    ///
    /// # Errors
    /// What a request may meet; [`ClientError::Protocol`] if the pages do not end.
    pub async fn all_contacts(&self) -> Result<Contacts, ClientError> {
        let mut all = self.contacts(Bytes::new(), 0).await?;
        for _ in 0..PAGES_MAX {
            if all.next_page.is_empty() {
                return Ok(all);
            }
            let next = self.contacts(std::mem::take(&mut all.next_page), 0).await?;
            all.contacts.extend(next.contacts);
            all.next_page = next.next_page;
        }
        Err(ClientError::Protocol("a list of contacts that does not end".to_owned()))
    }
}
