//! The conversations in memory: loaded on first use (one load however many
//! ask), forgotten when idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{Mutex, MutexGuard};
use petrel_core::conversation::{Conversation, SendRules};
use petrel_core::error::Rejection;
use petrel_core::id::{ConversationId, RightsVersion};
use petrel_core::store::{Append, Store, StoreError};
use petrel_storage::budget::Share;
use rustc_hash::FxHashMap;

use crate::clock;
use crate::cluster::Interest;
use crate::fanout::Origin;
use crate::fanout::large::LargeQueue;

const SHARDS: usize = 64;

/// One conversation in memory. Its lock is held for lines, never over an await,
/// and never two at once; it comes before the session table's and the queues'.
#[derive(Debug)]
pub(crate) struct Cell {
    id: ConversationId,
    state: Mutex<Option<Conversation<Origin>>>,
    loading: tokio::sync::Mutex<()>,
    share: Share,
    large: LargeQueue,
    interest: Mutex<Interest>,
    used_s: AtomicU32,
    doubted_s: AtomicU32,
}

impl Cell {
    /// Which conversation.
    pub(crate) fn id(&self) -> ConversationId {
        self.id
    }

    /// Its share of the channel to storage.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// What waits to be handed out to many handles.
    pub(crate) fn large(&self) -> &LargeQueue {
        &self.large
    }

    /// At which other gateways its members are, if they are many. Its lock comes after the conversation's.
    pub(crate) fn interest(&self) -> &Mutex<Interest> {
        &self.interest
    }

    /// Judges a message by what is known here.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn admit(
        &self,
        append: &Append,
        rules: &SendRules,
    ) -> Result<RightsVersion, Rejection> {
        self.with(|c| c.admit(append, rules, clock::unix_ms())).unwrap_or(Err(Rejection::NotFound))
    }

    /// Whether what is known of its rights may be doubted now, and read again: once a second.
    pub(crate) fn may_doubt(&self) -> bool {
        let now_s = clock::coarse_s();
        self.doubted_s.swap(now_s, Ordering::Relaxed) != now_s
    }

    /// The state; `None` only while the first load has not succeeded, which no
    /// holder of a cell from [`ConversationTable::get`] sees.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Conversation<Origin>>> {
        self.state.lock()
    }

    /// Runs `f` on the state, locked.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Conversation<Origin>) -> R) -> Option<R> {
        self.state.lock().as_mut().map(f)
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct ConversationTable {
    shards: Vec<Mutex<FxHashMap<ConversationId, Arc<Cell>>>>,
}

impl Default for ConversationTable {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl ConversationTable {
    /// The conversation, from memory or the store; `None` if there is none.
    ///
    /// # Errors
    /// If the store had to be asked and did not answer.
    pub(crate) async fn get(
        &self,
        id: ConversationId,
        store: &dyn Store,
        make_share: impl Fn() -> Share,
    ) -> Result<Option<Arc<Cell>>, StoreError> {
        loop {
            let cell = Arc::clone(self.shard(id).lock().entry(id).or_insert_with(|| {
                Arc::new(Cell {
                    id,
                    state: Mutex::new(None),
                    loading: tokio::sync::Mutex::new(()),
                    share: make_share(),
                    large: LargeQueue::default(),
                    interest: Mutex::default(),
                    used_s: AtomicU32::new(0),
                    doubted_s: AtomicU32::new(0),
                })
            }));
            cell.used_s.store(clock::coarse_s(), Ordering::Relaxed);
            if cell.state.lock().is_some() {
                return Ok(Some(cell));
            }
            let loading = cell.loading.lock().await;
            if cell.state.lock().is_some() {
                drop(loading);
                return Ok(Some(cell));
            }
            // Whoever loaded before us may have found nothing and taken the cell
            // out. There must never be two cells of one conversation in use.
            if !self.holds(&cell) {
                continue;
            }
            let found = store.conversation(id).await;
            if let Ok(Some(record)) = found {
                *cell.state.lock() = Some(Conversation::new(record));
                drop(loading);
                return Ok(Some(cell));
            }
            self.shard(id).lock().remove(&id);
            return found.map(|_| None);
        }
    }

    /// The conversation, if it is in memory.
    pub(crate) fn cached(&self, id: ConversationId) -> Option<Arc<Cell>> {
        let cell = self.shard(id).lock().get(&id).cloned()?;
        let loaded = cell.state.lock().is_some();
        loaded.then_some(cell)
    }

    /// Forgets what nobody used since `before_s` and nothing is under way in.
    pub(crate) fn forget_idle(&self, before_s: u32) {
        let now_s = clock::coarse_s();
        for shard in &self.shards {
            shard.lock().retain(|_, cell| {
                // One count is the table's own; new ones are only made under this
                // shard's lock, and whoever loads holds one.
                Arc::strong_count(cell) > 1
                    || cell.used_s.load(Ordering::Relaxed) >= before_s
                    || cell.with(|c| {
                        c.forget_refused(now_s);
                        !c.is_idle()
                    }) == Some(true)
            });
        }
    }

    /// How many are in memory.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    fn holds(&self, cell: &Arc<Cell>) -> bool {
        self.shard(cell.id).lock().get(&cell.id).is_some_and(|held| Arc::ptr_eq(held, cell))
    }

    fn shard(&self, id: ConversationId) -> &Mutex<FxHashMap<ConversationId, Arc<Cell>>> {
        // The ids are hashes or random, so any byte spreads evenly.
        &self.shards[usize::from(id.as_bytes()[0]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    #![allow(clippy::disallowed_methods, reason = "each task that is spawned is awaited")]
    use std::time::Duration;

    use petrel_core::id::UserId;
    use petrel_storage::StoreOptions;
    use petrel_storage::budget::Budget;

    use super::*;
    use crate::account::new_account;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_conversation_that_is_made_while_others_look_for_it_has_one_cell() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("t.db").display());
        let store = petrel_storage::open(&url, StoreOptions::default()).await.unwrap();
        let users: Vec<UserId> = {
            let accounts: Vec<_> =
                (0..40).map(|n| new_account(format!("user{n}"), String::new()).0).collect();
            store.register_many(&accounts).await.unwrap();
            accounts.iter().map(|a| a.user.id).collect()
        };
        let budget = Budget::new(64, Duration::ZERO);
        let table = Arc::new(ConversationTable::default());
        for pair in users.chunks(2) {
            let (a, b) = (pair[0], pair[1]);
            let id = ConversationId::of_pair(a, b);
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    let (table, store, budget) =
                        (Arc::clone(&table), Arc::clone(&store), budget.clone());
                    let look = async move {
                        let get = || table.get(id, store.as_ref(), || budget.conversation_share());
                        match get().await.unwrap() {
                            Some(cell) => cell,
                            None => {
                                store.ensure_pair(a, b).await.unwrap();
                                get().await.unwrap().unwrap()
                            }
                        }
                    };
                    tokio::task::spawn(look)
                })
                .collect();
            let mut cells = Vec::new();
            for task in tasks {
                cells.push(task.await.unwrap());
            }
            assert!(cells.iter().all(|cell| Arc::ptr_eq(cell, &cells[0])));
        }
    }
}
