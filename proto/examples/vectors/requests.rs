//! Frames of groups, contacts, accounts and presence, written as the JSON that
//! the vectors have.

use anyhow::{Context, Result};
use petrel_proto::wire::Frame;

use crate::json;

/// Name and frame of each.
pub(crate) fn all() -> Result<Vec<(&'static str, Frame)>> {
    let parse = |(name, text): &(&'static str, &str)| {
        let value = serde_json::from_str(text).with_context(|| format!("{name}: not JSON"))?;
        Ok((*name, json::from_json(&value).with_context(|| (*name).to_owned())?))
    };
    FRAMES.iter().map(parse).collect()
}

const FRAMES: &[(&str, &str)] = &[
    (
        "Typing",
        r#"{"sender": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "typing": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "stopped": true}}"#,
    ),
    (
        "Echo",
        r#"{"echo": {"copies": [{"stream": 4, "offset": 1070, "data": "050a03616263"}, {"stream": 9, "data": "00"}]}}"#,
    ),
    ("Probe", r#"{"probe": {}}"#),
    ("Probe, answer", r#"{"probe": {"answer": true}}"#),
    (
        "Send of an edit",
        r#"{"number": 7, "id": "019ab0e1c2d37abc8123456789abcdef", "entry_kind": 32, "body": "6869", "target": 42, "send": {"revision": 2}}"#,
    ),
    (
        "Send with mentions",
        r#"{"number": 8, "id": "019ab0e1c2d37abc8123456789abcdef", "entry_kind": 1, "body": "6869", "target": 41, "mentions": ["b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "00000000000000000000000000000000"], "send": {}}"#,
    ),
    (
        "Push of an entry that was changed",
        r#"{"id": "019ab0e1c2d37abc8123456789abcdef", "seq": 42, "sender": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "time_ms": 1795000000123, "count": 40, "entry_kind": 1, "push": {"revision": 3, "changed": 50, "recalled": true, "hidden": true, "reactions": [{"emoji": "👍", "count": 2, "own": true}]}}"#,
    ),
    ("Attention, background", r#"{"attention": {"background": true}}"#),
    ("Attention, foreground", r#"{"attention": {}}"#),
    ("WatchPresence", r#"{"watch_presence": {"users": ["b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"]}}"#),
    (
        "Presence",
        r#"{"presence": {"user": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "online": true, "seen_ms": 1795000000123}}"#,
    ),
    (
        "CreateGroup",
        r#"{"id": "019ab0e1c2d37abc8123456789abcdef", "create_group": {"profile": {"name": "climbers", "avatar": "a/1", "joins": 2, "members_invite": true, "whole_history": true, "muted": true, "created_ms": 1795000000123}, "users": ["b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"]}}"#,
    ),
    ("GetGroup", r#"{"get_group": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"}}"#),
    (
        "Group",
        r#"{"group": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "profile": {"name": "climbers"}, "members": 2, "role": 3, "refused": ["b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"], "asked": true}}"#,
    ),
    (
        "ChangeGroup, profile",
        r#"{"id": "019ab0e1c2d37abc8123456789abcdef", "change_group": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "profile": {"name": "walkers"}}}"#,
    ),
    (
        "ChangeGroup, add",
        r#"{"change_group": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "add": {"users": ["b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"]}}}"#,
    ),
    (
        "ChangeGroup, remove",
        r#"{"change_group": {"remove": {"users": ["b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"]}}}"#,
    ),
    ("ChangeGroup, leave", r#"{"change_group": {"leave": true}}"#),
    (
        "ChangeGroup, role",
        r#"{"change_group": {"role": {"user": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "role": 2}}}"#,
    ),
    (
        "ChangeGroup, transfer",
        r#"{"change_group": {"transfer": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"}}"#,
    ),
    (
        "ChangeGroup, mute",
        r#"{"change_group": {"mute": {"user": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "until_ms": 1795000000123}}}"#,
    ),
    ("ChangeGroup, accept", r#"{"change_group": {"accept": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"}}"#),
    (
        "ChangeGroup, decline",
        r#"{"change_group": {"decline": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"}}"#,
    ),
    (
        "JoinGroup",
        r#"{"join_group": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "link": "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e", "text": "it is me"}}"#,
    ),
    (
        "MakeLink",
        r#"{"make_link": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "expires_ms": 1795000000123, "uses_max": 5}}"#,
    ),
    (
        "RevokeLink",
        r#"{"revoke_link": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "hash": "4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a"}}"#,
    ),
    ("ListLinks", r#"{"list_links": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"}}"#),
    (
        "Link",
        r#"{"link": {"secret": "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e", "hash": "4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a", "by": "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1", "expires_ms": 1795000000123, "uses_max": 5, "uses": 1}}"#,
    ),
    (
        "ListMembers",
        r#"{"list_members": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "page": "07", "limit": 200}}"#,
    ),
    (
        "MemberFound",
        r#"{"member_found": {"user": {"user": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "name": "bob", "nickname": "Bob", "avatar": "a/2"}, "role": 2, "muted_until_ms": 1795000000123}}"#,
    ),
    (
        "ListJoinRequests",
        r#"{"list_join_requests": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "page": "07", "limit": 200}}"#,
    ),
    (
        "JoinRequest",
        r#"{"join_request": {"user": {"name": "bob"}, "text": "it is me", "asked_ms": 1795000000123}}"#,
    ),
    ("ReadBy", r#"{"read_by": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "seq": 42}}"#),
    (
        "ChangeContact, ask",
        r#"{"id": "019ab0e1c2d37abc8123456789abcdef", "change_contact": {"user": "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", "ask": "it is me"}}"#,
    ),
    ("ChangeContact, accept", r#"{"change_contact": {"accept": true}}"#),
    ("ChangeContact, decline", r#"{"change_contact": {"decline": true}}"#),
    ("ChangeContact, remove", r#"{"change_contact": {"remove": true}}"#),
    ("ChangeContact, remark", r#"{"change_contact": {"remark": "Bob from work"}}"#),
    ("ChangeContact, follow", r#"{"change_contact": {"follow": true}}"#),
    ("ChangeContact, block lifted", r#"{"change_contact": {"block": false}}"#),
    (
        "Contact",
        r#"{"contact": {"user": {"name": "bob"}, "friendship": 2, "follows": true, "is_followed": true, "blocks": true, "remark": "Bob from work", "text": "it is me", "changed_ms": 1795000000123}}"#,
    ),
    ("ListContacts", r#"{"list_contacts": {"page": "07", "limit": 200}}"#),
    (
        "Register with a password",
        r#"{"register": {"user_name": "alice", "device_label": "laptop", "password": "correct horse"}}"#,
    ),
    ("AddDevice", r#"{"add_device": {"label": "phone"}}"#),
    (
        "LogInWithPassword",
        r#"{"log_in_with_password": {"user_name": "alice", "password": "correct horse", "device_label": "laptop"}}"#,
    ),
    (
        "LogInWithToken",
        r#"{"log_in_with_token": {"token": "e30.e30.c2ln", "device_label": "laptop"}}"#,
    ),
    (
        "ChangePassword",
        r#"{"change_password": {"old": "correct horse", "new": "battery staple", "revoke_others": true}}"#,
    ),
    ("ListDevices", r#"{"list_devices": {}}"#),
    (
        "DeviceFound",
        r#"{"device_found": {"device": "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1", "label": "laptop", "created_ms": 1795000000123, "seen_ms": 1795000000124, "own": true}}"#,
    ),
    ("RevokeDevice", r#"{"revoke_device": {"device": "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"}}"#),
    ("GetAccount", r#"{"get_account": {}}"#),
    (
        "Account",
        r#"{"account": {"user": {"name": "alice"}, "privacy": {"messages": 2, "groups": 1, "presence": 3}, "has_password": true, "settings": [{"key": "theme", "value": "6461726b"}]}}"#,
    ),
    (
        "ChangeAccount, person",
        r#"{"id": "019ab0e1c2d37abc8123456789abcdef", "change_account": {"person": {"nickname": "Alice", "avatar": "a/1"}}}"#,
    ),
    ("ChangeAccount, privacy", r#"{"change_account": {"privacy": {"messages": 2}}}"#),
    ("ChangeAccount, set", r#"{"change_account": {"set": {"key": "theme", "value": "6461726b"}}}"#),
    ("ChangeAccount, unset", r#"{"change_account": {"unset": "theme"}}"#),
    (
        "SetConversation",
        r#"{"id": "019ab0e1c2d37abc8123456789abcdef", "set_conversation": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "settings": {"silenced_until_ms": 1795000000123, "pinned_ms": 1795000000124, "archived": true}}}"#,
    ),
    (
        "HideEntries",
        r#"{"hide_entries": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "seqs": [1, 300]}}"#,
    ),
    (
        "ListConversations, those that changed",
        r#"{"list_conversations": {"since_ms": 1795000000123}}"#,
    ),
    (
        "Summary of a group",
        r#"{"summary": {"conversation": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0", "group": {"profile": {"name": "climbers"}, "members": 3, "role": 1}, "mentions": 2, "settings": {"archived": true}}}"#,
    ),
    (
        "Welcome with the user's own log",
        r#"{"welcome": {"log": "10101010101010101010101010101010"}}"#,
    ),
];
