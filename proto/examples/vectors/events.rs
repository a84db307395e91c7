//! Events: the bodies of entries that the service writes.

use anyhow::{Context, Result};
use prost::Message as _;
use serde_json::{Value, json};

use crate::json::{self, hex};

/// `events.json`.
pub(crate) fn all() -> Result<Value> {
    let vector = |(kind, text): &(u32, &str)| {
        let value: Value = serde_json::from_str(text).with_context(|| (*text).to_owned())?;
        let event = json::event_from_json(&value).with_context(|| (*text).to_owned())?;
        let bytes = event.encode_to_vec();
        Ok(json!({ "entry_kind": kind, "event": json::event_to_json(&event), "hex": hex(&bytes) }))
    };
    let events: Result<Vec<Value>> = EVENTS.iter().map(vector).collect();
    Ok(json!({ "events": events? }))
}

const EVENTS: &[(u32, &str)] = &[
    (
        48,
        r#"{"group_made": {"profile": {"name": "climbers", "joins": 1, "created_ms": 1795000000123}, "users": ["b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"]}}"#,
    ),
    (
        48,
        r#"{"profile_changed": {"profile": {"name": "walkers", "avatar": "a/2", "joins": 3, "members_invite": true, "whole_history": true, "muted": true, "created_ms": 1795000000123}}}"#,
    ),
    (
        48,
        r#"{"members_added": {"users": ["b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"]}}"#,
    ),
    (48, r#"{"members_left": {"users": ["b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"]}}"#),
    (48, r#"{"role_changed": {"user": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "role": 2}}"#),
    (
        48,
        r#"{"member_muted": {"user": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "until_ms": 1795000060000}}"#,
    ),
    (48, r#"{"member_muted": {"user": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"}}"#),
    (
        64,
        r#"{"contact_changed": {"contact": {"user": {"user": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "name": "bob"}, "friendship": 2, "follows": true, "is_followed": true, "blocks": true, "remark": "Bob", "text": "hello", "changed_ms": 1795000000123}}}"#,
    ),
    (
        65,
        r#"{"account_changed": {"nickname": "Ann", "avatar": "a/1", "privacy": {"messages": 1, "groups": 2, "presence": 3}}}"#,
    ),
    (65, r#"{"setting_changed": {"key": "theme", "value": "6461726b"}}"#),
    (65, r#"{"setting_changed": {"key": "theme", "removed": true}}"#),
    (66, r#"{"device_added": {"device": "d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0", "label": "phone"}}"#),
    (66, r#"{"devices_revoked": {"device": "d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0"}}"#),
    (66, r#"{"devices_revoked": {}}"#),
    (
        67,
        r#"{"conversation_set": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "settings": {"silenced_until_ms": 4611686018427387903, "pinned_ms": 1795000000123, "archived": true}}}"#,
    ),
    (
        67,
        r#"{"entries_hidden": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "seqs": [3, 300, 70000]}}"#,
    ),
    (
        68,
        r#"{"join_asked": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "user": {"user": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "name": "bob", "nickname": "Bob", "avatar": "a/1"}, "text": "let me in", "closed": true}}"#,
    ),
];
