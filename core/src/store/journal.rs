//! What several gateways on one store know of each other by it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::id::{ConversationId, NodeId, Seq, UserId};

/// One run of a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRecord {
    /// Of this run; another start has another id.
    pub id: NodeId,
    /// The operator's name of the gateway, which its certificate carries.
    pub name: String,
    /// Where its peers reach it: `HOST:PORT`.
    pub address: String,
    /// Where clients reach it itself, `HOST:PORT`; empty: by a balancer alone.
    pub clients: String,
    /// Of the program.
    pub version: String,
    /// Whether it sends its clients elsewhere.
    pub is_draining: bool,
}

/// A node as the store has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeLine {
    /// What it says of itself.
    pub node: NodeRecord,
    /// For how long it has not been heard, by the store's clock.
    pub silent: Duration,
    /// For how long it has run.
    pub age: Duration,
    /// Whether it has said good-bye.
    pub has_left: bool,
}

/// How far one lane of one node was read: what commits one transaction after the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct JournalMark {
    /// Whose.
    pub node: NodeId,
    /// Which of its lanes.
    pub lane: u32,
    /// The last row.
    pub number: u64,
}

/// One committed transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalRow {
    /// Which.
    pub mark: JournalMark,
    /// Where it left the logs that it wrote to.
    pub heads: Vec<(ConversationId, Seq)>,
}

/// The list of nodes and the journal, of a store that several gateways share.
///
/// # Errors
/// Every method answers [`StoreError`] when the store cannot do what it is asked.
#[async_trait]
pub trait Journal: Send + Sync + fmt::Debug {
    /// Says that this node lives; gives all nodes that were heard lately, this one too.
    async fn beat(&self, own: &NodeRecord) -> Result<Vec<NodeLine>, StoreError>;
    /// All nodes that were heard lately.
    async fn nodes(&self) -> Result<Vec<NodeLine>, StoreError>;
    /// Says that this node is going.
    async fn leave(&self, own: NodeId) -> Result<(), StoreError>;
    /// Where the lanes of these nodes stand now.
    async fn marks(&self, nodes: &[NodeId]) -> Result<Vec<JournalMark>, StoreError>;
    /// What these nodes have committed since then, each lane in its order, at most so many rows of a lane and of all of
    /// them. A lane that has no mark is read from its beginning.
    async fn read(
        &self,
        nodes: &[NodeId],
        marks: &[JournalMark],
        rows_max: (usize, usize),
    ) -> Result<Vec<JournalRow>, StoreError>;
    /// Forgets the rows of these lanes before their marks.
    async fn trim(&self, marks: &[JournalMark]) -> Result<(), StoreError>;
    /// Forgets nodes that were not heard for an hour, with their rows.
    async fn forget_gone(&self) -> Result<(), StoreError>;
    /// Members of these conversations, and who has just left, at the most so many of each, in no order.
    async fn members(
        &self,
        conversations: &[ConversationId],
        members_max: usize,
    ) -> Result<Vec<(ConversationId, UserId)>, StoreError>;
}

/// Lanes of one node, at the most; numbers are below it.
pub const LANES_MAX: u32 = 64;
