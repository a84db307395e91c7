//! Tables `user_account` and `device`.

use petrel_core::id::{DeviceId, UserId};
use petrel_core::store::{DeviceRecord, NewAccount, User};
use sqlx::PgPool;
use sqlx::types::Uuid;

use crate::row::{self, signed};

pub(super) async fn register(pool: &PgPool, account: &NewAccount) -> Result<bool, sqlx::Error> {
    let made: bool = sqlx::query_scalar(
        "WITH made AS ( \
           INSERT INTO user_account (id, name, created_ms, nickname, avatar, password) \
           SELECT $1, $2, $3, $7, $8, $9 \
           WHERE NOT EXISTS (SELECT FROM outside_identity WHERE issuer = $10 AND subject = $11) \
           ON CONFLICT DO NOTHING RETURNING id \
         ), outsider AS ( \
           INSERT INTO outside_identity (issuer, subject, user_id) \
           SELECT $10, $11, id FROM made WHERE $10::text IS NOT NULL \
         ), first_device AS ( \
           INSERT INTO device (id, user_id, label, secret_hash, created_ms) \
           SELECT $4, id, $5, $6, $3 FROM made \
         ) SELECT EXISTS (SELECT FROM made)",
    )
    .bind(Uuid::from(account.user.id))
    .bind(&account.user.name)
    .bind(signed(account.created_ms))
    .bind(Uuid::from(account.device))
    .bind(&account.device_label)
    .bind(&account.secret_hash[..])
    .bind(&account.user.nickname)
    .bind(&account.user.avatar)
    .bind(account.password.as_deref())
    .bind(account.outside.as_ref().map(|(issuer, _)| issuer.as_str()))
    .bind(account.outside.as_ref().map(|(_, subject)| subject.as_str()))
    .fetch_one(pool)
    .await?;
    if made {
        return Ok(true);
    }
    // Taken, or this very registration again. A statement of its own: its
    // snapshot has what the first one waited for.
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM user_account u JOIN device d ON d.user_id = u.id \
         WHERE u.id = $1 AND u.name = $2 AND d.id = $3)",
    )
    .bind(Uuid::from(account.user.id))
    .bind(&account.user.name)
    .bind(Uuid::from(account.device))
    .fetch_one(pool)
    .await
}

pub(super) async fn register_many(
    pool: &PgPool,
    accounts: &[NewAccount],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH new AS ( \
           SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::bytea[], $6::bigint[], \
                                $7::text[], $8::text[], $9::text[], $10::text[], $11::text[]) \
             AS n (id, name, device, label, secret_hash, created_ms, nickname, avatar, password, issuer, subject) \
         ), made AS ( \
           INSERT INTO user_account (id, name, created_ms, nickname, avatar, password) \
           SELECT id, name, created_ms, nickname, avatar, password FROM new ORDER BY name \
           ON CONFLICT DO NOTHING RETURNING id \
         ), outsider AS ( \
           INSERT INTO outside_identity (issuer, subject, user_id) \
           SELECT new.issuer, new.subject, new.id FROM new JOIN made ON made.id = new.id \
           WHERE new.issuer IS NOT NULL ORDER BY 1, 2 ON CONFLICT DO NOTHING \
         ) INSERT INTO device (id, user_id, label, secret_hash, created_ms) \
           SELECT new.device, new.id, new.label, new.secret_hash, new.created_ms \
           FROM new JOIN made ON made.id = new.id",
    )
    .bind(accounts.iter().map(|a| Uuid::from(a.user.id)).collect::<Vec<_>>())
    .bind(accounts.iter().map(|a| a.user.name.as_str()).collect::<Vec<_>>())
    .bind(accounts.iter().map(|a| Uuid::from(a.device)).collect::<Vec<_>>())
    .bind(accounts.iter().map(|a| a.device_label.as_str()).collect::<Vec<_>>())
    .bind(accounts.iter().map(|a| &a.secret_hash[..]).collect::<Vec<_>>())
    .bind(accounts.iter().map(|a| signed(a.created_ms)).collect::<Vec<_>>())
    .bind(accounts.iter().map(|a| a.user.nickname.as_str()).collect::<Vec<_>>())
    .bind(accounts.iter().map(|a| a.user.avatar.as_str()).collect::<Vec<_>>())
    .bind(accounts.iter().map(|a| a.password.as_deref()).collect::<Vec<_>>())
    .bind(accounts.iter().map(|a| a.outside.as_ref().map(|o| o.0.as_str())).collect::<Vec<_>>())
    .bind(accounts.iter().map(|a| a.outside.as_ref().map(|o| o.1.as_str())).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn users_by_name(
    pool: &PgPool,
    names: &[String],
) -> Result<Vec<User>, sqlx::Error> {
    let rows: Vec<row::UserRow> =
        sqlx::query_as("SELECT id, name, nickname, avatar FROM user_account WHERE name = ANY ($1)")
            .bind(names)
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().map(row::user).collect())
}

pub(super) async fn users(pool: &PgPool, ids: &[UserId]) -> Result<Vec<User>, sqlx::Error> {
    let rows: Vec<row::UserRow> =
        sqlx::query_as("SELECT id, name, nickname, avatar FROM user_account WHERE id = ANY ($1)")
            .bind(ids.iter().map(|&id| Uuid::from(id)).collect::<Vec<_>>())
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().map(row::user).collect())
}

pub(super) async fn device(
    pool: &PgPool,
    device: DeviceId,
) -> Result<Option<DeviceRecord>, sqlx::Error> {
    type Line = (Uuid, String, String, String, [u8; 32], bool);
    let found: Option<Line> = sqlx::query_as(
        "SELECT u.id, u.name, u.nickname, u.avatar, d.secret_hash, d.revoked_ms IS NOT NULL \
         FROM device d JOIN user_account u ON u.id = d.user_id WHERE d.id = $1",
    )
    .bind(Uuid::from(device))
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|(id, name, nickname, avatar, secret_hash, revoked)| DeviceRecord {
        device,
        user: row::user((id, name, nickname, avatar)),
        secret_hash,
        revoked,
    }))
}
