//! Tables `conversation`, `member` and `receipt`.

use petrel_core::id::{ConversationId, Seq, UserId};
use petrel_core::store::{ConversationRecord, ConversationSummary, ListPosition, Receipt};
use sqlx::types::Uuid;
use sqlx::{PgPool, Row as _};

use crate::row::{self, ConversationPart, signed, size};

/// One statement, so that no lock outlives the call. Members are only written
/// by whoever made the conversation's row; who comes second waits there.
pub(super) async fn ensure_pair(pool: &PgPool, a: UserId, b: UserId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "WITH both_exist AS ( \
           SELECT count(*) = 2 AS yes FROM user_account WHERE id IN ($2, $3) \
         ), made AS ( \
           INSERT INTO conversation (id, kind) SELECT $1, 1 FROM both_exist WHERE yes \
           ON CONFLICT DO NOTHING RETURNING id \
         ), joined AS ( \
           INSERT INTO member (conversation_id, user_id) \
           SELECT made.id, u.id FROM made, unnest(ARRAY[$2, $3]) AS u (id) ORDER BY u.id \
         ) SELECT yes FROM both_exist",
    )
    .bind(Uuid::from(ConversationId::of_pair(a, b)))
    .bind(Uuid::from(a))
    .bind(Uuid::from(b))
    .fetch_one(pool)
    .await
}

pub(super) async fn set_block(
    pool: &PgPool,
    blocker: UserId,
    blocked: UserId,
    blocks: bool,
) -> Result<bool, sqlx::Error> {
    if !ensure_pair(pool, blocker, blocked).await? {
        return Ok(false);
    }
    sqlx::query("SELECT set_block($1, $2, $3)")
        .bind(Uuid::from(ConversationId::of_pair(blocker, blocked)))
        .bind(Uuid::from(blocker))
        .bind(blocks)
        .execute(pool)
        .await?;
    Ok(true)
}

pub(super) async fn load(
    pool: &PgPool,
    id: ConversationId,
) -> Result<Option<ConversationRecord>, sqlx::Error> {
    let parts: Vec<ConversationPart> = sqlx::query_as(
        "SELECT 0::bigint, c.rights_version, c.head, c.countable, c.floor, e.client_msg_id, e.committed_ms \
         FROM conversation c LEFT JOIN entry e ON e.conversation_id = c.id AND e.seq = c.head \
         WHERE c.id = $1 \
         UNION ALL \
         SELECT 1, m.from_seq, m.until_seq, m.blocks::int::bigint, 0, m.user_id, NULL \
         FROM member m WHERE m.conversation_id = $1 \
         UNION ALL \
         SELECT 2, r.delivered_seq, r.read_seq, 0, 0, r.user_id, NULL \
         FROM receipt r WHERE r.conversation_id = $1 \
         ORDER BY 1, 6, 2",
    )
    .bind(Uuid::from(id))
    .fetch_all(pool)
    .await?;
    Ok(row::conversation(id, parts))
}

/// From the user's memberships to their conversations by key, then a sort: an
/// index by last activity would have to change with every send.
pub(super) async fn list(
    pool: &PgPool,
    user: UserId,
    after: Option<ListPosition>,
    limit: usize,
) -> Result<Vec<ConversationSummary>, sqlx::Error> {
    let (last_at_ms, last_id) = after.map_or((i64::MAX, Uuid::max()), |position| {
        (signed(position.last_activity_ms), position.id.into())
    });
    let rows = sqlx::query(
        "WITH line AS ( \
           SELECT c.id, c.kind, c.head, c.countable, c.last_at_ms, \
                  coalesce(r.delivered_seq, 0) AS own_delivered, coalesce(r.read_seq, 0) AS own_read \
           FROM member m JOIN conversation c ON c.id = m.conversation_id \
           LEFT JOIN receipt r ON r.conversation_id = c.id AND r.user_id = m.user_id \
           WHERE m.user_id = $1 AND m.until_seq IS NULL AND c.head > 0 \
             AND (c.last_at_ms, c.id) < ($2, $3) \
           ORDER BY c.last_at_ms DESC, c.id DESC LIMIT $4 \
         ) \
         SELECT line.id, line.last_at_ms, line.own_delivered, line.own_read, \
                coalesce(pr.delivered_seq, 0) AS peer_delivered, coalesce(pr.read_seq, 0) AS peer_read, \
                line.countable \
                - coalesce((SELECT s.count FROM entry s WHERE s.conversation_id = line.id \
                            AND s.seq <= line.own_read ORDER BY s.seq DESC LIMIT 1), 0) \
                - (SELECT count(*) FROM entry o WHERE o.conversation_id = line.id \
                   AND o.seq > line.own_read AND o.sender = $1 AND o.countable) AS unread, \
                u.id AS peer_id, u.name AS peer_name, \
                e.seq, e.count, e.committed_ms, e.rights_version, e.encoding, e.sender, \
                e.client_msg_id, e.kind::bigint AS kind, e.body \
         FROM line \
         LEFT JOIN member p ON p.conversation_id = line.id AND p.user_id <> $1 AND line.kind = 1 \
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

/// In the order of the keys, so that two gateways never wait for each other in a circle.
pub(super) async fn raise_receipts(
    pool: &PgPool,
    receipts: &[(ConversationId, UserId, Receipt)],
) -> Result<(), sqlx::Error> {
    let column = |of: fn(&Receipt) -> Seq| {
        receipts.iter().map(|(_, _, receipt)| signed(of(receipt).0)).collect::<Vec<_>>()
    };
    sqlx::query(
        "INSERT INTO receipt AS r (conversation_id, user_id, delivered_seq, read_seq) \
         SELECT c.id, n.user_id, least(max(n.delivered), c.head), least(max(n.read), c.head) \
         FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[]) \
              AS n (conversation_id, user_id, delivered, read) \
         JOIN conversation c ON c.id = n.conversation_id \
         GROUP BY c.id, n.user_id ORDER BY c.id, n.user_id \
         ON CONFLICT (conversation_id, user_id) DO UPDATE SET \
           delivered_seq = greatest(r.delivered_seq, excluded.delivered_seq), \
           read_seq = greatest(r.read_seq, excluded.read_seq) \
         WHERE r.delivered_seq < excluded.delivered_seq OR r.read_seq < excluded.read_seq",
    )
    .bind(receipts.iter().map(|r| Uuid::from(r.0)).collect::<Vec<_>>())
    .bind(receipts.iter().map(|r| Uuid::from(r.1)).collect::<Vec<_>>())
    .bind(column(|receipt| receipt.delivered))
    .bind(column(|receipt| receipt.read))
    .execute(pool)
    .await?;
    Ok(())
}
