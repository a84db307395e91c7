//! Tables `user_account` and `device`.

use petrel_core::id::{DeviceId, UserId};
use petrel_core::store::{DeviceRecord, NewAccount, User};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use sqlx::types::Uuid;
use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use crate::row::{self, signed};

pub(super) fn register(
    connection: &mut Connection,
    account: &NewAccount,
) -> Result<bool, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if insert(&transaction, account)? {
        transaction.commit()?;
        return Ok(true);
    }
    // Taken, or this very registration again.
    transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM user_account u JOIN device d ON d.user_id = u.id \
         WHERE u.id = ?1 AND u.name = ?2 AND d.id = ?3)",
        params![account.user.id.as_bytes(), account.user.name, account.device.as_bytes()],
        |row| row.get(0),
    )
}

pub(super) fn register_many(
    connection: &mut Connection,
    accounts: &[NewAccount],
) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for account in accounts {
        insert(&transaction, account)?;
    }
    transaction.commit()
}

/// `false` if the name, the id or the outside identity is there already.
fn insert(transaction: &Transaction<'_>, account: &NewAccount) -> Result<bool, rusqlite::Error> {
    if let Some((issuer, subject)) = &account.outside {
        let is_known: bool = transaction
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM outside_identity WHERE issuer = ?1 AND subject = ?2)",
            )?
            .query_row([issuer, subject], |row| row.get(0))?;
        if is_known {
            return Ok(false);
        }
    }
    let made = transaction
        .prepare_cached(
            "INSERT INTO user_account (id, name, created_ms, nickname, avatar, password) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            account.user.id.as_bytes(),
            account.user.name,
            signed(account.created_ms),
            account.user.nickname,
            account.user.avatar,
            account.password
        ])?;
    if made == 0 {
        return Ok(false);
    }
    if let Some((issuer, subject)) = &account.outside {
        transaction
            .prepare_cached(
                "INSERT INTO outside_identity (issuer, subject, user_id) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![issuer, subject, account.user.id.as_bytes()])?;
    }
    transaction
        .prepare_cached(
            "INSERT INTO device (id, user_id, label, secret_hash, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            account.device.as_bytes(),
            account.user.id.as_bytes(),
            account.device_label,
            account.secret_hash,
            signed(account.created_ms)
        ])?;
    Ok(true)
}

pub(super) async fn users_by_name(
    pool: &SqlitePool,
    names: &[String],
) -> Result<Vec<User>, sqlx::Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT id, name, nickname, avatar FROM user_account WHERE name IN (",
    );
    let mut list = query.separated(", ");
    for name in names {
        list.push_bind(name.as_str());
    }
    list.push_unseparated(")");
    select(pool, query).await
}

pub(super) async fn users(pool: &SqlitePool, ids: &[UserId]) -> Result<Vec<User>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT id, name, nickname, avatar FROM user_account WHERE id IN (",
    );
    let mut list = query.separated(", ");
    for &id in ids {
        list.push_bind(Uuid::from(id));
    }
    list.push_unseparated(")");
    select(pool, query).await
}

async fn select(
    pool: &SqlitePool,
    mut query: QueryBuilder<Sqlite>,
) -> Result<Vec<User>, sqlx::Error> {
    let rows: Vec<row::UserRow> = query.build_query_as().persistent(false).fetch_all(pool).await?;
    Ok(rows.into_iter().map(row::user).collect())
}

pub(super) async fn device(
    pool: &SqlitePool,
    device: DeviceId,
) -> Result<Option<DeviceRecord>, sqlx::Error> {
    type Line = (Uuid, String, String, String, Vec<u8>, bool);
    let found: Option<Line> = sqlx::query_as(
        "SELECT u.id, u.name, u.nickname, u.avatar, d.secret_hash, d.revoked_ms IS NOT NULL \
         FROM device d JOIN user_account u ON u.id = d.user_id WHERE d.id = ?1",
    )
    .bind(Uuid::from(device))
    .fetch_optional(pool)
    .await?;
    found
        .map(|(id, name, nickname, avatar, hash, revoked)| {
            let secret_hash = hash.try_into().map_err(|_| {
                sqlx::Error::Decode("a device's secret_hash is not 32 bytes".into())
            })?;
            let user = row::user((id, name, nickname, avatar));
            Ok(DeviceRecord { device, user, secret_hash, revoked })
        })
        .transpose()
}
