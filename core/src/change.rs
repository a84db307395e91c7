//! Changes: what a request does to groups, contacts, accounts and settings.
//!
//! A request is judged by pure rules over what was read from the store
//! ([`crate::group`], [`crate::relation`], ...). What they decide is a [`Change`]:
//! plain data, which a store carries out in one transaction. The versions that
//! the decision was made by are its [`Guard`]s: if one of them has moved, nothing
//! is done, and the request is read and judged again. So no rule is written
//! twice, in two dialects of SQL, and none runs on state that is older than its
//! commit.

use bytes::Bytes;

use crate::entry::{EntryKind, Placed};
use crate::id::{ClientMessageId, ConversationId, DeviceId, RightsVersion, UserId};

/// A decision, ready to be carried out in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Locked in the order of their ids, before anything else is read or written, together
    /// with the conversations of `entries`.
    pub guards: Vec<Guard>,
    /// Rows, in the order given.
    pub rows: Vec<RowChange>,
    /// Entries, in the order given, each at the head of its log. The first one's (sender, id)
    /// makes the change idempotent. None (links): doing it twice has to do no harm.
    pub entries: Vec<ChangeEntry>,
}

/// A version that a decision rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guard {
    /// Which log: a pair's, a group's or a user's own.
    pub conversation: ConversationId,
    /// Its rights version, when the decision was made.
    pub version: RightsVersion,
    /// Whether this change makes it the next one. It has to where members, roles, mutes,
    /// blocks, contacts or privacy change.
    pub bumps: bool,
}

/// An entry that the service writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangeEntry {
    /// Whose log.
    pub conversation: ConversationId,
    /// The request's id, or one made for it.
    pub id: ClientMessageId,
    /// Who caused it.
    pub sender: UserId,
    /// What it is.
    pub kind: EntryKind,
    /// The body, in encoding 0.
    pub body: Bytes,
}

/// What became of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeOutcome {
    /// Done; the places of `entries`, in their order.
    Done(Vec<Placed>),
    /// It was done before: the first entry's place.
    Duplicate(Placed),
    /// A guard's version has moved, or its conversation is unknown: nothing was done.
    Stale,
}

/// What somebody is in a group. Ordered by power.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Role {
    /// Reads and writes.
    #[default]
    Member = 1,
    /// Also looks after members and profile.
    Admin = 2,
    /// Also appoints admins, and can hand the group over. There is exactly one.
    Owner = 3,
}

/// How people come into a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum JoinPolicy {
    /// By invitation only.
    #[default]
    Closed = 1,
    /// They ask, an admin accepts.
    Request = 2,
    /// Who knows the group's id comes in.
    Open = 3,
}

/// What a group is and how it is run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupProfile {
    /// Its name.
    pub name: String,
    /// A reference to its picture; empty for none.
    pub avatar: String,
    /// How people come in.
    pub joins: JoinPolicy,
    /// Whether every member may invite, or admins only.
    pub members_invite: bool,
    /// Whether who comes in may read what was said before.
    pub whole_history: bool,
    /// Whether only admins may write.
    pub muted: bool,
    /// When it was made: Unix milliseconds.
    pub created_ms: u64,
}

/// Who may do something to a user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Audience {
    /// Everybody.
    #[default]
    Everybody = 1,
    /// Contacts only.
    Contacts = 2,
    /// Nobody.
    Nobody = 3,
}

impl Audience {
    /// Whether somebody is among them.
    pub fn admits(self, is_contact: bool) -> bool {
        match self {
            Self::Everybody => true,
            Self::Contacts => is_contact,
            Self::Nobody => false,
        }
    }
}

/// What a user lets others do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Privacy {
    /// Who may write to him (in the conversation of the pair).
    pub messages: Audience,
    /// Who may put him into a group.
    pub groups: Audience,
    /// Who may see whether he is online, and when he was.
    pub presence: Audience,
}

/// How far a friendship got, as its owner sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Friendship {
    /// None.
    #[default]
    None = 0,
    /// The owner has asked.
    Asked = 1,
    /// The other one has asked.
    Invited = 2,
    /// Both agreed.
    Friends = 3,
}

/// One user's side of a relation to another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contact {
    /// How far a friendship got.
    pub friendship: Friendship,
    /// Whether the owner follows the other one. Who follow each other are contacts.
    pub follows: bool,
    /// The owner's own name for the other one; empty for none.
    pub remark: String,
    /// What came with the request that is open.
    pub text: String,
    /// When it last changed: Unix milliseconds.
    pub changed_ms: u64,
}

/// One member's settings for one conversation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct MemberSettings {
    /// No notifications until then: Unix milliseconds; 0: they are wanted;
    /// [`crate::limits::TIME_MS_MAX`]: for good.
    pub silenced_until_ms: u64,
    /// When it was pinned (later ones stand higher): Unix milliseconds; 0: it is not.
    pub pinned_ms: u64,
    /// Whether it is put away.
    pub archived: bool,
}

/// A link by which people join a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinLink {
    /// SHA-256 of the link's secret.
    pub hash: [u8; 32],
    /// Which group.
    pub conversation: ConversationId,
    /// Who made it.
    pub by: UserId,
    /// Its end: Unix milliseconds.
    pub expires_ms: u64,
    /// How often it may be used; 0: any number of times.
    pub uses_max: u32,
    /// How often it was.
    pub uses: u32,
}

/// A row that changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowChange {
    /// A new group, rights version 1. An entry of this change is its first.
    Group(ConversationId, GroupProfile),
    /// A group's new profile.
    Profile(ConversationId, GroupProfile),
    /// Somebody becomes a member, from the group's last entry of this change on, or from its first.
    Join {
        /// The group.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// As what.
        role: Role,
        /// Whether he may read what was before.
        whole_history: bool,
    },
    /// Somebody is a member no longer; the group's last entry of this change is the last that he sees.
    Leave {
        /// The group.
        conversation: ConversationId,
        /// Who.
        user: UserId,
    },
    /// A member's new role.
    Role(ConversationId, UserId, Role),
    /// A member may not write until then (Unix milliseconds); 0 lifts it.
    Mute(ConversationId, UserId, u64),
    /// A member of a pair blocks the other one, or lifts it.
    Block(ConversationId, UserId, bool),
    /// A request to join, with a text; at this Unix time in milliseconds.
    AskToJoin(ConversationId, UserId, String, u64),
    /// It is answered or taken back.
    JoinAnswered(ConversationId, UserId),
    /// A new link.
    LinkMade(JoinLink),
    /// A link was used once more.
    LinkUsed([u8; 32]),
    /// A link works no longer.
    LinkRevoked([u8; 32]),
    /// `owner`'s side of a relation to `other`.
    Contact {
        /// Whose side.
        owner: UserId,
        /// To whom.
        other: UserId,
        /// `None`: nothing is left of it.
        contact: Option<Contact>,
    },
    /// A user's nickname and reference to a picture.
    Person {
        /// Who.
        user: UserId,
        /// The name to be shown; empty for none.
        nickname: String,
        /// Empty for none.
        avatar: String,
    },
    /// What a user lets others do. Bumps all his pairs that exist.
    Privacy(UserId, Privacy),
    /// One of a user's free settings; `None` removes it.
    Setting(UserId, String, Option<Bytes>),
    /// One member's settings for one conversation.
    MemberSettings(UserId, ConversationId, MemberSettings),
    /// Entries that a user wants to see no more.
    Hide(UserId, ConversationId, Vec<crate::id::Seq>),
    /// A new password, as a PHC string.
    Password(UserId, String),
    /// A user's devices are signed out for good, at this Unix time in milliseconds: one, or
    /// all but one.
    Revoke {
        /// Whose.
        user: UserId,
        /// Which.
        devices: Revoked,
        /// Unix milliseconds.
        at_ms: u64,
    },
    /// The existing pairs of these two users get the next version: their contact has changed.
    BumpPair(UserId, UserId),
}

/// Which devices are revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revoked {
    /// This one.
    One(DeviceId),
    /// All but this one.
    AllBut(Option<DeviceId>),
}

macro_rules! numbered {
    ($($name:ident { $($variant:ident),* })*) => {$(
        impl $name {
            /// The number on the wire and in the store.
            pub fn number(self) -> u8 {
                self as u8
            }

            /// The value with this number; `None` if there is none.
            pub fn from_number(number: u64) -> Option<Self> {
                [$(Self::$variant),*].into_iter().find(|v| u64::from(v.number()) == number)
            }
        }
    )*};
}

numbered! {
    Role { Member, Admin, Owner }
    JoinPolicy { Closed, Request, Open }
    Audience { Everybody, Contacts, Nobody }
    Friendship { None, Asked, Invited, Friends }
}
