//! Carrying requests out: read and judge, apply, and, if somebody was quicker, again. The
//! entries that were written are handed out like any other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use petrel_core::change::{Change, ChangeEntry, ChangeOutcome, Guard, RowChange};
use petrel_core::conversation::judge_id;
use petrel_core::entry::{Changes, Entry, Placed};
use petrel_core::error::Rejection;
use petrel_core::event::{Decision, Log};
use petrel_core::id::{ClientMessageId, ConversationId, UserId};
use petrel_core::limits;
use petrel_core::store::{ConversationRecord, Page, StoreError};
use uuid::Uuid;

use crate::attach::unavailable;
use crate::conversation_table::Cell;
use crate::gateway::Gateway;
use crate::{clock, metrics, translate};

/// How often a request is judged before its caller is told to look again.
const TRIES_MAX: usize = 8;
/// How often a decision is given to a store that does not answer.
const STORE_TRIES_MAX: usize = 3;
/// Between two of these.
const STORE_RETRY: Duration = Duration::from_millis(100);

/// Who asks, and the name of what he asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// From the verified token.
    pub user: UserId,
    /// The request's id: the same again is done once.
    pub id: ClientMessageId,
}

impl Caller {
    /// Reads the id that a request carries; one that carries none gets one of its own.
    ///
    /// # Errors
    /// `Invalid`, `TooOld`, `FromTheFuture`.
    pub(crate) fn read(user: UserId, id: &Bytes) -> Result<Self, Rejection> {
        if id.is_empty() {
            return Ok(Self { user, id: Uuid::now_v7().into() });
        }
        let id = translate::id("id", id, ClientMessageId::from_slice)?;
        judge_id(id, clock::unix_ms())?;
        Ok(Self { user, id })
    }
}

/// A request that is being read and judged.
pub(crate) type Judging<'a, T> = BoxFuture<'a, Result<(Decision, T), Rejection>>;

/// Reads and judges with `judge`, then carries out what it decided; again if what it rests on
/// has moved meanwhile. Gives back what `judge` said beside its decision.
///
/// # Errors
/// What `judge` says; `Unavailable`; [`Rejection::Conflict`] if others were quicker each time.
pub(crate) async fn carry_out<'a, T>(
    gateway: &Arc<Gateway>,
    caller: Caller,
    judge: impl Fn() -> Judging<'a, T>,
) -> Result<T, Rejection> {
    for tried in 0..TRIES_MAX {
        if tried > 0 {
            metrics::get().changes_retried.increment(1);
        }
        let (decision, answer) = judge().await?;
        if decision.is_nothing() {
            return Ok(answer);
        }
        let cells = prepare(gateway, &decision, tried > 0).await?;
        let change = change_of(caller, &decision);
        match apply(gateway, &change).await? {
            ChangeOutcome::Done(placed) => {
                hand_out(gateway, &change, placed, decision, cells).await;
                return Ok(answer);
            }
            ChangeOutcome::Duplicate(_) => {
                for cell in cells.iter().flatten() {
                    gateway.read_on(cell).await;
                }
                return Ok(answer);
            }
            ChangeOutcome::Stale => {}
        }
    }
    Err(Rejection::Conflict { what: "what this is about" })
}

/// Writes an entry of the service's own into the log of a pair or a group, where `judge` finds that it
/// may stand, and hands it out.
///
/// # Errors
/// What `judge` says; [`Rejection::NotFound`] if there is no such log; `Unavailable`;
/// [`Rejection::Conflict`] if others were quicker each time.
pub(crate) async fn write_entry(
    gateway: &Arc<Gateway>,
    entry: ChangeEntry,
    judge: impl Fn(&ConversationRecord) -> Result<Guard, Rejection>,
) -> Result<Placed, Rejection> {
    for _ in 0..TRIES_MAX {
        // In memory before it is written, so that its place is known when it comes.
        let loaded = gateway.conversation(entry.conversation).await?;
        let found = gateway.store.conversation(entry.conversation).await;
        let found = found.map_err(|error| unavailable(&error))?;
        let (Some(cell), Some(record)) = (loaded, found) else {
            return Err(Rejection::NotFound);
        };
        let guards = vec![judge(&record)?];
        let change = Change { guards, rows: Vec::new(), entries: vec![entry.clone()] };
        match apply(gateway, &change).await? {
            ChangeOutcome::Done(placed) => {
                let placed = *placed.first().ok_or(Rejection::Internal)?;
                gateway.offer(&cell, entry_of(&entry, placed), None);
                return Ok(placed);
            }
            ChangeOutcome::Duplicate(placed) => {
                gateway.read_on(&cell).await;
                return Ok(placed);
            }
            ChangeOutcome::Stale => {}
        }
    }
    Err(Rejection::Conflict { what: "the conversation" })
}

/// Loads the logs that are written to, as far as somebody here reads them, so that they know the
/// place of what comes. Own logs are made if they are missing, which the store tells by `Stale`.
async fn prepare(
    gateway: &Gateway,
    decision: &Decision,
    again: bool,
) -> Result<Vec<Option<Arc<Cell>>>, Rejection> {
    let mut cells = Vec::with_capacity(decision.events.len());
    for (log, _) in &decision.events {
        if let (Log::Of(user), true) = (log, again) {
            gateway.store.ensure_log(*user).await.map_err(|error| unavailable(&error))?;
        }
        let id = log.conversation();
        let is_read = match log {
            Log::Group(_) => true,
            Log::Of(user) => gateway.sessions.count(*user) > 0,
        };
        cells.push(if is_read {
            gateway.conversation(id).await?
        } else {
            gateway.conversations.cached(id)
        });
    }
    Ok(cells)
}

fn change_of(caller: Caller, decision: &Decision) -> Change {
    let entries = decision.events.iter().map(|(log, event)| ChangeEntry {
        conversation: log.conversation(),
        id: caller.id,
        sender: caller.user,
        kind: event.kind(),
        body: translate::event(event),
    });
    Change {
        guards: decision.guards.clone(),
        rows: decision.rows.clone(),
        entries: entries.collect(),
    }
}

/// Whether it was done is not known when the store does not answer; asked again, it knows.
async fn apply(gateway: &Gateway, change: &Change) -> Result<ChangeOutcome, Rejection> {
    let mut tried = 1;
    loop {
        match gateway.store.apply(change).await {
            Ok(outcome) => return Ok(outcome),
            Err(StoreError::Transient(error)) if tried < STORE_TRIES_MAX => {
                tracing::debug!(%error, "a change is tried again");
                tried += 1;
                tokio::time::sleep(STORE_RETRY).await;
            }
            Err(error) => {
                gateway.cluster.doubt(change.entries.iter().map(|entry| entry.conversation));
                return Err(unavailable(&error));
            }
        }
    }
}

async fn hand_out(
    gateway: &Arc<Gateway>,
    change: &Change,
    placed: Vec<Placed>,
    decision: Decision,
    cells: Vec<Option<Arc<Cell>>>,
) {
    for row in &decision.rows {
        if let RowChange::BumpPair(a, b) = row
            && let Some(cell) = gateway.conversations.cached(ConversationId::of_pair(*a, *b))
        {
            // Should it fail, the next send is found stale by the store and judged again.
            gateway.reload(&cell).await;
        }
    }
    let entries = change.entries.iter().zip(placed).map(|(entry, placed)| entry_of(entry, placed));
    for ((entry, (log, event)), cell) in entries.zip(decision.events).zip(cells) {
        match cell {
            Some(cell) => gateway.offer(&cell, entry, Some(event)),
            // A group that this request has made.
            None => match log {
                Log::Group(_) => gateway.announce(entry).await,
                Log::Of(user) => gateway.forward_to_user(user, &entry),
            },
        }
    }
}

fn entry_of(entry: &ChangeEntry, placed: Placed) -> Entry {
    Entry {
        conversation: entry.conversation,
        placed,
        id: entry.id,
        sender: entry.sender,
        kind: entry.kind.number(),
        encoding: 0,
        body: entry.body.clone(),
        target: None,
        mentions: Vec::new(),
        changes: Changes::default(),
        hidden: false,
    }
}

impl Gateway {
    /// Hands out the first entry of a new log, or tells its readers that there is something.
    async fn announce(self: &Arc<Self>, entry: Entry) {
        // Whoever does not hear of it now finds it in the list.
        let Ok(Some(cell)) = self.conversation(entry.conversation).await else { return };
        cell.with(|conversation| {
            self.forward(&cell, conversation, &entry);
            self.hand_out_first(&cell, conversation, entry);
        });
    }

    /// Reads what is in the log behind what was handed out here, after an answer that got lost.
    async fn read_on(self: &Arc<Self>, cell: &Arc<Cell>) {
        if !self.reload(cell).await {
            return;
        }
        let Some(from) = cell.with(|c| c.next()) else { return };
        let page = Page {
            from,
            to: petrel_core::id::Seq(limits::TIME_MS_MAX),
            entries_max: limits::PAGE_ENTRIES_MAX,
            bytes_max: limits::PAGE_BYTES_MAX,
            newest: false,
        };
        // Should it fail, the next entry shows the hole, and it is read then.
        if let Ok(entries) = self.store.entries(cell.id(), None, page).await {
            self.offer_read(cell, entries);
        }
    }
}
