//! The conversations in memory: loaded on first use (one load however many
//! ask), forgotten when idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{Mutex, MutexGuard};
use petrel_core::conversation::Conversation;
use petrel_core::id::ConversationId;
use petrel_core::store::{Store, StoreError};
use petrel_storage::budget::Share;
use rustc_hash::FxHashMap;

use crate::clock;
use crate::fanout::Origin;

const SHARDS: usize = 64;

/// One conversation in memory. Its lock is held for lines, never over an await,
/// and never two at once; it comes before the session table's and the queues'.
#[derive(Debug)]
pub(crate) struct Cell {
    id: ConversationId,
    state: Mutex<Option<Conversation<Origin>>>,
    loading: tokio::sync::Mutex<()>,
    share: Share,
    used_s: AtomicU32,
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
        make_share: impl FnOnce() -> Share,
    ) -> Result<Option<Arc<Cell>>, StoreError> {
        let cell = Arc::clone(self.shard(id).lock().entry(id).or_insert_with(|| {
            Arc::new(Cell {
                id,
                state: Mutex::new(None),
                loading: tokio::sync::Mutex::new(()),
                share: make_share(),
                used_s: AtomicU32::new(0),
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
        let found = match store.conversation(id).await {
            Ok(Some(record)) => {
                *cell.state.lock() = Some(Conversation::new(record));
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        drop(loading);
        match found {
            Ok(true) => Ok(Some(cell)),
            Ok(false) => {
                self.forget(&cell);
                Ok(None)
            }
            Err(error) => {
                self.forget(&cell);
                Err(error)
            }
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
        for shard in &self.shards {
            shard.lock().retain(|_, cell| {
                // One count is the table's own; new ones are only made under this shard's lock.
                Arc::strong_count(cell) > 1
                    || cell.used_s.load(Ordering::Relaxed) >= before_s
                    || cell.state.lock().as_ref().is_some_and(|c| !c.is_idle())
            });
        }
    }

    /// How many are in memory.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    fn forget(&self, cell: &Arc<Cell>) {
        let mut shard = self.shard(cell.id).lock();
        if shard.get(&cell.id).is_some_and(|c| Arc::ptr_eq(c, cell)) && cell.state.lock().is_none()
        {
            shard.remove(&cell.id);
        }
    }

    fn shard(&self, id: ConversationId) -> &Mutex<FxHashMap<ConversationId, Arc<Cell>>> {
        // The ids are hashes or random, so any byte spreads evenly.
        &self.shards[usize::from(id.as_bytes()[0]) % SHARDS]
    }
}
