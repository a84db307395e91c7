//! Wire and core: the only file (with those below it) that speaks both.

mod account;
mod event;
mod group;
mod relation;

use bytes::Bytes;
use petrel_core::change::MemberSettings;
use petrel_core::entry::{Cursor, Entry, Placed};
use petrel_core::error::Rejection;
use petrel_core::id::{ConversationId, Seq, UserId};
use petrel_core::store::{ConversationSummary, GroupSummary, Receipt};
use petrel_proto::code::Code;
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, Frame, frame::What};
use prost::Message as _;

pub(crate) use account::{account, account_command, device_found};
pub(crate) use event::event;
pub(crate) use group::{
    group, join_request, link, member_found, people_page, profile, read_people_page, read_profile,
    read_role,
};
pub(crate) use relation::{ContactView, contact, relation_command};

fn bytes_of(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A message that has to be in a request, and is not.
pub(crate) fn missing(field: &'static str) -> Rejection {
    Rejection::Invalid { field, problem: "it is missing".to_owned() }
}

/// Ids from the wire.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub(crate) fn user_ids(field: &'static str, users: &[Bytes]) -> Result<Vec<UserId>, Rejection> {
    users.iter().map(|user| id(field, user, UserId::from_slice)).collect()
}

/// A 16-byte id from the wire.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub(crate) fn id<T>(
    field: &'static str,
    bytes: &[u8],
    from_slice: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, Rejection> {
    from_slice(bytes).ok_or_else(|| Rejection::Invalid {
        field,
        problem: format!("{} bytes; an id has 16", bytes.len()),
    })
}

/// A seq from the wire: below 2^63.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub(crate) fn seq(field: &'static str, value: u64) -> Result<Seq, Rejection> {
    if value < 1 << 62 {
        return Ok(Seq(value));
    }
    Err(Rejection::Invalid { field, problem: "at most 2^62 - 1".to_owned() })
}

/// A cursor from the wire.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub(crate) fn cursor(cursor: &wire::Cursor) -> Result<Cursor, Rejection> {
    let at = seq("cursor.seq", cursor.seq)?;
    if at == Seq(0) {
        return Ok(Cursor::default());
    }
    let tail = cursor.tail.as_ref().try_into().map_err(|_| Rejection::Invalid {
        field: "cursor.tail",
        problem: format!("{} bytes; it has 8", cursor.tail.len()),
    })?;
    Ok(Cursor { seq: at, tail })
}

/// The code of a rejection.
pub(crate) fn code(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::Invalid { .. } => Code::Invalid,
        Rejection::NotFound => Code::NotFound,
        Rejection::Blocked => Code::Blocked,
        Rejection::TooOld => Code::TooOld,
        Rejection::FromTheFuture { .. } => Code::FromTheFuture,
        Rejection::IdConflict => Code::IdConflict,
        Rejection::NameTaken => Code::NameTaken,
        Rejection::WrongSecret => Code::WrongSecret,
        Rejection::BadBody { .. } => Code::BadBody,
        Rejection::Forbidden { .. } => Code::Forbidden,
        Rejection::Muted { .. } => Code::Muted,
        Rejection::NotAccepted { .. } => Code::NotAccepted,
        Rejection::LimitReached { .. } => Code::LimitReached,
        Rejection::Conflict { .. } => Code::Conflict,
        Rejection::TooLate { .. } => Code::TooLate,
        Rejection::Revoked => Code::Revoked,
        Rejection::RateLimited { .. } => Code::RateLimited,
        Rejection::Overloaded { .. } => Code::Overloaded,
        Rejection::TooManyStreams { .. } => Code::TooManyStreams,
        Rejection::Unavailable => Code::Unavailable,
        Rejection::Predecessor { .. } => Code::Predecessor,
        Rejection::Reauthenticate => Code::Reauthenticate,
        Rejection::TokenInvalid { .. } => Code::TokenInvalid,
        Rejection::GoingAway => Code::GoingAway,
        Rejection::Internal => Code::Internal,
    }
}

/// A rejection as a frame; `number` is that of the send it answers, or 0.
pub(crate) fn refusal(rejection: &Rejection, number: u64) -> Bytes {
    let retry_after_ms = match rejection {
        Rejection::RateLimited { retry_after_ms } => {
            u32::try_from(*retry_after_ms).unwrap_or(u32::MAX)
        }
        _ => 0,
    };
    let server_time_ms = match rejection {
        Rejection::FromTheFuture { server_time_ms } => *server_time_ms,
        _ => 0,
    };
    encode(&Frame {
        number,
        what: Some(What::Refusal(wire::Refusal {
            code: code(rejection).number(),
            text: rejection.to_string(),
            retry_after_ms,
            server_time_ms,
        })),
        ..Frame::default()
    })
}

/// A refusal that has no rejection of core's: what is wrong is the frame itself.
pub(crate) fn refusal_of(code: Code, text: String) -> Bytes {
    encode(&bare(What::Refusal(wire::Refusal {
        code: code.number(),
        text,
        retry_after_ms: 0,
        server_time_ms: 0,
    })))
}

fn with_entry(entry: &Entry, what: What) -> Frame {
    Frame {
        number: 0,
        id: Bytes::copy_from_slice(entry.id.as_bytes()),
        seq: entry.placed.seq.0,
        sender: Bytes::copy_from_slice(entry.sender.as_bytes()),
        time_ms: entry.placed.time_ms,
        count: entry.placed.count,
        entry_kind: u32::from(entry.kind),
        encoding: entry.encoding,
        body: entry.body.clone(),
        target: entry.target.unwrap_or_default().0,
        mentions: entry.mentions.iter().map(|u| Bytes::copy_from_slice(u.as_bytes())).collect(),
        what: Some(what),
    }
}

/// An entry as a Push.
pub(crate) fn push(entry: &Entry) -> Bytes {
    encode(&push_frame(entry))
}

/// The same, as a pair's conversation says it to the one who did not send it: that it is of the
/// other one goes without saying.
pub(crate) fn push_to_peer(entry: &Entry) -> Bytes {
    encode(&Frame { sender: Bytes::new(), ..push_frame(entry) })
}

fn push_frame(entry: &Entry) -> Frame {
    let changes = &entry.changes;
    let reactions = changes.reactions.iter().map(|r| wire::ReactionCount {
        emoji: r.emoji.clone(),
        count: r.count,
        own: r.own,
    });
    with_entry(
        entry,
        What::Push(wire::Push {
            revision: changes.revision,
            changed: changes.last.0,
            recalled: changes.recalled,
            hidden: entry.hidden,
            reactions: reactions.collect(),
        }),
    )
}

/// The answer to a send that is stored. Its number says which.
pub(crate) fn ack(number: u64, entry: &Entry) -> Bytes {
    let Placed { seq, count, time_ms, .. } = entry.placed;
    encode(&Frame {
        number,
        seq: seq.0,
        time_ms,
        count,
        what: Some(What::Ack(wire::Ack {})),
        ..Frame::default()
    })
}

/// A message that is not stored yet.
pub(crate) fn preview(append: &petrel_core::store::Append) -> Bytes {
    encode(&Frame {
        id: Bytes::copy_from_slice(append.id.as_bytes()),
        sender: Bytes::copy_from_slice(append.sender.as_bytes()),
        entry_kind: u32::from(append.kind.number()),
        encoding: append.encoding,
        body: append.body.clone(),
        what: Some(What::Preview(wire::Preview {})),
        ..Frame::default()
    })
}

/// Sends a client away: when, in milliseconds from now between these two, and where to, if anywhere in particular.
pub(crate) fn go_away((min_ms, max_ms): (u32, u32), alternatives: Vec<String>) -> Bytes {
    encode(&Frame {
        what: Some(What::GoAway(wire::GoAway {
            reconnect_after_ms_min: min_ms,
            reconnect_after_ms_max: max_ms,
            alternatives,
        })),
        ..Frame::default()
    })
}

/// A member's receipt.
pub(crate) fn member_receipt(user: UserId, receipt: Receipt) -> wire::MemberReceipt {
    wire::MemberReceipt {
        user: Bytes::copy_from_slice(user.as_bytes()),
        delivered: receipt.delivered.0,
        read: receipt.read.0,
    }
}

/// A receipt from the wire.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub(crate) fn receipt(delivered: u64, read: u64) -> Result<Receipt, Rejection> {
    Ok(Receipt {
        delivered: seq("receipt.delivered", delivered)?,
        read: seq("receipt.read", read)?,
    })
}

/// The receipt of the other one of a pair: whose it is goes without saying.
pub(crate) fn peer_receipt(receipt: Receipt) -> wire::MemberReceipt {
    wire::MemberReceipt { user: Bytes::new(), delivered: receipt.delivered.0, read: receipt.read.0 }
}

/// Other members' receipts.
pub(crate) fn receipts(members: Vec<wire::MemberReceipt>) -> Bytes {
    encode(&bare(What::Receipts(wire::Receipts { members, ..wire::Receipts::default() })))
}

/// Somebody types, or has stopped: a datagram, so a frame without a length.
pub(crate) fn typing(conversation: ConversationId, user: UserId, stopped: bool) -> Bytes {
    let frame = Frame {
        sender: bytes_of(user.as_bytes()),
        what: Some(What::Typing(wire::Typing {
            conversation: bytes_of(conversation.as_bytes()),
            stopped,
        })),
        ..Frame::default()
    };
    frame.encode_to_vec().into()
}

/// Whether a user is there, and when he was.
pub(crate) fn presence(user: UserId, online: bool, seen_ms: u64) -> Bytes {
    let user = bytes_of(user.as_bytes());
    encode(&bare(What::Presence(wire::Presence { user, online, seen_ms })))
}

/// Entries that are not pushed.
pub(crate) fn gap(from: Seq, to: Seq, reason: wire::GapReason) -> Bytes {
    encode(&bare(What::Gap(wire::Gap { from: from.0, to: to.0, reason: reason.into() })))
}

/// The client's copy above `to` is void.
pub(crate) fn reset(to: Seq) -> Bytes {
    encode(&bare(What::Reset(wire::Reset { to: to.0 })))
}

/// Something happened where there is no stream.
pub(crate) fn hint(conversation: ConversationId, head: Seq, peer: Option<UserId>) -> Bytes {
    encode(&bare(What::Hint(wire::Hint {
        conversation: Bytes::copy_from_slice(conversation.as_bytes()),
        head: head.0,
        peer: peer.map(|p| Bytes::copy_from_slice(p.as_bytes())).unwrap_or_default(),
    })))
}

/// What the server's Attach says.
#[derive(Debug)]
pub(crate) struct AttachAnswer<'a> {
    /// The conversation.
    pub conversation: ConversationId,
    /// The other one of a pair.
    pub peer: Option<UserId>,
    /// Pushes start after it.
    pub after: Seq,
    /// The last entry.
    pub head: Seq,
    /// Countable entries.
    pub count: u64,
    /// All members' receipts.
    pub receipts: &'a [(UserId, Receipt)],
}

/// The server's Attach.
pub(crate) fn attach(answer: &AttachAnswer<'_>) -> Bytes {
    let receipts = answer.receipts.iter().map(|(u, r)| member_receipt(*u, *r)).collect();
    encode(&bare(What::Attach(wire::Attach {
        conversation: Bytes::copy_from_slice(answer.conversation.as_bytes()),
        peer: answer.peer.map(|p| Bytes::copy_from_slice(p.as_bytes())).unwrap_or_default(),
        cursor: Some(wire::Cursor { seq: answer.after.0, tail: Bytes::new() }),
        older: Vec::new(),
        own: None,
        head: answer.head.0,
        count: answer.count,
        receipts,
    })))
}

/// One line of the list of conversations.
pub(crate) fn summary(line: &ConversationSummary, user: UserId) -> Bytes {
    let peer = line.peer.as_ref();
    let what = What::Summary(wire::Summary {
        conversation: Bytes::copy_from_slice(line.id.as_bytes()),
        peer: peer.map(user_found),
        unread: line.unread,
        own: Some(member_receipt(user, line.own)),
        peer_receipt: peer.map(|p| member_receipt(p.id, line.peer_receipt)),
        last_activity_ms: line.last_activity_ms,
        group: line.group.as_ref().map(|group| group_of(line.id, group)),
        mentions: line.mentions,
        settings: Some(member_settings(&line.settings)),
    });
    match &line.last {
        Some(entry) => encode(&with_entry(entry, what)),
        None => encode(&bare(what)),
    }
}

/// A member's settings for a conversation.
fn member_settings(settings: &MemberSettings) -> wire::MemberSettings {
    wire::MemberSettings {
        silenced_until_ms: settings.silenced_until_ms,
        pinned_ms: settings.pinned_ms,
        archived: settings.archived,
    }
}

/// Such settings from the wire; without any, those of a conversation that nobody touched.
pub(crate) fn read_member_settings(settings: Option<wire::MemberSettings>) -> MemberSettings {
    let settings = settings.unwrap_or_default();
    MemberSettings {
        silenced_until_ms: settings.silenced_until_ms,
        pinned_ms: settings.pinned_ms,
        archived: settings.archived,
    }
}

fn group_of(id: ConversationId, group: &GroupSummary) -> wire::Group {
    wire::Group {
        conversation: Bytes::copy_from_slice(id.as_bytes()),
        profile: Some(profile(&group.profile)),
        members: group.members,
        role: group.role.number().into(),
        ..wire::Group::default()
    }
}

/// An account.
pub(crate) fn user_found(user: &petrel_core::store::User) -> wire::UserFound {
    wire::UserFound {
        user: Bytes::copy_from_slice(user.id.as_bytes()),
        name: user.name.clone(),
        nickname: user.nickname.clone(),
        avatar: user.avatar.clone(),
    }
}
