//! Requests about contacts.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::FutureExt as _;
use petrel_core::error::Rejection;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::limits::PEOPLE_PAGE_MAX;
use petrel_core::relation::{self, RelationCommand};
use petrel_core::store::User;
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, frame::What};

use super::member::PEOPLE_PAGE_DEFAULT;
use super::{bounded, done};
use crate::attach::unavailable;
use crate::change::{Caller, carry_out};
use crate::gateway::Gateway;
use crate::session::Session;
use crate::translate::ContactView;
use crate::{clock, translate};

pub(super) async fn change_contact(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    change: wire::ChangeContact,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    let other = translate::id("user", &change.user, UserId::from_slice)?;
    let command = translate::relation_command(change.what)?;
    if other == caller.user {
        return Err(Rejection::Invalid { field: "user", problem: "that is you".to_owned() });
    }
    if command == RelationCommand::Block(true) {
        // A block stands in the pair's row.
        let made = gateway.store.ensure_pair(caller.user, other).await;
        if !made.map_err(|error| unavailable(&error))? {
            return Err(Rejection::NotFound);
        }
    }
    let contact = carry_out(gateway, caller, || {
        async {
            let store = &gateway.store;
            let record = store.relation(caller.user, other).await;
            let record = record.map_err(|error| unavailable(&error))?.ok_or(Rejection::NotFound)?;
            let users = store.users(&[caller.user, other]).await;
            let users = users.map_err(|error| unavailable(&error))?;
            let find = |id| users.iter().find(|u: &&User| u.id == id).ok_or(Rejection::NotFound);
            let (own, other) = (find(caller.user)?, find(other)?);
            let judged = relation::judge(own, other, &record, command.clone(), clock::unix_ms())?;
            let contact = translate::contact(&ContactView {
                user: other,
                contact: &judged.own,
                is_followed: record.other.follows,
                blocks: judged.blocks,
            });
            Ok((judged.decision, contact))
        }
        .boxed()
    });
    Ok(vec![encode(&bare(What::Contact(contact.await?)))])
}

pub(super) async fn list_contacts(
    gateway: &Gateway,
    session: &Session,
    list: &wire::ListContacts,
) -> Result<Vec<Bytes>, Rejection> {
    let after = translate::read_people_page(&list.page)?;
    let limit = bounded("limit", list.limit, PEOPLE_PAGE_DEFAULT, PEOPLE_PAGE_MAX)?;
    let log = ConversationId::of_user(session.user());
    // Before the page: what changes from now on stands in the log behind this.
    let record = gateway.store.conversation(log).await.map_err(|error| unavailable(&error))?;
    let head = record.map_or(0, |record| record.head.0);
    let lines = gateway.store.contacts(session.user(), after, limit).await;
    let lines = lines.map_err(|error| unavailable(&error))?;
    let next = lines.last().filter(|_| lines.len() == limit).map(|line| line.user.id);
    let found = lines.iter().map(|line| {
        let view = ContactView {
            user: &line.user,
            contact: &line.contact,
            is_followed: line.is_followed,
            blocks: line.blocks,
        };
        encode(&bare(What::Contact(translate::contact(&view))))
    });
    let next_page = next.map(translate::people_page).unwrap_or_default();
    Ok(found.chain([done(wire::Done { next_page, head })]).collect())
}
