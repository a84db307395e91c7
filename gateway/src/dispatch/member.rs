//! What members ask about a conversation, and what they keep for themselves about it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::FutureExt as _;
use petrel_core::change::Role;
use petrel_core::conversation::View;
use petrel_core::error::Rejection;
use petrel_core::group::GroupView;
use petrel_core::id::{ConversationId, Seq};
use petrel_core::limits::{PEOPLE_PAGE_MAX, RECEIPT_MEMBERS_MAX};
use petrel_core::member_settings;
use petrel_core::store::{ConversationKind, Receipt};
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, frame::What};

use super::{bounded, done};
use crate::attach::{look_up, unavailable};
use crate::change::{Caller, carry_out};
use crate::conversation_table::Cell;
use crate::gateway::Gateway;
use crate::session::Session;
use crate::{clock, translate};

/// Lines of a page of people when the client does not say.
pub(super) const PEOPLE_PAGE_DEFAULT: usize = 50;

/// The conversation of a request whose sender was a member once.
async fn known(
    gateway: &Gateway,
    session: &Session,
    conversation: &[u8],
) -> Result<Arc<Cell>, Rejection> {
    let id = translate::id("conversation", conversation, ConversationId::from_slice)?;
    look_up(gateway, session.user(), id).await?.ok_or(Rejection::NotFound)
}

/// The group of a request whose sender is at least this in it.
async fn group_of(
    gateway: &Gateway,
    session: &Session,
    conversation: &[u8],
    least: Role,
) -> Result<Arc<Cell>, Rejection> {
    let cell = known(gateway, session, conversation).await?;
    let role = cell.with(|c| c.role_of(session.user())).flatten().ok_or(Rejection::NotFound)?;
    if role < least {
        return Err(Rejection::Forbidden { needed: "an admin or the owner" });
    }
    Ok(cell)
}

pub(super) async fn get_group(
    gateway: &Gateway,
    session: &Session,
    get: &wire::GetGroup,
) -> Result<Vec<Bytes>, Rejection> {
    let cell = group_of(gateway, session, &get.conversation, Role::Member).await?;
    let view = cell.with(|c| GroupView {
        profile: match c.kind() {
            ConversationKind::Group(profile) => Some(profile.clone()),
            ConversationKind::Pair | ConversationKind::Own => None,
        },
        members: c.members().count() as u64,
        role: c.role_of(session.user()),
    });
    let group = translate::group(cell.id(), &view.unwrap_or_default(), &[], false);
    Ok(vec![encode(&bare(What::Group(group)))])
}

pub(super) async fn list_members(
    gateway: &Gateway,
    session: &Session,
    list: &wire::ListMembers,
) -> Result<Vec<Bytes>, Rejection> {
    let after = translate::read_people_page(&list.page)?;
    let limit = bounded("limit", list.limit, PEOPLE_PAGE_DEFAULT, PEOPLE_PAGE_MAX)?;
    let cell = group_of(gateway, session, &list.conversation, Role::Member).await?;
    let lines = gateway.store.members(cell.id(), after, limit).await;
    let lines = lines.map_err(|error| unavailable(&error))?;
    let next = lines.last().filter(|_| lines.len() == limit).map(|line| line.user.id);
    let found = lines.iter().map(|l| encode(&bare(What::MemberFound(translate::member_found(l)))));
    let next_page = next.map(translate::people_page).unwrap_or_default();
    Ok(found.chain([done(wire::Done { next_page, head: 0 })]).collect())
}

pub(super) async fn list_join_requests(
    gateway: &Gateway,
    session: &Session,
    list: &wire::ListJoinRequests,
) -> Result<Vec<Bytes>, Rejection> {
    let after = translate::read_people_page(&list.page)?;
    let limit = bounded("limit", list.limit, PEOPLE_PAGE_DEFAULT, PEOPLE_PAGE_MAX)?;
    let cell = group_of(gateway, session, &list.conversation, Role::Admin).await?;
    let lines = gateway.store.join_requests(cell.id(), after, limit).await;
    let lines = lines.map_err(|error| unavailable(&error))?;
    let next = lines.last().filter(|_| lines.len() == limit).map(|line| line.user.id);
    let found = lines.iter().map(|l| encode(&bare(What::JoinRequest(translate::join_request(l)))));
    let next_page = next.map(translate::people_page).unwrap_or_default();
    Ok(found.chain([done(wire::Done { next_page, head: 0 })]).collect())
}

pub(super) async fn list_links(
    gateway: &Gateway,
    session: &Session,
    list: &wire::ListLinks,
) -> Result<Vec<Bytes>, Rejection> {
    let cell = group_of(gateway, session, &list.conversation, Role::Admin).await?;
    let max = petrel_core::limits::GROUP_LINKS_MAX;
    let links = gateway.store.links(cell.id(), clock::unix_ms(), max).await;
    let links = links.map_err(|error| unavailable(&error))?;
    let found = links.iter().map(|l| encode(&bare(What::Link(translate::link(l, &[])))));
    Ok(found.chain([done(wire::Done::default())]).collect())
}

pub(super) async fn read_by(
    gateway: &Gateway,
    session: &Session,
    read: &wire::ReadBy,
) -> Result<Vec<Bytes>, Rejection> {
    let seq = translate::seq("seq", read.seq)?;
    let cell = known(gateway, session, &read.conversation).await?;
    let (is_member, members, view, head) = cell
        .with(|c| {
            let view = c.view(session.user(), seq);
            (c.is_member(session.user()), c.members().count(), view, c.next().previous())
        })
        .ok_or(Rejection::NotFound)?;
    if !is_member {
        return Err(Rejection::NotFound);
    }
    if !matches!(view, Ok(View::Shown(_))) || seq == Seq(0) || seq > head {
        let problem = "no entry that you may see".to_owned();
        return Err(Rejection::Invalid { field: "seq", problem });
    }
    if members > RECEIPT_MEMBERS_MAX {
        return Err(Rejection::LimitReached {
            what: "members of a conversation that tells who has read",
            max: RECEIPT_MEMBERS_MAX as u64,
        });
    }
    let stored = gateway.store.read_by(cell.id(), seq, RECEIPT_MEMBERS_MAX).await;
    let stored = stored.map_err(|error| unavailable(&error))?;
    let readers = cell.with(|c| {
        // What is in memory may be ahead of the store; what is in the store may be of another gateway.
        let receipts = c.receipts();
        let known = receipts.iter().filter(|(_, r)| r.read >= seq).copied();
        let only_stored = stored
            .iter()
            .filter(|user| !receipts.iter().any(|(known, r)| known == *user && r.read >= seq));
        let others = only_stored.map(|user| (*user, Receipt { delivered: seq, read: seq }));
        let all: Vec<_> = known.chain(others).collect();
        all.into_iter().filter(|(user, _)| c.is_member(*user)).collect::<Vec<_>>()
    });
    let readers = readers.unwrap_or_default();
    let members = readers.iter().map(|(user, r)| translate::member_receipt(*user, *r)).collect();
    Ok(vec![translate::receipts(members), done(wire::Done::default())])
}

pub(super) async fn set_conversation(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    set: wire::SetConversation,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    let settings = translate::read_member_settings(set.settings);
    let cell = known(gateway, session, &set.conversation).await?;
    carry_out(gateway, caller, || {
        async { Ok((member_settings::set(caller.user, cell.id(), settings)?, ())) }.boxed()
    })
    .await?;
    Ok(vec![done(wire::Done::default())])
}

pub(super) async fn hide_entries(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    hide: wire::HideEntries,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    let mut seqs = Vec::with_capacity(hide.seqs.len());
    for seq in &hide.seqs {
        seqs.push(translate::seq("seqs", *seq)?);
    }
    let cell = known(gateway, session, &hide.conversation).await?;
    carry_out(gateway, caller, || {
        async {
            let decision = member_settings::hide(caller.user, cell.id(), seqs.clone())?;
            let is_shown = |seq: &Seq| {
                let view = cell.with(|c| (c.view(caller.user, *seq), c.next()));
                view.is_some_and(|(view, next)| matches!(view, Ok(View::Shown(_))) && *seq < next)
            };
            if !seqs.iter().all(is_shown) {
                let problem = "an entry among them that you may not see".to_owned();
                return Err(Rejection::Invalid { field: "seqs", problem });
            }
            Ok((decision, ()))
        }
        .boxed()
    })
    .await?;
    Ok(vec![done(wire::Done::default())])
}
