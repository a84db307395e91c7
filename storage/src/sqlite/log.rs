//! Reading table `entry`.

use petrel_core::entry::{Cursor, Entry};
use petrel_core::id::{ConversationId, Seq, UserId};
use petrel_core::store::{Page, Standing};
use sqlx::sqlite::SqliteRow;
use sqlx::types::Uuid;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool};

use crate::row::{self, ReactionRow, StandingRow, signed, size};

pub(super) async fn entries(
    pool: &SqlitePool,
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
    let entry = |line: &SqliteRow| Ok::<_, sqlx::Error>(row::entry!(line, conversation));
    let mut entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let wanted = row::reacted(&entries);
    let reactions = reactions(pool, &wanted, reader).await?;
    row::react(&mut entries, reactions);
    Ok(entries)
}

/// The reactions to these entries, counted.
pub(super) async fn reactions(
    pool: &SqlitePool,
    wanted: &[(ConversationId, Seq)],
    reader: Option<UserId>,
) -> Result<Vec<ReactionRow>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::<Sqlite>::new("WITH reader (id) AS (VALUES (");
    query.push_bind(reader.map(Uuid::from)).push(")), wanted (conversation_id, seq) AS (");
    query.push_values(wanted, |mut line, (id, seq)| {
        line.push_bind(Uuid::from(*id)).push_bind(signed(seq.0));
    });
    query.push(concat!(") ", row::reactions!()));
    query.build_query_as().persistent(false).fetch_all(pool).await
}

pub(super) async fn standing(
    pool: &SqlitePool,
    conversation: ConversationId,
    cursors: &[Cursor],
) -> Result<Option<Standing>, sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT c.head, c.countable, c.rights_version, e.seq, e.client_msg_id, e.committed_ms \
         FROM conversation c LEFT JOIN entry e ON e.conversation_id = c.id AND e.seq IN (",
    );
    let mut list = query.separated(", ");
    for cursor in cursors {
        list.push_bind(signed(cursor.seq.0));
    }
    list.push_unseparated(") WHERE c.id = ").push_bind_unseparated(Uuid::from(conversation));
    let rows: Vec<StandingRow> = query.build_query_as().persistent(false).fetch_all(pool).await?;
    Ok(row::standing(cursors, &rows))
}
