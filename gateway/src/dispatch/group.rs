//! Requests that change groups, and what is read for judging them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::FutureExt as _;
use petrel_core::change::{GroupProfile, JoinLink, JoinPolicy, Role, RowChange};
use petrel_core::entry::EntryKind;
use petrel_core::error::Rejection;
use petrel_core::event::Decision;
use petrel_core::group::{
    self, Asker, GroupCommand, GroupState, GroupView, Invitee, Joining, NewLink, Way,
};
use petrel_core::id::{ConversationId, UserId};
use petrel_core::limits;
use petrel_core::store::{ConversationRecord, User};
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, change_group, frame::What};
use rand::RngCore;
use sha2::{Digest, Sha256};

use super::done;
use crate::attach::{read_one, unavailable};
use crate::change::{Caller, carry_out};
use crate::gateway::Gateway;
use crate::session::Session;
use crate::{clock, translate};

/// Bytes of a link's secret.
const LINK_SECRET_BYTES: usize = 32;

/// What a request about a group is answered with.
pub(crate) struct Answer {
    /// The group.
    pub id: ConversationId,
    /// What the caller knows of it.
    pub view: GroupView,
    /// Who could not be put in.
    pub refused: Vec<UserId>,
    asked: bool,
}

impl Answer {
    fn frames(&self) -> Vec<Bytes> {
        let group = translate::group(self.id, &self.view, &self.refused, self.asked);
        vec![encode(&bare(What::Group(group)))]
    }
}

pub(super) async fn create(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    create: wire::CreateGroup,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    let profile = translate::read_profile(create.profile, clock::unix_ms())?;
    let users = read_users(&create.users)?;
    Ok(create_for(gateway, caller, &profile, &users).await?.frames())
}

/// Makes a group that the caller owns, with these first members as far as they let him.
///
/// # Errors
/// What the rules say.
pub(crate) async fn create_for(
    gateway: &Arc<Gateway>,
    caller: Caller,
    profile: &GroupProfile,
    users: &[UserId],
) -> Result<Answer, Rejection> {
    let id = ConversationId::of_group(caller.user, caller.id);
    carry_out(gateway, caller, || {
        async {
            if let Some(record) = find(gateway, id).await? {
                // The same request again.
                let (nothing, state) = (Decision::default(), GroupState::of(&record)?);
                let view = state.view_after(&nothing, caller.user);
                return Ok((nothing, Answer { id, view, refused: Vec::new(), asked: false }));
            }
            let groups = groups_of(gateway, caller.user).await?;
            let invitees = invitees(gateway, caller.user, users).await?;
            let limits = gateway.group_limits;
            let judged =
                group::create(id, caller.user, groups, profile.clone(), &invitees, limits)?;
            let view = GroupView::of_new(&judged.decision);
            Ok((judged.decision, Answer { id, view, refused: judged.refused, asked: false }))
        }
        .boxed()
    })
    .await
}

pub(super) async fn change(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    change: wire::ChangeGroup,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    let id = translate::id("conversation", &change.conversation, ConversationId::from_slice)?;
    let wanted = Wanted::read(change.what)?;
    Ok(change_for(gateway, caller, id, &wanted).await?.frames())
}

/// Does to a group what the caller wants.
///
/// # Errors
/// What the rules say.
pub(crate) async fn change_for(
    gateway: &Arc<Gateway>,
    caller: Caller,
    id: ConversationId,
    wanted: &Wanted,
) -> Result<Answer, Rejection> {
    carry_out(gateway, caller, || {
        async {
            let record = find(gateway, id).await?.ok_or(Rejection::NotFound)?;
            let state = GroupState::of(&record)?;
            if state.role_of(caller.user).is_none() && state.last_left(caller.user).is_none() {
                return Err(Rejection::NotFound);
            }
            let command = wanted.command(gateway, caller.user, id).await?;
            judge(gateway, state, caller.user, command)
        }
        .boxed()
    })
    .await
}

fn judge(
    gateway: &Gateway,
    state: GroupState<'_>,
    user: UserId,
    command: GroupCommand,
) -> Result<(Decision, Answer), Rejection> {
    let judged = group::judge(state, user, command, gateway.group_limits, clock::unix_ms())?;
    let view = state.view_after(&judged.decision, user);
    let answer = Answer { id: state.id(), view, refused: judged.refused, asked: judged.asked };
    Ok((judged.decision, answer))
}

/// What ChangeGroup asks for, checked.
pub(crate) enum Wanted {
    /// Another profile.
    Profile(GroupProfile),
    /// Puts users in.
    Add(Vec<UserId>),
    /// Takes users out.
    Remove(Vec<UserId>),
    /// The caller leaves.
    Leave,
    /// Makes a member an admin, or an admin a member.
    Role(UserId, Role),
    /// Makes a member the owner.
    Transfer(UserId),
    /// Silences a member until then.
    Mute(UserId, u64),
    /// Lets somebody in who has asked.
    Accept(UserId),
    /// Does not let him in.
    Decline(UserId),
}

impl Wanted {
    fn read(what: Option<change_group::What>) -> Result<Self, Rejection> {
        use change_group::What as Asked;
        let user = |bytes: &[u8]| translate::id("user", bytes, UserId::from_slice);
        Ok(match what.ok_or_else(|| translate::missing("what"))? {
            Asked::Profile(profile) => Self::Profile(translate::read_profile(Some(profile), 0)?),
            Asked::Add(add) => Self::Add(read_users(&add.users)?),
            Asked::Remove(remove) => Self::Remove(read_users(&remove.users)?),
            Asked::Leave(true) => Self::Leave,
            Asked::Leave(false) => {
                let problem = "it is true".to_owned();
                return Err(Rejection::Invalid { field: "leave", problem });
            }
            Asked::Role(of) => Self::Role(user(&of.user)?, translate::read_role(of.role)?),
            Asked::Transfer(to) => Self::Transfer(user(&to)?),
            Asked::Mute(of) => Self::Mute(user(&of.user)?, of.until_ms),
            Asked::Accept(asker) => Self::Accept(user(&asker)?),
            Asked::Decline(asker) => Self::Decline(user(&asker)?),
        })
    }

    /// Reads what has to be known for judging it.
    async fn command(
        &self,
        gateway: &Gateway,
        caller: UserId,
        id: ConversationId,
    ) -> Result<GroupCommand, Rejection> {
        Ok(match self {
            Self::Profile(profile) => GroupCommand::Profile(profile.clone()),
            Self::Add(users) => GroupCommand::Add(invitees(gateway, caller, users).await?),
            Self::Remove(users) => GroupCommand::Remove(users.clone()),
            Self::Leave => GroupCommand::Leave,
            Self::Role(user, role) => GroupCommand::Role(*user, *role),
            Self::Transfer(user) => GroupCommand::Transfer(*user),
            Self::Mute(user, until_ms) => GroupCommand::Mute(*user, *until_ms),
            Self::Accept(user) => GroupCommand::Accept(asker(gateway, id, *user).await?),
            Self::Decline(user) => GroupCommand::Decline(asker(gateway, id, *user).await?),
        })
    }
}

pub(super) async fn join(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    join: wire::JoinGroup,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    if join.link.is_empty() == join.conversation.is_empty() {
        let problem = "either a group or a link".to_owned();
        return Err(Rejection::Invalid { field: "conversation", problem });
    }
    let named = match join.conversation.as_ref() {
        [] => None,
        bytes => Some(translate::id("conversation", bytes, ConversationId::from_slice)?),
    };
    let hash: [u8; 32] = Sha256::digest(&join.link).into();
    let answer = carry_out(gateway, caller, || {
        async {
            let id = match named {
                Some(id) => id,
                None => find_link(gateway, hash).await?.conversation,
            };
            let record = find(gateway, id).await?.ok_or(Rejection::NotFound)?;
            let state = GroupState::of(&record)?;
            let is_stranger = state.role_of(caller.user).is_none();
            if named.is_some() && is_stranger && state.profile().joins == JoinPolicy::Closed {
                return Err(Rejection::NotFound);
            }
            // After the group: whoever uses or revokes the link moves the group's version.
            let way =
                if named.is_some() { Way::Id } else { Way::Link(find_link(gateway, hash).await?) };
            let Asker { user, asked, groups } = asker(gateway, id, caller.user).await?;
            let (_, open_requests) = asks(gateway, id, caller.user).await?;
            let was_removed = was_removed(gateway, &record, state, caller.user).await?;
            let text = join.text.clone();
            let joining = Joining { user, way, text, asked, open_requests, groups, was_removed };
            judge(gateway, state, caller.user, GroupCommand::Join(joining))
        }
        .boxed()
    });
    Ok(answer.await?.frames())
}

pub(super) async fn make_link(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    make: wire::MakeLink,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    let id = translate::id("conversation", &make.conversation, ConversationId::from_slice)?;
    let mut secret = [0; LINK_SECRET_BYTES];
    rand::rng().fill_bytes(&mut secret);
    let hash: [u8; 32] = Sha256::digest(secret).into();
    let life_ms = match make.expires_ms {
        0 => limits::LINK_LIFE_MS_DEFAULT,
        life_ms => life_ms,
    };
    let made = carry_out(gateway, caller, || {
        async {
            let record = find(gateway, id).await?.ok_or(Rejection::NotFound)?;
            let working = gateway
                .store
                .links(id, clock::unix_ms(), limits::GROUP_LINKS_MAX)
                .await
                .map_err(|error| unavailable(&error))?;
            let working = working.len() as u64;
            let link = NewLink { hash, life_ms, uses_max: make.uses_max, working };
            let command = GroupCommand::MakeLink(link);
            let (decision, _) = judge(gateway, GroupState::of(&record)?, caller.user, command)?;
            let made = decision.rows.iter().find_map(|row| match row {
                RowChange::LinkMade(link) => Some(link.clone()),
                _ => None,
            });
            Ok((decision, made))
        }
        .boxed()
    });
    let made = made.await?.ok_or(Rejection::Internal)?;
    Ok(vec![encode(&bare(What::Link(translate::link(&made, &secret))))])
}

pub(super) async fn revoke_link(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    revoke: wire::RevokeLink,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    let id = translate::id("conversation", &revoke.conversation, ConversationId::from_slice)?;
    let hash: [u8; 32] = revoke.hash.as_ref().try_into().map_err(|_| Rejection::Invalid {
        field: "hash",
        problem: format!("{} bytes; it has 32", revoke.hash.len()),
    })?;
    carry_out(gateway, caller, || {
        async {
            let record = find(gateway, id).await?.ok_or(Rejection::NotFound)?;
            let link = gateway.store.link(hash).await.map_err(|error| unavailable(&error))?;
            let command = GroupCommand::RevokeLink(link);
            judge(gateway, GroupState::of(&record)?, caller.user, command)
        }
        .boxed()
    })
    .await?;
    Ok(vec![done(wire::Done::default())])
}

fn read_users(users: &[Bytes]) -> Result<Vec<UserId>, Rejection> {
    if users.len() > limits::GROUP_BATCH_MAX {
        let problem = format!("{} users; at most {}", users.len(), limits::GROUP_BATCH_MAX);
        return Err(Rejection::Invalid { field: "users", problem });
    }
    translate::user_ids("users", users)
}

async fn find(
    gateway: &Gateway,
    id: ConversationId,
) -> Result<Option<ConversationRecord>, Rejection> {
    gateway.store.conversation(id).await.map_err(|error| unavailable(&error))
}

async fn find_link(gateway: &Gateway, hash: [u8; 32]) -> Result<JoinLink, Rejection> {
    let found = gateway.store.link(hash).await.map_err(|error| unavailable(&error))?;
    found.ok_or(Rejection::NotFound)
}

async fn groups_of(gateway: &Gateway, user: UserId) -> Result<u64, Rejection> {
    let found = gateway.store.groups_of(&[user]).await.map_err(|error| unavailable(&error))?;
    Ok(found.first().map_or(0, |(_, groups)| *groups))
}

async fn invitees(
    gateway: &Gateway,
    caller: UserId,
    users: &[UserId],
) -> Result<Vec<Invitee>, Rejection> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let store = &gateway.store;
    let relations = store.relations(caller, users).await.map_err(|error| unavailable(&error))?;
    let groups = store.groups_of(users).await.map_err(|error| unavailable(&error))?;
    let invitee = |user: &UserId| Invitee {
        user: *user,
        relation: relations.iter().find(|(u, _)| u == user).map(|(_, relation)| relation.clone()),
        groups: groups.iter().find(|(u, _)| u == user).map_or(0, |(_, groups)| *groups),
    };
    Ok(users.iter().map(invitee).collect())
}

async fn asks(
    gateway: &Gateway,
    id: ConversationId,
    user: UserId,
) -> Result<(bool, u64), Rejection> {
    gateway.store.asks_to_join(id, user).await.map_err(|error| unavailable(&error))
}

async fn asker(gateway: &Gateway, id: ConversationId, user: UserId) -> Result<Asker, Rejection> {
    let found = gateway.store.users(&[user]).await.map_err(|error| unavailable(&error))?;
    let (asked, _) = asks(gateway, id, user).await?;
    let groups = groups_of(gateway, user).await?;
    // Who does not exist has not asked.
    let user = found.into_iter().next().unwrap_or_else(|| User::named(user, String::new()));
    Ok(Asker { user, asked, groups })
}

/// Whether it was somebody else who ended a user's last membership: the entry that ended it says so.
async fn was_removed(
    gateway: &Gateway,
    record: &ConversationRecord,
    state: GroupState<'_>,
    user: UserId,
) -> Result<bool, Rejection> {
    let Some(until) = state.last_left(user).and_then(|member| member.until) else {
        return Ok(false);
    };
    let last = read_one(gateway, record.id, until).await?;
    Ok(last.is_some_and(|e| e.kind == EntryKind::Group.number() && e.sender != user))
}
