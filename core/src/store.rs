//! Ports: what the rules need of a store. `petrel-storage` implements them for
//! SQLite and PostgreSQL; the simulation implements them with injected faults.

mod account;
mod group;
mod journal;
mod relation;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::change::{Change, ChangeOutcome, GroupProfile, MemberSettings, Role};
use crate::entry::{Cursor, Entry, EntryKind, Placed};
use crate::id::{
    ClientMessageId, ContentDigest, ConversationId, DeviceId, RightsVersion, Seq, UserId,
};

pub use account::{AccountRecord, AccountStore, DeviceLine, NewDevice, PasswordRecord};
pub use group::{GroupStore, JoinRequest, MemberLine};
pub use journal::{Journal, JournalMark, JournalRow, LANES_MAX, NodeLine, NodeRecord};
pub use relation::{ContactLine, RelationRecord, RelationStore};

/// A store that could not do what it was asked. Ours to see to; the caller is
/// told [`crate::error::Rejection::Unavailable`] or `Internal`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It may work when tried again: connection lost, time-out, busy, disk
    /// full, deadlock. Whether the operation took effect is not known.
    #[error("the store did not answer: {0}")]
    Transient(String),
    /// Trying again will not help: the data or the statement is refused.
    #[error("the store refused: {0}")]
    Permanent(String),
}

/// One message on its way into the log.
#[derive(Clone, Debug)]
pub struct Append {
    /// Where to.
    pub conversation: ConversationId,
    /// The rights that it was admitted by. `None` for a resend that admission
    /// would refuse: it is looked up, and never stored anew.
    pub admitted_by: Option<RightsVersion>,
    /// Who sends it: from the verified token alone.
    pub sender: UserId,
    /// The name that its sender gave it.
    pub id: ClientMessageId,
    /// What it is.
    pub kind: EntryKind,
    /// How the body is encoded.
    pub encoding: u32,
    /// The body as it is stored.
    pub body: Bytes,
    /// Digest of kind, encoding and body as the sender sent them, target and mentions.
    pub digest: ContentDigest,
    /// The entry that it replies to or changes.
    pub target: Option<Seq>,
    /// Of an edit: the revision of the target that it was made from. Of other changes `None`: they
    /// are good for any.
    pub revision: Option<u32>,
    /// Who is mentioned, [`crate::entry::EVERYBODY`] for all.
    pub mentions: Vec<UserId>,
}

/// What a committed transaction that held the conversation's lock said of one [`Append`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendOutcome {
    /// Stored now.
    New(Placed),
    /// It was stored before, with the same content.
    Duplicate(Placed),
    /// Not stored: the rights have changed since admission, the conversation
    /// is unknown, it was not admitted at all, or an earlier message of the same
    /// sender to the same conversation in this batch is stale.
    Stale,
    /// Not stored: this id of this sender stands for other content.
    IdConflict,
    /// Not stored: the target was edited or recalled meanwhile, or is not there.
    Conflict,
}

/// The far end of one writer: it has one batch under way and a connection of its own.
#[async_trait]
pub trait Appender: Send + fmt::Debug {
    /// Stores a batch in one transaction, and answers for each message, in the
    /// same order. Messages of one conversation are numbered in the order of the batch.
    ///
    /// # Errors
    /// Any error means that the outcome of the *whole* batch is unknown or that
    /// nothing was stored: [`StoreError::Transient`] asks for the same batch
    /// again (what was stored is then found as duplicates);
    /// [`StoreError::Permanent`] says that some message in it is refused by the
    /// database (SQLSTATE class 22 or 23 other than our own keys).
    async fn append(&mut self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError>;
}

/// A member of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// First entry that the member may see.
    pub from: Seq,
    /// Last entry that the member may see; `None` while he is a member.
    pub until: Option<Seq>,
    /// What he is (groups).
    pub role: Role,
    /// Until when he may not write: Unix milliseconds (groups).
    pub muted_until_ms: u64,
    /// Whether the member has blocked the other one (pairs only).
    pub blocks: bool,
    /// Whether he takes messages from the other one, by his privacy and contacts (pairs only).
    pub accepts: bool,
    /// Whether the two are contacts: friends, or following each other (pairs only).
    pub is_contact: bool,
    /// Whether he has written anything (pairs only).
    pub has_written: bool,
}

impl Member {
    /// A member who sees everything from this entry on, and about whom there is nothing else to say.
    pub fn new(user: UserId, from: Seq) -> Self {
        Self {
            user,
            from,
            until: None,
            role: Role::Member,
            muted_until_ms: 0,
            blocks: false,
            accepts: true,
            is_contact: false,
            has_written: false,
        }
    }
}

/// What a conversation is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConversationKind {
    /// Of two people.
    Pair,
    /// Of many.
    Group(GroupProfile),
    /// A user's own log.
    Own,
}

/// How far one member got. Both cursors are cumulative and never go back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    /// All entries up to here have reached a device of the member.
    pub delivered: Seq,
    /// All entries up to here have been read by the member.
    pub read: Seq,
}

/// A conversation as one statement of the store sees it.
#[derive(Clone, Debug)]
pub struct ConversationRecord {
    /// Which.
    pub id: ConversationId,
    /// What it is.
    pub kind: ConversationKind,
    /// Its rights version; `members` are those of exactly this version.
    pub rights_version: RightsVersion,
    /// Present and past members.
    pub members: Vec<Member>,
    /// The last entry's place.
    pub head: Seq,
    /// The last entry's id, and when it was committed (Unix milliseconds); `None` if there is no entry.
    pub head_entry: Option<(ClientMessageId, u64)>,
    /// How many countable entries there are.
    pub count: u64,
    /// Entries up to here were removed by retention.
    pub floor: Seq,
    /// The receipts of the members who have any.
    pub receipts: Vec<(UserId, Receipt)>,
}

/// Where a log stands, as one statement of the store sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The last entry's place.
    pub head: Seq,
    /// How many countable entries there are.
    pub count: u64,
    /// The rights version.
    pub rights_version: RightsVersion,
    /// The highest cursor that matches.
    pub matched: Seq,
}

/// A line of a user's list of conversations.
#[derive(Clone, Debug)]
pub struct ConversationSummary {
    /// Which.
    pub id: ConversationId,
    /// The other one (pairs), with his name.
    pub peer: Option<User>,
    /// The last entry; `None` if there is none yet.
    pub last: Option<Entry>,
    /// Countable entries after the user's read cursor that others sent.
    pub unread: u64,
    /// The user's own receipt.
    pub own: Receipt,
    /// The other one's receipt (pairs).
    pub peer_receipt: Receipt,
    /// The group, what the user is in it, and how many members it has (groups).
    pub group: Option<GroupSummary>,
    /// Entries after the user's read cursor that mention him and that others sent.
    pub mentions: u64,
    /// The user's settings for it.
    pub settings: MemberSettings,
    /// When the last entry was committed, Unix milliseconds; orders the list.
    pub last_activity_ms: u64,
}

/// A group in the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSummary {
    /// What it is and how it is run.
    pub profile: GroupProfile,
    /// What the user is in it.
    pub role: Role,
    /// How many members it has.
    pub members: u64,
}

/// Which part of the list is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListPage {
    /// Goes on after this line.
    pub after: Option<ListPosition>,
    /// Only conversations with an entry at or after this Unix time in milliseconds.
    pub since_ms: u64,
    /// Lines, at the most.
    pub limit: usize,
}

/// Where a page of the list goes on: after this conversation of this activity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListPosition {
    /// Last activity of the last line, Unix milliseconds.
    pub last_activity_ms: u64,
    /// The last line's conversation.
    pub id: ConversationId,
}

/// An account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its unique name.
    pub name: String,
    /// The name to be shown; empty for none.
    pub nickname: String,
    /// A reference to a picture; empty for none.
    pub avatar: String,
}

impl User {
    /// An account without nickname and picture.
    pub fn named(id: UserId, name: String) -> Self {
        Self { id, name, nickname: String::new(), avatar: String::new() }
    }
}

/// A new account with its first device.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The user; the name is already checked and folded.
    pub user: User,
    /// The device.
    pub device: DeviceId,
    /// What the person calls the device.
    pub device_label: String,
    /// SHA-256 of the device's random secret.
    pub secret_hash: [u8; 32],
    /// Unix milliseconds.
    pub created_ms: u64,
    /// The password as a PHC string; `None` for an account without one.
    pub password: Option<String>,
    /// Issuer and subject of an account that an outside issuer speaks for.
    pub outside: Option<(String, String)>,
}

/// What is known of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceRecord {
    /// The device.
    pub device: DeviceId,
    /// Whose it is.
    pub user: User,
    /// SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// Whether it was signed out for good.
    pub revoked: bool,
}

/// Which part of a log is asked for. Bounds are inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// From here.
    pub from: Seq,
    /// To here.
    pub to: Seq,
    /// Entries, at the most.
    pub entries_max: usize,
    /// Bytes of bodies, at the most; the first entry is always given.
    pub bytes_max: usize,
    /// Whether the page ends at `to` (newest part) instead of starting at `from`.
    pub newest: bool,
}

/// How safe a commit is, as the database itself says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Durability {
    /// Whether a commit survives a power cut as far as the database is concerned.
    pub durable: bool,
    /// Setting and value, in the database's own words (`fsync`, `synchronous_commit`, `synchronous`, ...).
    pub settings: Vec<(String, String)>,
}

/// Carries decisions out.
///
/// # Errors
/// Every method answers [`StoreError`] when the store cannot do what it is asked.
#[async_trait]
pub trait ChangeStore {
    /// Makes a user's own log if it is missing. `false` if there is no such user.
    async fn ensure_log(&self, user: UserId) -> Result<bool, StoreError>;
    /// Carries a decision out in one transaction.
    async fn apply(&self, change: &Change) -> Result<ChangeOutcome, StoreError>;
}

/// Everything but appending. Calls are bounded in time by the implementation.
///
/// # Errors
/// Every method answers [`StoreError`] when the store cannot do what it is asked.
#[async_trait]
pub trait Store:
    ChangeStore + GroupStore + RelationStore + AccountStore + Send + Sync + fmt::Debug
{
    /// Makes an account with one device. `false` if the name is taken. Again with
    /// the same ids: `true`, and nothing changes.
    async fn register(&self, account: &NewAccount) -> Result<bool, StoreError>;
    /// Makes many accounts at once (set-up of load tests); names that exist are left as they are.
    async fn register_many(&self, accounts: &[NewAccount]) -> Result<(), StoreError>;
    /// The accounts with these names, in no order; unknown ones are left out.
    async fn users_by_name(&self, names: &[String]) -> Result<Vec<User>, StoreError>;
    /// The accounts with these ids, in no order; unknown ones are left out.
    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError>;
    /// A device and whose it is.
    async fn device(&self, device: DeviceId) -> Result<Option<DeviceRecord>, StoreError>;

    /// Makes the conversation of a pair if it is missing (not listed before
    /// its first entry). `false` if one of the two does not exist.
    async fn ensure_pair(&self, a: UserId, b: UserId) -> Result<bool, StoreError>;
    /// A conversation with its members; version and members come from one statement.
    async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<ConversationRecord>, StoreError>;
    /// Sets or lifts a block, and bumps the pair's rights version if that changed
    /// anything; makes the pair if it is missing. `false` if the other one does not exist.
    async fn set_block(
        &self,
        blocker: UserId,
        blocked: UserId,
        blocks: bool,
    ) -> Result<bool, StoreError>;

    /// A part of the log, in rising order, as `reader` sees it: what he hid has an empty body, and his
    /// own reactions are told as such. `None`: as nobody in particular sees it.
    async fn entries(
        &self,
        conversation: ConversationId,
        reader: Option<UserId>,
        page: Page,
    ) -> Result<Vec<Entry>, StoreError>;
    /// Where a log stands, and the highest of these cursors whose entry is in it as it says
    /// ([`Cursor::tail_of`]); a cursor of seq 0 always matches. `None` if there is no such conversation.
    async fn standing(
        &self,
        conversation: ConversationId,
        cursors: &[Cursor],
    ) -> Result<Option<Standing>, StoreError>;
    /// One page of a user's conversations that have an entry, most recently active first; never his own log.
    async fn list(
        &self,
        user: UserId,
        page: ListPage,
    ) -> Result<Vec<ConversationSummary>, StoreError>;
    /// Raises receipts; a cursor never goes back, and never above the head.
    async fn raise_receipts(
        &self,
        receipts: &[(ConversationId, UserId, Receipt)],
    ) -> Result<(), StoreError>;

    /// Asks the database how durable its commits are; an error means that it is not reachable.
    async fn durability(&self) -> Result<Durability, StoreError>;
    /// The far end of one writer.
    fn appender(&self) -> Box<dyn Appender>;
    /// How many writers this store can use.
    fn writers(&self) -> usize;
    /// Whether other gateways may write to it as well, so that what one has in memory may be older.
    fn is_shared(&self) -> bool;
    /// What several gateways on it know of each other; `None` if there can be but one.
    fn journal(&self) -> Option<&dyn Journal>;
}
