//! Frames of a conversation's stream, checked and in the client's own words.

use std::borrow::Cow;

use bytes::Bytes;
use petrel_proto::code::Code;
use petrel_proto::wire::{self, Frame, frame::What};

use crate::body::{self, Undecodable};
use crate::cursor::Cursor;
use crate::draft::{MENTIONS_MAX, REACTION_BYTES_MAX};
use crate::entry::{Entry, EntryState, Preview, Reaction};
use crate::event::{GapReason, Receipt};
use crate::id::{ConversationId, MessageId, UserId};

/// Members in one Receipts or Attach that are looked at, at the most.
pub(crate) const MEMBERS_MAX: usize = 1_024;
/// Different reactions to one entry that are believed (more than the protocol allows).
const REACTIONS_MAX: usize = 128;
/// Bytes of a refusal's text that are kept.
const TEXT_BYTES_MAX: usize = 512;

/// What the server says on a conversation's stream.
#[derive(Debug)]
pub(crate) enum Incoming {
    Push(Push),
    Ack { number: u64, seq: u64, time_ms: u64, count: u64 },
    Refusal { number: u64, refusal: Refusal },
    Preview(Preview),
    Receipts(Vec<SaidReceipt>),
    Attach(Attach),
    Gap { from: u64, to: u64, reason: GapReason },
    Reset { to: u64 },
    Superseded,
}

/// An entry as a stream brings it.
#[derive(Debug)]
pub(crate) struct Push {
    /// `None`: the other one of the pair.
    pub(crate) sender: Option<UserId>,
    pub(crate) seq: u64,
    pub(crate) id: MessageId,
    pub(crate) time_ms: u64,
    pub(crate) count: u64,
    pub(crate) kind: u16,
    pub(crate) body: Result<Bytes, Undecodable>,
    pub(crate) target: Option<u64>,
    pub(crate) mentions: Vec<UserId>,
    pub(crate) state: EntryState,
}

impl Push {
    /// The entry, of this sender.
    pub(crate) fn by(self, conversation: ConversationId, sender: UserId) -> Entry {
        let Self { sender: _, seq, id, time_ms, count, kind, body, target, mentions, state } = self;
        Entry { conversation, seq, id, sender, time_ms, count, kind, body, target, mentions, state }
    }
}

/// A member's receipt as a stream brings it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SaidReceipt {
    /// `None`: the other one of the pair.
    pub(crate) user: Option<UserId>,
    pub(crate) delivered: u64,
    pub(crate) read: u64,
}

impl SaidReceipt {
    /// Whose it is; `None` if it is the peer's and there is none.
    pub(crate) fn of(self, peer: Option<UserId>) -> Option<Receipt> {
        let Self { user, delivered, read } = self;
        Some(Receipt { user: user.or(peer)?, delivered, read })
    }
}

/// The server says no.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) text: String,
    pub(crate) retry_after_ms: u32,
    pub(crate) server_time_ms: Option<u64>,
}

/// The server's first frame on a stream, or its answer to ours.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) conversation: ConversationId,
    pub(crate) peer: Option<UserId>,
    pub(crate) after: u64,
    pub(crate) head: u64,
    pub(crate) count: u64,
    pub(crate) receipts: Vec<SaidReceipt>,
}

/// Why a frame has no place where it came.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadFrame(pub(crate) &'static str);

/// Reads one frame of this conversation's stream.
pub(crate) fn read(
    conversation: ConversationId,
    frame: Frame,
    what: What,
) -> Result<Incoming, BadFrame> {
    Ok(match what {
        What::Push(said) => Incoming::Push(push(&frame, &said)?),
        What::Ack(_) => Incoming::Ack {
            number: frame.number,
            seq: place(frame.seq)?,
            time_ms: frame.time_ms,
            count: frame.count,
        },
        What::Refusal(said) => Incoming::Refusal { number: frame.number, refusal: refusal(said) },
        What::Preview(_) => Incoming::Preview(Preview {
            conversation,
            id: message_id(&frame.id)?,
            sender: user_id(&frame.sender)?,
            kind: kind(&frame)?,
            body: body::decode(frame.encoding, &frame.body),
        }),
        What::Receipts(said) => Incoming::Receipts(receipts(&said.members)?),
        What::Attach(said) => Incoming::Attach(attach(&said)?),
        What::Gap(gap) => {
            let (from, to, reason) = read_gap(&gap)?;
            Incoming::Gap { from, to, reason }
        }
        What::Reset(reset) => Incoming::Reset { to: reset.to },
        What::Superseded(_) => Incoming::Superseded,
        _ => return Err(BadFrame("a frame that has no place on a conversation's stream")),
    })
}

/// A Push of a page, or the last entry in a Summary: they name the sender.
pub(crate) fn entry(conversation: ConversationId, frame: &Frame) -> Result<Entry, BadFrame> {
    let said = match &frame.what {
        Some(What::Push(said)) => Cow::Borrowed(said),
        // The header of a Summary.
        _ => Cow::Owned(wire::Push::default()),
    };
    let push = push(frame, &said)?;
    let sender = push.sender.ok_or(BadFrame("an entry without a sender"))?;
    Ok(push.by(conversation, sender))
}

fn push(frame: &Frame, said: &wire::Push) -> Result<Push, BadFrame> {
    if frame.mentions.len() > MENTIONS_MAX {
        return Err(BadFrame("more than 50 mentions"));
    }
    Ok(Push {
        seq: place(frame.seq)?,
        id: message_id(&frame.id)?,
        sender: optional_user(&frame.sender)?,
        time_ms: frame.time_ms,
        count: frame.count,
        kind: kind(frame)?,
        body: body::decode(frame.encoding, &frame.body),
        target: (frame.target > 0).then_some(frame.target),
        mentions: frame.mentions.iter().map(user_id).collect::<Result<_, _>>()?,
        state: entry_state(said)?,
    })
}

fn entry_state(said: &wire::Push) -> Result<EntryState, BadFrame> {
    if said.reactions.len() > REACTIONS_MAX {
        return Err(BadFrame("too many reactions to one entry"));
    }
    let reaction = |reaction: &wire::ReactionCount| {
        if reaction.emoji.is_empty() || reaction.emoji.len() > REACTION_BYTES_MAX {
            return Err(BadFrame("a reaction of none or more than 32 bytes"));
        }
        let wire::ReactionCount { emoji, count, own } = reaction.clone();
        Ok(Reaction { emoji, count, own })
    };
    Ok(EntryState {
        revision: said.revision,
        changed: said.changed,
        recalled: said.recalled,
        hidden: said.hidden,
        reactions: said.reactions.iter().map(reaction).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn attach(said: &wire::Attach) -> Result<Attach, BadFrame> {
    Ok(Attach {
        conversation: ConversationId::from_slice(&said.conversation)
            .map_err(|_| BadFrame("an Attach without a conversation"))?,
        peer: optional_user(&said.peer)?,
        after: said.cursor.as_ref().map_or(0, |cursor| cursor.seq),
        head: said.head,
        count: said.count,
        receipts: receipts(&said.receipts)?,
    })
}

pub(crate) fn read_gap(gap: &wire::Gap) -> Result<(u64, u64, GapReason), BadFrame> {
    if gap.from == 0 || gap.to < gap.from || gap.to == u64::MAX {
        return Err(BadFrame("a Gap that is none"));
    }
    // A reason of a newer version: the entries are not here, for whatever reason.
    let reason = match wire::GapReason::try_from(gap.reason) {
        Ok(wire::GapReason::NotAMember) => GapReason::NotAMember,
        Ok(wire::GapReason::Retention) => GapReason::Retention,
        Ok(wire::GapReason::Skipped | wire::GapReason::Unspecified) | Err(_) => GapReason::Skipped,
    };
    Ok((gap.from, gap.to, reason))
}

pub(crate) fn refusal(said: wire::Refusal) -> Refusal {
    Refusal {
        code: Code::from_number(said.code.into()).unwrap_or(Code::Internal),
        text: short(said.text),
        retry_after_ms: said.retry_after_ms,
        server_time_ms: (said.server_time_ms != 0).then_some(said.server_time_ms),
    }
}

pub(crate) fn optional_user(bytes: &Bytes) -> Result<Option<UserId>, BadFrame> {
    if bytes.is_empty() {
        return Ok(None);
    }
    user_id(bytes).map(Some)
}

pub(crate) fn user_id(bytes: &Bytes) -> Result<UserId, BadFrame> {
    UserId::from_slice(bytes).map_err(|_| BadFrame("a user's id of another size"))
}

/// A position on the wire.
pub(crate) fn write_cursor(cursor: Cursor) -> wire::Cursor {
    wire::Cursor { seq: cursor.seq, tail: Bytes::copy_from_slice(&cursor.tail) }
}

pub(crate) fn receipts(members: &[wire::MemberReceipt]) -> Result<Vec<SaidReceipt>, BadFrame> {
    members
        .iter()
        .take(MEMBERS_MAX)
        .map(|member| {
            Ok(SaidReceipt {
                user: optional_user(&member.user)?,
                delivered: member.delivered,
                read: member.read,
            })
        })
        .collect()
}

fn message_id(bytes: &Bytes) -> Result<MessageId, BadFrame> {
    MessageId::from_slice(bytes).map_err(|_| BadFrame("an entry's id of another size"))
}

fn place(seq: u64) -> Result<u64, BadFrame> {
    // The very last number is left out so that "the one after" always exists.
    if seq == 0 || seq == u64::MAX {
        return Err(BadFrame("an entry without a place"));
    }
    Ok(seq)
}

fn kind(frame: &Frame) -> Result<u16, BadFrame> {
    u16::try_from(frame.entry_kind).map_err(|_| BadFrame("an entry kind above 65535"))
}

fn short(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ConversationId = ConversationId([1; 16]);

    fn push() -> Frame {
        Frame {
            id: Bytes::from_static(&[2; 16]),
            seq: 1,
            sender: Bytes::from_static(&[3; 16]),
            ..Frame::default()
        }
    }

    #[test]
    fn entries_are_checked_field_by_field() {
        let what = || What::Push(wire::Push::default());
        assert!(read(HERE, push(), what()).is_ok());
        let bad = [
            Frame { seq: 0, ..push() },
            Frame { seq: u64::MAX, ..push() },
            Frame { id: Bytes::new(), ..push() },
            Frame { sender: Bytes::from_static(&[3; 17]), ..push() },
            Frame { entry_kind: 65_536, ..push() },
            Frame { mentions: vec![Bytes::from_static(&[1; 15])], ..push() },
            Frame { mentions: vec![Bytes::from_static(&[1; 16]); 51], ..push() },
        ];
        for frame in bad {
            assert!(read(HERE, frame.clone(), what()).is_err(), "{frame:?}");
        }
        assert!(read(HERE, push(), What::Done(wire::Done::default())).is_err());
        // The sender may go without saying on a pair's stream; a page always names him.
        let unnamed = Frame { sender: Bytes::new(), ..push() };
        assert!(read(HERE, unnamed.clone(), what()).is_ok());
        assert!(entry(HERE, &unnamed).is_err());
        assert!(entry(HERE, &push()).is_ok());
    }

    #[test]
    fn a_receipt_without_a_name_is_the_peers() {
        let (peer, other) = (UserId([4; 16]), UserId([5; 16]));
        let said = |user| SaidReceipt { user, delivered: 2, read: 1 };
        let of = |user| Some(Receipt { user, delivered: 2, read: 1 });
        assert_eq!(said(None).of(Some(peer)), of(peer));
        assert_eq!(said(Some(other)).of(Some(peer)), of(other));
        assert_eq!(said(None).of(None), None);
    }

    #[test]
    fn an_unknown_code_is_internal_and_a_long_text_is_cut() {
        let got =
            refusal(wire::Refusal {
                code: 7, text: "é".repeat(1_000), ..wire::Refusal::default()
            });
        assert_eq!(got.code, Code::Internal);
        assert_eq!(got.text.len(), TEXT_BYTES_MAX);
        assert_eq!(got.server_time_ms, None);
    }
}
