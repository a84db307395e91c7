//! What both stores read out of a [`Change`] before they carry it out.

use std::collections::BTreeSet;

use petrel_core::change::{Change, ChangeEntry, RowChange};
use petrel_core::id::{ContentDigest, ConversationId, UserId};

/// What a change touches beside its rows. Everything is in the order in which it is locked.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Logs of guards, of entries, and pairs that are bumped.
    pub(crate) locked: BTreeSet<ConversationId>,
    /// Conversations that get their next rights version, each once.
    pub(crate) bumped: BTreeSet<ConversationId>,
    /// Groups that it makes.
    pub(crate) made: BTreeSet<ConversationId>,
    /// Users whose own row is written.
    pub(crate) written: BTreeSet<UserId>,
    /// Users who become members.
    pub(crate) joining: BTreeSet<UserId>,
    /// Users all of whose pairs are bumped.
    pub(crate) private: BTreeSet<UserId>,
}

impl Reach {
    pub(crate) fn of(change: &Change) -> Self {
        let mut reach = Self::default();
        for guard in &change.guards {
            reach.locked.insert(guard.conversation);
            if guard.bumps {
                reach.bumped.insert(guard.conversation);
            }
        }
        reach.locked.extend(change.entries.iter().map(|entry| entry.conversation));
        for row in &change.rows {
            match row {
                RowChange::Group(id, _) => {
                    reach.made.insert(*id);
                }
                RowChange::Join { user, .. } => {
                    reach.joining.insert(*user);
                }
                RowChange::BumpPair(a, b) => {
                    reach.bumped.insert(ConversationId::of_pair(*a, *b));
                }
                RowChange::Privacy(user, _) => {
                    reach.written.insert(*user);
                    reach.private.insert(*user);
                }
                RowChange::Person { user, .. } | RowChange::Password(user, _) => {
                    reach.written.insert(*user);
                }
                _ => {}
            }
        }
        reach.locked.extend(&reach.bumped);
        reach
    }
}

/// An entry that the service writes is judged by its digest as any other.
pub(crate) fn digest(entry: &ChangeEntry) -> ContentDigest {
    ContentDigest::of(entry.kind, 0, &entry.body)
}

/// Mentioned users as they stand in a column: 16 bytes each; `None` for nobody.
pub(crate) fn mentions_column(users: &[UserId]) -> Option<Vec<u8>> {
    (!users.is_empty()).then(|| users.iter().flat_map(|user| user.0).collect())
}
