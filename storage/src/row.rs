//! What both stores share: how core's numbers stand in columns, and how rows
//! become core's types.

use petrel_core::entry::{Changes, Cursor, Entry, Placed};
use petrel_core::id::{ConversationId, RightsVersion, Seq};
use petrel_core::store::{
    Append, AppendOutcome, ConversationKind, ConversationRecord, Member, Receipt, Standing,
    StoreError, User,
};
use sqlx::types::Uuid;

/// A number for a column. Places and times stay below 2^63; a bound that a
/// caller sets beyond that means "the end", so it is cut there.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number from a column; columns never hold negative ones.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A size for a column or a LIMIT.
pub(crate) fn size(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// seq, count, committed_ms, rights_version, encoding, sender, client_msg_id, kind, body.
pub(crate) type EntryRow = (i64, i64, i64, i64, i64, Uuid, Uuid, i64, Vec<u8>);

pub(crate) fn entry(conversation: ConversationId, row: EntryRow) -> Entry {
    let (seq, count, committed_ms, rights_version, encoding, sender, id, kind, body) = row;
    Entry {
        conversation,
        placed: placed(seq, count, committed_ms, rights_version),
        id: id.into(),
        sender: sender.into(),
        kind: u16::try_from(kind).unwrap_or(u16::MAX),
        encoding: u32::try_from(encoding).unwrap_or(u32::MAX),
        body: body.into(),
        target: None,
        mentions: Vec::new(),
        changes: Changes::default(),
        hidden: false,
    }
}

pub(crate) fn user(id: Uuid, name: String) -> User {
    User::named(id.into(), name)
}

pub(crate) fn placed(seq: i64, count: i64, committed_ms: i64, rights_version: i64) -> Placed {
    Placed {
        seq: Seq(unsigned(seq)),
        count: unsigned(count),
        time_ms: unsigned(committed_ms),
        rights_version: RightsVersion(unsigned(rights_version)),
    }
}

/// A line of the one statement that reads a conversation: `part` says of what.
/// 0: rights_version, head, countable, floor, the head's id and time.
/// 1: a member's from_seq, until_seq, blocks, nothing, user, nothing.
/// 2: a receipt's delivered_seq, read_seq, nothing, nothing, user, nothing.
pub(crate) type ConversationPart = (i64, i64, Option<i64>, i64, i64, Option<Uuid>, Option<i64>);

pub(crate) fn conversation(
    id: ConversationId,
    parts: Vec<ConversationPart>,
) -> Option<ConversationRecord> {
    let mut record = None;
    let mut members = Vec::new();
    let mut receipts = Vec::new();
    for (part, first, second, third, fourth, about, time_ms) in parts {
        match (part, about) {
            (0, head_id) => {
                record = Some(ConversationRecord {
                    id,
                    kind: ConversationKind::Pair,
                    rights_version: RightsVersion(unsigned(first)),
                    members: Vec::new(),
                    head: Seq(unsigned(second.unwrap_or(0))),
                    head_entry: head_id.zip(time_ms).map(|(id, ms)| (id.into(), unsigned(ms))),
                    count: unsigned(third),
                    floor: Seq(unsigned(fourth)),
                    receipts: Vec::new(),
                });
            }
            (1, Some(user)) => members.push(Member {
                until: second.map(|seq| Seq(unsigned(seq))),
                blocks: third != 0,
                ..Member::new(user.into(), Seq(unsigned(first)))
            }),
            (_, Some(user)) => receipts.push((
                user.into(),
                Receipt {
                    delivered: Seq(unsigned(first)),
                    read: Seq(unsigned(second.unwrap_or(0))),
                },
            )),
            (_, None) => {}
        }
    }
    record.map(|record| ConversationRecord { members, receipts, ..record })
}

/// Reads a line of the list by the names of its columns; for both kinds of row.
macro_rules! summary {
    ($row:expr) => {{
        let row = $row;
        let id = ConversationId::from(row.try_get::<Uuid, _>("id")?);
        let cursor = |name: &str| -> Result<Seq, sqlx::Error> {
            Ok(Seq(crate::row::unsigned(row.try_get::<i64, _>(name)?)))
        };
        let peer = match row.try_get::<Option<Uuid>, _>("peer_id")? {
            Some(peer) => Some(crate::row::user(peer, row.try_get("peer_name")?)),
            None => None,
        };
        let last = match row.try_get::<Option<i64>, _>("seq")? {
            Some(seq) => Some(crate::row::entry(
                id,
                (
                    seq,
                    row.try_get("count")?,
                    row.try_get("committed_ms")?,
                    row.try_get("rights_version")?,
                    row.try_get("encoding")?,
                    row.try_get("sender")?,
                    row.try_get("client_msg_id")?,
                    row.try_get("kind")?,
                    row.try_get("body")?,
                ),
            )),
            None => None,
        };
        Ok(ConversationSummary {
            id,
            peer,
            last,
            unread: crate::row::unsigned(row.try_get("unread")?),
            own: Receipt { delivered: cursor("own_delivered")?, read: cursor("own_read")? },
            peer_receipt: Receipt {
                delivered: cursor("peer_delivered")?,
                read: cursor("peer_read")?,
            },
            group: None,
            mentions: 0,
            settings: petrel_core::change::MemberSettings::default(),
            last_activity_ms: crate::row::unsigned(row.try_get("last_at_ms")?),
        })
    }};
}
pub(crate) use summary;

/// head, countable, rights_version; seq, client_msg_id and committed_ms of an entry that a cursor may
/// stand for, if there is one.
pub(crate) type StandingRow = (i64, i64, i64, Option<i64>, Option<Uuid>, Option<i64>);

/// Where a log stands, from a line for each entry that a cursor may stand for.
pub(crate) fn standing(cursors: &[Cursor], rows: &[StandingRow]) -> Option<Standing> {
    let &(head, count, rights_version, ..) = rows.first()?;
    let found: Vec<_> = rows.iter().filter_map(|r| Some((r.3?, r.4?, r.5?))).collect();
    Some(Standing {
        head: Seq(unsigned(head)),
        count: unsigned(count),
        rights_version: RightsVersion(unsigned(rights_version)),
        matched: highest_match(cursors, &found),
    })
}

/// The highest cursor that stands for an entry that was found (seq, id, time).
fn highest_match(cursors: &[Cursor], found: &[(i64, Uuid, i64)]) -> Seq {
    cursors
        .iter()
        .filter(|cursor| {
            found.iter().any(|&(seq, id, ms)| {
                unsigned(seq) == cursor.seq.0
                    && Cursor::tail_of(id.into(), unsigned(ms)) == cursor.tail
            })
        })
        .map(|cursor| cursor.seq)
        .max()
        .unwrap_or_default()
}

/// A line of `append_entries`' answer: index in the batch from 1, outcome, and
/// for new and duplicate ones seq, count, committed_ms and rights_version.
pub(crate) type AnswerRow = (i32, i16, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

/// Puts the answers of a batch back into its order.
pub(crate) fn in_batch_order(
    batch: &[Append],
    rows: Vec<AnswerRow>,
) -> Result<Vec<AppendOutcome>, StoreError> {
    let mut answers = vec![None; batch.len()];
    for (index, outcome, seq, count, committed_ms, rights_version) in rows {
        let answer = match (outcome, seq, count, committed_ms, rights_version) {
            (0, Some(seq), Some(count), Some(time), Some(version)) => {
                AppendOutcome::New(placed(seq, count, time, version))
            }
            (1, Some(seq), Some(count), Some(time), Some(version)) => {
                AppendOutcome::Duplicate(placed(seq, count, time, version))
            }
            (2, ..) => AppendOutcome::Stale,
            (3, ..) => AppendOutcome::IdConflict,
            _ => return Err(not_understood()),
        };
        let slot = usize::try_from(index - 1)
            .ok()
            .and_then(|index| answers.get_mut(index))
            .ok_or_else(not_understood)?;
        *slot = Some(answer);
    }
    answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(not_understood)
}

fn not_understood() -> StoreError {
    StoreError::Transient("the answer of append_entries was not understood".to_owned())
}
