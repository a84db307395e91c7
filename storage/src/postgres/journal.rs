//! The list of nodes and the journal (migration 6).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use petrel_core::id::{ConversationId, NodeId, Seq, UserId};
use petrel_core::store::{
    Journal, JournalMark, JournalRow, LANES_MAX, NodeLine, NodeRecord, StoreError,
};
use sqlx::postgres::PgExecutor;
use sqlx::types::Uuid;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::PostgresStore;
use crate::row::{signed, size, unsigned};

/// Nodes that were silent for longer are not told of.
const LATELY: Duration = Duration::from_secs(600);
/// Nodes that were silent for longer are forgotten.
const GONE: Duration = Duration::from_secs(3_600);
/// Who has left so many entries ago is not told of.
const JUST_LEFT: i64 = 50;
/// Rows that are forgotten at once.
const TRIMMED_AT_ONCE: usize = 10_000;

/// id, name, address, clients, version, draining, silent, age, left
type Line = (Uuid, String, String, String, String, bool, i64, i64, bool);

/// The lanes of one node: first those of its writers, then those of changes.
#[derive(Debug)]
pub(super) struct Lanes {
    node: NodeId,
    writers: Mutex<u32>,
    /// Lanes of changes that nobody uses.
    free: Mutex<Vec<Lane>>,
    changes: Semaphore,
    /// For one of them.
    patience: Duration,
}

/// Who writes a row of the journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    node: NodeId,
    number: u32,
    /// The highest number that is known to be taken.
    highest: i64,
    /// Whether it is the last one: what became of the last transaction is known.
    is_known: bool,
}

/// A lane for as long as one change takes.
#[derive(Debug)]
pub(super) struct Borrowed<'a> {
    lanes: &'a Lanes,
    lane: Lane,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.lanes.free.lock().push(self.lane);
    }
}

impl Lanes {
    /// Of a node with so many lanes for changes.
    pub(super) fn new(node: NodeId, changes: u32, patience: Duration) -> Arc<Self> {
        let changes = changes.clamp(1, LANES_MAX / 2);
        let free = (LANES_MAX - changes..LANES_MAX).map(|number| Lane::new(node, number)).collect();
        Arc::new(Self {
            node,
            writers: Mutex::new(0),
            free: Mutex::new(free),
            changes: Semaphore::new(changes as usize),
            patience,
        })
    }

    /// The next writer's.
    pub(super) fn writer(&self) -> Lane {
        let mut next = self.writers.lock();
        let number = *next;
        *next += 1;
        Lane::new(self.node, number)
    }

    /// One for a change, once there is one.
    pub(super) async fn change(&self) -> Result<Borrowed<'_>, StoreError> {
        let busy = || StoreError::Transient("no place for a change in time".to_owned());
        let acquiring = tokio::time::timeout(self.patience, self.changes.acquire());
        let permit = acquiring.await.map_err(|_| busy())?.map_err(|_| busy())?;
        let free = self.free.lock().pop();
        let lane = free.unwrap_or_else(|| Lane::new(self.node, LANES_MAX - 1));
        Ok(Borrowed { lanes: self, lane, _permit: permit })
    }
}

impl std::ops::Deref for Borrowed<'_> {
    type Target = Lane;

    fn deref(&self) -> &Lane {
        &self.lane
    }
}

impl std::ops::DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Lane {
        &mut self.lane
    }
}

impl Lane {
    /// Of a node that has just started: nothing was written in it.
    fn new(node: NodeId, number: u32) -> Self {
        Self { node, number, highest: 0, is_known: true }
    }

    /// As three parameters of a statement: whose, which, and its last number; if that is not known, -1 less the highest that is.
    /// Until [`Lane::wrote`] says what became of the statement it is not known.
    pub(super) fn begin(&mut self) -> (Uuid, i32, i64) {
        let number = i32::try_from(self.number).unwrap_or(i32::MAX);
        let last = if self.is_known { self.highest } else { -1 - self.highest };
        self.is_known = false;
        (self.node.into(), number, last)
    }

    /// The transaction that began with `last` has committed, and written a row or none.
    pub(super) async fn wrote(
        &mut self,
        last: i64,
        a_row: bool,
        executor: impl PgExecutor<'_>,
    ) -> Result<(), sqlx::Error> {
        if last >= 0 {
            (self.highest, self.is_known) = (last + i64::from(a_row), true);
            return Ok(());
        }
        // Nothing of the lane is under way any more: it waited for the same locks, or will clash with the next.
        let (node, number, _) = self.begin();
        let found: Option<i64> =
            sqlx::query_scalar("SELECT max(n) FROM journal WHERE node = $1 AND lane = $2")
                .bind(node)
                .bind(number)
                .fetch_one(executor)
                .await?;
        if let Some(found) = found {
            (self.highest, self.is_known) = (found.max(self.highest), true);
        }
        Ok(())
    }
}

/// The statement's own answer to how long ago something was.
const NODES: &str = "SELECT id, name, address, clients, version, is_draining, \
     greatest(0, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - seen_ms), \
     greatest(0, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - started_ms), \
     left_ms IS NOT NULL \
     FROM node WHERE seen_ms > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1 ORDER BY name, started_ms";

#[async_trait]
impl Journal for PostgresStore {
    async fn beat(&self, own: &NodeRecord) -> Result<Vec<NodeLine>, StoreError> {
        self.bounded(
            sqlx::query(
                "INSERT INTO node AS n (id, name, address, clients, version, started_ms, seen_ms, is_draining) \
                 SELECT $1, $2, $3, $4, $5, t.ms, t.ms, $6 \
                 FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) t \
                 ON CONFLICT (id) DO UPDATE SET seen_ms = excluded.seen_ms, is_draining = excluded.is_draining, \
                   address = excluded.address, left_ms = NULL",
            )
            .bind(Uuid::from(own.id))
            .bind(&own.name)
            .bind(&own.address)
            .bind(&own.clients)
            .bind(&own.version)
            .bind(own.is_draining)
            .execute(&self.pool),
        )
        .await?;
        self.nodes().await
    }

    async fn nodes(&self) -> Result<Vec<NodeLine>, StoreError> {
        let lately = i64::try_from(LATELY.as_millis()).unwrap_or(i64::MAX);
        let read = sqlx::query_as(NODES).bind(lately).fetch_all(&self.pool);
        let lines: Vec<Line> = self.bounded(read).await?;
        Ok(lines.into_iter().map(node_line).collect())
    }

    async fn leave(&self, own: NodeId) -> Result<(), StoreError> {
        let leaving = sqlx::query(
            "UPDATE node SET left_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint WHERE id = $1",
        )
        .bind(Uuid::from(own))
        .execute(&self.pool);
        self.bounded(leaving).await.map(|_| ())
    }

    async fn marks(&self, nodes: &[NodeId]) -> Result<Vec<JournalMark>, StoreError> {
        let read = sqlx::query_as(
            "SELECT s.node, s.lane, t.n FROM unnest($1::uuid[]) AS s0 (node) \
             CROSS JOIN LATERAL (SELECT s0.node, g.lane FROM generate_series(0, $2) AS g (lane)) s \
             CROSS JOIN LATERAL (SELECT j.n FROM journal j WHERE j.node = s.node AND j.lane = s.lane \
                                 ORDER BY j.n DESC LIMIT 1) t",
        )
        .bind(uuids(nodes))
        .bind(LANE_LAST)
        .fetch_all(&self.pool);
        let lines: Vec<(Uuid, i32, i64)> = self.bounded(read).await?;
        Ok(lines.into_iter().map(mark).collect())
    }

    async fn read(
        &self,
        nodes: &[NodeId],
        marks: &[JournalMark],
        (of_lane, of_all): (usize, usize),
    ) -> Result<Vec<JournalRow>, StoreError> {
        type Row = (Uuid, i32, i64, Vec<Uuid>, Vec<i64>);
        let read = sqlx::query_as(
            "SELECT t.node, t.lane, t.n, t.conversations, t.heads \
             FROM unnest($1::uuid[]) AS s (node) CROSS JOIN generate_series(0, $2) AS g (lane) \
             LEFT JOIN unnest($3::uuid[], $4::integer[], $5::bigint[]) AS m (node, lane, n) \
               ON m.node = s.node AND m.lane = g.lane \
             CROSS JOIN LATERAL (SELECT j.* FROM journal j WHERE j.node = s.node AND j.lane = g.lane \
                                   AND j.n > coalesce(m.n, 0) ORDER BY j.n LIMIT $6) t \
             LIMIT $7",
        )
        .bind(uuids(nodes))
        .bind(LANE_LAST)
        .bind(marks.iter().map(|mark| Uuid::from(mark.node)).collect::<Vec<_>>())
        .bind(marks.iter().map(|mark| i32::try_from(mark.lane).unwrap_or(i32::MAX)).collect::<Vec<_>>())
        .bind(marks.iter().map(|mark| signed(mark.number)).collect::<Vec<_>>())
        .bind(size(of_lane))
        .bind(size(of_all))
        .fetch_all(&self.pool);
        let rows: Vec<Row> = self.bounded(read).await?;
        let row = |(node, lane, n, conversations, heads): Row| JournalRow {
            mark: mark((node, lane, n)),
            heads: conversations
                .into_iter()
                .map(ConversationId::from)
                .zip(heads.into_iter().map(|head| Seq(unsigned(head))))
                .collect(),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    async fn trim(&self, marks: &[JournalMark]) -> Result<(), StoreError> {
        for mark in marks {
            // In pieces, so that none runs into the statement's time-out.
            loop {
                let trimming = sqlx::query(
                    "DELETE FROM journal j USING (SELECT node, lane, n FROM journal \
                       WHERE node = $1 AND lane = $2 AND n < $3 ORDER BY n LIMIT $4) old \
                     WHERE j.node = old.node AND j.lane = old.lane AND j.n = old.n",
                )
                .bind(Uuid::from(mark.node))
                .bind(i32::try_from(mark.lane).unwrap_or(i32::MAX))
                .bind(signed(mark.number))
                .bind(size(TRIMMED_AT_ONCE))
                .execute(&self.pool);
                let gone = self.bounded(trimming).await?.rows_affected();
                if gone < TRIMMED_AT_ONCE as u64 {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn forget_gone(&self) -> Result<(), StoreError> {
        let gone_ms = i64::try_from(GONE.as_millis()).unwrap_or(i64::MAX);
        let reading = sqlx::query_scalar(
            "SELECT id FROM node WHERE seen_ms < floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1 LIMIT 16",
        )
        .bind(gone_ms)
        .fetch_all(&self.pool);
        let gone: Vec<Uuid> = self.bounded(reading).await?;
        for node in gone {
            let marks = self.marks(&[node.into()]).await?;
            let past = |mark: &JournalMark| JournalMark { number: mark.number + 1, ..*mark };
            self.trim(&marks.iter().map(past).collect::<Vec<_>>()).await?;
            let forgetting =
                sqlx::query("DELETE FROM node WHERE id = $1").bind(node).execute(&self.pool);
            self.bounded(forgetting).await?;
        }
        Ok(())
    }

    async fn members(
        &self,
        conversations: &[ConversationId],
        members_max: usize,
    ) -> Result<Vec<(ConversationId, UserId)>, StoreError> {
        let read = sqlx::query_as(
            "SELECT s.id, m.user_id FROM unnest($1::uuid[]) AS s (id) JOIN conversation c ON c.id = s.id \
             CROSS JOIN LATERAL (SELECT m.user_id FROM member m \
                                 WHERE m.conversation_id = s.id \
                                   AND (m.until_seq IS NULL OR m.until_seq > c.head - $3) LIMIT $2) m",
        )
        .bind(conversations.iter().map(|id| Uuid::from(*id)).collect::<Vec<_>>())
        .bind(size(members_max))
        .bind(JUST_LEFT)
        .fetch_all(&self.pool);
        let lines: Vec<(Uuid, Uuid)> = self.bounded(read).await?;
        Ok(lines.into_iter().map(|(id, user)| (id.into(), user.into())).collect())
    }
}

/// The number of the last lane, as the statements take it.
#[allow(clippy::cast_possible_wrap, reason = "64")]
const LANE_LAST: i32 = LANES_MAX as i32 - 1;

fn uuids(nodes: &[NodeId]) -> Vec<Uuid> {
    nodes.iter().map(|node| Uuid::from(*node)).collect()
}

fn mark((node, lane, n): (Uuid, i32, i64)) -> JournalMark {
    JournalMark {
        node: node.into(),
        lane: u32::try_from(lane).unwrap_or_default(),
        number: unsigned(n),
    }
}

fn node_line(line: Line) -> NodeLine {
    let (id, name, address, clients, version, is_draining, silent, age, has_left) = line;
    NodeLine {
        node: NodeRecord { id: id.into(), name, address, clients, version, is_draining },
        silent: Duration::from_millis(unsigned(silent)),
        age: Duration::from_millis(unsigned(age)),
        has_left,
    }
}
