//! What gateways tell each other, between core's types and the wire's (proto/schema/node/link.proto).

use bytes::Bytes;
use petrel_core::change::Audience;
use petrel_core::entry::{Changes, Entry, Placed};
use petrel_core::id::{ClientMessageId, ConversationId, NodeId, RightsVersion, Seq, UserId};
use petrel_core::limits;
use petrel_core::store::Receipt;
use petrel_proto::frame::encode_message;
use petrel_proto::wire::{self, node_frame::What};

use super::routes::RosterEntry;

/// Bytes of one frame, at the most: an entry with its body, or a piece of a roster.
pub(super) const FRAME_BYTES_MAX: usize = limits::BODY_BYTES_MAX + 16 * 1024;
/// Lines of one piece of a roster.
pub(super) const ROSTER_LINES: usize = 1_000;
/// Receipts of one frame.
const RECEIPTS_MAX: usize = 1_000;

fn bytes(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

/// A frame with its length before it.
pub(super) fn frame(what: What) -> Bytes {
    encode_message(&wire::NodeFrame { what: Some(what) })
}

pub(super) fn entry(entry: &Entry) -> Bytes {
    frame(What::Entry(wire::NodeEntry {
        conversation: bytes(entry.conversation.as_bytes()),
        seq: entry.placed.seq.0,
        count: entry.placed.count,
        committed_ms: entry.placed.time_ms,
        rights_version: entry.placed.rights_version.0,
        id: bytes(entry.id.as_bytes()),
        sender: bytes(entry.sender.as_bytes()),
        kind: u32::from(entry.kind),
        encoding: entry.encoding,
        body: entry.body.clone(),
        target: entry.target.map_or(0, |seq| seq.0),
        mentions: entry.mentions.iter().map(|user| bytes(user.as_bytes())).collect(),
    }))
}

/// `None`: it makes no sense.
pub(super) fn read_entry(said: wire::NodeEntry) -> Option<Entry> {
    if said.mentions.len() > limits::MENTIONS_MAX || said.body.len() > limits::BODY_BYTES_MAX {
        return None;
    }
    Some(Entry {
        conversation: ConversationId::from_slice(&said.conversation)?,
        placed: Placed {
            seq: seq(said.seq)?,
            count: said.count,
            time_ms: said.committed_ms,
            rights_version: RightsVersion(said.rights_version),
        },
        id: ClientMessageId::from_slice(&said.id)?,
        sender: UserId::from_slice(&said.sender)?,
        kind: u16::try_from(said.kind).ok()?,
        encoding: said.encoding,
        body: said.body,
        target: if said.target == 0 { None } else { Some(seq(said.target)?) },
        mentions: said.mentions.iter().map(|id| UserId::from_slice(id)).collect::<Option<_>>()?,
        changes: Changes::default(),
        hidden: false,
    })
}

fn seq(number: u64) -> Option<Seq> {
    (1..=limits::TIME_MS_MAX).contains(&number).then_some(Seq(number))
}

/// The preview's frame is what clients get.
pub(super) fn preview(
    (conversation, rights): (ConversationId, RightsVersion),
    sender: UserId,
    shown: &Bytes,
) -> Bytes {
    frame(What::Preview(wire::NodePreview {
        conversation: bytes(conversation.as_bytes()),
        sender: bytes(sender.as_bytes()),
        frame: shown.clone(),
        rights_version: rights.0,
    }))
}

pub(super) fn receipts(conversation: ConversationId, moved: &[(UserId, Receipt)]) -> Bytes {
    let moved = moved.iter().map(|(user, receipt)| wire::NodeReceipt {
        user: bytes(user.as_bytes()),
        delivered: receipt.delivered.0,
        read: receipt.read.0,
    });
    frame(What::Receipts(wire::NodeReceipts {
        conversation: bytes(conversation.as_bytes()),
        moved: moved.take(RECEIPTS_MAX).collect(),
    }))
}

pub(super) fn read_receipts(
    said: &wire::NodeReceipts,
) -> Option<(ConversationId, Vec<(UserId, Receipt)>)> {
    if said.moved.len() > RECEIPTS_MAX {
        return None;
    }
    let receipt = |said: &wire::NodeReceipt| {
        let receipt = Receipt { delivered: Seq(said.delivered), read: Seq(said.read) };
        let is_sound = said.delivered <= limits::TIME_MS_MAX && said.read <= limits::TIME_MS_MAX;
        is_sound.then_some((UserId::from_slice(&said.user)?, receipt))
    };
    let moved = said.moved.iter().map(receipt).collect::<Option<Vec<_>>>()?;
    Some((ConversationId::from_slice(&said.conversation)?, moved))
}

pub(super) fn typing(
    (conversation, rights): (ConversationId, RightsVersion),
    user: UserId,
    stopped: bool,
    shown: Audience,
) -> Bytes {
    frame(What::Typing(wire::NodeTyping {
        conversation: bytes(conversation.as_bytes()),
        user: bytes(user.as_bytes()),
        stopped,
        shown: u32::from(shown.number()),
        rights_version: rights.0,
    }))
}

pub(super) fn roster(begins: bool, ends: bool, lines: &[RosterEntry]) -> Bytes {
    let line = |line: &RosterEntry| wire::RosterLine {
        user: bytes(line.user.as_bytes()),
        sessions: line.sessions,
        attentive: line.attentive,
    };
    let lines = lines.iter().map(line).collect();
    frame(What::Roster(wire::Roster { begins, ends, lines }))
}

pub(super) fn read_roster_line(said: &wire::RosterLine) -> Option<RosterEntry> {
    let user = UserId::from_slice(&said.user)?;
    Some(RosterEntry { user, sessions: said.sessions, attentive: said.attentive })
}

pub(super) fn node_id(id: NodeId) -> Bytes {
    bytes(id.as_bytes())
}
