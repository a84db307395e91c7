//! Carrying decisions out: one call of `apply_change` (migration 4).

use async_trait::async_trait;
use petrel_core::change::{Change, ChangeOutcome, Contact, GroupProfile, Revoked, RowChange};
use petrel_core::id::{ConversationId, UserId};
use petrel_core::store::{ChangeStore, StoreError};
use serde_json::{Value, json};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::types::Uuid;
use sqlx::{PgPool, Postgres};

use super::PostgresStore;
use super::journal::Lane;
use crate::change::{Reach, digest};
use crate::row::{placed, signed};

/// How often a change that lost a race inside the database (a deadlock that the server broke, a
/// group that was made meanwhile) is tried.
const TRIES_MAX: usize = 3;

/// outcome, seq, count, committed_ms, rights_version
type Line = (i16, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

#[async_trait]
impl ChangeStore for PostgresStore {
    async fn ensure_log(&self, user: UserId) -> Result<bool, StoreError> {
        self.bounded(ensure_logs(&self.pool, &[user])).await.map(|found| found == 1)
    }

    async fn apply(&self, change: &Change) -> Result<ChangeOutcome, StoreError> {
        let mut borrowed = match &self.lanes {
            Some(lanes) => Some(lanes.change().await?),
            None => None,
        };
        self.bounded(async {
            let mut tries = 1;
            loop {
                let lane = borrowed.as_deref_mut();
                match call(&self.pool, lane, change).await {
                    Err(error) if tries < TRIES_MAX && lost_a_race(&error) => tries += 1,
                    Err(error) => return Err(error),
                    Ok(lines) => return outcome(lines),
                }
            }
        })
        .await
    }
}

/// Makes the own logs of these users that are missing; how many of the users exist. One
/// statement, as for pairs.
pub(super) async fn ensure_logs(pool: &PgPool, users: &[UserId]) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "WITH owner AS ( \
           SELECT n.id, n.log FROM unnest($1::uuid[], $2::uuid[]) AS n (id, log) \
           JOIN user_account u ON u.id = n.id \
         ), made AS ( \
           INSERT INTO conversation (id, kind) SELECT log, 3 FROM owner ORDER BY log \
           ON CONFLICT DO NOTHING RETURNING id \
         ), joined AS ( \
           INSERT INTO member (conversation_id, user_id) \
           SELECT made.id, owner.id FROM made JOIN owner ON owner.log = made.id ORDER BY owner.id \
         ) SELECT count(*) FROM owner",
    )
    .bind(users.iter().map(|&user| Uuid::from(user)).collect::<Vec<_>>())
    .bind(users.iter().map(|&user| Uuid::from(ConversationId::of_user(user))).collect::<Vec<_>>())
    .fetch_one(pool)
    .await
}

/// Nothing was done, and the same call again is answered: a serialization failure, a deadlock, a number of
/// the journal that an earlier call of the lane has taken.
fn lost_a_race(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database)
        if matches!(database.code().as_deref(), Some("40001" | "40P01"))
            || database.constraint() == Some("journal_pkey"))
}

async fn call(
    pool: &PgPool,
    lane: Option<&mut Lane>,
    change: &Change,
) -> Result<Vec<Line>, sqlx::Error> {
    let Some(lane) = lane else {
        let query = sqlx::query_as(
            "SELECT outcome, seq, count, committed_ms, rights_version FROM apply_change( \
               $1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10, $11, $12, $13, $14, $15, $16)",
        );
        return bound(query, change).fetch_all(pool).await;
    };
    let (node, number, last) = lane.begin();
    let query = sqlx::query_as(
        "SELECT outcome, seq, count, committed_ms, rights_version FROM apply_and_journal( \
           $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text::jsonb, $13, $14, $15, $16, $17, $18, $19)",
    );
    let lines: Vec<Line> =
        bound(query.bind(node).bind(number).bind(last), change).fetch_all(pool).await?;
    lane.wrote(last, lines.iter().any(|line| line.0 == 0), pool).await?;
    Ok(lines)
}

/// A query that is being given its values.
type Query<'q> = QueryAs<'q, Postgres, Line, PgArguments>;

/// A decision, as the function takes it.
fn bound<'q>(query: Query<'q>, change: &'q Change) -> Query<'q> {
    let reach = Reach::of(change);
    let logs = |ids: &dyn Fn(&Reach) -> Vec<ConversationId>| {
        ids(&reach).into_iter().map(Uuid::from).collect::<Vec<_>>()
    };
    let users = |ids: &std::collections::BTreeSet<UserId>| {
        ids.iter().map(|&id| Uuid::from(id)).collect::<Vec<_>>()
    };
    let rows = Value::Array(change.rows.iter().filter_map(row).collect()).to_string();
    let entries = &change.entries;
    query
        .bind(change.guards.iter().map(|g| Uuid::from(g.conversation)).collect::<Vec<_>>())
        .bind(change.guards.iter().map(|g| signed(g.version.0)).collect::<Vec<_>>())
        .bind(logs(&|reach| reach.locked.iter().copied().collect()))
        .bind(logs(&|reach| reach.bumped.iter().copied().collect()))
        .bind(logs(&|reach| reach.made.iter().copied().collect()))
        .bind(users(&reach.written))
        .bind(users(&reach.joining))
        .bind(users(&reach.private))
        .bind(rows)
        .bind(entries.iter().map(|e| Uuid::from(e.conversation)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| Uuid::from(e.id)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| Uuid::from(e.sender)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| i32::from(e.kind.number())).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.kind.is_countable()).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| &e.body[..]).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| digest(e).0.to_vec()).collect::<Vec<_>>())
}

fn outcome(lines: Vec<Line>) -> Result<ChangeOutcome, sqlx::Error> {
    let mut done = Vec::with_capacity(lines.len());
    for line in lines {
        match line {
            (0, Some(seq), Some(count), Some(ms), Some(version)) => {
                done.push(placed(seq, count, ms, version));
            }
            (1, Some(seq), Some(count), Some(ms), Some(version)) => {
                return Ok(ChangeOutcome::Duplicate(placed(seq, count, ms, version)));
            }
            (2, ..) => return Ok(ChangeOutcome::Stale),
            _ => {
                return Err(sqlx::Error::Protocol(
                    "the answer of apply_change was not understood".to_owned(),
                ));
            }
        }
    }
    Ok(ChangeOutcome::Done(done))
}

fn id(id: impl Into<Uuid>) -> Value {
    Value::String(id.into().to_string())
}

fn hex(bytes: &[u8]) -> Value {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    Value::String(text)
}

/// A row change as `apply_row` reads it; `None` for those that are versions alone ([`Reach`]).
fn row(change: &RowChange) -> Option<Value> {
    Some(match change {
        RowChange::Group(group, of) => profile("group", *group, of),
        RowChange::Profile(group, of) => profile("profile", *group, of),
        RowChange::Join { conversation, user, role, whole_history } => json!({
            "op": "join", "conversation": id(*conversation), "user": id(*user),
            "role": role.number(), "whole_history": whole_history,
        }),
        RowChange::Leave { conversation, user } => {
            json!({"op": "leave", "conversation": id(*conversation), "user": id(*user)})
        }
        RowChange::Role(group, user, role) => json!({
            "op": "role", "conversation": id(*group), "user": id(*user), "role": role.number(),
        }),
        RowChange::Mute(group, user, until_ms) => json!({
            "op": "mute", "conversation": id(*group), "user": id(*user), "until_ms": signed(*until_ms),
        }),
        RowChange::Block(pair, user, blocks) => json!({
            "op": "block", "conversation": id(*pair), "user": id(*user), "blocks": blocks,
        }),
        RowChange::AskToJoin(group, user, text, at_ms) => json!({
            "op": "ask_to_join", "conversation": id(*group), "user": id(*user), "text": text,
            "at_ms": signed(*at_ms),
        }),
        RowChange::JoinAnswered(group, user) => {
            json!({"op": "join_answered", "conversation": id(*group), "user": id(*user)})
        }
        RowChange::LinkMade(link) => json!({
            "op": "link_made", "hash": hex(&link.hash), "conversation": id(link.conversation),
            "user": id(link.by), "expires_ms": signed(link.expires_ms), "uses_max": link.uses_max,
            "uses": link.uses,
        }),
        RowChange::LinkUsed(hash) => json!({"op": "link_used", "hash": hex(hash)}),
        RowChange::LinkRevoked(hash) => json!({"op": "link_revoked", "hash": hex(hash)}),
        RowChange::Contact { owner, other, contact } => {
            contact_row(*owner, *other, contact.as_ref())
        }
        RowChange::Hide(user, conversation, seqs) => json!({
            "op": "hide", "conversation": id(*conversation), "user": id(*user),
            "seqs": seqs.iter().map(|seq| signed(seq.0)).collect::<Vec<_>>(),
        }),
        RowChange::MemberSettings(user, conversation, settings) => json!({
            "op": "member_settings", "conversation": id(*conversation), "user": id(*user),
            "silenced_until_ms": signed(settings.silenced_until_ms),
            "pinned_ms": signed(settings.pinned_ms), "archived": settings.archived,
        }),
        RowChange::BumpPair(..) => return None,
        of_account => account_row(of_account)?,
    })
}

fn account_row(change: &RowChange) -> Option<Value> {
    Some(match change {
        RowChange::Person { user, nickname, avatar } => json!({
            "op": "person", "user": id(*user), "nickname": nickname, "avatar": avatar,
        }),
        RowChange::Privacy(user, privacy) => json!({
            "op": "privacy", "user": id(*user), "messages": privacy.messages.number(),
            "groups": privacy.groups.number(), "presence": privacy.presence.number(),
        }),
        RowChange::Setting(user, key, Some(value)) => {
            json!({"op": "setting", "user": id(*user), "key": key, "value": hex(value)})
        }
        RowChange::Setting(user, key, None) => {
            json!({"op": "no_setting", "user": id(*user), "key": key})
        }
        RowChange::Password(user, password) => {
            json!({"op": "password", "user": id(*user), "password": password})
        }
        RowChange::Revoke { user, devices, at_ms } => {
            let (one, all_but) = match devices {
                Revoked::One(device) => (Some(id(*device)), None),
                Revoked::AllBut(device) => (None, device.map(id)),
            };
            json!({
                "op": "revoke", "user": id(*user), "one": one, "all_but": all_but,
                "at_ms": signed(*at_ms),
            })
        }
        _ => return None,
    })
}

fn profile(op: &str, group: ConversationId, of: &GroupProfile) -> Value {
    json!({
        "op": op, "conversation": id(group), "name": of.name, "avatar": of.avatar,
        "joins": of.joins.number(), "members_invite": of.members_invite,
        "whole_history": of.whole_history, "muted": of.muted, "created_ms": signed(of.created_ms),
    })
}

fn contact_row(owner: UserId, other: UserId, contact: Option<&Contact>) -> Value {
    let Some(contact) = contact else {
        return json!({"op": "no_contact", "user": id(owner), "other": id(other)});
    };
    json!({
        "op": "contact", "user": id(owner), "other": id(other),
        "friendship": contact.friendship.number(), "follows": contact.follows,
        "remark": contact.remark, "text": contact.text, "changed_ms": signed(contact.changed_ms),
    })
}
