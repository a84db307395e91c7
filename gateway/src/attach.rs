//! Attach: subscribe first, then read the store from the cursor, then splice.
//! The seqs are dense, so the splice is a comparison of two numbers under the
//! conversation's lock. The same code serves a client that comes back, a
//! slow reader that fell behind, and a stream whose pushes were suspended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use petrel_core::conversation::{Conversation, View};
use petrel_core::entry::{Cursor, Entry};
use petrel_core::error::Rejection;
use petrel_core::id::{ConversationId, Seq, UserId};
use petrel_core::limits;
use petrel_core::store::{Page, StoreError};
use petrel_proto::wire::{self, GapReason};
use petrel_transport::SendStream;

use crate::connection::Fuse;
use crate::conversation_table::Cell;
use crate::fanout::Origin;
use crate::gateway::Gateway;
use crate::session::Session;
use crate::{clock, metrics, translate};

/// Entries that are pushed after a gap that was skipped.
const NEWEST_AFTER_GAP: u64 = 200;
/// Between two tries of a catch-up while the store does not answer.
const CATCH_UP_RETRY: Duration = Duration::from_millis(200);

/// A client's Attach, checked.
#[derive(Debug)]
pub(crate) struct Request {
    /// The conversation.
    pub conversation: ConversationId,
    peer: Option<UserId>,
    /// Newest first.
    cursors: Vec<Cursor>,
    own: Option<petrel_core::store::Receipt>,
}

impl Request {
    /// Reads an Attach of `user` from the wire.
    ///
    /// # Errors
    /// [`Rejection::Invalid`] that names the field.
    pub(crate) fn read(attach: &wire::Attach, user: UserId) -> Result<Self, Rejection> {
        let conversation =
            translate::id("conversation", &attach.conversation, ConversationId::from_slice)?;
        let peer = match attach.peer.as_ref() {
            [] => None,
            bytes => Some(translate::id("peer", bytes, UserId::from_slice)?),
        };
        if peer.is_some_and(|p| p == user || ConversationId::of_pair(user, p) != conversation) {
            return Err(Rejection::Invalid {
                field: "peer",
                problem: "the conversation is not that of you and this user".to_owned(),
            });
        }
        if attach.older.len() > limits::OLDER_CURSORS_MAX {
            return Err(Rejection::Invalid {
                field: "older",
                problem: format!(
                    "{} cursors; at most {}",
                    attach.older.len(),
                    limits::OLDER_CURSORS_MAX
                ),
            });
        }
        let mut cursors = Vec::with_capacity(1 + attach.older.len());
        for cursor in attach.cursor.iter().chain(&attach.older) {
            cursors.push(translate::cursor(cursor)?);
        }
        cursors.sort_by_key(|c| std::cmp::Reverse(c.seq));
        let own = match &attach.own {
            Some(own) => Some(translate::receipt(own.delivered, own.read)?),
            None => None,
        };
        Ok(Self { conversation, peer, cursors, own })
    }
}

/// Finds the conversation of a request, made if it is that of a pair (or the user's own log) and
/// missing. Who was a member finds it too: what he saw stays his.
///
/// # Errors
/// [`Rejection::NotFound`] if there is none or the user never was a member: the same
/// answer after the same look at the store. [`Rejection::Unavailable`].
pub(crate) async fn find(
    gateway: &Gateway,
    user: UserId,
    request: &Request,
) -> Result<Arc<Cell>, Rejection> {
    let id = request.conversation;
    if let Some(cell) = look_up(gateway, user, id).await? {
        return Ok(cell);
    }
    let made = match request.peer {
        Some(peer) => gateway.store.ensure_pair(user, peer).await,
        None if id == ConversationId::of_user(user) => gateway.store.ensure_log(user).await,
        None => return Err(Rejection::NotFound),
    };
    match made {
        Ok(true) => gateway.conversation(id).await?.ok_or(Rejection::NotFound),
        Ok(false) => Err(Rejection::NotFound),
        Err(error) => Err(unavailable(&error)),
    }
}

/// The conversation, if the user is or was a member of it; `None` if it does not exist.
///
/// # Errors
/// As [`find`].
pub(crate) async fn look_up(
    gateway: &Gateway,
    user: UserId,
    id: ConversationId,
) -> Result<Option<Arc<Cell>>, Rejection> {
    let Some(cell) = gateway.conversation(id).await? else { return Ok(None) };
    let is_known = || cell.with(|c| c.last_seen_by(user).is_ok()).unwrap_or(false);
    if is_known() {
        return Ok(Some(cell));
    }
    // Not a member as far as is known here: what the store says counts, and
    // the answer takes as long as for a conversation that does not exist.
    if !gateway.reload(&cell).await {
        return Err(Rejection::Unavailable);
    }
    if is_known() { Ok(Some(cell)) } else { Err(Rejection::NotFound) }
}

/// Attaches a client's stream. Gives back its generation.
///
/// # Errors
/// The stream and why it cannot be attached.
pub(crate) async fn attach(
    gateway: &Arc<Gateway>,
    session: &Arc<Session>,
    cell: &Arc<Cell>,
    request: Request,
    stream: SendStream,
) -> Result<u64, (SendStream, Rejection)> {
    let resumed = match resume_point(gateway, session.user(), cell, &request).await {
        Ok(resumed) => resumed,
        Err(rejection) => return Err((stream, rejection)),
    };
    if let Some(own) = request.own {
        session.raise(gateway, cell, own);
    }
    let id = cell.id();
    let mut locked = cell.lock();
    let Some(conversation) = locked.as_mut() else {
        return Err((stream, Rejection::NotFound));
    };
    // May be above what was handed out here: the client has it of another gateway.
    let next = resumed.next;
    let mut first = Vec::with_capacity(3);
    if resumed.reset {
        metrics::get().resets.increment(1);
        first.push(translate::reset(resumed.after));
    }
    let (head, count) = conversation.head();
    first.push(translate::attach(&translate::AttachAnswer {
        conversation: id,
        peer: conversation.peer_of(session.user()),
        after: resumed.after,
        head: resumed.end.map_or(head, |(seq, _)| seq),
        count: resumed.end.map_or(count, |(_, count)| count),
        receipts: if resumed.end.is_some() {
            &[]
        } else {
            conversation.receipts_for(session.user())
        },
    }));
    first.extend(resumed.gaps);
    let live = next >= conversation.next() && conversation.is_member(session.user());
    let now_s = clock::coarse_s();
    match session.queue().attach(id, stream, next, first, now_s) {
        Ok(generation) if live => {
            session.queue().go_live(id, generation);
            Ok(generation)
        }
        Ok(generation) => {
            drop(locked);
            metrics::get().resumes.increment(1);
            spawn_catch_up(gateway, session, id, generation);
            Ok(generation)
        }
        Err(stream) => {
            let max = session.queue().slots_max() as u64;
            Err((stream, Rejection::TooManyStreams { max }))
        }
    }
}

/// Where a stream's pushes start.
struct Resumed {
    /// What the client has and keeps.
    after: Seq,
    /// Whether its copy above `after` is void.
    reset: bool,
    /// The first seq to push.
    next: Seq,
    /// What stands in for entries between the two.
    gaps: Vec<Bytes>,
    /// Of who is a member no longer: the last entry that he may see, and its count.
    end: Option<(Seq, u64)>,
}

/// Where the client goes on. The session is known to fan-out already, so that whatever is
/// committed after this look at the store is handed out to it.
async fn resume_point(
    gateway: &Arc<Gateway>,
    user: UserId,
    cell: &Arc<Cell>,
    request: &Request,
) -> Result<Resumed, Rejection> {
    let newest = request.cursors.first().copied().unwrap_or_default();
    let up_to_date = cell.with(|c| c.is_up_to_date(newest)).ok_or(Rejection::NotFound)?;
    let is_known = up_to_date || newest.seq == Seq(0);
    let after = if is_known && !gateway.store.is_shared() {
        newest.seq
    } else {
        match gateway.store.standing(cell.id(), &request.cursors).await {
            Ok(standing) => {
                let standing = standing.ok_or(Rejection::NotFound)?;
                gateway.learn(cell, &standing).await?;
                standing.matched
            }
            // While the store stands still, chat goes on by what is known here.
            Err(StoreError::Transient(error)) if is_known => {
                tracing::debug!(%error, "a stream is attached by what is in memory");
                newest.seq
            }
            Err(error) => return Err(unavailable(&error)),
        }
    };
    let look = |c: &mut Conversation<Origin>| (c.head().0, c.last_seen_by(user));
    let (head, until) = cell.with(look).ok_or(Rejection::NotFound)?;
    let end = match until? {
        Some(until) => {
            let last = read_one(gateway, cell.id(), until).await?;
            Some((until, last.map_or(0, |entry| entry.placed.count)))
        }
        None => None,
    };
    let reset = after < newest.seq;
    let mut next = after.next();
    let mut gaps = Vec::new();
    let view = cell.with(|c| c.view(user, next)).ok_or(Rejection::NotFound)??;
    if let View::Gap(to) = view {
        gaps.push(translate::gap(next, to.min(head), GapReason::NotAMember));
        next = to.min(head).next();
    }
    let last = end.map_or(head, |(seq, _)| seq);
    let missing = (last.0 + 1).saturating_sub(next.0);
    if missing > limits::ATTACH_REPLAY_MAX {
        let to = Seq(last.0 - NEWEST_AFTER_GAP);
        gaps.push(translate::gap(next, to, GapReason::Skipped));
        next = to.next();
    }
    Ok(Resumed { after, reset, next, gaps, end })
}

/// One entry, as nobody in particular sees it.
///
/// # Errors
/// [`Rejection::Unavailable`].
pub(crate) async fn read_one(
    gateway: &Gateway,
    id: ConversationId,
    seq: Seq,
) -> Result<Option<Entry>, Rejection> {
    let page = page_from(seq, seq, limits::PAGE_BYTES_MAX);
    let found = gateway.store.entries(id, None, page).await.map_err(|error| unavailable(&error))?;
    Ok(found.into_iter().next())
}

/// Reads for a slot what it is missing until it is live again.
pub(crate) fn spawn_catch_up(
    gateway: &Arc<Gateway>,
    session: &Arc<Session>,
    conversation: ConversationId,
    generation: u64,
) {
    let (gateway, session) = (Arc::clone(gateway), Arc::clone(session));
    let tasks = gateway.tasks.clone();
    tasks.spawn(async move {
        let _fuse = Fuse::of(session.connection());
        metrics::get().catch_ups.increment(1);
        if let Err(rejection) = catch_up(&gateway, &session, conversation, generation).await {
            let frame = translate::refusal(&rejection, 0);
            session.queue().put_last(conversation, generation, frame);
        }
    });
}

async fn catch_up(
    gateway: &Gateway,
    session: &Session,
    id: ConversationId,
    generation: u64,
) -> Result<(), Rejection> {
    let Some(cell) = gateway.conversation(id).await? else {
        return Err(Rejection::NotFound);
    };
    let queue = session.queue();
    while let Some(bytes_max) = queue.room(id, generation).await {
        let Some(next) = queue.position(id, generation) else { return Ok(()) };
        let (to, floor, peer) = {
            let locked = cell.lock();
            let Some(conversation) = locked.as_ref() else { return Err(Rejection::NotFound) };
            let head = conversation.next().previous();
            match conversation.view(session.user(), next)? {
                View::Over => return Err(Rejection::NotFound),
                _ if next > head => {
                    queue.go_live(id, generation);
                    return Ok(());
                }
                View::Gap(to) => {
                    let to = to.min(head);
                    let gap = translate::gap(next, to, GapReason::NotAMember);
                    queue.put_page(id, generation, vec![gap], to.next());
                    continue;
                }
                View::Shown(until) => {
                    let to = until.map_or(head, |until| until.min(head));
                    (to, conversation.floor(), conversation.peer_of(session.user()))
                }
            }
        };
        let Ok(_turn) = gateway.catch_ups.acquire().await else { return Ok(()) };
        let page = page_from(next, to, bytes_max);
        match gateway.store.entries(id, Some(session.user()), page).await {
            Ok(entries) => {
                let (frames, next) = page_frames(&entries, next, floor, peer)?;
                queue.put_page(id, generation, frames, next);
            }
            Err(StoreError::Transient(error)) => {
                tracing::debug!(%error, "a catch-up waits for the store");
                if gateway.stopping.is_cancelled() || queue.ended().is_some() {
                    return Ok(());
                }
                tokio::time::sleep(CATCH_UP_RETRY).await;
            }
            Err(error) => return Err(unavailable(&error)),
        }
    }
    Ok(())
}

/// A page of the log, oldest first, that fits into a session's queue.
fn page_from(from: Seq, to: Seq, bytes_max: usize) -> Page {
    Page {
        from,
        to,
        entries_max: limits::PAGE_ENTRIES_MAX,
        bytes_max: bytes_max.min(limits::PAGE_BYTES_MAX),
        newest: false,
    }
}

/// A page as frames. What retention removed (up to `floor`) becomes a Gap. On a pair's stream the
/// `peer` need not be named. Gives back also the seq to go on from.
///
/// # Errors
/// [`Rejection::Unavailable`] if the store left out an entry that it has to have: it is asked
/// again rather than telling a reader of a gap.
pub(crate) fn page_frames(
    entries: &[Entry],
    from: Seq,
    floor: Seq,
    peer: Option<UserId>,
) -> Result<(Vec<Bytes>, Seq), Rejection> {
    let mut frames = Vec::with_capacity(entries.len() + 1);
    let mut next = from;
    if next <= floor {
        frames.push(translate::gap(next, floor, GapReason::Retention));
        next = floor.next();
    }
    for entry in entries.iter().filter(|e| e.placed.seq > floor) {
        if entry.placed.seq != next {
            tracing::error!(seq = %next, "the store has a hole in a log");
            return Err(Rejection::Unavailable);
        }
        let is_peer = peer == Some(entry.sender);
        frames.push(if is_peer { translate::push_to_peer(entry) } else { translate::push(entry) });
        next = next.next();
    }
    if frames.is_empty() {
        tracing::error!(seq = %next, "the store lacks an entry of a log");
        return Err(Rejection::Unavailable);
    }
    Ok((frames, next))
}

/// Logs what the store said; the caller is told that it cannot answer now.
pub(crate) fn unavailable(error: &StoreError) -> Rejection {
    tracing::warn!(%error, "the store cannot be asked");
    match error {
        StoreError::Transient(_) => Rejection::Unavailable,
        StoreError::Permanent(_) => Rejection::Internal,
    }
}
