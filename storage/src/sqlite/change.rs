//! Carrying decisions out, in one transaction of the thread that writes. It gives the answers of
//! `apply_change` on PostgreSQL (tests/conformance), where the order of locks is told.

use async_trait::async_trait;
use petrel_core::change::{Change, ChangeEntry, ChangeOutcome};
use petrel_core::entry::Placed;
use petrel_core::id::{ConversationId, RightsVersion, UserId};
use petrel_core::store::{ChangeStore, StoreError};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use rustc_hash::FxHashMap;

use super::change_row::{self, Places};
use super::{SqliteStore, append};
use crate::change::{Reach, digest};
use crate::row::{placed, signed, unsigned};

#[async_trait]
impl ChangeStore for SqliteStore {
    async fn ensure_log(&self, user: UserId) -> Result<bool, StoreError> {
        let found = self.writer.run(move |connection| ensure_logs(connection, &[user])).await?;
        Ok(found == 1)
    }

    async fn apply(&self, change: &Change) -> Result<ChangeOutcome, StoreError> {
        let change = change.clone();
        self.writer.run(move |connection| apply(connection, &change)).await
    }
}

/// Makes the own logs of these users that are missing; how many of the users exist.
pub(super) fn ensure_logs(
    connection: &mut Connection,
    users: &[UserId],
) -> Result<usize, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut found = 0;
    for user in users {
        let log = ConversationId::of_user(*user);
        let exists: bool = transaction
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM user_account WHERE id = ?1)")?
            .query_row([user.as_bytes()], |row| row.get(0))?;
        if !exists {
            continue;
        }
        found += 1;
        let made = transaction
            .prepare_cached(
                "INSERT INTO conversation (id, kind) VALUES (?1, 3) ON CONFLICT DO NOTHING",
            )?
            .execute([log.as_bytes()])?;
        if made == 1 {
            transaction
                .prepare_cached("INSERT INTO member (conversation_id, user_id) VALUES (?1, ?2)")?
                .execute([log.as_bytes(), user.as_bytes()])?;
        }
    }
    transaction.commit()?;
    Ok(found)
}

fn apply(connection: &mut Connection, change: &Change) -> Result<ChangeOutcome, rusqlite::Error> {
    // Dropped without a commit, it rolls back.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let reach = Reach::of(change);
    if let Some(first) = change.entries.first()
        && let Some(place) = stored(&transaction, first)?
    {
        return Ok(ChangeOutcome::Duplicate(place));
    }
    for guard in &change.guards {
        if version(&transaction, guard.conversation)? != Some(guard.version) {
            return Ok(ChangeOutcome::Stale);
        }
    }
    for entry in &change.entries {
        if !reach.made.contains(&entry.conversation)
            && version(&transaction, entry.conversation)?.is_none()
        {
            return Ok(ChangeOutcome::Stale);
        }
    }
    bump(&transaction, &reach)?;
    let mut places = Places::default();
    for entry in &change.entries {
        *places.entry(entry.conversation).or_default() += 1;
    }
    for row in &change.rows {
        change_row::apply(&transaction, row, &places)?;
    }
    let done = write(&transaction, &change.entries)?;
    transaction.commit()?;
    Ok(ChangeOutcome::Done(done))
}

fn stored(
    transaction: &Transaction<'_>,
    entry: &ChangeEntry,
) -> Result<Option<Placed>, rusqlite::Error> {
    transaction
        .prepare_cached(
            "SELECT seq, count, committed_ms, rights_version FROM entry \
             WHERE conversation_id = ?1 AND sender = ?2 AND client_msg_id = ?3",
        )?
        .query_row(
            [entry.conversation.as_bytes(), entry.sender.as_bytes(), entry.id.as_bytes()],
            |row| Ok(placed(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()
}

fn version(
    transaction: &Transaction<'_>,
    id: ConversationId,
) -> Result<Option<RightsVersion>, rusqlite::Error> {
    transaction
        .prepare_cached("SELECT rights_version FROM conversation WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| Ok(RightsVersion(unsigned(row.get(0)?))))
        .optional()
}

/// Each conversation once, however many rows ask for it.
fn bump(transaction: &Transaction<'_>, reach: &Reach) -> Result<(), rusqlite::Error> {
    let mut bumped = reach.bumped.clone();
    for user in &reach.private {
        let mut pairs = transaction.prepare_cached(
            "SELECT c.id FROM member m JOIN conversation c ON c.id = m.conversation_id \
             WHERE m.user_id = ?1 AND c.kind = 1",
        )?;
        let ids = pairs.query_map([user.as_bytes()], |row| row.get(0).map(ConversationId))?;
        for id in ids {
            bumped.insert(id?);
        }
    }
    let mut next = transaction.prepare_cached(
        "UPDATE conversation SET rights_version = rights_version + 1 WHERE id = ?1",
    )?;
    for id in bumped {
        next.execute([id.as_bytes()])?;
    }
    Ok(())
}

fn write(
    transaction: &Transaction<'_>,
    entries: &[ChangeEntry],
) -> Result<Vec<Placed>, rusqlite::Error> {
    let time_ms = append::now_ms();
    let mut heads: FxHashMap<ConversationId, Placed> = FxHashMap::default();
    let mut done = Vec::with_capacity(entries.len());
    for entry in entries {
        let head = match heads.get(&entry.conversation) {
            Some(head) => *head,
            None => transaction
                .prepare_cached(
                    "SELECT head, countable, rights_version FROM conversation WHERE id = ?1",
                )?
                .query_row([entry.conversation.as_bytes()], |row| {
                    Ok(placed(row.get(0)?, row.get(1)?, 0, row.get(2)?))
                })?,
        };
        let place = Placed {
            seq: head.seq.next(),
            count: head.count + u64::from(entry.kind.is_countable()),
            time_ms,
            rights_version: head.rights_version,
        };
        insert(transaction, entry, place)?;
        heads.insert(entry.conversation, place);
        done.push(place);
    }
    let mut moved = transaction.prepare_cached(
        "UPDATE conversation SET head = ?2, countable = ?3, last_at_ms = ?4 WHERE id = ?1",
    )?;
    for (id, head) in &heads {
        moved.execute(params![
            id.as_bytes(),
            signed(head.seq.0),
            signed(head.count),
            signed(time_ms)
        ])?;
    }
    Ok(done)
}

fn insert(
    transaction: &Transaction<'_>,
    entry: &ChangeEntry,
    at: Placed,
) -> Result<(), rusqlite::Error> {
    transaction
        .prepare_cached(
            "INSERT INTO entry (conversation_id, seq, count, committed_ms, rights_version, encoding, \
                                sender, client_msg_id, kind, countable, digest, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            entry.conversation.as_bytes(),
            signed(at.seq.0),
            signed(at.count),
            signed(at.time_ms),
            signed(at.rights_version.0),
            entry.sender.as_bytes(),
            entry.id.as_bytes(),
            entry.kind.number(),
            entry.kind.is_countable(),
            digest(entry).0,
            &entry.body[..],
        ])?;
    Ok(())
}
