//! The store on PostgreSQL 12 and later.
//!
//! A small pool serves everything but batches; each writer has a connection of
//! its own ([`append::PostgresAppender`]), so that no page of history can keep
//! a commit waiting. Every statement goes by a key, so the planner is told not
//! to scan: a plan made while a table was empty would otherwise be kept when it
//! is large.

mod account;
mod append;
mod change;
mod connect;
mod conversation;
mod inspect;
mod journal;
mod log;
mod people;

use std::sync::Arc;

use async_trait::async_trait;
use petrel_core::entry::{Cursor, Entry};
use petrel_core::id::{ConversationId, DeviceId, UserId};
use petrel_core::store::{
    Appender, ConversationRecord, ConversationSummary, DeviceRecord, Durability, Journal, ListPage,
    NewAccount, Page, Receipt, Standing, Store, StoreError, User,
};
use sqlx::PgPool;

use crate::{OpenError, StoreOptions};
use connect::Connector;
pub(crate) use inspect::inspect;
use journal::Lanes;

/// Everything that gateways share, in one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    pool: PgPool,
    connector: Connector,
    /// If what is committed is written to the journal.
    lanes: Option<Arc<Lanes>>,
}

impl PostgresStore {
    /// Connects, brings the tables to this version, and opens the pool.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(url: &str, options: StoreOptions) -> Result<Self, OpenError> {
        let connector = Connector::new(url, options)?;
        connector.migrate().await?;
        let StoreOptions { node, pool_connections, acquire_timeout, .. } = connector.options;
        let lanes = node.map(|node| Lanes::new(node, pool_connections, acquire_timeout));
        Ok(Self { pool: connector.pool(), connector, lanes })
    }

    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.connector.options.deadline, work).await {
            Ok(answer) => answer.map_err(|error| connect::classify(&error)),
            Err(_) => Err(StoreError::Transient(format!(
                "no answer from {} within {:?}",
                self.connector.place, self.connector.options.deadline
            ))),
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn register(&self, account: &NewAccount) -> Result<bool, StoreError> {
        self.bounded(account::register(&self.pool, account)).await
    }

    async fn register_many(&self, accounts: &[NewAccount]) -> Result<(), StoreError> {
        for part in accounts.chunks(1_000) {
            self.bounded(account::register_many(&self.pool, part)).await?;
        }
        Ok(())
    }

    async fn users_by_name(&self, names: &[String]) -> Result<Vec<User>, StoreError> {
        self.bounded(account::users_by_name(&self.pool, names)).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        self.bounded(account::users(&self.pool, ids)).await
    }

    async fn device(&self, device: DeviceId) -> Result<Option<DeviceRecord>, StoreError> {
        self.bounded(account::device(&self.pool, device)).await
    }

    async fn ensure_pair(&self, a: UserId, b: UserId) -> Result<bool, StoreError> {
        self.bounded(conversation::ensure_pair(&self.pool, a, b)).await
    }

    async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<ConversationRecord>, StoreError> {
        self.bounded(conversation::load(&self.pool, id)).await
    }

    async fn set_block(
        &self,
        blocker: UserId,
        blocked: UserId,
        blocks: bool,
    ) -> Result<bool, StoreError> {
        self.bounded(conversation::set_block(&self.pool, blocker, blocked, blocks)).await
    }

    async fn entries(
        &self,
        conversation: ConversationId,
        reader: Option<UserId>,
        page: Page,
    ) -> Result<Vec<Entry>, StoreError> {
        self.bounded(log::entries(&self.pool, conversation, reader, page)).await
    }

    async fn standing(
        &self,
        conversation: ConversationId,
        cursors: &[Cursor],
    ) -> Result<Option<Standing>, StoreError> {
        self.bounded(log::standing(&self.pool, conversation, cursors)).await
    }

    async fn list(
        &self,
        user: UserId,
        page: ListPage,
    ) -> Result<Vec<ConversationSummary>, StoreError> {
        self.bounded(conversation::list(&self.pool, user, page)).await
    }

    async fn raise_receipts(
        &self,
        receipts: &[(ConversationId, UserId, Receipt)],
    ) -> Result<(), StoreError> {
        self.bounded(conversation::raise_receipts(&self.pool, receipts)).await
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        self.bounded(connect::durability(&self.pool)).await
    }

    fn appender(&self) -> Box<dyn Appender> {
        let lane = self.lanes.as_ref().map(|lanes| lanes.writer());
        Box::new(append::PostgresAppender::new(self.connector.clone(), lane))
    }

    fn writers(&self) -> usize {
        self.connector.options.writers.max(1)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn journal(&self) -> Option<&dyn Journal> {
        Some(self)
    }
}
