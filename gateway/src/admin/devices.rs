//! Commands about devices and their tokens.

use std::sync::Arc;

use petrel_core::change::Revoked;
use petrel_core::error::Rejection;
use petrel_core::store::DeviceLine;
use serde_json::{Value, json};

use super::arguments::Given;
use super::problem::Problem;
use super::users::{in_the_name_of, label_of, one};
use crate::attach::unavailable;
use crate::clock;
use crate::gateway::Gateway;
use crate::keys::hex;

pub(super) async fn issue(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    let user = one(&gateway, "user", &given).await?;
    let made = gateway.add_device(user.id, label_of(&given)).await?;
    let (token, expires_ms) = gateway.tokens.issue(user.id, made.device, clock::unix_ms())?;
    Ok(json!({
        "id": user.id.to_string(), "user": user.name, "device": made.device.to_string(),
        "device_secret": hex(&made.secret), "token": token, "expires_ms": expires_ms,
    }))
}

pub(super) async fn list(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    let user = one(&gateway, "user", &given).await?;
    let found = gateway.store.devices(user.id).await.map_err(|error| unavailable(&error))?;
    let line = |line: &DeviceLine| {
        json!({
            "device": line.device.to_string(), "label": line.label,
            "created_ms": line.created_ms, "seen_ms": line.seen_ms,
        })
    };
    Ok(json!({ "devices": found.iter().map(line).collect::<Vec<_>>() }))
}

pub(super) async fn revoke(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    if given.has("device") == given.switch("all") {
        return Err(Problem::invalid("device", "either a device or `all`"));
    }
    let user = one(&gateway, "user", &given).await?;
    let revoked =
        if given.switch("all") { Revoked::AllBut(None) } else { Revoked::One(given.device()) };
    gateway.revoke(in_the_name_of(user.id), revoked).await.map_err(
        |rejection| match rejection {
            Rejection::NotFound => Problem::not_found("device", "the user has no such device"),
            other => other.into(),
        },
    )?;
    let left = gateway.store.devices(user.id).await.map_err(|error| unavailable(&error))?;
    Ok(json!({ "id": user.id.to_string(), "user": user.name, "devices": left.len() }))
}
