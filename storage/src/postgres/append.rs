//! The far end of one writer: a connection of its own, one call a batch.

use async_trait::async_trait;
use petrel_core::entry::Family;
use petrel_core::limits::REACTIONS_OF_ENTRY_MAX;
use petrel_core::store::{Append, AppendOutcome, Appender, StoreError};
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::QueryAs;
use sqlx::types::Uuid;

use super::connect::{Connector, classify};
use super::journal::Lane;
use crate::change::mentions_column;
use crate::row::{AnswerRow, in_batch_order, signed, size};

/// Appends through `append_messages` (migration 5), with a journal `append_and_journal` (migration 6). Connects when it is first
/// used and again after any error, so that nothing half-done is ever reused.
#[derive(Debug)]
pub(super) struct PostgresAppender {
    connector: Connector,
    connection: Option<PgConnection>,
    /// If its batches are written to the journal.
    lane: Option<Lane>,
}

impl PostgresAppender {
    pub(super) fn new(connector: Connector, lane: Option<Lane>) -> Self {
        Self { connector, connection: None, lane }
    }
}

#[async_trait]
impl Appender for PostgresAppender {
    async fn append(&mut self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // Taken out: if this future is dropped, the connection closes with it.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connector.writer().await?,
        };
        let deadline = self.connector.options.deadline;
        let answer =
            tokio::time::timeout(deadline, call(&mut connection, self.lane.as_mut(), batch)).await;
        match answer {
            Ok(Ok(rows)) => {
                self.connection = Some(connection);
                in_batch_order(batch, rows)
            }
            Ok(Err(error)) => {
                let error = classify(&error);
                if matches!(error, StoreError::Permanent(_)) {
                    // The server answered and rolled back: the connection is sound.
                    self.connection = Some(connection);
                }
                Err(error)
            }
            Err(_) => Err(StoreError::Transient(format!(
                "{}: no answer to a batch within {deadline:?}; its outcome is unknown",
                self.connector.place
            ))),
        }
    }
}

/// A query that is being given its values.
type Query<'q> = QueryAs<'q, Postgres, AnswerRow, PgArguments>;

async fn call(
    connection: &mut PgConnection,
    lane: Option<&mut Lane>,
    batch: &[Append],
) -> Result<Vec<AnswerRow>, sqlx::Error> {
    let Some(lane) = lane else {
        let query = sqlx::query_as(
            "SELECT idx, outcome, seq, count, committed_ms, rights_version \
             FROM append_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        );
        return bound(query, batch).fetch_all(connection).await;
    };
    let (node, number, last) = lane.begin();
    let query = sqlx::query_as(
        "SELECT idx, outcome, seq, count, committed_ms, rights_version \
         FROM append_and_journal($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    );
    let rows: Vec<AnswerRow> =
        bound(query.bind(node).bind(number).bind(last), batch).fetch_all(&mut *connection).await?;
    lane.wrote(last, rows.iter().any(|row| row.1 == 0), connection).await?;
    Ok(rows)
}

/// A message a row, in columns.
fn bound<'q>(query: Query<'q>, batch: &'q [Append]) -> Query<'q> {
    let column = |uuid: fn(&Append) -> Uuid| batch.iter().map(uuid).collect::<Vec<_>>();
    query
        .bind(column(|message| message.conversation.into()))
        .bind(
            batch
                .iter()
                .map(|message| message.admitted_by.map(|version| signed(version.0)))
                .collect::<Vec<_>>(),
        )
        .bind(column(|message| message.sender.into()))
        .bind(column(|message| message.id.into()))
        .bind(batch.iter().map(|message| i32::from(message.kind.number())).collect::<Vec<_>>())
        .bind(batch.iter().map(|message| message.kind.is_countable()).collect::<Vec<_>>())
        .bind(batch.iter().map(|message| i64::from(message.encoding)).collect::<Vec<_>>())
        .bind(batch.iter().map(|message| &message.body[..]).collect::<Vec<_>>())
        .bind(batch.iter().map(|message| &message.digest.0[..]).collect::<Vec<_>>())
        .bind(batch.iter().map(|m| m.target.map(|seq| signed(seq.0))).collect::<Vec<_>>())
        .bind(batch.iter().map(|m| m.revision.map(i64::from)).collect::<Vec<_>>())
        .bind(batch.iter().map(|m| mentions_column(&m.mentions)).collect::<Vec<_>>())
        .bind(careful(batch))
        .bind(size(REACTIONS_OF_ENTRY_MAX))
}

/// The conversations in which a message of the batch does more than stand in the log.
fn careful(batch: &[Append]) -> Vec<Uuid> {
    let does_more = |m: &&Append| m.kind.family() == Family::Change || !m.mentions.is_empty();
    let mut ids: Vec<_> = batch.iter().filter(does_more).map(|m| m.conversation).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(Uuid::from).collect()
}
