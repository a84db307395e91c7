//! What both stores share: how core's numbers stand in columns, and how rows
//! become core's types.

mod conversation;
mod entry;
mod relation;
mod summary;

use petrel_core::change::JoinLink;
use petrel_core::entry::{Cursor, Placed};
use petrel_core::id::{RightsVersion, Seq};
use petrel_core::store::{Append, AppendOutcome, Standing, StoreError, User};
use sqlx::types::Uuid;

pub(crate) use conversation::{ConversationPart, LOAD, conversation, joins, role};
pub(crate) use entry::{
    EntryRow, NEWEST, OLDEST, ReactionRow, entry, entry_columns, react, reacted, reactions,
};
pub(crate) use relation::{audience, contact, relation, relations, visible};
pub(crate) use summary::{LIST, summary};

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

/// A user as four columns: id, name, nickname, avatar.
pub(crate) type UserRow = (Uuid, String, String, String);

pub(crate) fn user((id, name, nickname, avatar): UserRow) -> User {
    User { id: id.into(), name, nickname, avatar }
}

/// A link to join: hash, conversation, made by, expires_ms, uses_max, uses.
pub(crate) type LinkRow = (Vec<u8>, Uuid, Uuid, i64, i64, i64);

/// `None` if the hash is not one.
pub(crate) fn link((hash, group, by, expires_ms, uses_max, uses): LinkRow) -> Option<JoinLink> {
    let number = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    Some(JoinLink {
        hash: hash.try_into().ok()?,
        conversation: group.into(),
        by: by.into(),
        expires_ms: unsigned(expires_ms),
        uses_max: number(uses_max),
        uses: number(uses),
    })
}

pub(crate) fn placed(seq: i64, count: i64, committed_ms: i64, rights_version: i64) -> Placed {
    Placed {
        seq: Seq(unsigned(seq)),
        count: unsigned(count),
        time_ms: unsigned(committed_ms),
        rights_version: RightsVersion(unsigned(rights_version)),
    }
}

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

/// A line of `append_messages`' answer: index in the batch from 1, outcome, and
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
            (4, ..) => AppendOutcome::Conflict,
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
    StoreError::Transient("the answer of append_messages was not understood".to_owned())
}
