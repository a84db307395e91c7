//! Messages of the service itself: entries that no client can send.

use std::sync::Arc;

use petrel_core::change::{ChangeEntry, Guard};
use petrel_core::entry::EntryKind;
use petrel_core::error::Rejection;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::store::{ConversationKind, ConversationRecord, NewAccount, User};
use rand::RngCore as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::arguments::Given;
use super::problem::Problem;
use super::users::one;
use crate::attach::unavailable;
use crate::change::write_entry;
use crate::clock;
use crate::gateway::Gateway;

/// Bytes of such a message, at the most.
pub(super) const TEXT_BYTES_MAX: usize = 4 * 1024;

pub(super) async fn send(gateway: Arc<Gateway>, given: Given) -> Result<Value, Problem> {
    if given.has("user") == given.has("group") {
        return Err(Problem::invalid("user", "either a user or a group"));
    }
    let sender = system_user(&gateway).await?;
    let conversation = if given.has("group") {
        given.group()
    } else {
        let user = one(&gateway, "user", &given).await?;
        if user.id == sender {
            return Err(Problem::invalid("user", "this is the service itself"));
        }
        let pair = gateway.store.ensure_pair(sender, user.id).await;
        pair.map_err(|error| unavailable(&error))?;
        ConversationId::of_pair(sender, user.id)
    };
    let entry = ChangeEntry {
        conversation,
        id: Uuid::now_v7().into(),
        sender,
        kind: EntryKind::System,
        body: given.text("text").to_owned().into(),
    };
    let written = write_entry(&gateway, entry, judge).await;
    let placed = written.map_err(|rejection| match rejection {
        Rejection::NotFound => Problem::not_found("group", "there is no such group"),
        other => other.into(),
    })?;
    Ok(json!({ "conversation": conversation.to_string(), "seq": placed.seq.0 }))
}

/// The service may write where people do, but for who blocks it.
fn judge(record: &ConversationRecord) -> Result<Guard, Rejection> {
    match record.kind {
        ConversationKind::Own => return Err(Rejection::NotFound),
        ConversationKind::Pair if record.members.iter().any(|m| m.blocks) => {
            return Err(Rejection::Blocked);
        }
        ConversationKind::Pair | ConversationKind::Group(_) => {}
    }
    Ok(Guard { conversation: record.id, version: record.rights_version, bumps: false })
}

/// The account that these messages come from; made when it is first needed. Nobody can sign in as it: its
/// device's secret is known to nobody.
async fn system_user(gateway: &Gateway) -> Result<UserId, Problem> {
    let id = UserId::of_system();
    let known = gateway.store.users(&[id]).await.map_err(|error| unavailable(&error))?;
    if !known.is_empty() {
        return Ok(id);
    }
    let mut secret_hash = [0; 32];
    rand::rng().fill_bytes(&mut secret_hash);
    let name = gateway.config.admin.system_name.clone();
    let account = NewAccount {
        user: User::named(id, name.clone()),
        device: Uuid::now_v7().into(),
        device_label: "service".to_owned(),
        secret_hash,
        created_ms: clock::unix_ms(),
        password: None,
        outside: None,
    };
    let made = gateway.store.register(&account).await.map_err(|error| unavailable(&error))?;
    if made {
        return Ok(id);
    }
    // The name is somebody's; or another gateway made the account meanwhile.
    let known = gateway.store.users(&[id]).await.map_err(|error| unavailable(&error))?;
    if known.is_empty() {
        tracing::error!(name, "admin.system_name is the name of somebody who is there already");
        return Err(Rejection::NameTaken.into());
    }
    Ok(id)
}
