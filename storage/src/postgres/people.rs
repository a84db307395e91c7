//! Groups, contacts, accounts: what is asked is in [`crate::ports`], what is this store's own here.

use async_trait::async_trait;
use petrel_core::change::{JoinLink, MemberSettings, Privacy};
use petrel_core::id::{ConversationId, DeviceId, RightsVersion, Seq, UserId};
use petrel_core::store::{
    AccountRecord, AccountStore, ChangeStore as _, ContactLine, DeviceLine, GroupStore,
    JoinRequest, MemberLine, NewDevice, PasswordRecord, RelationRecord, RelationStore, StoreError,
    User,
};
use sqlx::types::Uuid;
use sqlx::{PgPool, Row as _};

use super::{PostgresStore, change};
use crate::ports::{account_store, group_store, relation_store};
use crate::row::{self, signed, size, unsigned};

group_store!(PostgresStore, bounded);
relation_store!(PostgresStore, bounded);
account_store!(PostgresStore, bounded);

impl PostgresStore {
    async fn ensure_logs(&self, users: Vec<UserId>) -> Result<(), StoreError> {
        self.bounded(change::ensure_logs(&self.pool, &users)).await.map(drop)
    }

    async fn write_device(
        &self,
        device: &NewDevice,
        devices_max: usize,
    ) -> Result<bool, StoreError> {
        let write = sqlx::query_scalar("SELECT add_device($1, $2, $3, $4, $5, $6)")
            .bind(Uuid::from(device.device))
            .bind(Uuid::from(device.user))
            .bind(&device.label)
            .bind(&device.secret_hash[..])
            .bind(signed(device.created_ms))
            .bind(size(devices_max))
            .fetch_one(&self.pool);
        self.bounded(write).await
    }

    /// In the order of the ids, so that nobody waits in a circle.
    async fn write_seen(&self, seen: &[(DeviceId, u64)]) -> Result<(), StoreError> {
        let write = sqlx::query(
            "WITH seen AS ( \
               SELECT n.id, max(n.ms) AS ms FROM unnest($1::uuid[], $2::bigint[]) AS n (id, ms) \
               GROUP BY n.id \
             ), locked AS ( \
               SELECT d.id, seen.ms FROM device d JOIN seen ON seen.id = d.id \
               WHERE d.seen_ms < seen.ms ORDER BY d.id FOR NO KEY UPDATE OF d \
             ) UPDATE device d SET seen_ms = greatest(d.seen_ms, locked.ms) \
               FROM locked WHERE d.id = locked.id",
        )
        .bind(seen.iter().map(|&(id, _)| Uuid::from(id)).collect::<Vec<_>>())
        .bind(seen.iter().map(|&(_, ms)| signed(ms)).collect::<Vec<_>>())
        .execute(&self.pool);
        self.bounded(write).await.map(drop)
    }
}

async fn group_counts(pool: &PgPool, users: &[UserId]) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT m.user_id, count(*) FROM member m JOIN conversation c ON c.id = m.conversation_id \
         WHERE m.user_id = ANY ($1) AND m.until_seq IS NULL AND c.kind = 2 GROUP BY m.user_id",
    )
    .bind(users.iter().map(|&id| Uuid::from(id)).collect::<Vec<_>>())
    .fetch_all(pool)
    .await
}

async fn last_seen_rows(pool: &PgPool, users: &[UserId]) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT user_id, max(seen_ms) FROM device WHERE user_id = ANY ($1) GROUP BY user_id",
    )
    .bind(users.iter().map(|&id| Uuid::from(id)).collect::<Vec<_>>())
    .fetch_all(pool)
    .await
}

async fn relation_rows(
    pool: &PgPool,
    own: UserId,
    others: &[UserId],
) -> Result<Vec<(UserId, RelationRecord)>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "WITH own AS (SELECT $1::uuid AS id, $2::uuid AS log), wanted AS ( \
           SELECT * FROM unnest($3::uuid[], $4::uuid[], $5::uuid[]) AS n (id, log, pair)) ",
        row::relations!()
    ))
    .bind(Uuid::from(own))
    .bind(Uuid::from(ConversationId::of_user(own)))
    .bind(others.iter().map(|&id| Uuid::from(id)).collect::<Vec<_>>())
    .bind(others.iter().map(|&id| Uuid::from(ConversationId::of_user(id))).collect::<Vec<_>>())
    .bind(others.iter().map(|&id| Uuid::from(ConversationId::of_pair(own, id))).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    rows.iter().map(|line| row::relation!(line)).collect()
}

async fn visible_rows(
    pool: &PgPool,
    watcher: UserId,
    users: &[UserId],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let pair = |&id: &UserId| Uuid::from(ConversationId::of_pair(watcher, id));
    sqlx::query_scalar(concat!(
        "WITH watcher AS (SELECT $1::uuid AS id), wanted AS ( \
           SELECT * FROM unnest($2::uuid[], $3::uuid[]) AS n (id, pair)) ",
        row::visible!()
    ))
    .bind(Uuid::from(watcher))
    .bind(users.iter().map(|&id| Uuid::from(id)).collect::<Vec<_>>())
    .bind(users.iter().map(pair).collect::<Vec<_>>())
    .fetch_all(pool)
    .await
}
