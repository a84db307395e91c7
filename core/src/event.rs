//! Events: what the service writes into a log when a request was carried out. The
//! gateway's `translate` turns them into the bodies of entries.

use bytes::Bytes;

use crate::change::{
    Contact, GroupProfile, Guard, MemberSettings, Privacy, Revoked, Role, RowChange,
};
use crate::entry::EntryKind;
use crate::id::{ConversationId, DeviceId, Seq, UserId};
use crate::store::User;

/// What a request comes to, before its events are encoded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decision {
    /// What it rests on.
    pub guards: Vec<Guard>,
    /// Rows that change, in this order.
    pub rows: Vec<RowChange>,
    /// What is written into which log, at most once into each: all entries of one change
    /// carry the request's id.
    pub events: Vec<(Log, Event)>,
}

/// Where an event is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Log {
    /// A group's log.
    Group(ConversationId),
    /// A user's own log.
    Of(UserId),
}

impl Log {
    /// The log's conversation.
    pub fn conversation(self) -> ConversationId {
        match self {
            Self::Group(id) => id,
            Self::Of(user) => ConversationId::of_user(user),
        }
    }
}

impl Decision {
    /// Whether all is as it was asked for already.
    pub fn is_nothing(&self) -> bool {
        self.rows.is_empty() && self.events.is_empty()
    }
}

/// Something that happened. Its reader knows who did it: the entry's sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A group was made, with these first members beside the sender, its owner.
    GroupMade {
        /// What it is.
        profile: GroupProfile,
        /// Without the owner.
        users: Vec<UserId>,
    },
    /// A group's new profile.
    ProfileChanged(GroupProfile),
    /// They came in.
    MembersAdded(Vec<UserId>),
    /// They are members no longer.
    MembersLeft(Vec<UserId>),
    /// A member's new role. With [`Role::Owner`] the sender, who was it, is an admin now.
    RoleChanged(UserId, Role),
    /// A member may not write until then (Unix milliseconds; 0: he may).
    MemberMuted(UserId, u64),

    /// The log's owner's side of a relation, as it is now.
    ContactChanged {
        /// The other one.
        user: User,
        /// The owner's side.
        contact: Contact,
        /// Whether the other one follows the owner.
        is_followed: bool,
        /// Whether the owner blocks the other one.
        blocks: bool,
    },
    /// The log's owner's nickname, picture and privacy, as they are now.
    AccountChanged {
        /// Empty for none.
        nickname: String,
        /// Empty for none.
        avatar: String,
        /// What others may do.
        privacy: Privacy,
    },
    /// One free setting; `None`: it was removed.
    SettingChanged(String, Option<Bytes>),
    /// A device was added, with what the person calls it.
    DeviceAdded(DeviceId, String),
    /// Devices were signed out for good.
    DevicesRevoked(Revoked),
    /// The owner's settings for one conversation.
    ConversationSet(ConversationId, MemberSettings),
    /// Entries that the owner wants to see no more.
    EntriesHidden(ConversationId, Vec<Seq>),
    /// Somebody asks to join a group: in the logs of who looks after it, and in his own.
    JoinAsked {
        /// The group.
        conversation: ConversationId,
        /// Who asks.
        user: User,
        /// What he says.
        text: String,
        /// It is answered or taken back.
        closed: bool,
    },
}

impl Event {
    /// The kind of the entry that carries it.
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::GroupMade { .. }
            | Self::ProfileChanged(_)
            | Self::MembersAdded(_)
            | Self::MembersLeft(_)
            | Self::RoleChanged(..)
            | Self::MemberMuted(..) => EntryKind::Group,
            Self::ContactChanged { .. } => EntryKind::Contact,
            Self::AccountChanged { .. } | Self::SettingChanged(..) => EntryKind::Account,
            Self::DeviceAdded(..) | Self::DevicesRevoked(_) => EntryKind::Device,
            Self::ConversationSet(..) | Self::EntriesHidden(..) => EntryKind::Conversation,
            Self::JoinAsked { .. } => EntryKind::JoinRequest,
        }
    }
}
