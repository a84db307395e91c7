//! Entries as they are read, and the list of conversations.

use petrel_core::entry::{Changes, Entry, ReactionCount};
use petrel_core::id::{ConversationId, Seq, UserId};
use sqlx::types::Uuid;

use super::{placed, unsigned};

/// The columns of an entry that [`entry!`] reads; of the table, or of a query over it.
macro_rules! entry_columns {
    () => {
        "e.seq, e.count, e.committed_ms, e.rights_version, e.encoding, e.sender, e.client_msg_id, \
         CAST(e.kind AS bigint) AS kind, e.body, e.target, e.mentions, \
         CAST(e.revision AS bigint) AS revision, e.recalled, e.changed_seq"
    };
}
pub(crate) use entry_columns;

macro_rules! page {
    ($direction:literal) => {
        concat!(
            "SELECT ",
            crate::row::entry_columns!(),
            ", EXISTS (SELECT 1 FROM hidden_entry h WHERE h.user_id = $6 AND h.conversation_id = $1 \
               AND h.seq = e.seq) AS hidden \
             FROM (SELECT e.*, sum(octet_length(e.body)) OVER (ORDER BY e.seq",
            $direction,
            ") AS bytes, row_number() OVER (ORDER BY e.seq",
            $direction,
            ") AS place FROM entry e WHERE e.conversation_id = $1 AND e.seq BETWEEN $2 AND $3 \
              ORDER BY e.seq",
            $direction,
            " LIMIT $4) e WHERE e.bytes <= $5 OR e.place = 1 ORDER BY e.seq"
        )
    };
}

/// A page from its oldest entry on: conversation, from, to, entries, bytes, reader. The lengths are
/// summed without fetching the bodies themselves, so that no more than a page's bytes are read.
pub(crate) const OLDEST: &str = page!("");
/// A page that ends with its newest entry.
pub(crate) const NEWEST: &str = page!(" DESC");

/// Reads an entry by the names of its columns; for both kinds of row.
macro_rules! entry {
    ($row:expr, $conversation:expr) => {
        crate::row::EntryRow {
            conversation: $conversation,
            seq: $row.try_get("seq")?,
            count: $row.try_get("count")?,
            committed_ms: $row.try_get("committed_ms")?,
            rights_version: $row.try_get("rights_version")?,
            encoding: $row.try_get("encoding")?,
            sender: $row.try_get("sender")?,
            id: $row.try_get("client_msg_id")?,
            kind: $row.try_get("kind")?,
            body: $row.try_get("body")?,
            target: $row.try_get("target")?,
            mentions: $row.try_get("mentions")?,
            revision: $row.try_get("revision")?,
            recalled: $row.try_get("recalled")?,
            changed_seq: $row.try_get("changed_seq")?,
            hidden: $row.try_get("hidden")?,
        }
        .entry()
    };
}
pub(crate) use entry;

#[derive(Debug)]
pub(crate) struct EntryRow {
    pub(crate) conversation: ConversationId,
    pub(crate) seq: i64,
    pub(crate) count: i64,
    pub(crate) committed_ms: i64,
    pub(crate) rights_version: i64,
    pub(crate) encoding: i64,
    pub(crate) sender: Uuid,
    pub(crate) id: Uuid,
    pub(crate) kind: i64,
    pub(crate) body: Vec<u8>,
    pub(crate) target: Option<i64>,
    pub(crate) mentions: Option<Vec<u8>>,
    pub(crate) revision: i64,
    pub(crate) recalled: bool,
    pub(crate) changed_seq: i64,
    pub(crate) hidden: bool,
}

impl EntryRow {
    /// Without reactions: those are asked for only where there are changes.
    pub(crate) fn entry(self) -> Entry {
        let number = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
        let mentions = self.mentions.unwrap_or_default();
        Entry {
            conversation: self.conversation,
            placed: placed(self.seq, self.count, self.committed_ms, self.rights_version),
            id: self.id.into(),
            sender: self.sender.into(),
            kind: u16::try_from(self.kind).unwrap_or(u16::MAX),
            encoding: if self.hidden { 0 } else { number(self.encoding) },
            body: if self.hidden { Vec::new() } else { self.body }.into(),
            target: self.target.map(|seq| Seq(unsigned(seq))),
            mentions: mentions.chunks_exact(16).filter_map(UserId::from_slice).collect(),
            changes: Changes {
                revision: number(self.revision),
                recalled: self.recalled,
                last: Seq(unsigned(self.changed_seq)),
                reactions: Vec::new(),
            },
            hidden: self.hidden,
        }
    }
}

/// Which entries may have reactions.
pub(crate) fn reacted<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Vec<(ConversationId, Seq)> {
    entries
        .into_iter()
        .filter(|entry| entry.changes.last > Seq(0) && !entry.changes.recalled && !entry.hidden)
        .map(|entry| (entry.conversation, entry.placed.seq))
        .collect()
}

/// The end of the statement that counts reactions, after the `wanted` (conversation_id, seq) that
/// each store makes its way, and whose reader stands in `reader` (id).
macro_rules! reactions {
    () => {
        "SELECT r.conversation_id, r.seq, r.emoji, count(*), \
         max(CASE WHEN r.user_id = reader.id THEN 1 ELSE 0 END) > 0 \
         FROM wanted JOIN reaction r \
           ON r.conversation_id = wanted.conversation_id AND r.seq = wanted.seq \
         CROSS JOIN reader \
         GROUP BY r.conversation_id, r.seq, r.emoji ORDER BY 1, 2, 4 DESC, 3"
    };
}
pub(crate) use reactions;

/// A line of [`reactions!`], in order.
pub(crate) type ReactionRow = (Uuid, i64, Vec<u8>, i64, bool);

pub(crate) fn react<'a>(
    entries: impl IntoIterator<Item = &'a mut Entry>,
    reactions: Vec<ReactionRow>,
) {
    let mut of_entry = rustc_hash::FxHashMap::<_, Vec<ReactionCount>>::default();
    for (conversation, seq, emoji, count, own) in reactions {
        let key = (ConversationId::from(conversation), Seq(unsigned(seq)));
        of_entry.entry(key).or_default().push(ReactionCount {
            emoji: String::from_utf8_lossy(&emoji).into_owned(),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            own,
        });
    }
    for entry in entries {
        if let Some(found) = of_entry.remove(&(entry.conversation, entry.placed.seq)) {
            entry.changes.reactions = found;
        }
    }
}
