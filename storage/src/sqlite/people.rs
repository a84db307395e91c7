//! Groups, contacts, accounts: what is asked is in [`crate::ports`], what is this store's own here.

use async_trait::async_trait;
use petrel_core::change::{JoinLink, MemberSettings, Privacy};
use petrel_core::id::{ConversationId, DeviceId, RightsVersion, Seq, UserId};
use petrel_core::store::{
    AccountRecord, AccountStore, ChangeStore as _, ContactLine, DeviceLine, GroupStore,
    JoinRequest, MemberLine, NewDevice, PasswordRecord, RelationRecord, RelationStore, StoreError,
    User,
};
use rusqlite::{Connection, TransactionBehavior, params};
use sqlx::types::Uuid;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool};

use super::{SqliteStore, change};
use crate::ports::{account_store, group_store, relation_store};
use crate::row::{self, signed, size, unsigned};

group_store!(SqliteStore, read);
relation_store!(SqliteStore, read);
account_store!(SqliteStore, read);

impl SqliteStore {
    async fn ensure_logs(&self, users: Vec<UserId>) -> Result<(), StoreError> {
        self.writer.run(move |connection| change::ensure_logs(connection, &users)).await.map(drop)
    }

    async fn write_device(
        &self,
        device: &NewDevice,
        devices_max: usize,
    ) -> Result<bool, StoreError> {
        let device = device.clone();
        self.writer.run(move |connection| add_device(connection, &device, devices_max)).await
    }

    async fn write_seen(&self, seen: &[(DeviceId, u64)]) -> Result<(), StoreError> {
        let seen = seen.to_vec();
        self.writer.run(move |connection| note_seen(connection, &seen)).await
    }
}

fn add_device(
    connection: &mut Connection,
    device: &NewDevice,
    devices_max: usize,
) -> Result<bool, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let is_there: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM device WHERE id = ?1 AND user_id = ?2)",
        [device.device.as_bytes(), device.user.as_bytes()],
        |row| row.get(0),
    )?;
    if is_there {
        return Ok(true);
    }
    let has: i64 = transaction.query_row(
        "SELECT count(*) FROM device WHERE user_id = ?1 AND revoked_ms IS NULL",
        [device.user.as_bytes()],
        |row| row.get(0),
    )?;
    if has >= size(devices_max) {
        return Ok(false);
    }
    transaction.execute(
        "INSERT INTO device (id, user_id, label, secret_hash, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            device.device.as_bytes(),
            device.user.as_bytes(),
            device.label,
            device.secret_hash,
            signed(device.created_ms)
        ],
    )?;
    transaction.commit()?;
    Ok(true)
}

fn note_seen(connection: &mut Connection, seen: &[(DeviceId, u64)]) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut note = transaction
            .prepare_cached("UPDATE device SET seen_ms = ?2 WHERE id = ?1 AND seen_ms < ?2")?;
        for (device, ms) in seen {
            note.execute(params![device.as_bytes(), signed(*ms)])?;
        }
    }
    transaction.commit()
}

async fn group_counts(
    pool: &SqlitePool,
    users: &[UserId],
) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT m.user_id, count(*) FROM member m JOIN conversation c ON c.id = m.conversation_id \
         WHERE m.until_seq IS NULL AND c.kind = 2 AND m.user_id IN (",
    );
    let mut list = query.separated(", ");
    for &user in users {
        list.push_bind(Uuid::from(user));
    }
    list.push_unseparated(") GROUP BY m.user_id");
    query.build_query_as().persistent(false).fetch_all(pool).await
}

async fn last_seen_rows(
    pool: &SqlitePool,
    users: &[UserId],
) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    let mut query =
        QueryBuilder::<Sqlite>::new("SELECT user_id, max(seen_ms) FROM device WHERE user_id IN (");
    let mut list = query.separated(", ");
    for &user in users {
        list.push_bind(Uuid::from(user));
    }
    list.push_unseparated(") GROUP BY user_id");
    query.build_query_as().persistent(false).fetch_all(pool).await
}

async fn relation_rows(
    pool: &SqlitePool,
    own: UserId,
    others: &[UserId],
) -> Result<Vec<(UserId, RelationRecord)>, sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new("WITH own (id, log) AS (VALUES (");
    query.push_bind(Uuid::from(own)).push(", ");
    query.push_bind(Uuid::from(ConversationId::of_user(own)));
    query.push(")), wanted (id, log, pair) AS (");
    query.push_values(others, |mut line, &id| {
        line.push_bind(Uuid::from(id))
            .push_bind(Uuid::from(ConversationId::of_user(id)))
            .push_bind(Uuid::from(ConversationId::of_pair(own, id)));
    });
    query.push(concat!(") ", row::relations!()));
    let rows = query.build().persistent(false).fetch_all(pool).await?;
    rows.iter().map(|line| row::relation!(line)).collect()
}

async fn visible_rows(
    pool: &SqlitePool,
    watcher: UserId,
    users: &[UserId],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new("WITH watcher (id) AS (VALUES (");
    query.push_bind(Uuid::from(watcher)).push(")), wanted (id, pair) AS (");
    query.push_values(users, |mut line, &id| {
        line.push_bind(Uuid::from(id)).push_bind(Uuid::from(ConversationId::of_pair(watcher, id)));
    });
    query.push(concat!(") ", row::visible!()));
    query.build_query_scalar().persistent(false).fetch_all(pool).await
}
