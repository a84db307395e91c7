//! Groups.

use bytes::Bytes;
use petrel_core::change::{GroupProfile, JoinLink, JoinPolicy, Role};
use petrel_core::error::Rejection;
use petrel_core::group::GroupView;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::store::{JoinRequest, MemberLine};
use petrel_proto::wire;

use super::{bytes_of, missing, user_found};

/// A group's profile.
pub(crate) fn profile(profile: &GroupProfile) -> wire::GroupProfile {
    wire::GroupProfile {
        name: profile.name.clone(),
        avatar: profile.avatar.clone(),
        joins: profile.joins.number().into(),
        members_invite: profile.members_invite,
        whole_history: profile.whole_history,
        muted: profile.muted,
        created_ms: profile.created_ms,
    }
}

/// A profile from the wire; `joins` 0 is by invitation.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub(crate) fn read_profile(
    profile: Option<wire::GroupProfile>,
    created_ms: u64,
) -> Result<GroupProfile, Rejection> {
    let profile = profile.ok_or_else(|| missing("profile"))?;
    let joins = match profile.joins {
        0 => Some(JoinPolicy::default()),
        number => JoinPolicy::from_number(number.into()),
    };
    let joins = joins.ok_or_else(|| Rejection::Invalid {
        field: "profile.joins",
        problem: format!("{}; 1 to 3", profile.joins),
    })?;
    Ok(GroupProfile {
        name: profile.name,
        avatar: profile.avatar,
        joins,
        members_invite: profile.members_invite,
        whole_history: profile.whole_history,
        muted: profile.muted,
        created_ms,
    })
}

/// A role from the wire.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub(crate) fn read_role(number: u32) -> Result<Role, Rejection> {
    Role::from_number(number.into())
        .ok_or_else(|| Rejection::Invalid { field: "role", problem: format!("{number}; 1 or 2") })
}

/// A group as its reader knows it.
pub(crate) fn group(
    id: ConversationId,
    view: &GroupView,
    refused: &[UserId],
    asked: bool,
) -> wire::Group {
    wire::Group {
        conversation: bytes_of(id.as_bytes()),
        profile: view.profile.as_ref().map(profile),
        members: view.members,
        role: view.role.map_or(0, |role| role.number().into()),
        refused: refused.iter().map(|user| bytes_of(user.as_bytes())).collect(),
        asked,
    }
}

/// A link, with its secret if it is new.
pub(crate) fn link(link: &JoinLink, secret: &[u8]) -> wire::Link {
    wire::Link {
        secret: bytes_of(secret),
        hash: bytes_of(&link.hash),
        by: bytes_of(link.by.as_bytes()),
        expires_ms: link.expires_ms,
        uses_max: link.uses_max,
        uses: link.uses,
    }
}

/// A line of the list of members.
pub(crate) fn member_found(line: &MemberLine) -> wire::MemberFound {
    wire::MemberFound {
        user: Some(user_found(&line.user)),
        role: line.role.number().into(),
        muted_until_ms: line.muted_until_ms,
    }
}

/// Somebody who asks to join.
pub(crate) fn join_request(request: &JoinRequest) -> wire::JoinRequest {
    wire::JoinRequest {
        user: Some(user_found(&request.user)),
        text: request.text.clone(),
        asked_ms: request.asked_ms,
    }
}

/// A user's id as the position behind him in a list of people.
pub(crate) fn people_page(last: UserId) -> Bytes {
    bytes_of(last.as_bytes())
}

/// Such a position from the wire; empty for the first page.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub(crate) fn read_people_page(page: &[u8]) -> Result<Option<UserId>, Rejection> {
    if page.is_empty() {
        return Ok(None);
    }
    let problem = || Rejection::Invalid { field: "page", problem: "not from a Done".to_owned() };
    UserId::from_slice(page).map(Some).ok_or_else(problem)
}
