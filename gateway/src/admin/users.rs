//! Commands about accounts.

use std::collections::BTreeSet;
use std::sync::Arc;

use petrel_core::account::AccountCommand;
use petrel_core::change::Revoked;
use petrel_core::error::Rejection;
use petrel_core::id::UserId;
use petrel_core::store::User;
use serde_json::{Value, json};
use uuid::Uuid;

use super::arguments::Given;
use super::problem::Problem;
use crate::attach::unavailable;
use crate::change::Caller;
use crate::gateway::Gateway;
use crate::keys::hex;

/// What a device is called that an operator made.
const LABEL: &str = "admin";
/// Lines of a page when nobody says.
pub(super) const PAGE_DEFAULT: u64 = 100;

/// Who a request of the operator is made for.
pub(super) fn in_the_name_of(user: UserId) -> Caller {
    Caller { user, id: Uuid::now_v7().into() }
}

/// The label of a new device.
pub(super) fn label_of(given: &Given) -> String {
    let label = given.text("label");
    if label.is_empty() { LABEL.to_owned() } else { label.to_owned() }
}

/// The users whom an argument names, in its order.
pub(super) async fn named(
    gateway: &Gateway,
    argument: &'static str,
    names: &[String],
) -> Result<Vec<User>, Problem> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let found = gateway.store.users_by_name(names).await.map_err(|error| unavailable(&error))?;
    let mut users = Vec::with_capacity(names.len());
    for name in names {
        let user = found.iter().find(|user| user.name == *name);
        let missing = || Problem::not_found(argument, format!("there is no user {name:?}"));
        users.push(user.ok_or_else(missing)?.clone());
    }
    Ok(users)
}

/// The user whom an argument names.
pub(super) async fn one(
    gateway: &Gateway,
    argument: &'static str,
    given: &Given,
) -> Result<User, Problem> {
    let names = [given.text(argument).to_owned()];
    let missing = || Problem::not_found(argument, "there is no such user");
    named(gateway, argument, &names).await?.into_iter().next().ok_or_else(missing)
}

pub(super) async fn create(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    let (name, nickname) = (given.text("user").to_owned(), given.text("nickname").to_owned());
    let made = gateway
        .register(name.clone(), label_of(&given), given.text("password").to_owned())
        .await
        .map_err(named_as_here)?;
    if !nickname.is_empty() {
        let person = AccountCommand::Person { nickname, avatar: String::new() };
        gateway.change_account(in_the_name_of(made.user), person).await?;
    }
    Ok(json!({
        "id": made.user.to_string(), "user": name, "device": made.device.to_string(),
        "device_secret": hex(&made.secret),
    }))
}

/// Fields as the API has them, where the protocol calls them otherwise.
fn named_as_here(rejection: Rejection) -> Problem {
    match rejection {
        Rejection::Invalid { field: "user_name", problem } => Problem::invalid("user", problem),
        other => other.into(),
    }
}

pub(super) async fn show(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    let user = one(&gateway, "user", &given).await?;
    let account = gateway.account(user.id).await?;
    let store = &gateway.store;
    let devices = store.devices(user.id).await.map_err(|error| unavailable(&error))?;
    let groups = store.groups_of(&[user.id]).await.map_err(|error| unavailable(&error))?;
    let seen = store.last_seen(&[user.id]).await.map_err(|error| unavailable(&error))?;
    Ok(json!({
        "id": user.id.to_string(), "user": user.name, "nickname": user.nickname,
        "has_password": account.has_password, "devices": devices.len(),
        "groups": groups.first().map_or(0, |(_, groups)| *groups),
        "sessions": gateway.sessions.count(user.id),
        "seen_ms": seen.first().map_or(0, |(_, seen_ms)| *seen_ms),
    }))
}

pub(super) async fn list(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    let limit = usize::try_from(given.count("limit", PAGE_DEFAULT)).unwrap_or(usize::MAX);
    let found = gateway.store.users_after(given.text("after"), limit).await;
    let found = found.map_err(|error| unavailable(&error))?;
    let line = |user: &User| json!({ "id": user.id.to_string(), "user": user.name, "nickname": user.nickname });
    let users: Vec<Value> = found.iter().map(line).collect();
    Ok(json!({ "users": users, "more": found.len() == limit }))
}

pub(super) async fn set_password(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    let user = one(&gateway, "user", &given).await?;
    let revokes = given.switch("revoke").then_some(Revoked::AllBut(None));
    let password = given.text("password").to_owned();
    gateway.change_password(in_the_name_of(user.id), None, password, revokes).await?;
    Ok(json!({ "id": user.id.to_string(), "user": user.name }))
}

pub(super) fn count_sessions(gateway: &Gateway) -> Value {
    let sessions = gateway.sessions.all();
    let users: BTreeSet<UserId> = sessions.iter().map(|session| session.user()).collect();
    json!({
        "sessions": sessions.len(), "users": users.len(),
        "connections": gateway.doors.connections(),
    })
}
