//! What is asked about contacts.

use async_trait::async_trait;

use super::{StoreError, User};
use crate::change::{Contact, Privacy};
use crate::id::{RightsVersion, UserId};

/// What two users are to each other, as one statement of the store sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelationRecord {
    /// The version of the first one's own log.
    pub own_version: RightsVersion,
    /// The version of the second one's own log.
    pub other_version: RightsVersion,
    /// The first one's side.
    pub own: Contact,
    /// The second one's side.
    pub other: Contact,
    /// Whether the first one blocks the second one.
    pub blocks: bool,
    /// Whether the second one blocks the first one.
    pub is_blocked: bool,
    /// What the second one lets others do.
    pub privacy: Privacy,
    /// How many contacts, of any state, the first one has.
    pub own_contacts: u64,
    /// How many the second one has.
    pub other_contacts: u64,
}

impl RelationRecord {
    /// Whether the two are contacts.
    pub fn is_contact(&self) -> bool {
        crate::relation::are_contacts(&self.own, &self.other)
    }
}

/// A line of a user's list of contacts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContactLine {
    /// The other one.
    pub user: User,
    /// The user's side.
    pub contact: Contact,
    /// Whether the other one follows the user.
    pub is_followed: bool,
    /// Whether the user blocks the other one.
    pub blocks: bool,
}

/// Contacts.
///
/// # Errors
/// Every method answers [`StoreError`] when the store cannot do what it is asked.
#[async_trait]
pub trait RelationStore {
    /// What two users are to each other; `None` if one of them does not exist. Makes their own
    /// logs if they are missing.
    async fn relation(
        &self,
        own: UserId,
        other: UserId,
    ) -> Result<Option<RelationRecord>, StoreError>;
    /// The same towards many, in no order; unknown users are left out. (Who may be put into a group?)
    async fn relations(
        &self,
        own: UserId,
        others: &[UserId],
    ) -> Result<Vec<(UserId, RelationRecord)>, StoreError>;
    /// One page of a user's contacts (and whom he blocks) in the order of their ids, after this one.
    async fn contacts(
        &self,
        owner: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<ContactLine>, StoreError>;
    /// Those of these users whose presence `watcher` may see, by their privacy, contacts and blocks.
    async fn visible_presence(
        &self,
        watcher: UserId,
        users: &[UserId],
    ) -> Result<Vec<UserId>, StoreError>;
}
