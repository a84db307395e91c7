//! Commands about groups. What they change is judged by the rules of groups, as if the owner asked.

use std::sync::Arc;

use petrel_core::change::{GroupProfile, JoinPolicy, Role};
use petrel_core::error::Rejection;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::store::{ConversationKind, ConversationRecord, MemberLine, User};
use serde_json::{Value, json};

use super::arguments::Given;
use super::problem::Problem;
use super::users::{PAGE_DEFAULT, in_the_name_of, named, one};
use crate::attach::unavailable;
use crate::clock;
use crate::dispatch::group::{Answer, Wanted, change_for, create_for};
use crate::gateway::Gateway;

/// The answer after a change. `users` are those whom the caller named.
fn answered(answer: &Answer, users: &[User]) -> Value {
    let name = |id: &UserId| users.iter().find(|u| u.id == *id).map(|u| u.name.as_str());
    let refused: Vec<&str> = answer.refused.iter().filter_map(name).collect();
    json!({ "group": answer.id.to_string(), "members": answer.view.members, "refused": refused })
}

pub(super) async fn create(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    let owner = one(&gateway, "owner", &given).await?;
    let users = named(&gateway, "users", &given.texts("users")).await?;
    let profile = GroupProfile {
        name: given.text("title").to_owned(),
        joins: match given.text("joins") {
            "request" => JoinPolicy::Request,
            "open" => JoinPolicy::Open,
            _ => JoinPolicy::Closed,
        },
        created_ms: clock::unix_ms(),
        ..GroupProfile::default()
    };
    let ids: Vec<UserId> = users.iter().map(|user| user.id).collect();
    let making = create_for(&gateway, in_the_name_of(owner.id), &profile, &ids);
    let answer = making.await.map_err(|rejection| match rejection {
        Rejection::Invalid { field: "profile.name", problem } => Problem::invalid("title", problem),
        other => other.into(),
    })?;
    Ok(answered(&answer, &users))
}

/// A group with its profile.
async fn find(
    gateway: &Gateway,
    id: ConversationId,
) -> Result<(ConversationRecord, GroupProfile), Problem> {
    let found = gateway.store.conversation(id).await.map_err(|error| unavailable(&error))?;
    let missing = || Problem::not_found("group", "there is no such group");
    let record = found.ok_or_else(missing)?;
    match &record.kind {
        ConversationKind::Group(profile) => {
            let profile = profile.clone();
            Ok((record, profile))
        }
        ConversationKind::Pair | ConversationKind::Own => Err(missing()),
    }
}

/// Changes a group in the name of its owner.
async fn change(
    gateway: &Arc<Gateway>,
    given: &Given,
    wanted: impl FnOnce(Vec<UserId>) -> Wanted,
) -> Result<Value, Problem> {
    let id = given.group();
    let (record, _) = find(gateway, id).await?;
    let users = named(gateway, "users", &given.texts("users")).await?;
    let is_owner = |role: Role| role == Role::Owner;
    let owner = record.members.iter().find(|m| m.until.is_none() && is_owner(m.role));
    let gone = || Problem::not_found("group", "nobody is left in this group");
    let caller = in_the_name_of(owner.ok_or_else(gone)?.user);
    let wanted = wanted(users.iter().map(|user| user.id).collect());
    let answer = change_for(gateway, caller, id, &wanted).await?;
    Ok(answered(&answer, &users))
}

pub(super) async fn add(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    change(&gateway, &given, Wanted::Add).await
}

pub(super) async fn remove(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    let mut answer = change(&gateway, &given, Wanted::Remove).await?;
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("refused");
    }
    Ok(answer)
}

pub(super) async fn show(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    let id = given.group();
    let (record, profile) = find(&gateway, id).await?;
    let limit = usize::try_from(given.count("limit", PAGE_DEFAULT)).unwrap_or(usize::MAX);
    let page = gateway.store.members(id, given.after(), limit).await;
    let page = page.map_err(|error| unavailable(&error))?;
    let joins = match profile.joins {
        JoinPolicy::Closed => "closed",
        JoinPolicy::Request => "request",
        JoinPolicy::Open => "open",
    };
    let line = |line: &MemberLine| {
        let role = match line.role {
            Role::Member => "member",
            Role::Admin => "admin",
            Role::Owner => "owner",
        };
        json!({
            "id": line.user.id.to_string(), "user": line.user.name, "role": role,
            "muted_until_ms": line.muted_until_ms,
        })
    };
    Ok(json!({
        "group": id.to_string(), "title": profile.name, "joins": joins,
        "created_ms": profile.created_ms,
        "members": record.members.iter().filter(|m| m.until.is_none()).count(),
        "page": page.iter().map(line).collect::<Vec<_>>(), "more": page.len() == limit,
    }))
}
