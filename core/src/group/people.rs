//! Members: put in, taken out, leaving; roles; mutes.

use super::{GroupLimits, GroupState, Invitee, Judged, guards_of};
use crate::change::{Role, RowChange};
use crate::error::Rejection;
use crate::event::{Decision, Event};
use crate::id::UserId;
use crate::limits::{GROUP_ADMINS_MAX, GROUP_BATCH_MAX, TIME_MS_MAX};

/// Checks how many users one request names.
pub(super) fn check_batch(users: usize) -> Result<(), Rejection> {
    if users <= GROUP_BATCH_MAX {
        return Ok(());
    }
    Err(Rejection::Invalid {
        field: "users",
        problem: format!("{users} users; at most {GROUP_BATCH_MAX}"),
    })
}

/// Puts users in. Who is in already is; who does not let the caller is named, and an error
/// only if that is all of them.
pub(super) fn add(
    group: GroupState<'_>,
    actor: UserId,
    users: &[Invitee],
    limits: GroupLimits,
    now_ms: u64,
) -> Result<Judged, Rejection> {
    let least = if group.profile.members_invite { Role::Member } else { Role::Admin };
    group.needs(actor, least)?;
    check_batch(users.len())?;
    let (present, absent): (Vec<_>, Vec<_>) =
        users.iter().partition(|i| group.role_of(i.user).is_some());
    let (mut willing, refused): (Vec<_>, Vec<_>) =
        absent.into_iter().partition(|i| i.is_willing(limits));
    willing.sort_unstable_by_key(|i| i.user);
    willing.dedup_by_key(|i| i.user);
    let refused: Vec<UserId> = refused.iter().map(|i| i.user).collect();
    if willing.is_empty() {
        if present.is_empty() && !refused.is_empty() {
            return Err(Rejection::NotAccepted {
                why: "none of these users lets you put them into a group",
            });
        }
        return Ok(Judged { refused, ..Judged::default() });
    }
    group.has_room(willing.len() as u64, limits)?;
    let mut rows = Vec::with_capacity(2 * willing.len());
    for invitee in &willing {
        rows.extend(group.join(invitee.user, now_ms));
        rows.push(RowChange::JoinAnswered(group.id, invitee.user));
    }
    let added = willing.iter().map(|i| i.user).collect();
    let mut decision = group.change(rows, Event::MembersAdded(added));
    decision.guards.extend(guards_of(&willing));
    Ok(Judged { decision, refused, asked: false })
}

/// Takes users out: all of them, or none. Who is no member is out already.
pub(super) fn remove(
    group: GroupState<'_>,
    actor: UserId,
    mut users: Vec<UserId>,
) -> Result<Decision, Rejection> {
    let own = group.needs(actor, Role::Admin)?;
    check_batch(users.len())?;
    if users.contains(&actor) {
        let problem = "you are among them; leave instead".to_owned();
        return Err(Rejection::Invalid { field: "users", problem });
    }
    users.sort_unstable();
    users.dedup();
    let mut rows = Vec::with_capacity(users.len());
    let mut left = Vec::with_capacity(users.len());
    for user in users {
        let Some(role) = group.role_of(user) else { continue };
        outranks(own, role)?;
        rows.push(RowChange::Leave { conversation: group.id, user });
        left.push(user);
    }
    if left.is_empty() {
        return Ok(Decision::default());
    }
    Ok(group.change(rows, Event::MembersLeft(left)))
}

/// The caller leaves. The owner can do so only as the last one. Who has left has left.
pub(super) fn leave(group: GroupState<'_>, actor: UserId) -> Result<Decision, Rejection> {
    let Some(role) = group.role_of(actor) else {
        let was_member = group.last_left(actor).is_some();
        return if was_member { Ok(Decision::default()) } else { Err(Rejection::NotFound) };
    };
    if role == Role::Owner && group.members() > 1 {
        return Err(Rejection::Forbidden {
            needed: "an owner hands the group over before leaving it",
        });
    }
    let rows = vec![RowChange::Leave { conversation: group.id, user: actor }];
    Ok(group.change(rows, Event::MembersLeft(vec![actor])))
}

/// Makes a member an admin, or an admin a member.
pub(super) fn appoint(
    group: GroupState<'_>,
    actor: UserId,
    user: UserId,
    role: Role,
) -> Result<Decision, Rejection> {
    group.needs(actor, Role::Owner)?;
    if role == Role::Owner {
        let problem = "1 or 2; a group is handed over by transfer".to_owned();
        return Err(Rejection::Invalid { field: "role", problem });
    }
    let now = group.role_of(user).ok_or_else(no_member)?;
    if now == Role::Owner {
        return Err(Rejection::Forbidden { needed: "an owner stays owner until a transfer" });
    }
    if now == role {
        return Ok(Decision::default());
    }
    if role == Role::Admin {
        has_room_for_an_admin(group)?;
    }
    let rows = vec![RowChange::Role(group.id, user, role)];
    Ok(group.change(rows, Event::RoleChanged(user, role)))
}

/// Makes a member the owner; who was it is an admin then.
pub(super) fn transfer(
    group: GroupState<'_>,
    actor: UserId,
    user: UserId,
) -> Result<Decision, Rejection> {
    group.needs(actor, Role::Member)?;
    let now = group.role_of(user);
    if now == Some(Role::Owner) {
        return Ok(Decision::default());
    }
    group.needs(actor, Role::Owner)?;
    let now = now.ok_or_else(no_member)?;
    if now == Role::Member {
        has_room_for_an_admin(group)?;
    }
    let rows = vec![
        RowChange::Role(group.id, actor, Role::Admin),
        RowChange::Role(group.id, user, Role::Owner),
    ];
    Ok(group.change(rows, Event::RoleChanged(user, Role::Owner)))
}

/// Silences a member, or lets him speak again.
pub(super) fn mute(
    group: GroupState<'_>,
    actor: UserId,
    user: UserId,
    until_ms: u64,
    now_ms: u64,
) -> Result<Decision, Rejection> {
    let own = group.needs(actor, Role::Admin)?;
    if until_ms > TIME_MS_MAX {
        let problem = format!("at most {TIME_MS_MAX}");
        return Err(Rejection::Invalid { field: "until_ms", problem });
    }
    let member = group.member(user).ok_or_else(no_member)?;
    outranks(own, member.role)?;
    let until_ms = if until_ms <= now_ms { 0 } else { until_ms };
    let is_muted = member.muted_until_ms > now_ms;
    if member.muted_until_ms == until_ms || (until_ms == 0 && !is_muted) {
        return Ok(Decision::default());
    }
    let rows = vec![RowChange::Mute(group.id, user, until_ms)];
    Ok(group.change(rows, Event::MemberMuted(user, until_ms)))
}

fn outranks(own: Role, other: Role) -> Result<(), Rejection> {
    match other {
        _ if own > other => Ok(()),
        Role::Owner => Err(Rejection::Forbidden { needed: "nobody does that to the owner" }),
        _ => Err(Rejection::Forbidden { needed: "the owner" }),
    }
}

fn no_member() -> Rejection {
    Rejection::Invalid { field: "user", problem: "no member of the group".to_owned() }
}

fn has_room_for_an_admin(group: GroupState<'_>) -> Result<(), Rejection> {
    let admins = group.present().filter(|m| m.role == Role::Admin).count();
    if admins < GROUP_ADMINS_MAX {
        return Ok(());
    }
    Err(Rejection::LimitReached { what: "admins of a group", max: GROUP_ADMINS_MAX as u64 })
}
