//! Events as the bodies of entries.

use bytes::Bytes;
use petrel_core::change::Revoked;
use petrel_core::event::Event;
use petrel_core::id::UserId;
use petrel_proto::wire::{self, event::What};
use prost::Message;

use super::relation::{ContactView, contact, privacy};
use super::{bytes_of, member_settings, profile, user_found};

/// The body of the entry that tells an event, in encoding 0.
pub(crate) fn event(event: &Event) -> Bytes {
    wire::Event { what: Some(what(event)) }.encode_to_vec().into()
}

fn users(users: &[UserId]) -> Vec<Bytes> {
    users.iter().map(|user| bytes_of(user.as_bytes())).collect()
}

fn what(event: &Event) -> What {
    match event {
        Event::GroupMade { profile: made, users: members } => {
            What::GroupMade(wire::GroupMade { profile: Some(profile(made)), users: users(members) })
        }
        Event::ProfileChanged(new) => {
            What::ProfileChanged(wire::ProfileChanged { profile: Some(profile(new)) })
        }
        Event::MembersAdded(added) => {
            What::MembersAdded(wire::MembersAdded { users: users(added) })
        }
        Event::MembersLeft(left) => What::MembersLeft(wire::MembersLeft { users: users(left) }),
        Event::RoleChanged(user, role) => What::RoleChanged(wire::RoleChanged {
            user: bytes_of(user.as_bytes()),
            role: role.number().into(),
        }),
        Event::MemberMuted(user, until_ms) => What::MemberMuted(wire::MemberMuted {
            user: bytes_of(user.as_bytes()),
            until_ms: *until_ms,
        }),
        own => what_of_own(own),
    }
}

/// Events of a user's own log.
fn what_of_own(event: &Event) -> What {
    match event {
        Event::ContactChanged { user, contact: side, is_followed, blocks } => {
            let view =
                ContactView { user, contact: side, is_followed: *is_followed, blocks: *blocks };
            What::ContactChanged(wire::ContactChanged { contact: Some(contact(&view)) })
        }
        Event::AccountChanged { nickname, avatar, privacy: new } => {
            What::AccountChanged(wire::AccountChanged {
                nickname: nickname.clone(),
                avatar: avatar.clone(),
                privacy: Some(privacy(*new)),
            })
        }
        Event::SettingChanged(key, value) => What::SettingChanged(wire::SettingChanged {
            key: key.clone(),
            value: value.clone().unwrap_or_default(),
            removed: value.is_none(),
        }),
        Event::DeviceAdded(device, label) => What::DeviceAdded(wire::DeviceAdded {
            device: bytes_of(device.as_bytes()),
            label: label.clone(),
        }),
        Event::DevicesRevoked(revoked) => What::DevicesRevoked(wire::DevicesRevoked {
            device: match revoked {
                Revoked::One(device) => bytes_of(device.as_bytes()),
                Revoked::AllBut(_) => Bytes::new(),
            },
        }),
        Event::ConversationSet(conversation, settings) => {
            What::ConversationSet(wire::ConversationSet {
                conversation: bytes_of(conversation.as_bytes()),
                settings: Some(member_settings(settings)),
            })
        }
        Event::EntriesHidden(conversation, seqs) => What::EntriesHidden(wire::EntriesHidden {
            conversation: bytes_of(conversation.as_bytes()),
            seqs: seqs.iter().map(|seq| seq.0).collect(),
        }),
        Event::JoinAsked { conversation, user, text, closed } => What::JoinAsked(wire::JoinAsked {
            conversation: bytes_of(conversation.as_bytes()),
            user: Some(user_found(user)),
            text: text.clone(),
            closed: *closed,
        }),
        // Those of groups are told by `what`.
        Event::GroupMade { .. }
        | Event::ProfileChanged(_)
        | Event::MembersAdded(_)
        | Event::MembersLeft(_)
        | Event::RoleChanged(..)
        | Event::MemberMuted(..) => what(event),
    }
}
