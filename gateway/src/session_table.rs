//! Who is signed in here: user -> sessions of all devices, in shards.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use parking_lot::Mutex;
use petrel_core::id::UserId;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::directory_mirror::Marks;
use crate::session::Session;

/// A power of two; the shard is chosen by the high bits of a hash.
pub(crate) const SHARDS: usize = 64;

/// Who of a user's devices is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Attendance {
    /// Sessions.
    pub sessions: usize,
    /// Those of them that are in the foreground. With none the user is not there, as far as
    /// others are concerned.
    pub attentive: usize,
}

/// The table. A shard's lock is held for lines, never over an await; it comes
/// after a conversation's lock and before a send queue's.
#[derive(Debug)]
pub(crate) struct SessionTable {
    shards: Vec<Mutex<FxHashMap<UserId, Vec<Arc<Session>>>>>,
    /// Whose entry in the directory has to be looked at; none without a directory.
    marks: Option<Marks>,
}

impl SessionTable {
    /// An empty table; with a mirror, changes are marked for it.
    pub(crate) fn new(is_mirrored: bool) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            marks: is_mirrored.then(Marks::default),
        }
    }

    /// The marks for the mirror, if there is one.
    pub(crate) fn marks(&self) -> Option<&Marks> {
        self.marks.as_ref()
    }

    /// Adds a session; says whether the user had fewer than `sessions_max` before.
    pub(crate) fn insert(&self, session: Arc<Session>, sessions_max: usize) -> bool {
        let user = session.user();
        {
            let mut shard = self.shard(user).lock();
            let sessions = shard.entry(user).or_default();
            if sessions.len() >= sessions_max {
                return false;
            }
            sessions.push(session);
        }
        self.changed(user);
        true
    }

    /// Takes a session out; says whether it was in.
    pub(crate) fn remove(&self, session: &Arc<Session>) -> bool {
        let user = session.user();
        {
            let mut shard = self.shard(user).lock();
            let Some(sessions) = shard.get_mut(&user) else { return false };
            let before = sessions.len();
            sessions.retain(|s| !Arc::ptr_eq(s, session));
            if sessions.len() == before {
                return false;
            }
            if sessions.is_empty() {
                shard.remove(&user);
            }
        }
        self.changed(user);
        true
    }

    /// Something changed in a user's sessions: it is marked for the mirror. After the shard's lock, so that
    /// whoever reads the table for a mark sees its change.
    pub(crate) fn changed(&self, user: UserId) {
        if let Some(marks) = &self.marks {
            marks.mark(user);
        }
    }

    /// Whether nobody is signed in.
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().is_empty())
    }

    /// Adds the users of one shard.
    pub(crate) fn users_of_shard(&self, shard: usize, users: &mut Vec<UserId>) {
        if let Some(shard) = self.shards.get(shard) {
            users.extend(shard.lock().keys());
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

    /// Whether anybody is attentive: what presence and the mirror say, and what decides whether a user has
    /// to be told of a message by other ways.
    pub(crate) fn attendance(&self, user: UserId) -> Attendance {
        let mut attendance = Attendance::default();
        self.for_each(user, |session| {
            attendance.sessions += 1;
            attendance.attentive += usize::from(session.is_attentive());
        });
        attendance
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
