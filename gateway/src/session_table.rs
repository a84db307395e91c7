//! Who is signed in here: user -> sessions of all devices, in shards.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use parking_lot::Mutex;
use petrel_core::id::UserId;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::session::Session;

const SHARDS: usize = 64;

/// The table. A shard's lock is held for lines, never over an await; it comes
/// after a conversation's lock and before a send queue's.
#[derive(Debug)]
pub(crate) struct SessionTable {
    shards: Vec<Mutex<FxHashMap<UserId, Vec<Arc<Session>>>>>,
}

impl Default for SessionTable {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl SessionTable {
    /// Adds a session; says whether the user had fewer than `sessions_max` before.
    pub(crate) fn insert(&self, session: Arc<Session>, sessions_max: usize) -> bool {
        let mut shard = self.shard(session.user()).lock();
        let sessions = shard.entry(session.user()).or_default();
        if sessions.len() >= sessions_max {
            return false;
        }
        sessions.push(session);
        true
    }

    /// Takes a session out.
    pub(crate) fn remove(&self, session: &Arc<Session>) {
        let mut shard = self.shard(session.user()).lock();
        if let Some(sessions) = shard.get_mut(&session.user()) {
            sessions.retain(|s| !Arc::ptr_eq(s, session));
            if sessions.is_empty() {
                shard.remove(&session.user());
            }
        }
    }

    /// Calls `f` for each of the user's sessions.
    pub(crate) fn for_each(&self, user: UserId, mut f: impl FnMut(&Arc<Session>)) {
        if let Some(sessions) = self.shard(user).lock().get(&user) {
            sessions.iter().for_each(&mut f);
        }
    }

    /// How many sessions a user has here.
    pub(crate) fn count(&self, user: UserId) -> usize {
        self.shard(user).lock().get(&user).map_or(0, Vec::len)
    }

    /// Every session, as of some moment.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.shards
            .iter()
            .flat_map(|s| s.lock().values().flatten().cloned().collect::<Vec<_>>())
            .collect()
    }

    fn shard(&self, user: UserId) -> &Mutex<FxHashMap<UserId, Vec<Arc<Session>>>> {
        let hash = FxBuildHasher.hash_one(Key(user));
        // The high bits of an Fx hash are the mixed ones.
        &self.shards[(hash >> 58) as usize % SHARDS]
    }
}

struct Key(UserId);

impl Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}
