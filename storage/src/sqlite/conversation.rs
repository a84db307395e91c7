//! Tables `conversation`, `member` and `receipt`.

use petrel_core::entry::EVERYBODY;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::store::{ConversationRecord, ConversationSummary, ListPage, Receipt};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use sqlx::sqlite::SqliteRow;
use sqlx::types::Uuid;
use sqlx::{Row as _, SqlitePool};

use super::log;
use crate::row::{self, ConversationPart, signed, size};

pub(super) fn ensure_pair(
    connection: &mut Connection,
    a: UserId,
    b: UserId,
) -> Result<bool, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let exists = pair(&transaction, a, b)?;
    transaction.commit()?;
    Ok(exists)
}

fn pair(transaction: &Transaction<'_>, a: UserId, b: UserId) -> Result<bool, rusqlite::Error> {
    let both_exist: bool = transaction
        .prepare_cached("SELECT count(*) = 2 FROM user_account WHERE id IN (?1, ?2)")?
        .query_row([a.as_bytes(), b.as_bytes()], |row| row.get(0))?;
    if !both_exist {
        return Ok(false);
    }
    let id = ConversationId::of_pair(a, b);
    let made = transaction
        .prepare_cached(
            "INSERT INTO conversation (id, kind) VALUES (?1, 1) ON CONFLICT DO NOTHING",
        )?
        .execute([id.as_bytes()])?;
    if made == 1 {
        let mut join = transaction
            .prepare_cached("INSERT INTO member (conversation_id, user_id) VALUES (?1, ?2)")?;
        join.execute([id.as_bytes(), a.as_bytes()])?;
        join.execute([id.as_bytes(), b.as_bytes()])?;
    }
    Ok(true)
}

pub(super) fn set_block(
    connection: &mut Connection,
    blocker: UserId,
    blocked: UserId,
    blocks: bool,
) -> Result<bool, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !pair(&transaction, blocker, blocked)? {
        return Ok(false);
    }
    let id = ConversationId::of_pair(blocker, blocked);
    let changed = transaction.execute(
        "UPDATE member SET blocks = ?3 WHERE conversation_id = ?1 AND user_id = ?2 AND blocks <> ?3",
        params![id.as_bytes(), blocker.as_bytes(), blocks],
    )?;
    if changed > 0 {
        transaction.execute(
            "UPDATE conversation SET rights_version = rights_version + 1 WHERE id = ?1",
            [id.as_bytes()],
        )?;
    }
    transaction.commit()?;
    Ok(true)
}

pub(super) async fn load(
    pool: &SqlitePool,
    id: ConversationId,
) -> Result<Option<ConversationRecord>, sqlx::Error> {
    let parts: Vec<ConversationPart> =
        sqlx::query_as(row::LOAD).bind(Uuid::from(id)).fetch_all(pool).await?;
    Ok(row::conversation(id, parts))
}

pub(super) async fn list(
    pool: &SqlitePool,
    user: UserId,
    page: ListPage,
) -> Result<Vec<ConversationSummary>, sqlx::Error> {
    let (last_at_ms, last_id) = page.after.map_or((i64::MAX, Uuid::max()), |position| {
        (signed(position.last_activity_ms), position.id.into())
    });
    let rows = sqlx::query(row::LIST)
        .bind(Uuid::from(user))
        .bind(last_at_ms)
        .bind(last_id)
        .bind(size(page.limit))
        .bind(signed(page.since_ms))
        .bind(Uuid::from(EVERYBODY))
        .fetch_all(pool)
        .await?;
    let summary =
        |line: &SqliteRow| -> Result<ConversationSummary, sqlx::Error> { row::summary!(line) };
    let mut lines = rows.iter().map(summary).collect::<Result<Vec<_>, _>>()?;
    let wanted = row::reacted(lines.iter().filter_map(|line| line.last.as_ref()));
    let reactions = log::reactions(pool, &wanted, Some(user)).await?;
    row::react(lines.iter_mut().filter_map(|line| line.last.as_mut()), reactions);
    Ok(lines)
}

pub(super) fn raise_receipts(
    connection: &mut Connection,
    receipts: &[(ConversationId, UserId, Receipt)],
) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut raise = transaction.prepare_cached(
            "INSERT INTO receipt AS r (conversation_id, user_id, delivered_seq, read_seq) \
             SELECT c.id, ?2, min(?3, c.head), min(?4, c.head) FROM conversation c WHERE c.id = ?1 \
             ON CONFLICT (conversation_id, user_id) DO UPDATE SET \
               delivered_seq = max(r.delivered_seq, excluded.delivered_seq), \
               read_seq = max(r.read_seq, excluded.read_seq) \
             WHERE r.delivered_seq < excluded.delivered_seq OR r.read_seq < excluded.read_seq",
        )?;
        for (conversation, user, receipt) in receipts {
            raise.execute(params![
                conversation.as_bytes(),
                user.as_bytes(),
                signed(receipt.delivered.0),
                signed(receipt.read.0)
            ])?;
        }
    }
    transaction.commit()
}
