//! Who talks to whom: users on a ring, each paired with its neighbours.

/// The pairs of `users` people with `conversations` each. Lanes are the
/// directions of those pairs: lane 2p is from the pair's first member to its
/// second, lane 2p + 1 the way back.
#[derive(Clone, Debug)]
pub struct Layout {
    users: usize,
    pairs: Vec<[usize; 2]>,
}

/// One direction of one conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lane {
    /// Index of the conversation.
    pub conversation: usize,
    /// Which of its two members sends: 0 or 1.
    pub member: usize,
}

impl Layout {
    /// A ring: user i is paired with i+1, ..., i+K/2, and with the one opposite
    /// when K is odd, so that everyone has exactly K conversations.
    ///
    /// # Errors
    /// When no such ring exists, with the numbers that would do.
    pub fn ring(users: usize, conversations: usize) -> Result<Self, String> {
        if users < 2 {
            return Err(format!("--users {users}: at least 2 are needed"));
        }
        if conversations == 0 || conversations >= users {
            return Err(format!(
                "--conversations {conversations}: 1 to {} with --users {users}",
                users - 1
            ));
        }
        let opposite = conversations % 2 == 1;
        if opposite && users % 2 == 1 {
            return Err(format!(
                "--conversations {conversations}: an odd number needs an even --users, not {users}"
            ));
        }
        let mut pairs = Vec::with_capacity(users * conversations / 2);
        for step in 1..=conversations / 2 {
            pairs.extend((0..users).map(|user| [user, (user + step) % users]));
        }
        if opposite {
            pairs.extend((0..users / 2).map(|user| [user, user + users / 2]));
        }
        Ok(Self { users, pairs })
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.users
    }

    /// How many conversations there are.
    pub fn conversations(&self) -> usize {
        self.pairs.len()
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.pairs.len() * 2
    }

    /// The two members of a conversation.
    pub fn members(&self, conversation: usize) -> [usize; 2] {
        self.pairs[conversation]
    }

    /// The lane with this index.
    pub fn lane(&self, index: usize) -> Lane {
        Lane { conversation: index / 2, member: index % 2 }
    }

    /// Conversations of each user, with the user's place in each.
    pub fn by_user(&self) -> Vec<Vec<Lane>> {
        let mut all = vec![Vec::new(); self.users];
        for (conversation, members) in self.pairs.iter().enumerate() {
            for (member, user) in members.iter().enumerate() {
                all[*user].push(Lane { conversation, member });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn everyone_has_exactly_that_many_conversations_and_no_pair_twice() {
        for (users, each) in [(2, 1), (3, 2), (5, 4), (6, 3), (200, 4), (1000, 4), (20, 8)] {
            let layout = Layout::ring(users, each).unwrap();
            assert!(layout.by_user().iter().all(|own| own.len() == each), "{users} x {each}");
            let distinct: HashSet<_> = (0..layout.conversations())
                .map(|c| {
                    let [a, b] = layout.members(c);
                    assert_ne!(a, b);
                    (a.min(b), a.max(b))
                })
                .collect();
            assert_eq!(distinct.len(), layout.conversations(), "{users} x {each}");
        }
    }

    #[test]
    fn impossible_rings_are_refused_by_the_name_of_the_option() {
        for (users, each, option) in [
            (1, 1, "--users"),
            (4, 0, "--conversations"),
            (4, 4, "--conversations"),
            (5, 3, "--conversations"),
        ] {
            assert!(Layout::ring(users, each).unwrap_err().starts_with(option));
        }
    }
}
