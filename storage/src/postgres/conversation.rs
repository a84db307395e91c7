//! Tables `conversation`, `member` and `receipt`.

use petrel_core::entry::EVERYBODY;
use petrel_core::id::{ConversationId, Seq, UserId};
use petrel_core::store::{ConversationRecord, ConversationSummary, ListPage, Receipt};
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{PgPool, Row as _};

use super::log;
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
    let parts: Vec<ConversationPart> =
        sqlx::query_as(row::LOAD).bind(Uuid::from(id)).fetch_all(pool).await?;
    Ok(row::conversation(id, parts))
}

pub(super) async fn list(
    pool: &PgPool,
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
        |line: &PgRow| -> Result<ConversationSummary, sqlx::Error> { row::summary!(line) };
    let mut lines = rows.iter().map(summary).collect::<Result<Vec<_>, _>>()?;
    let wanted = row::reacted(lines.iter().filter_map(|line| line.last.as_ref()));
    let reactions = log::reactions(pool, &wanted, Some(user)).await?;
    row::react(lines.iter_mut().filter_map(|line| line.last.as_mut()), reactions);
    Ok(lines)
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
