//! What a message does beside its own row: mentions, and changes of the entry that it names. As
//! `append_carefully` and `change_target` on PostgreSQL.

use petrel_core::entry::EntryKind;
use petrel_core::id::{Seq, UserId};
use petrel_core::limits::REACTIONS_OF_ENTRY_MAX;
use petrel_core::store::Append;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::row::{signed, size};

/// Whether the message changes its target.
pub(super) fn is_change(kind: EntryKind) -> bool {
    kind.family() == petrel_core::entry::Family::Change
}

/// Applies a change that will stand at `seq` to its target, which has to be older than the batch
/// (at most `newest`); `false`, and nothing is done, if it cannot be.
pub(super) fn change(
    on: &Transaction<'_>,
    message: &Append,
    newest: Seq,
    seq: Seq,
) -> Result<bool, rusqlite::Error> {
    let Some(target) = message.target.filter(|target| *target <= newest) else {
        return Ok(false);
    };
    let found: Option<(u32, bool, Option<Vec<u8>>)> = on
        .prepare_cached(
            "SELECT revision, recalled, mentions FROM entry WHERE conversation_id = ?1 AND seq = ?2",
        )?
        .query_row(params![message.conversation.as_bytes(), signed(target.0)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((revision, false, mentions)) = found else {
        return Ok(false);
    };
    match message.kind {
        EntryKind::Edit if message.revision == Some(revision) => edit(on, message, target, seq)?,
        EntryKind::Recall => recall(on, message, target, seq, &mentions.unwrap_or_default())?,
        EntryKind::React if has_room(on, message, target)? => {
            let given = "INSERT INTO reaction (conversation_id, seq, emoji, user_id) \
                         VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
            return react(on, message, target, seq, given);
        }
        EntryKind::Unreact => {
            let taken = "DELETE FROM reaction \
                         WHERE conversation_id = ?1 AND seq = ?2 AND emoji = ?3 AND user_id = ?4";
            return react(on, message, target, seq, taken);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn edit(
    on: &Transaction<'_>,
    message: &Append,
    target: Seq,
    seq: Seq,
) -> Result<(), rusqlite::Error> {
    on.prepare_cached(
        "UPDATE entry SET body = ?3, encoding = ?4, revision = revision + 1, changed_seq = ?5 \
         WHERE conversation_id = ?1 AND seq = ?2",
    )?
    .execute(params![
        message.conversation.as_bytes(),
        signed(target.0),
        &message.body[..],
        message.encoding,
        signed(seq.0)
    ])?;
    Ok(())
}

/// Also the bodies of the target's edits, and who was mentioned, are gone.
fn recall(
    on: &Transaction<'_>,
    message: &Append,
    target: Seq,
    seq: Seq,
    mentions: &[u8],
) -> Result<(), rusqlite::Error> {
    let conversation = message.conversation.as_bytes();
    on.prepare_cached(
        "UPDATE entry SET body = x'', encoding = 0, recalled = 1, revision = revision + 1, \
         changed_seq = ?3 WHERE conversation_id = ?1 AND seq = ?2",
    )?
    .execute(params![conversation, signed(target.0), signed(seq.0)])?;
    on.prepare_cached(
        "UPDATE entry SET body = x'', encoding = 0 \
         WHERE conversation_id = ?1 AND target = ?2 AND kind = 32",
    )?
    .execute(params![conversation, signed(target.0)])?;
    let mut forget = on.prepare_cached(
        "DELETE FROM mention WHERE conversation_id = ?1 AND user_id = ?2 AND seq = ?3",
    )?;
    for user in mentions.chunks_exact(16) {
        forget.execute(params![conversation, user, signed(target.0)])?;
    }
    Ok(())
}

/// Whether this reaction is there already, or may be one more.
fn has_room(on: &Transaction<'_>, message: &Append, target: Seq) -> Result<bool, rusqlite::Error> {
    let conversation = message.conversation.as_bytes();
    let is_there: bool = on
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM reaction \
                            WHERE conversation_id = ?1 AND seq = ?2 AND emoji = ?3)",
        )?
        .query_row(params![conversation, signed(target.0), &message.body[..]], |row| row.get(0))?;
    if is_there {
        return Ok(true);
    }
    let emojis: i64 = on
        .prepare_cached(
            "SELECT count(DISTINCT emoji) FROM reaction WHERE conversation_id = ?1 AND seq = ?2",
        )?
        .query_row(params![conversation, signed(target.0)], |row| row.get(0))?;
    Ok(emojis < size(REACTIONS_OF_ENTRY_MAX))
}

/// Gives a reaction or takes it back; `false` if it was there already, or was not. So each entry
/// that tells of one moves a count by one, for whoever counts along.
fn react(
    on: &Transaction<'_>,
    message: &Append,
    target: Seq,
    seq: Seq,
    statement: &str,
) -> Result<bool, rusqlite::Error> {
    let conversation = message.conversation.as_bytes();
    let moved = on.prepare_cached(statement)?.execute(params![
        conversation,
        signed(target.0),
        &message.body[..],
        message.sender.as_bytes()
    ])?;
    if moved == 0 {
        return Ok(false);
    }
    on.prepare_cached("UPDATE entry SET changed_seq = ?3 WHERE conversation_id = ?1 AND seq = ?2")?
        .execute(params![conversation, signed(target.0), signed(seq.0)])?;
    Ok(true)
}

/// Notes who is mentioned, each once.
pub(super) fn mention(
    on: &Transaction<'_>,
    message: &Append,
    seq: Seq,
) -> Result<(), rusqlite::Error> {
    let mut note = on.prepare_cached(
        "INSERT INTO mention (conversation_id, user_id, seq, sender) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT DO NOTHING",
    )?;
    for user in &message.mentions {
        note.execute(params![
            message.conversation.as_bytes(),
            UserId::as_bytes(user),
            signed(seq.0),
            message.sender.as_bytes()
        ])?;
    }
    Ok(())
}
