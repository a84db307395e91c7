//! Every bound in one place, and how they relate (checked when compiling).
//!
//! A bound that an operator may want to move is a setting whose default and
//! range stand here; the rest are constants of the protocol.

/// Bytes of one entry's body as it travels (encoded), at the most.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one entry's body once decoded, at the most.
pub const BODY_DECODED_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one frame without its length prefix, at the most.
pub const FRAME_BYTES_MAX: usize = BODY_BYTES_MAX + 2 * 1024;
/// Bytes of the first frame of a stream before sign-in, at the most.
pub const UNAUTHENTICATED_FRAME_BYTES_MAX: usize = 16 * 1024;

/// Characters of a user name, at the least and at the most; of `a-z`, `0-9`, `_`, `-`, `.`.
pub const USER_NAME_CHARS_MIN: usize = 2;
/// See [`USER_NAME_CHARS_MIN`].
pub const USER_NAME_CHARS_MAX: usize = 32;
/// Bytes of a device's label, at the most.
pub const DEVICE_LABEL_BYTES_MAX: usize = 64;
/// Bytes of a token, at the most.
pub const TOKEN_BYTES_MAX: usize = 2 * 1024;
/// Bytes of an outside issuer's token, at the most: those list roles and groups.
pub const OUTSIDE_TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a device secret, exactly.
pub const DEVICE_SECRET_BYTES: usize = 32;
/// Devices of one user, at the most.
pub const DEVICES_PER_USER_MAX: usize = 32;
/// Sessions of one user on one gateway, at the most.
pub const SESSIONS_PER_USER_MAX: usize = 2 * DEVICES_PER_USER_MAX;

/// Cursors that one Attach carries besides the newest, at the most.
pub const OLDER_CURSORS_MAX: usize = 16;
/// Receipts that one Hello carries, at the most.
pub const HELLO_RECEIPTS_MAX: usize = 256;
/// Receipts of other conversations in one frame, at the most.
pub const RECEIPTS_ALONG_MAX: usize = 32;
/// Entries that an Attach replays, at the most; before them the client is told of a gap.
pub const ATTACH_REPLAY_MAX: u64 = 1_000;
/// Entries of one page read from the store, at the most.
pub const PAGE_ENTRIES_MAX: usize = 200;
/// Bytes of bodies of one page read from the store, at the most (the first entry always fits).
pub const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Conversations of one page of the list, at the most.
pub const LIST_PAGE_MAX: usize = 100;
/// User names or ids that one look-up carries, at the most.
pub const LOOKUP_MAX: usize = 100;

/// Bytes of a nickname or a remark, at the most.
pub const NICKNAME_BYTES_MAX: usize = 64;
/// Bytes of a reference to a picture, at the most.
pub const AVATAR_BYTES_MAX: usize = 512;
/// Bytes of a text that comes with a request (to be friends, to join), at the most.
pub const REQUEST_TEXT_BYTES_MAX: usize = 256;
/// Bytes of a password, at the least and at the most.
pub const PASSWORD_BYTES_MIN: usize = 8;
/// See [`PASSWORD_BYTES_MIN`].
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Bytes of the key of a free setting, at the most.
pub const SETTING_KEY_BYTES_MAX: usize = 64;
/// Bytes of the value of a free setting, at the most.
pub const SETTING_VALUE_BYTES_MAX: usize = 1024;
/// Free settings of one user, at the most.
pub const SETTINGS_MAX: usize = 64;
/// Contacts of one user, of any state, at the most.
pub const CONTACTS_MAX: u64 = 10_000;
/// Lines of one page of contacts, members or requests to join, at the most.
pub const PEOPLE_PAGE_MAX: usize = 200;
/// Users whose presence one session watches, at the most.
pub const WATCHED_MAX: usize = 500;
/// Live handles up to which a conversation's members are told who types.
pub const TYPING_HANDLES_MAX: usize = 100;
/// Members (those who were counted too) up to which handles are counted for that.
pub const TYPING_MEMBERS_MAX: usize = 1_000;

/// Bytes of a group's name, at the most.
pub const GROUP_NAME_BYTES_MAX: usize = 128;
/// Users that one request puts into a group or takes out, at the most.
pub const GROUP_BATCH_MAX: usize = 100;
/// Members of one group, at the most, by default.
pub const GROUP_MEMBERS_DEFAULT: u64 = 10_000;
/// Groups that one user is a member of, at the most, by default.
pub const GROUPS_OF_USER_DEFAULT: u64 = 2_000;
/// Admins of one group beside its owner, at the most.
pub const GROUP_ADMINS_MAX: usize = 32;
/// Links of one group that work at once, at the most.
pub const GROUP_LINKS_MAX: usize = 32;
/// Open requests to join one group, at the most.
pub const JOIN_REQUESTS_MAX: usize = 1_000;
/// How long a link works, at the most, in milliseconds (30 days).
pub const LINK_LIFE_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// How long a link works unless its maker says, in milliseconds (7 days).
pub const LINK_LIFE_MS_DEFAULT: u64 = 7 * 24 * 60 * 60 * 1000;
/// Members up to which delivered receipts are kept, receipts are passed on and ReadBy is answered.
pub const RECEIPT_MEMBERS_MAX: usize = 100;

/// Messages to somebody who is no contact and has never answered, at the most, by default; 0:
/// any number.
pub const STRANGER_MESSAGES_DEFAULT: u64 = 0;
/// For how long a message may be edited or recalled by default, in milliseconds (24 hours).
pub const CHANGE_WINDOW_MS_DEFAULT: u64 = 24 * 60 * 60 * 1000;
/// Users that one message mentions, at the most.
pub const MENTIONS_MAX: usize = 50;
/// Bytes of one reaction, at the most.
pub const REACTION_BYTES_MAX: usize = 32;
/// Different reactions to one entry, at the most.
pub const REACTIONS_OF_ENTRY_MAX: usize = 32;
/// Entries that one request hides, at the most.
pub const HIDE_BATCH_MAX: usize = 100;

/// Times that clients give: Unix milliseconds, at the most (as of seqs).
pub const TIME_MS_MAX: u64 = (1 << 62) - 1;

/// How long a message's id is remembered, in milliseconds (60 days).
pub const DEDUPE_HORIZON_MS: u64 = 60 * 24 * 60 * 60 * 1000;
/// How far a message's id may be ahead of the server's time, in milliseconds (10 minutes).
pub const ID_AHEAD_MAX_MS: u64 = 10 * 60 * 1000;

/// Messages that wait for storage in one gateway, at the most, by default.
pub const CHANNEL_MESSAGES_DEFAULT: usize = 65_536;
/// Bytes of messages that wait for storage in one gateway, at the most, by default.
pub const CHANNEL_BYTES_DEFAULT: usize = 64 * 1024 * 1024;
/// One conversation's share of the channel: one part in so many.
pub const CONVERSATION_SHARE: usize = 8;
/// One session's share of the channel: one part in so many.
pub const SESSION_SHARE: usize = 32;
/// Messages of one batch, at the most.
pub const BATCH_MESSAGES_MAX: usize = 128;
/// Bytes of bodies of one batch, at the most (the first message always fits).
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Live handles up to which a conversation is given previews.
pub const PREVIEW_HANDLES_MAX: usize = 100;
/// Messages refused for good that are remembered, at the most, per conversation.
pub const REFUSED_KEPT_MAX: usize = 1_024;
/// Entries that arrived before their turn and are held, at the most, per conversation.
pub const HELD_ENTRIES_MAX: usize = 256;

const _: () =
    assert!(FRAME_BYTES_MAX > BODY_BYTES_MAX + 1024, "a frame holds a body and its header");
const _: () = assert!(UNAUTHENTICATED_FRAME_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX >= BODY_BYTES_MAX, "a batch holds the largest message");
const _: () = assert!(
    CHANNEL_BYTES_DEFAULT / SESSION_SHARE >= BODY_BYTES_MAX,
    "one session may have at least one largest message under way"
);
const _: () = assert!(SESSION_SHARE >= CONVERSATION_SHARE);
const _: () = assert!(CHANNEL_MESSAGES_DEFAULT >= BATCH_MESSAGES_MAX * CONVERSATION_SHARE);
const _: () = assert!(PAGE_BYTES_MAX >= BODY_BYTES_MAX);
const _: () = assert!(
    UNAUTHENTICATED_FRAME_BYTES_MAX >= TOKEN_BYTES_MAX + HELLO_RECEIPTS_MAX * 40 + 1024,
    "a Hello with all its receipts fits"
);
const _: () = assert!(
    UNAUTHENTICATED_FRAME_BYTES_MAX >= OUTSIDE_TOKEN_BYTES_MAX + DEVICE_LABEL_BYTES_MAX + 1024,
    "a log-in with an outside issuer's token fits"
);
