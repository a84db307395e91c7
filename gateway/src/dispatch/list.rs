//! The list of conversations, and parts of their logs.

use std::sync::Arc;

use bytes::Bytes;
use petrel_core::conversation::View;
use petrel_core::error::Rejection;
use petrel_core::id::{ConversationId, Seq};
use petrel_core::limits;
use petrel_core::store::{ListPage, ListPosition, Page};
use petrel_proto::wire::{self, GapReason};

use super::{bounded, done};
use crate::attach::{look_up, page_frames, unavailable};
use crate::gateway::Gateway;
use crate::session::Session;
use crate::translate;

/// Lines of a page of the list when the client does not say.
const LIST_PAGE_DEFAULT: usize = 50;
/// Entries of a page of history when the client does not say.
const HISTORY_PAGE_DEFAULT: usize = 50;

pub(super) async fn list_conversations(
    gateway: &Gateway,
    session: &Session,
    list: &wire::ListConversations,
) -> Result<Vec<Bytes>, Rejection> {
    let after = read_position(&list.page)?;
    let limit = bounded("limit", list.limit, LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX)?;
    let since_ms = translate::seq("since_ms", list.since_ms)?.0;
    let page = ListPage { after, since_ms, limit };
    let lines = gateway.store.list(session.user(), page).await;
    let lines = lines.map_err(|error| unavailable(&error))?;
    let next_page = match lines.last() {
        Some(last) if lines.len() == limit => write_position(last.last_activity_ms, last.id),
        _ => Bytes::new(),
    };
    let mut frames: Vec<Bytes> =
        lines.iter().map(|line| translate::summary(line, session.user())).collect();
    frames.push(done(wire::Done { next_page, head: 0 }));
    Ok(frames)
}

fn read_position(page: &[u8]) -> Result<Option<ListPosition>, Rejection> {
    if page.is_empty() {
        return Ok(None);
    }
    let invalid = || Rejection::Invalid { field: "page", problem: "not from a Done".to_owned() };
    let (time, id) = page.split_at_checked(8).ok_or_else(invalid)?;
    let time = u64::from_be_bytes(time.try_into().map_err(|_| invalid())?);
    Ok(Some(ListPosition {
        last_activity_ms: translate::seq("page", time)?.0,
        id: ConversationId::from_slice(id).ok_or_else(invalid)?,
    }))
}

fn write_position(last_activity_ms: u64, id: ConversationId) -> Bytes {
    [&last_activity_ms.to_be_bytes()[..], id.as_bytes()].concat().into()
}

/// A part of a log: what is asked for, as far as the user was a member; a Gap for the rest of the
/// range up to there. Who asks for more goes on behind it.
pub(super) async fn read_history(
    gateway: &Arc<Gateway>,
    session: &Session,
    read: &wire::ReadHistory,
) -> Result<Vec<Bytes>, Rejection> {
    let id = translate::id("conversation", &read.conversation, ConversationId::from_slice)?;
    let entries_max = bounded("limit", read.limit, HISTORY_PAGE_DEFAULT, limits::PAGE_ENTRIES_MAX)?;
    let (from, to) = (translate::seq("from", read.from)?, translate::seq("to", read.to)?);
    let cell = look_up(gateway, session.user(), id).await?.ok_or(Rejection::NotFound)?;
    if gateway.store.is_shared() {
        // Another gateway may know of a newer head and other members.
        let standing = gateway.store.standing(id, &[]).await.map_err(|e| unavailable(&e))?;
        gateway.learn(&cell, &standing.ok_or(Rejection::NotFound)?).await?;
    }
    let (head, until, floor) = cell
        .with(|c| (c.head().0, c.last_seen_by(session.user()), c.floor()))
        .ok_or(Rejection::NotFound)?;
    let head = until?.map_or(head, |until| until.min(head));
    let wanted = from.max(Seq(1));
    let to = if to == Seq(0) { head } else { to.min(head) };
    let part = if wanted > to {
        None
    } else {
        let view = |seq| cell.with(|c| c.view(session.user(), seq)).ok_or(Rejection::NotFound)?;
        Some(if read.newest {
            newest_part(wanted, to, view)?
        } else {
            first_part(wanted, to, view)?
        })
    };
    let mut frames = Vec::new();
    if let Some(Part { shown, gap }) = part {
        let gap = gap.map(|(from, to)| translate::gap(from, to, GapReason::NotAMember));
        let mut page = Vec::new();
        if let Some((from, to)) = shown {
            let asked = Page {
                from,
                to,
                entries_max,
                bytes_max: limits::PAGE_BYTES_MAX,
                newest: read.newest,
            };
            let entries = gateway
                .store
                .entries(id, Some(session.user()), asked)
                .await
                .map_err(|e| unavailable(&e))?;
            let begins = match entries.first() {
                Some(entry) if read.newest => entry.placed.seq,
                _ => from,
            };
            page = page_frames(&entries, begins, floor, None)?.0;
        }
        if read.newest {
            frames = page;
            frames.extend(gap);
        } else {
            frames.extend(gap);
            frames.extend(page);
        }
    }
    frames.push(done(wire::Done { next_page: Bytes::new(), head: head.0 }));
    Ok(frames)
}

/// What is shown of a range in one answer, and what is not shown before it (with `newest`: behind it).
struct Part {
    shown: Option<(Seq, Seq)>,
    gap: Option<(Seq, Seq)>,
}

/// The first stretch of a range that its reader may see.
fn first_part(
    from: Seq,
    to: Seq,
    view: impl Fn(Seq) -> Result<View, Rejection>,
) -> Result<Part, Rejection> {
    let begins = match view(from)? {
        View::Shown(until) => {
            let to = until.map_or(to, |until| until.min(to));
            return Ok(Part { shown: Some((from, to)), gap: None });
        }
        View::Over => to.next(),
        View::Gap(end) => end.next(),
    };
    if begins > to {
        return Ok(Part { shown: None, gap: Some((from, to)) });
    }
    let shown = match view(begins)? {
        View::Shown(until) => Some((begins, until.map_or(to, |until| until.min(to)))),
        View::Gap(_) | View::Over => None,
    };
    Ok(Part { shown, gap: Some((from, begins.previous())) })
}

/// The last one. A member's intervals are few, so they are walked from the first.
fn newest_part(
    from: Seq,
    to: Seq,
    view: impl Fn(Seq) -> Result<View, Rejection>,
) -> Result<Part, Rejection> {
    let mut at = from;
    let mut last = None;
    while at <= to {
        match view(at)? {
            View::Shown(until) => {
                let end = until.map_or(to, |until| until.min(to));
                last = Some((at, end));
                at = end.next();
            }
            View::Gap(end) => at = end.next(),
            View::Over => break,
        }
    }
    let shown_to = last.map_or(from.previous(), |(_, end)| end);
    let gap = (shown_to < to).then(|| (shown_to.next(), to));
    Ok(Part { shown: last, gap })
}
