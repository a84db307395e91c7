//! Who is signed in at which peer: what each of them tells of its own sessions, so it is as fresh as the link to
//! it. A user is looked up here for each entry that is handed out.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use petrel_core::id::UserId;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// A power of two; ids are random, so a byte of theirs spreads evenly.
const SHARDS: usize = 64;
/// Users that one peer may have, at the most; further ones are not known, and hear by the journal.
const USERS_PER_PEER_MAX: usize = 2_000_000;

/// A peer's number here; no two peers ever have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct PeerNumber(pub(super) u32);

/// A user's sessions at one peer.
#[derive(Clone, Copy, Debug)]
struct Route {
    peer: PeerNumber,
    /// Of the roster that told of it.
    roster: u32,
    is_attentive: bool,
}

/// Peers, each once.
pub(crate) type PeerSet = SmallVec<[PeerNumber; 8]>;

/// The table. Its locks come last; nothing is locked under them.
#[derive(Debug)]
pub(crate) struct Routes {
    shards: Vec<RwLock<FxHashMap<UserId, SmallVec<[Route; 2]>>>>,
}

impl Default for Routes {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }
}

/// What one peer is telling.
#[derive(Clone, Copy, Debug)]
pub(super) struct RosterReader<'a> {
    pub(super) peer: PeerNumber,
    /// Counts its rosters.
    pub(super) roster: u32,
    /// How many users of it are known.
    pub(super) users: &'a AtomicUsize,
}

/// A line of a roster.
#[derive(Clone, Copy, Debug)]
pub(super) struct RosterEntry {
    pub(super) user: UserId,
    pub(super) sessions: u32,
    pub(super) attentive: u32,
}

impl Routes {
    /// Adds the peers at which a user is signed in.
    pub(crate) fn add_peers_of(&self, user: UserId, peers: &mut PeerSet) {
        if let Some(routes) = self.shard(user).read().get(&user) {
            for route in routes {
                if !peers.contains(&route.peer) {
                    peers.push(route.peer);
                }
            }
        }
    }

    /// Whether a user is attentive at any peer.
    pub(crate) fn is_attentive(&self, user: UserId) -> bool {
        let shard = self.shard(user).read();
        shard.get(&user).is_some_and(|routes| routes.iter().any(|route| route.is_attentive))
    }

    /// How many users are known, with those of several peers counted once.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Takes a line; `true` if it changed whether the user is attentive.
    pub(super) fn take(&self, reader: RosterReader<'_>, line: RosterEntry) -> bool {
        let mut shard = self.shard(line.user).write();
        let before =
            shard.get(&line.user).is_some_and(|routes| routes.iter().any(|r| r.is_attentive));
        let own = |route: &Route| route.peer == reader.peer;
        if line.sessions == 0 {
            if let Some(routes) = shard.get_mut(&line.user) {
                let known = routes.len();
                routes.retain(|route| !own(route));
                reader.users.fetch_sub(known - routes.len(), Ordering::Relaxed);
                if routes.is_empty() {
                    shard.remove(&line.user);
                }
            }
        } else {
            let is_known = shard.get(&line.user).is_some_and(|routes| routes.iter().any(own));
            if !is_known && reader.users.load(Ordering::Relaxed) >= USERS_PER_PEER_MAX {
                return false;
            }
            let routes = shard.entry(line.user).or_default();
            let is_attentive = line.attentive > 0;
            match routes.iter_mut().find(|route| route.peer == reader.peer) {
                Some(route) => (route.roster, route.is_attentive) = (reader.roster, is_attentive),
                None => {
                    routes.push(Route { peer: reader.peer, roster: reader.roster, is_attentive });
                    reader.users.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let now = shard.get(&line.user).is_some_and(|routes| routes.iter().any(|r| r.is_attentive));
        before != now
    }

    /// Forgets what a peer's roster does not say any more, all of it with `None`. Gives the users who are
    /// attentive nowhere now and were before.
    pub(super) fn sweep(
        &self,
        peer: PeerNumber,
        roster: Option<u32>,
        users: &AtomicUsize,
    ) -> Vec<UserId> {
        let mut gone = Vec::new();
        for shard in &self.shards {
            shard.write().retain(|user, routes| {
                let before = routes.iter().any(|route| route.is_attentive);
                let known = routes.len();
                routes.retain(|route| route.peer != peer || Some(route.roster) == roster);
                users.fetch_sub(known - routes.len(), Ordering::Relaxed);
                if before && !routes.iter().any(|route| route.is_attentive) {
                    gone.push(*user);
                }
                !routes.is_empty()
            });
        }
        gone
    }

    fn shard(&self, user: UserId) -> &RwLock<FxHashMap<UserId, SmallVec<[Route; 2]>>> {
        &self.shards[usize::from(user.as_bytes()[15]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerNumber = PeerNumber(0);
    const B: PeerNumber = PeerNumber(1);

    fn reader(peer: PeerNumber, roster: u32, users: &AtomicUsize) -> RosterReader<'_> {
        RosterReader { peer, roster, users }
    }

    fn user(n: u8) -> UserId {
        UserId([n; 16])
    }

    fn line(n: u8, sessions: u32, attentive: u32) -> RosterEntry {
        RosterEntry { user: user(n), sessions, attentive }
    }

    fn peers(routes: &Routes, n: u8) -> Vec<PeerNumber> {
        let mut peers = PeerSet::new();
        routes.add_peers_of(user(n), &mut peers);
        peers.into_vec()
    }

    #[test]
    fn a_user_is_where_his_peers_say_and_attentive_while_one_says_so() {
        let routes = Routes::default();
        let users = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let (a, b) = (reader(A, 1, &users[0]), reader(B, 1, &users[1]));
        assert!(routes.take(a, line(1, 1, 1)), "has come");
        assert!(!routes.take(b, line(1, 2, 1)), "was there");
        assert_eq!(peers(&routes, 1), [A, B]);
        assert!(!routes.take(a, line(1, 0, 0)), "is still there");
        assert_eq!((peers(&routes, 1), routes.is_attentive(user(1))), (vec![B], true));
        assert!(routes.take(b, line(1, 2, 0)), "looks away");
        assert!(routes.take(b, line(1, 2, 1)) && routes.take(b, line(1, 0, 0)));
        assert_eq!((peers(&routes, 1), routes.len()), (vec![], 0));
        assert!(users.iter().all(|users| users.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_new_roster_says_who_has_gone_and_a_peer_that_goes_takes_all_along() {
        let routes = Routes::default();
        let users = [AtomicUsize::new(0), AtomicUsize::new(0)];
        for n in 1..=3 {
            routes.take(reader(A, 1, &users[0]), line(n, 1, 1));
        }
        routes.take(reader(B, 1, &users[1]), line(2, 1, 0));
        routes.take(reader(A, 2, &users[0]), line(3, 1, 1));
        let mut gone = routes.sweep(A, Some(2), &users[0]);
        gone.sort_unstable();
        assert_eq!(gone, [user(1), user(2)]);
        assert_eq!((peers(&routes, 2), peers(&routes, 3)), (vec![B], vec![A]));
        assert_eq!(routes.sweep(A, None, &users[0]), [user(3)]);
        assert_eq!(users.map(AtomicUsize::into_inner), [0, 1]);
        assert_eq!(routes.len(), 1);
    }
}
