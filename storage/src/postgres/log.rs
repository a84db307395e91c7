//! Reading table `entry`.

use petrel_core::entry::{Cursor, Entry};
use petrel_core::id::{ConversationId, Seq, UserId};
use petrel_core::store::{Page, Standing};
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{PgPool, Row as _};

use crate::row::{self, ReactionRow, StandingRow, signed, size};

pub(super) async fn entries(
    pool: &PgPool,
    conversation: ConversationId,
    reader: Option<UserId>,
    page: Page,
) -> Result<Vec<Entry>, sqlx::Error> {
    let rows = sqlx::query(if page.newest { row::NEWEST } else { row::OLDEST })
        .bind(Uuid::from(conversation))
        .bind(signed(page.from.0))
        .bind(signed(page.to.0))
        .bind(size(page.entries_max))
        .bind(size(page.bytes_max))
        .bind(reader.map(Uuid::from))
        .fetch_all(pool)
        .await?;
    let entry = |line: &PgRow| Ok::<_, sqlx::Error>(row::entry!(line, conversation));
    let mut entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let wanted = row::reacted(&entries);
    let reactions = reactions(pool, &wanted, reader).await?;
    row::react(&mut entries, reactions);
    Ok(entries)
}

/// The reactions to these entries, counted.
pub(super) async fn reactions(
    pool: &PgPool,
    wanted: &[(ConversationId, Seq)],
    reader: Option<UserId>,
) -> Result<Vec<ReactionRow>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(concat!(
        "WITH reader AS (SELECT $3::uuid AS id), \
         wanted AS (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS n (conversation_id, seq)) ",
        row::reactions!()
    ))
    .bind(wanted.iter().map(|&(id, _)| Uuid::from(id)).collect::<Vec<_>>())
    .bind(wanted.iter().map(|&(_, seq)| signed(seq.0)).collect::<Vec<_>>())
    .bind(reader.map(Uuid::from))
    .fetch_all(pool)
    .await
}

pub(super) async fn standing(
    pool: &PgPool,
    conversation: ConversationId,
    cursors: &[Cursor],
) -> Result<Option<Standing>, sqlx::Error> {
    let seqs: Vec<i64> = cursors.iter().map(|cursor| signed(cursor.seq.0)).collect();
    let rows: Vec<StandingRow> = sqlx::query_as(
        "SELECT c.head, c.countable, c.rights_version, e.seq, e.client_msg_id, e.committed_ms \
         FROM conversation c LEFT JOIN entry e ON e.conversation_id = c.id AND e.seq = ANY ($2) \
         WHERE c.id = $1",
    )
    .bind(Uuid::from(conversation))
    .bind(seqs)
    .fetch_all(pool)
    .await?;
    Ok(row::standing(cursors, &rows))
}
