//! Who is watched by whom, in shards; and what the watchers of a user were told last, which is the
//! same for all of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use petrel_core::id::UserId;
use rustc_hash::FxHashMap;
use uuid::Uuid;

const SHARDS: usize = 64;
/// Watches (one session, one user) at once, at the most.
pub(crate) const WATCHES_MAX: usize = 1_000_000;
/// Between two changes of a user that are told. Who is gone for less is not told to be gone.
const QUIET_MS: u64 = 2_000;

/// What is told of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct State {
    /// Whether he is signed in with any device.
    pub online: bool,
    /// When he was, if he is not: Unix milliseconds; 0: never, or not known.
    pub seen_ms: u64,
}

/// What follows from a look at a user.
#[derive(Debug)]
pub(super) enum Look<W> {
    /// Nothing: his watchers know, or there are none.
    Same,
    /// It is too early to tell.
    Wait,
    /// These are to be told.
    Tell(Vec<W>),
}

#[derive(Debug)]
struct Watched<W> {
    told: State,
    /// When: monotonic milliseconds.
    told_ms: u64,
    watchers: Vec<(Uuid, W)>,
}

/// The index. `W` reaches a session, which is named by its id. A shard's lock comes after that of
/// a session's watch and before the session table's.
#[derive(Debug)]
pub(super) struct Index<W> {
    shards: Vec<Mutex<FxHashMap<UserId, Watched<W>>>>,
    watches: AtomicUsize,
    watches_max: usize,
}

impl<W: Clone> Index<W> {
    /// An empty one.
    pub(super) fn new(watches_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            watches: AtomicUsize::new(0),
            watches_max,
        }
    }

    /// Watches in it.
    pub(super) fn len(&self) -> usize {
        self.watches.load(Ordering::Relaxed)
    }

    /// Whether anybody watches a user.
    pub(super) fn is_watched(&self, user: UserId) -> bool {
        self.shard(user).lock().contains_key(&user)
    }

    /// Adds a watch (once); gives back what is told of the user. If nobody watched him before, that is
    /// what `look` says. `None` if there is no room.
    pub(super) fn add(
        &self,
        user: UserId,
        (session, watcher): (Uuid, W),
        now_ms: u64,
        look: impl FnOnce() -> State,
    ) -> Option<State> {
        let mut shard = self.shard(user).lock();
        let known = shard.get(&user).is_some_and(|w| w.watchers.iter().any(|w| w.0 == session));
        if !known && self.watches.fetch_add(1, Ordering::Relaxed) >= self.watches_max {
            self.watches.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        // Under the lock: a change after this look finds the user watched.
        let watched = shard.entry(user).or_insert_with(|| Watched {
            told: look(),
            told_ms: now_ms,
            watchers: Vec::new(),
        });
        if !known {
            watched.watchers.push((session, watcher));
        }
        Some(watched.told)
    }

    /// Takes a watch out.
    pub(super) fn remove(&self, user: UserId, session: Uuid) {
        let mut shard = self.shard(user).lock();
        let Some(watched) = shard.get_mut(&user) else { return };
        let Some(at) = watched.watchers.iter().position(|w| w.0 == session) else { return };
        watched.watchers.swap_remove(at);
        self.watches.fetch_sub(1, Ordering::Relaxed);
        if watched.watchers.is_empty() {
            shard.remove(&user);
        }
    }

    /// Looks at a user whose sessions changed last at `changed_ms`, and are now as `state` says.
    pub(super) fn look(&self, user: UserId, state: State, changed_ms: u64, now_ms: u64) -> Look<W> {
        let mut shard = self.shard(user).lock();
        let Some(watched) = shard.get_mut(&user) else { return Look::Same };
        if watched.told.online == state.online {
            return Look::Same;
        }
        // Whoever comes back soon was never gone.
        let from = if state.online { watched.told_ms } else { watched.told_ms.max(changed_ms) };
        if now_ms < from + QUIET_MS {
            return Look::Wait;
        }
        (watched.told, watched.told_ms) = (state, now_ms);
        Look::Tell(watched.watchers.iter().map(|(_, watcher)| watcher.clone()).collect())
    }

    /// Everybody who is watched, of one shard; `None` beyond the last.
    pub(super) fn users_of_shard(&self, shard: usize) -> Option<Vec<UserId>> {
        Some(self.shards.get(shard)?.lock().keys().copied().collect())
    }

    fn shard(&self, user: UserId) -> &Mutex<FxHashMap<UserId, Watched<W>>> {
        // The last bytes of an id are random.
        &self.shards[usize::from(user.as_bytes()[15]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    const BOB: UserId = UserId([2; 16]);
    const HERE: State = State { online: true, seen_ms: 0 };
    const GONE: State = State { online: false, seen_ms: 7 };

    fn session(n: u128) -> (Uuid, u128) {
        (Uuid::from_u128(n), n)
    }

    fn told(look: Look<u128>) -> Option<Vec<u128>> {
        match look {
            Look::Tell(watchers) => Some(watchers),
            Look::Same | Look::Wait => None,
        }
    }

    #[test]
    fn a_change_is_told_to_all_watchers_once_in_two_seconds() {
        let index = Index::new(10);
        assert!(matches!(index.look(BOB, HERE, 0, 9_000), Look::Same), "nobody watches");
        assert_eq!(index.add(BOB, session(1), 10_000, || GONE), Some(GONE));
        assert_eq!(index.add(BOB, session(2), 11_000, || HERE), Some(GONE), "as all are told");
        assert!(matches!(index.look(BOB, HERE, 11_900, 11_900), Look::Wait));
        assert_eq!(told(index.look(BOB, HERE, 11_900, 12_000)), Some(vec![1, 2]));
        assert!(matches!(index.look(BOB, HERE, 11_900, 12_000), Look::Same));
        assert!(matches!(index.look(BOB, GONE, 12_500, 14_499), Look::Wait));
        assert_eq!(told(index.look(BOB, GONE, 12_500, 14_500)), Some(vec![1, 2]));
        assert_eq!(index.add(BOB, session(3), 20_000, || HERE), Some(GONE));
    }

    #[test]
    fn who_is_back_soon_was_never_gone() {
        let index = Index::new(10);
        index.add(BOB, session(1), 0, || HERE);
        assert!(matches!(index.look(BOB, GONE, 60_000, 61_000), Look::Wait));
        assert!(matches!(index.look(BOB, HERE, 61_500, 61_500), Look::Same));
    }

    #[test]
    fn watches_are_counted_once_and_bounded() {
        let index = Index::new(2);
        for _ in 0..3 {
            assert_eq!(index.add(BOB, session(1), 0, || HERE), Some(HERE));
        }
        assert_eq!(index.add(UserId([3; 16]), session(1), 0, || GONE), Some(GONE));
        assert_eq!((index.len(), index.add(BOB, session(2), 0, || HERE)), (2, None));
        index.remove(BOB, session(2).0);
        index.remove(BOB, session(1).0);
        assert!(!index.is_watched(BOB) && index.len() == 1);
        assert_eq!(index.add(BOB, session(2), 0, || GONE), Some(GONE), "looked at anew");
        let all: Vec<_> = (0..).map_while(|n| index.users_of_shard(n)).flatten().collect();
        assert_eq!(all.len(), 2);
    }
}
