//! One batch, one transaction. Row by row: a statement is a function call here,
//! and the rules can be read in their order. `append_messages` of PostgreSQL
//! gives the same answers (tests/conformance.rs).

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use petrel_core::entry::Placed;
use petrel_core::id::{ConversationId, RightsVersion, Seq, UserId};
use petrel_core::store::{Append, AppendOutcome, Appender, StoreError};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use rustc_hash::{FxHashMap, FxHashSet};

use super::target;
use super::thread::WriterThread;
use crate::change::mentions_column;
use crate::row::{placed, signed, unsigned};

#[derive(Debug)]
pub(super) struct SqliteAppender {
    writer: Arc<WriterThread>,
}

impl SqliteAppender {
    pub(super) fn new(writer: Arc<WriterThread>) -> Self {
        Self { writer }
    }
}

#[async_trait]
impl Appender for SqliteAppender {
    async fn append(&mut self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // The bodies are shared, not copied.
        let batch = batch.to_vec();
        self.writer.run(move |connection| append(connection, &batch)).await
    }
}

/// A conversation's row while a batch is under way.
#[derive(Clone, Copy)]
struct Head {
    /// As the batch found it: a change's target has to be no newer.
    began: Seq,
    seq: u64,
    count: u64,
    rights_version: RightsVersion,
    moved: bool,
}

fn append(
    connection: &mut Connection,
    batch: &[Append],
) -> Result<Vec<AppendOutcome>, rusqlite::Error> {
    // Dropped without a commit, it rolls back.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let time_ms = now_ms();
    let mut heads: FxHashMap<ConversationId, Option<Head>> = FxHashMap::default();
    let mut stale: FxHashSet<(ConversationId, UserId)> = FxHashSet::default();
    let mut outcomes = Vec::with_capacity(batch.len());
    for message in batch {
        let head = match heads.get(&message.conversation) {
            Some(head) => *head,
            None => load_head(&transaction, message.conversation)?,
        };
        let (outcome, head) = one(&transaction, message, head, &mut stale, time_ms)?;
        heads.insert(message.conversation, head);
        outcomes.push(outcome);
    }
    {
        let mut update = transaction.prepare_cached(
            "UPDATE conversation SET head = ?2, countable = ?3, last_at_ms = ?4 WHERE id = ?1",
        )?;
        for (id, head) in &heads {
            if let Some(head) = head.filter(|head| head.moved) {
                update.execute(params![
                    id.as_bytes(),
                    signed(head.seq),
                    signed(head.count),
                    signed(time_ms)
                ])?;
            }
        }
    }
    transaction.commit()?;
    Ok(outcomes)
}

/// One message: what is stored is found first, then staleness, then its place.
fn one(
    transaction: &Transaction<'_>,
    message: &Append,
    head: Option<Head>,
    stale: &mut FxHashSet<(ConversationId, UserId)>,
    time_ms: u64,
) -> Result<(AppendOutcome, Option<Head>), rusqlite::Error> {
    let from = (message.conversation, message.sender);
    let current = head
        .filter(|head| message.admitted_by == Some(head.rights_version) && !stale.contains(&from));
    let Some(current) = current else {
        let outcome = stored(transaction, message)?.unwrap_or(AppendOutcome::Stale);
        if outcome == AppendOutcome::Stale && message.admitted_by.is_some() {
            stale.insert(from);
        }
        return Ok((outcome, head));
    };
    let next = Placed {
        seq: Seq(current.seq + 1),
        count: current.count + u64::from(message.kind.is_countable()),
        time_ms,
        rights_version: current.rights_version,
    };
    if target::is_change(message.kind) {
        if let Some(outcome) = stored(transaction, message)? {
            return Ok((outcome, head));
        }
        if !target::change(transaction, message, current.began, next.seq)? {
            return Ok((AppendOutcome::Conflict, head));
        }
    }
    if insert(transaction, message, next)? {
        if !message.mentions.is_empty() {
            target::mention(transaction, message, next.seq)?;
        }
        let moved = Head {
            began: current.began,
            seq: next.seq.0,
            count: next.count,
            rights_version: current.rights_version,
            moved: true,
        };
        return Ok((AppendOutcome::New(next), Some(moved)));
    }
    // This thread alone writes, so what was in the way is there to be found.
    let outcome = stored(transaction, message)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    Ok((outcome, head))
}

fn load_head(
    transaction: &Transaction<'_>,
    id: ConversationId,
) -> Result<Option<Head>, rusqlite::Error> {
    transaction
        .prepare_cached("SELECT head, countable, rights_version FROM conversation WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| {
            Ok(Head {
                began: Seq(unsigned(row.get(0)?)),
                seq: unsigned(row.get(0)?),
                count: unsigned(row.get(1)?),
                rights_version: RightsVersion(unsigned(row.get(2)?)),
                moved: false,
            })
        })
        .optional()
}

/// Whether the id is stored already, and if so, whether with the same content.
fn stored(
    transaction: &Transaction<'_>,
    message: &Append,
) -> Result<Option<AppendOutcome>, rusqlite::Error> {
    transaction
        .prepare_cached(
            "SELECT seq, count, committed_ms, rights_version, digest FROM entry \
             WHERE conversation_id = ?1 AND sender = ?2 AND client_msg_id = ?3",
        )?
        .query_row(
            params![
                message.conversation.as_bytes(),
                message.sender.as_bytes(),
                message.id.as_bytes()
            ],
            |row| {
                let digest: [u8; 32] = row.get(4)?;
                Ok(if digest == message.digest.0 {
                    AppendOutcome::Duplicate(placed(
                        row.get(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                    ))
                } else {
                    AppendOutcome::IdConflict
                })
            },
        )
        .optional()
}

/// `false` if the id is stored already. Any other clash is an error.
fn insert(
    transaction: &Transaction<'_>,
    message: &Append,
    at: Placed,
) -> Result<bool, rusqlite::Error> {
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO entry (conversation_id, seq, count, committed_ms, rights_version, encoding, \
                                sender, client_msg_id, kind, countable, digest, body, target, \
                                mentions) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
             ON CONFLICT (conversation_id, sender, client_msg_id) DO NOTHING",
        )?
        .execute(params![
            message.conversation.as_bytes(),
            signed(at.seq.0),
            signed(at.count),
            signed(at.time_ms),
            signed(at.rights_version.0),
            message.encoding,
            message.sender.as_bytes(),
            message.id.as_bytes(),
            message.kind.number(),
            message.kind.is_countable(),
            message.digest.0,
            &message.body[..],
            message.target.map(|seq| signed(seq.0)),
            mentions_column(&message.mentions),
        ])?;
    Ok(inserted == 1)
}

/// Unix milliseconds of this host's clock.
pub(super) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
