//! What is asked about groups.

use async_trait::async_trait;

use super::{StoreError, User};
use crate::change::{JoinLink, Role};
use crate::id::{ConversationId, Seq, UserId};

/// A line of a group's list of members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberLine {
    /// Who.
    pub user: User,
    /// What he is.
    pub role: Role,
    /// Until when he may not write: Unix milliseconds.
    pub muted_until_ms: u64,
}

/// Somebody who asks to join a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRequest {
    /// Who.
    pub user: User,
    /// What he says.
    pub text: String,
    /// When: Unix milliseconds.
    pub asked_ms: u64,
}

/// Groups and their members. (A group's state, with all members, is
/// [`super::Store::conversation`].)
///
/// # Errors
/// Every method answers [`StoreError`] when the store cannot do what it is asked.
#[async_trait]
pub trait GroupStore {
    /// One page of the present members in the order of their ids, after this one.
    async fn members(
        &self,
        group: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<MemberLine>, StoreError>;
    /// How many groups each of these users is a member of, in no order; those of none may be
    /// left out.
    async fn groups_of(&self, users: &[UserId]) -> Result<Vec<(UserId, u64)>, StoreError>;
    /// One page of open requests to join in the order of the users' ids, after this one.
    async fn join_requests(
        &self,
        group: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<JoinRequest>, StoreError>;
    /// Whether this user has asked to join, and how many open requests there are.
    async fn asks_to_join(
        &self,
        group: ConversationId,
        user: UserId,
    ) -> Result<(bool, u64), StoreError>;
    /// The link whose secret has this SHA-256.
    async fn link(&self, hash: [u8; 32]) -> Result<Option<JoinLink>, StoreError>;
    /// A group's links that have not expired at this Unix time in milliseconds, at most `limit`.
    async fn links(
        &self,
        group: ConversationId,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<JoinLink>, StoreError>;
    /// Members who have read up to here or further, in no order, at most `limit`.
    async fn read_by(
        &self,
        group: ConversationId,
        seq: Seq,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError>;
}
