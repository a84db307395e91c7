//! What the service writes into logs: groups' events, and changes of what is the user's own.
//! Bodies are decoded here, checked field by field.

use bytes::Bytes;
use petrel_proto::wire::{self, event::What};
use prost::Message;

use crate::cursor::Cursor;
use crate::entry::{Entry, kind};
use crate::error::ClientError;
use crate::id::{ConversationId, DeviceId, MessageId, UserId};
use crate::request::{
    self, Contact, GroupProfile, MemberSettings, Privacy, Role, Setting, UserFound, checked_bytes,
    checked_text, conversation_id, device_id, user_id, user_ids,
};

/// Bytes of a text in an event that are believed.
const TEXT_BYTES_MAX: usize = 1_024;
/// Bytes of a setting's value that are believed.
const VALUE_BYTES_MAX: usize = 4_096;
/// Seqs in one list that are believed.
const SEQS_MAX: usize = 1_024;

/// What happened to a group. The entry's sender did it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupEvent {
    /// It was made, by its owner, with these first members.
    Made {
        /// What it is.
        profile: GroupProfile,
        /// Without the owner.
        users: Vec<UserId>,
    },
    /// It has a new profile.
    ProfileChanged(GroupProfile),
    /// They came in.
    Added(Vec<UserId>),
    /// They are members no longer.
    Left(Vec<UserId>),
    /// A member has another role. With [`Role::Owner`] the sender, who was it, is an admin now.
    RoleChanged(UserId, Role),
    /// A member may not write until then (Unix milliseconds; 0: may again).
    Muted(UserId, u64),
}

/// A change of what is the user's own, on whichever device it was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OwnChange {
    /// A contact, as it is now ([`Contact::is_gone`]: it is none any more).
    Contact(Contact),
    /// Nickname, picture and privacy, as they are now.
    Account {
        /// The name to be shown; empty for none.
        nickname: String,
        /// A reference to a picture; empty for none.
        avatar: String,
        /// What others may do.
        privacy: Privacy,
    },
    /// A free setting was set.
    SettingSet(Setting),
    /// The free setting with this key was removed.
    SettingRemoved(String),
    /// A device was added.
    DeviceAdded {
        /// Which.
        device: DeviceId,
        /// What its owner calls it.
        label: String,
    },
    /// A device was signed out for good; `None`: all but the one that asked for it.
    DevicesRevoked(Option<DeviceId>),
    /// The settings for one conversation, as they are now.
    ConversationSet {
        /// Which.
        conversation: ConversationId,
        /// Its settings.
        settings: MemberSettings,
    },
    /// Entries were hidden.
    EntriesHidden {
        /// Where.
        conversation: ConversationId,
        /// Which.
        seqs: Vec<u64>,
    },
    /// Somebody asks to join a group that the user looks after (or the user himself does).
    JoinAsked {
        /// The group.
        conversation: ConversationId,
        /// Who asks.
        user: UserFound,
        /// What he says.
        text: String,
        /// It is answered or taken back.
        closed: bool,
    },
    /// Something of a newer version, or undecodable.
    Unknown {
        /// The entry's kind.
        kind: u16,
    },
}

/// One entry of the user's own log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnEvent {
    /// The log.
    pub log: ConversationId,
    /// Its place, for [`crate::Client::follow_own_log`] after a restart.
    pub cursor: Cursor,
    /// The id of the request that caused it.
    pub id: MessageId,
    /// Who caused it.
    pub sender: UserId,
    /// When, Unix milliseconds.
    pub time_ms: u64,
    /// What changed.
    pub change: OwnChange,
}

impl OwnEvent {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            log: entry.conversation,
            cursor: Cursor::of(entry),
            id: entry.id,
            sender: entry.sender,
            time_ms: entry.time_ms,
            change: own_change(entry),
        }
    }
}

impl Entry {
    /// What happened to the group, if this entry ([`kind::GROUP`]) tells it in words of this version.
    pub fn group_event(&self) -> Option<GroupEvent> {
        if self.kind != kind::GROUP {
            return None;
        }
        read(self.body.as_ref().ok()?, group_event)
    }
}

fn own_change(entry: &Entry) -> OwnChange {
    let unknown = OwnChange::Unknown { kind: entry.kind };
    if !matches!(entry.kind, kind::CONTACT..=kind::JOIN_REQUEST) {
        return unknown;
    }
    let body = entry.body.as_ref().ok();
    body.and_then(|body| read(body, own)).unwrap_or(unknown)
}

/// `None`: it is of a newer version, or not what it should be.
fn read<T>(body: &Bytes, each: impl FnOnce(What) -> Result<Option<T>, ClientError>) -> Option<T> {
    let read = wire::Event::decode(body.clone())
        .map_err(|error| ClientError::Protocol(error.to_string()))
        .and_then(|event| event.what.map_or(Ok(None), each));
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "an event in a log that cannot be read");
        None
    })
}

fn group_profile(said: Option<wire::GroupProfile>) -> Result<GroupProfile, ClientError> {
    let missing = || ClientError::Protocol("an event without a profile".to_owned());
    request::profile(said.ok_or_else(missing)?)
}

fn group_event(what: What) -> Result<Option<GroupEvent>, ClientError> {
    Ok(Some(match what {
        What::GroupMade(made) => GroupEvent::Made {
            profile: group_profile(made.profile)?,
            users: user_ids(&made.users)?,
        },
        What::ProfileChanged(changed) => {
            GroupEvent::ProfileChanged(group_profile(changed.profile)?)
        }
        What::MembersAdded(added) => GroupEvent::Added(user_ids(&added.users)?),
        What::MembersLeft(left) => GroupEvent::Left(user_ids(&left.users)?),
        What::RoleChanged(changed) => {
            GroupEvent::RoleChanged(user_id(&changed.user)?, Role::from_number(changed.role))
        }
        What::MemberMuted(muted) => GroupEvent::Muted(user_id(&muted.user)?, muted.until_ms),
        _ => return Ok(None),
    }))
}

fn own(what: What) -> Result<Option<OwnChange>, ClientError> {
    let missing = |what| ClientError::Protocol(format!("an event without {what}"));
    Ok(Some(match what {
        What::ContactChanged(changed) => {
            let contact = changed.contact.ok_or_else(|| missing("a contact"))?;
            OwnChange::Contact(request::contact(contact)?)
        }
        What::AccountChanged(changed) => OwnChange::Account {
            nickname: checked_text("a nickname", changed.nickname, TEXT_BYTES_MAX)?,
            avatar: checked_text("an avatar", changed.avatar, TEXT_BYTES_MAX)?,
            privacy: request::privacy(changed.privacy.ok_or_else(|| missing("privacy"))?),
        },
        What::SettingChanged(changed) => {
            let key = checked_text("a setting's key", changed.key, TEXT_BYTES_MAX)?;
            if changed.removed {
                OwnChange::SettingRemoved(key)
            } else {
                let value = checked_bytes("a setting's value", changed.value, VALUE_BYTES_MAX)?;
                OwnChange::SettingSet(Setting { key, value })
            }
        }
        What::DeviceAdded(added) => OwnChange::DeviceAdded {
            device: device_id(&added.device)?,
            label: checked_text("a device's label", added.label, TEXT_BYTES_MAX)?,
        },
        What::DevicesRevoked(revoked) => {
            let one = !revoked.device.is_empty();
            OwnChange::DevicesRevoked(one.then(|| device_id(&revoked.device)).transpose()?)
        }
        What::ConversationSet(set) => OwnChange::ConversationSet {
            conversation: conversation_id(&set.conversation)?,
            settings: set.settings.map(request::member_settings).unwrap_or_default(),
        },
        What::EntriesHidden(hidden) if hidden.seqs.len() > SEQS_MAX => {
            return Err(ClientError::Protocol("too many hidden entries".to_owned()));
        }
        What::EntriesHidden(hidden) => OwnChange::EntriesHidden {
            conversation: conversation_id(&hidden.conversation)?,
            seqs: hidden.seqs,
        },
        What::JoinAsked(asked) => OwnChange::JoinAsked {
            conversation: conversation_id(&asked.conversation)?,
            user: request::known_user(asked.user)?,
            text: checked_text("a request's text", asked.text, TEXT_BYTES_MAX)?,
            closed: asked.closed,
        },
        _ => return Ok(None),
    }))
}
