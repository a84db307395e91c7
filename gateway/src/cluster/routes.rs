//! Who is signed in at which peer: what each of them tells of its own sessions, so it is as fresh as the link to
//! it. A user is looked up here for each entry that is handed out.

use parking_lot::RwLock;
use petrel_core::id::UserId;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// A power of two; ids are random, so a byte of theirs spreads evenly.
const SHARDS: usize = 64;
/// Users that one peer may have, at the most; further ones are not known, and hear by the journal.
const USERS_PER_PEER_MAX: usize = 2_000_000;

/// A peer's number here, as long as it is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct PeerNumber(pub(super) u16);

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

/// What one peer has told, while it is telling.
#[derive(Debug)]
pub(super) struct RosterReader {
    peer: PeerNumber,
    roster: u32,
    users: usize,
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

    /// Begins to read a peer's roster, the `roster`th of it.
    pub(super) fn begin(peer: PeerNumber, roster: u32) -> RosterReader {
        RosterReader { peer, roster, users: 0 }
    }

    /// Takes a line; `true` if it changed whether the user is attentive.
    pub(super) fn take(&self, reader: &mut RosterReader, line: RosterEntry) -> bool {
        let mut shard = self.shard(line.user).write();
        let before =
            shard.get(&line.user).is_some_and(|routes| routes.iter().any(|r| r.is_attentive));
        let own = |route: &Route| route.peer == reader.peer;
        if line.sessions == 0 {
            if let Some(routes) = shard.get_mut(&line.user) {
                let known = routes.len();
                routes.retain(|route| !own(route));
                reader.users -= (known - routes.len()).min(reader.users);
                if routes.is_empty() {
                    shard.remove(&line.user);
                }
            }
        } else {
            let is_known = shard.get(&line.user).is_some_and(|routes| routes.iter().any(own));
            if !is_known && reader.users >= USERS_PER_PEER_MAX {
                return false;
            }
            let routes = shard.entry(line.user).or_default();
            let is_attentive = line.attentive > 0;
            match routes.iter_mut().find(|route| route.peer == reader.peer) {
                Some(route) => (route.roster, route.is_attentive) = (reader.roster, is_attentive),
                None => {
                    routes.push(Route { peer: reader.peer, roster: reader.roster, is_attentive });
                    reader.users += 1;
                }
            }
        }
        let now = shard.get(&line.user).is_some_and(|routes| routes.iter().any(|r| r.is_attentive));
        before != now
    }

    /// Forgets what a peer's roster does not say any more, all of it with `None`. Gives the users who are
    /// attentive nowhere now and were before.
    pub(super) fn sweep(&self, peer: PeerNumber, roster: Option<u32>) -> Vec<UserId> {
        let mut gone = Vec::new();
        for shard in &self.shards {
            shard.write().retain(|user, routes| {
                let before = routes.iter().any(|route| route.is_attentive);
                routes.retain(|route| route.peer != peer || Some(route.roster) == roster);
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
        let (mut a, mut b) = (Routes::begin(A, 1), Routes::begin(B, 1));
        assert!(routes.take(&mut a, line(1, 1, 1)), "has come");
        assert!(!routes.take(&mut b, line(1, 2, 1)), "was there");
        assert_eq!(peers(&routes, 1), [A, B]);
        assert!(!routes.take(&mut a, line(1, 0, 0)), "is still there");
        assert_eq!((peers(&routes, 1), routes.is_attentive(user(1))), (vec![B], true));
        assert!(routes.take(&mut b, line(1, 2, 0)), "looks away");
        assert!(routes.take(&mut b, line(1, 2, 1)) && routes.take(&mut b, line(1, 0, 0)));
        assert_eq!((peers(&routes, 1), routes.len()), (vec![], 0));
    }

    #[test]
    fn a_new_roster_says_who_has_gone_and_a_peer_that_goes_takes_all_along() {
        let routes = Routes::default();
        let (mut a, mut b) = (Routes::begin(A, 1), Routes::begin(B, 1));
        for n in 1..=3 {
            routes.take(&mut a, line(n, 1, 1));
        }
        routes.take(&mut b, line(2, 1, 0));
        let mut again = Routes::begin(A, 2);
        routes.take(&mut again, line(3, 1, 1));
        let mut gone = routes.sweep(A, Some(2));
        gone.sort_unstable();
        assert_eq!(gone, [user(1), user(2)]);
        assert_eq!((peers(&routes, 2), peers(&routes, 3)), (vec![B], vec![A]));
        assert_eq!(routes.sweep(A, None), [user(3)]);
        assert_eq!(routes.len(), 1);
    }
}
