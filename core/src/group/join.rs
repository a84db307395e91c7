//! Coming in: by oneself, by request, by link.

use super::{Asker, GroupLimits, GroupState, Joining, Judged, NewLink, Way};
use crate::change::{JoinLink, JoinPolicy, Role, RowChange};
use crate::error::Rejection;
use crate::event::{Decision, Event, Log};
use crate::id::UserId;
use crate::limits;
use crate::store::User;
use crate::text;

/// The caller joins or asks to. A group that nobody joins by himself is not found, like one
/// that does not exist; so is a link that works no longer.
pub(super) fn join(
    group: GroupState<'_>,
    joining: Joining,
    limits: GroupLimits,
    now_ms: u64,
) -> Result<Judged, Rejection> {
    let user = joining.user.id;
    if group.role_of(user).is_some() {
        return Ok(Judged::default());
    }
    if group.members() == 0 {
        // The last one has left, and with him the owner: nobody comes in any more.
        return Err(Rejection::NotFound);
    }
    let mut rows = Vec::new();
    match &joining.way {
        Way::Link(link) => {
            check_link(group, link, now_ms)?;
            rows.push(RowChange::LinkUsed(link.hash));
        }
        Way::Id if group.profile.joins == JoinPolicy::Closed => return Err(Rejection::NotFound),
        Way::Id if joining.was_removed => {
            return Err(Rejection::Forbidden {
                needed: "who was removed comes back by an invitation or a link",
            });
        }
        Way::Id => {}
    }
    if joining.groups >= limits.per_user_max {
        let max = limits.per_user_max;
        return Err(Rejection::LimitReached { what: "groups of a user", max });
    }
    if joining.way == Way::Id && group.profile.joins == JoinPolicy::Request {
        return ask(group, joining, now_ms);
    }
    group.has_room(1, limits)?;
    rows.extend(group.join(user, now_ms));
    rows.push(RowChange::JoinAnswered(group.id, user));
    let decision = group.change(rows, Event::MembersAdded(vec![user]));
    Ok(Judged { decision, ..Judged::default() })
}

fn check_link(group: GroupState<'_>, link: &JoinLink, now_ms: u64) -> Result<(), Rejection> {
    let used_up = link.uses_max > 0 && link.uses >= link.uses_max;
    if link.conversation != group.id || link.expires_ms <= now_ms || used_up {
        return Err(Rejection::NotFound);
    }
    Ok(())
}

fn ask(group: GroupState<'_>, joining: Joining, now_ms: u64) -> Result<Judged, Rejection> {
    text::check_lines("text", &joining.text, limits::REQUEST_TEXT_BYTES_MAX)?;
    if joining.asked {
        return Ok(Judged { asked: true, ..Judged::default() });
    }
    let max = limits::JOIN_REQUESTS_MAX as u64;
    if joining.open_requests >= max {
        return Err(Rejection::LimitReached { what: "open requests to join a group", max });
    }
    let Joining { user, text, .. } = joining;
    let decision = Decision {
        guards: vec![group.guard(false)],
        rows: vec![RowChange::AskToJoin(group.id, user.id, text.clone(), now_ms)],
        events: tell(group, &user, &text, false),
    };
    Ok(Judged { decision, asked: true, ..Judged::default() })
}

/// What concerns a request to join is told to who asked and to who looks after the group.
fn tell(group: GroupState<'_>, user: &User, text: &str, closed: bool) -> Vec<(Log, Event)> {
    let event = Event::JoinAsked {
        conversation: group.id,
        user: user.clone(),
        text: text.to_owned(),
        closed,
    };
    let told = std::iter::once(user.id).chain(group.admins());
    told.map(|u| (Log::Of(u), event.clone())).collect()
}

/// Lets somebody in who has asked.
pub(super) fn accept(
    group: GroupState<'_>,
    actor: UserId,
    asker: Asker,
    limits: GroupLimits,
    now_ms: u64,
) -> Result<Decision, Rejection> {
    group.needs(actor, Role::Admin)?;
    let user = asker.user.id;
    if group.role_of(user).is_some() {
        return Ok(Decision::default());
    }
    if !asker.asked {
        return Err(Rejection::Conflict { what: "the request to join" });
    }
    if asker.groups >= limits.per_user_max {
        let max = limits.per_user_max;
        return Err(Rejection::LimitReached { what: "groups of a user", max });
    }
    group.has_room(1, limits)?;
    let mut rows = group.join(user, now_ms);
    rows.push(RowChange::JoinAnswered(group.id, user));
    let mut decision = group.change(rows, Event::MembersAdded(vec![user]));
    decision.events.extend(tell(group, &asker.user, "", true));
    Ok(decision)
}

/// Does not let him in. The group's next version tells whoever accepts him at the same moment.
pub(super) fn decline(
    group: GroupState<'_>,
    actor: UserId,
    asker: Asker,
) -> Result<Decision, Rejection> {
    group.needs(actor, Role::Admin)?;
    if !asker.asked {
        return Ok(Decision::default());
    }
    Ok(Decision {
        guards: vec![group.guard(true)],
        rows: vec![RowChange::JoinAnswered(group.id, asker.user.id)],
        events: tell(group, &asker.user, "", true),
    })
}

/// Makes a link. Nobody is told: who looks after the group reads the list.
pub(super) fn make_link(
    group: GroupState<'_>,
    actor: UserId,
    link: NewLink,
    now_ms: u64,
) -> Result<Decision, Rejection> {
    group.needs(actor, Role::Admin)?;
    if !(1..=limits::LINK_LIFE_MS_MAX).contains(&link.life_ms) {
        let problem = format!("1 to {} ms from now on", limits::LINK_LIFE_MS_MAX);
        return Err(Rejection::Invalid { field: "expires_ms", problem });
    }
    let max = limits::GROUP_LINKS_MAX as u64;
    if link.working >= max {
        return Err(Rejection::LimitReached { what: "links of a group", max });
    }
    let row = RowChange::LinkMade(JoinLink {
        hash: link.hash,
        conversation: group.id,
        by: actor,
        expires_ms: now_ms + link.life_ms,
        uses_max: link.uses_max,
        uses: 0,
    });
    // The next version: of two links at once only one can be the last that is allowed.
    Ok(Decision { guards: vec![group.guard(true)], rows: vec![row], events: Vec::new() })
}

/// A link works no longer. The group's next version tells whoever uses it at the same moment.
pub(super) fn revoke_link(
    group: GroupState<'_>,
    actor: UserId,
    link: Option<JoinLink>,
) -> Result<Decision, Rejection> {
    group.needs(actor, Role::Admin)?;
    let Some(link) = link.filter(|l| l.conversation == group.id) else {
        return Ok(Decision::default());
    };
    Ok(Decision {
        guards: vec![group.guard(true)],
        rows: vec![RowChange::LinkRevoked(link.hash)],
        events: Vec::new(),
    })
}
