//! Tables `conversation`, `member` and `receipt`.

use petrel_core::id::Seq;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::store::{ConversationRecord, ConversationSummary, ListPosition, Receipt};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use sqlx::types::Uuid;
use sqlx::{Row as _, SqlitePool};

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
    let parts: Vec<ConversationPart> = sqlx::query_as(
        "SELECT 0, c.rights_version, c.head, c.countable, c.floor, e.client_msg_id, e.committed_ms \
         FROM conversation c LEFT JOIN entry e ON e.conversation_id = c.id AND e.seq = c.head \
         WHERE c.id = ?1 \
         UNION ALL \
         SELECT 1, m.from_seq, m.until_seq, m.blocks, 0, m.user_id, NULL \
         FROM member m WHERE m.conversation_id = ?1 \
         UNION ALL \
         SELECT 2, r.delivered_seq, r.read_seq, 0, 0, r.user_id, NULL \
         FROM receipt r WHERE r.conversation_id = ?1 \
         ORDER BY 1, 6, 2",
    )
    .bind(Uuid::from(id))
    .fetch_all(pool)
    .await?;
    Ok(row::conversation(id, parts))
}

/// As on PostgreSQL: by key from the memberships, then a sort.
pub(super) async fn list(
    pool: &SqlitePool,
    user: UserId,
    after: Option<ListPosition>,
    limit: usize,
) -> Result<Vec<ConversationSummary>, sqlx::Error> {
    let (last_at_ms, last_id) = after.map_or((i64::MAX, Uuid::max()), |position| {
        (signed(position.last_activity_ms), position.id.into())
    });
    let rows = sqlx::query(
        "WITH line AS MATERIALIZED ( \
           SELECT c.id, c.kind, c.head, c.countable, c.last_at_ms, \
                  coalesce(r.delivered_seq, 0) AS own_delivered, coalesce(r.read_seq, 0) AS own_read \
           FROM member m JOIN conversation c ON c.id = m.conversation_id \
           LEFT JOIN receipt r ON r.conversation_id = c.id AND r.user_id = m.user_id \
           WHERE m.user_id = ?1 AND m.until_seq IS NULL AND c.head > 0 \
             AND (c.last_at_ms, c.id) < (?2, ?3) \
           ORDER BY c.last_at_ms DESC, c.id DESC LIMIT ?4 \
         ) \
         SELECT line.id, line.last_at_ms, line.own_delivered, line.own_read, \
                coalesce(pr.delivered_seq, 0) AS peer_delivered, coalesce(pr.read_seq, 0) AS peer_read, \
                line.countable \
                - coalesce((SELECT s.count FROM entry s WHERE s.conversation_id = line.id \
                            AND s.seq <= line.own_read ORDER BY s.seq DESC LIMIT 1), 0) \
                - (SELECT count(*) FROM entry o WHERE o.conversation_id = line.id \
                   AND o.seq > line.own_read AND o.sender = ?1 AND o.countable) AS unread, \
                u.id AS peer_id, u.name AS peer_name, \
                e.seq, e.count, e.committed_ms, e.rights_version, e.encoding, e.sender, \
                e.client_msg_id, e.kind, e.body \
         FROM line \
         LEFT JOIN member p ON p.conversation_id = line.id AND p.user_id <> ?1 AND line.kind = 1 \
         LEFT JOIN user_account u ON u.id = p.user_id \
         LEFT JOIN receipt pr ON pr.conversation_id = line.id AND pr.user_id = p.user_id \
         LEFT JOIN entry e ON e.conversation_id = line.id AND e.seq = line.head \
         ORDER BY line.last_at_ms DESC, line.id DESC",
    )
    .bind(Uuid::from(user))
    .bind(last_at_ms)
    .bind(last_id)
    .bind(size(limit))
    .fetch_all(pool)
    .await?;
    rows.iter().map(|line| row::summary!(line)).collect()
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
