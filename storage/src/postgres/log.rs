//! Reading table `entry`.

use petrel_core::entry::{Cursor, Entry};
use petrel_core::id::ConversationId;
use petrel_core::store::{Page, Standing};
use sqlx::PgPool;
use sqlx::types::Uuid;

use crate::row::{self, EntryRow, StandingRow, signed, size};

// The lengths are summed without fetching the bodies themselves, so that no
// more than a page's bytes leave the server. The two texts differ in direction.
const OLDEST: &str = "SELECT seq, count, committed_ms, rights_version, encoding, sender, \
      client_msg_id, kind::bigint, body \
   FROM (SELECT e.*, sum(octet_length(e.body)) OVER (ORDER BY e.seq) AS bytes, \
                row_number() OVER (ORDER BY e.seq) AS place \
         FROM entry e WHERE e.conversation_id = $1 AND e.seq BETWEEN $2 AND $3 \
         ORDER BY e.seq LIMIT $4) page \
   WHERE bytes <= $5 OR place = 1 ORDER BY seq";
const NEWEST: &str = "SELECT seq, count, committed_ms, rights_version, encoding, sender, \
      client_msg_id, kind::bigint, body \
   FROM (SELECT e.*, sum(octet_length(e.body)) OVER (ORDER BY e.seq DESC) AS bytes, \
                row_number() OVER (ORDER BY e.seq DESC) AS place \
         FROM entry e WHERE e.conversation_id = $1 AND e.seq BETWEEN $2 AND $3 \
         ORDER BY e.seq DESC LIMIT $4) page \
   WHERE bytes <= $5 OR place = 1 ORDER BY seq";

pub(super) async fn entries(
    pool: &PgPool,
    conversation: ConversationId,
    page: Page,
) -> Result<Vec<Entry>, sqlx::Error> {
    let rows: Vec<EntryRow> = sqlx::query_as(if page.newest { NEWEST } else { OLDEST })
        .bind(Uuid::from(conversation))
        .bind(signed(page.from.0))
        .bind(signed(page.to.0))
        .bind(size(page.entries_max))
        .bind(size(page.bytes_max))
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(|entry| row::entry(conversation, entry)).collect())
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
