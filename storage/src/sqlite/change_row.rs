//! One row change after the other, as `apply_row` does on PostgreSQL.

use petrel_core::change::{
    Contact, GroupProfile, JoinLink, MemberSettings, Revoked, Role, RowChange,
};
use petrel_core::id::{ConversationId, DeviceId, UserId};
use rusqlite::{Transaction, params};
use rustc_hash::FxHashMap;

use crate::row::signed;

type Outcome = Result<(), rusqlite::Error>;

/// How many entries the change writes into each log. They are numbered after its rows: the last
/// one of a log will stand at its head plus their number.
pub(super) type Places = FxHashMap<ConversationId, i64>;

pub(super) fn apply(on: &Transaction<'_>, row: &RowChange, places: &Places) -> Outcome {
    match row {
        RowChange::Group(id, profile) => group(on, *id, profile),
        RowChange::Profile(id, of) => {
            on.prepare_cached(
                "UPDATE group_profile SET name = ?2, avatar = ?3, joins = ?4, members_invite = ?5, \
                 whole_history = ?6, muted = ?7 WHERE conversation_id = ?1",
            )?
            .execute(params![
                id.as_bytes(),
                of.name,
                of.avatar,
                of.joins.number(),
                of.members_invite,
                of.whole_history,
                of.muted
            ])?;
            Ok(())
        }
        RowChange::Join { conversation, user, role, whole_history } => {
            join(on, *conversation, *user, *role, *whole_history, places)
        }
        RowChange::Leave { conversation, user } => leave(on, *conversation, *user, places),
        RowChange::Role(id, user, role) => {
            on.prepare_cached(
                "UPDATE member SET role = ?3 \
                 WHERE conversation_id = ?1 AND user_id = ?2 AND until_seq IS NULL",
            )?
            .execute(params![id.as_bytes(), user.as_bytes(), role.number()])?;
            Ok(())
        }
        RowChange::Mute(id, user, until_ms) => {
            on.prepare_cached(
                "UPDATE member SET muted_until_ms = ?3 \
                 WHERE conversation_id = ?1 AND user_id = ?2 AND until_seq IS NULL",
            )?
            .execute(params![id.as_bytes(), user.as_bytes(), signed(*until_ms)])?;
            Ok(())
        }
        RowChange::Block(id, user, blocks) => {
            on.prepare_cached(
                "UPDATE member SET blocks = ?3 WHERE conversation_id = ?1 AND user_id = ?2",
            )?
            .execute(params![id.as_bytes(), user.as_bytes(), blocks])?;
            Ok(())
        }
        RowChange::AskToJoin(..)
        | RowChange::JoinAnswered(..)
        | RowChange::LinkMade(..)
        | RowChange::LinkUsed(..)
        | RowChange::LinkRevoked(..) => way_in(on, row),
        RowChange::Contact { owner, other, contact } => {
            contact_side(on, *owner, *other, contact.as_ref())
        }
        RowChange::MemberSettings(user, id, settings) => member_settings(on, *user, *id, *settings),
        RowChange::Hide(user, id, seqs) => {
            let mut hide = on.prepare_cached(
                "INSERT INTO hidden_entry (user_id, conversation_id, seq) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO NOTHING",
            )?;
            for seq in seqs {
                hide.execute(params![user.as_bytes(), id.as_bytes(), signed(seq.0)])?;
            }
            Ok(())
        }
        RowChange::Person { .. }
        | RowChange::Privacy(..)
        | RowChange::Setting(..)
        | RowChange::Password(..)
        | RowChange::Revoke { .. } => account(on, row),
        RowChange::BumpPair(..) => Ok(()), // among those that are bumped
    }
}

fn group(on: &Transaction<'_>, id: ConversationId, of: &GroupProfile) -> Outcome {
    on.prepare_cached("INSERT INTO conversation (id, kind) VALUES (?1, 2)")?
        .execute([id.as_bytes()])?;
    on.prepare_cached(
        "INSERT INTO group_profile (conversation_id, name, avatar, joins, members_invite, \
                                    whole_history, muted, created_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        id.as_bytes(),
        of.name,
        of.avatar,
        of.joins.number(),
        of.members_invite,
        of.whole_history,
        of.muted,
        signed(of.created_ms)
    ])?;
    Ok(())
}

fn head(on: &Transaction<'_>, id: ConversationId) -> Result<i64, rusqlite::Error> {
    on.prepare_cached("SELECT head FROM conversation WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
}

fn join(
    on: &Transaction<'_>,
    id: ConversationId,
    user: UserId,
    role: Role,
    whole_history: bool,
    places: &Places,
) -> Outcome {
    let own_entry = head(on, id)? + places.get(&id).copied().unwrap_or(1);
    // A mute outlives leaving; an interval that begins at the same place is opened again.
    let joined = on
        .prepare_cached(
            "INSERT INTO member (conversation_id, user_id, from_seq, role, muted_until_ms) \
             SELECT ?1, ?2, ?3, ?4, coalesce(max(m.muted_until_ms), 0) FROM member m \
             WHERE m.conversation_id = ?1 AND m.user_id = ?2 \
             HAVING NOT coalesce(max(m.until_seq IS NULL), 0) \
             ON CONFLICT (conversation_id, user_id, from_seq) DO UPDATE SET \
               until_seq = NULL, role = excluded.role, muted_until_ms = excluded.muted_until_ms",
        )?
        .execute(params![
            id.as_bytes(),
            user.as_bytes(),
            if whole_history { 1 } else { own_entry },
            role.number()
        ])?;
    count_members(on, id, i64::try_from(joined).unwrap_or(0))
}

fn leave(on: &Transaction<'_>, id: ConversationId, user: UserId, places: &Places) -> Outcome {
    let last = head(on, id)? + places.get(&id).copied().unwrap_or(0);
    let left = on
        .prepare_cached(
            "UPDATE member SET until_seq = ?3 \
             WHERE conversation_id = ?1 AND user_id = ?2 AND until_seq IS NULL",
        )?
        .execute(params![id.as_bytes(), user.as_bytes(), last])?;
    count_members(on, id, -i64::try_from(left).unwrap_or(0))
}

fn count_members(on: &Transaction<'_>, id: ConversationId, more: i64) -> Outcome {
    on.prepare_cached(
        "UPDATE group_profile SET members = members + ?2 WHERE conversation_id = ?1",
    )?
    .execute(params![id.as_bytes(), more])?;
    Ok(())
}

/// Requests to join, and links.
fn way_in(on: &Transaction<'_>, row: &RowChange) -> Outcome {
    match row {
        RowChange::AskToJoin(id, user, text, at_ms) => {
            on.prepare_cached(
                "INSERT INTO join_request (conversation_id, user_id, text, asked_ms) \
                 VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET text = excluded.text, asked_ms = excluded.asked_ms",
            )?
            .execute(params![id.as_bytes(), user.as_bytes(), text, signed(*at_ms)])?;
        }
        RowChange::JoinAnswered(id, user) => {
            on.prepare_cached(
                "DELETE FROM join_request WHERE conversation_id = ?1 AND user_id = ?2",
            )?
            .execute(params![id.as_bytes(), user.as_bytes()])?;
        }
        RowChange::LinkMade(link) => link_made(on, link)?,
        RowChange::LinkUsed(hash) => {
            on.prepare_cached("UPDATE join_link SET uses = uses + 1 WHERE hash = ?1")?
                .execute([hash])?;
        }
        RowChange::LinkRevoked(hash) => {
            on.prepare_cached("DELETE FROM join_link WHERE hash = ?1")?.execute([hash])?;
        }
        _ => {}
    }
    Ok(())
}

fn link_made(on: &Transaction<'_>, link: &JoinLink) -> Outcome {
    on.prepare_cached(
        "INSERT INTO join_link (hash, conversation_id, made_by, expires_ms, uses_max, uses) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        link.hash,
        link.conversation.as_bytes(),
        link.by.as_bytes(),
        signed(link.expires_ms),
        link.uses_max,
        link.uses
    ])?;
    Ok(())
}

fn contact_side(
    on: &Transaction<'_>,
    owner: UserId,
    other: UserId,
    contact: Option<&Contact>,
) -> Outcome {
    let Some(contact) = contact else {
        on.prepare_cached("DELETE FROM contact WHERE owner = ?1 AND other = ?2")?
            .execute([owner.as_bytes(), other.as_bytes()])?;
        return Ok(());
    };
    on.prepare_cached(
        "INSERT INTO contact (owner, other, friendship, follows, remark, text, changed_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT DO UPDATE SET friendship = excluded.friendship, follows = excluded.follows, \
           remark = excluded.remark, text = excluded.text, changed_ms = excluded.changed_ms",
    )?
    .execute(params![
        owner.as_bytes(),
        other.as_bytes(),
        contact.friendship.number(),
        contact.follows,
        contact.remark,
        contact.text,
        signed(contact.changed_ms)
    ])?;
    Ok(())
}

fn member_settings(
    on: &Transaction<'_>,
    user: UserId,
    id: ConversationId,
    settings: MemberSettings,
) -> Outcome {
    on.prepare_cached(
        "INSERT INTO member_setting (user_id, conversation_id, silenced_until_ms, pinned_ms, archived) \
         VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO UPDATE SET silenced_until_ms = excluded.silenced_until_ms, \
           pinned_ms = excluded.pinned_ms, archived = excluded.archived",
    )?
    .execute(params![
        user.as_bytes(),
        id.as_bytes(),
        signed(settings.silenced_until_ms),
        signed(settings.pinned_ms),
        settings.archived
    ])?;
    Ok(())
}

fn account(on: &Transaction<'_>, row: &RowChange) -> Outcome {
    match row {
        RowChange::Person { user, nickname, avatar } => {
            on.prepare_cached("UPDATE user_account SET nickname = ?2, avatar = ?3 WHERE id = ?1")?
                .execute(params![user.as_bytes(), nickname, avatar])?;
        }
        RowChange::Privacy(user, privacy) => {
            on.prepare_cached(
                "UPDATE user_account SET privacy_messages = ?2, privacy_groups = ?3, \
                 privacy_presence = ?4 WHERE id = ?1",
            )?
            .execute(params![
                user.as_bytes(),
                privacy.messages.number(),
                privacy.groups.number(),
                privacy.presence.number()
            ])?;
        }
        RowChange::Setting(user, key, Some(value)) => {
            on.prepare_cached(
                "INSERT INTO user_setting (user_id, key, value) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO UPDATE SET value = excluded.value",
            )?
            .execute(params![user.as_bytes(), key, &value[..]])?;
        }
        RowChange::Setting(user, key, None) => {
            on.prepare_cached("DELETE FROM user_setting WHERE user_id = ?1 AND key = ?2")?
                .execute(params![user.as_bytes(), key])?;
        }
        RowChange::Password(user, password) => {
            on.prepare_cached("UPDATE user_account SET password = ?2 WHERE id = ?1")?
                .execute(params![user.as_bytes(), password])?;
        }
        RowChange::Revoke { user, devices, at_ms } => {
            let (one, all_but) = match devices {
                Revoked::One(device) => (Some(device), None),
                Revoked::AllBut(device) => (None, device.as_ref()),
            };
            on.prepare_cached(
                "UPDATE device SET revoked_ms = ?4 WHERE user_id = ?1 AND revoked_ms IS NULL \
                 AND (?2 IS NULL OR id = ?2) AND (?3 IS NULL OR id <> ?3)",
            )?
            .execute(params![
                user.as_bytes(),
                one.map(DeviceId::as_bytes),
                all_but.map(DeviceId::as_bytes),
                signed(*at_ms)
            ])?;
        }
        _ => {}
    }
    Ok(())
}
