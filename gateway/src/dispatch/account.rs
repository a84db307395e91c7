//! Requests about accounts and devices.

use bytes::Bytes;
use petrel_core::error::Rejection;
use petrel_core::id::{DeviceId, UserId};
use petrel_core::store::{NewAccount, User};
use petrel_core::{account, limits};
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, frame::What};
use rand::RngCore;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::done;
use crate::attach::unavailable;
use crate::gateway::Gateway;
use crate::{clock, translate};

/// Makes the ids and the secret of a new account. The store gets only the secret's hash.
pub(crate) fn new_account(
    name: String,
    label: String,
) -> (NewAccount, [u8; limits::DEVICE_SECRET_BYTES]) {
    let mut secret = [0; limits::DEVICE_SECRET_BYTES];
    rand::rng().fill_bytes(&mut secret);
    let account = NewAccount {
        user: User::named(Uuid::now_v7().into(), name),
        device: Uuid::now_v7().into(),
        device_label: label,
        secret_hash: Sha256::digest(secret).into(),
        created_ms: clock::unix_ms(),
        password: None,
        outside: None,
    };
    (account, secret)
}

pub(super) async fn register(
    gateway: &Gateway,
    register: wire::Register,
) -> Result<Vec<Bytes>, Rejection> {
    account::check_user_name(&register.user_name)?;
    account::check_device_label(&register.device_label)?;
    let (account, secret) = new_account(register.user_name, register.device_label);
    let made = gateway.store.register(&account).await.map_err(|error| unavailable(&error))?;
    if !made {
        return Err(Rejection::NameTaken);
    }
    Ok(vec![encode(&bare(What::Registered(wire::Registered {
        user: Bytes::copy_from_slice(account.user.id.as_bytes()),
        device: Bytes::copy_from_slice(account.device.as_bytes()),
        device_secret: Bytes::copy_from_slice(&secret),
    })))])
}

pub(super) async fn login(gateway: &Gateway, login: &wire::Login) -> Result<Vec<Bytes>, Rejection> {
    let device = translate::id("device", &login.device, DeviceId::from_slice)?;
    let found = gateway.store.device(device).await.map_err(|error| unavailable(&error))?;
    // Both sides are hashes of random secrets: how long comparing takes tells nothing of use.
    let hash: [u8; 32] = Sha256::digest(&login.device_secret).into();
    let record = found.filter(|r| r.secret_hash == hash).ok_or(Rejection::WrongSecret)?;
    if record.revoked {
        return Err(Rejection::Revoked);
    }
    let (token, expires_ms) =
        gateway.tokens.issue(record.user.id, record.device, clock::unix_ms())?;
    Ok(vec![encode(&bare(What::Token(wire::Token { token, expires_ms })))])
}

pub(super) async fn find_users(
    gateway: &Gateway,
    find: wire::FindUsers,
) -> Result<Vec<Bytes>, Rejection> {
    let asked = find.names.len() + find.users.len();
    if asked > limits::LOOKUP_MAX {
        return Err(Rejection::Invalid {
            field: "names",
            problem: format!("{asked} names and ids; at most {}", limits::LOOKUP_MAX),
        });
    }
    // A name that cannot be one is not found; it never reaches the store.
    let names: Vec<String> =
        find.names.into_iter().filter(|n| account::check_user_name(n).is_ok()).collect();
    let mut ids = Vec::with_capacity(find.users.len());
    for user in &find.users {
        ids.push(translate::id("users", user, UserId::from_slice)?);
    }
    let mut users = Vec::new();
    if !names.is_empty() {
        users = gateway.store.users_by_name(&names).await.map_err(|error| unavailable(&error))?;
    }
    if !ids.is_empty() {
        users.extend(gateway.store.users(&ids).await.map_err(|error| unavailable(&error))?);
    }
    let found = users.iter().map(|u| encode(&bare(What::UserFound(translate::user_found(u)))));
    Ok(found.chain([done(wire::Done::default())]).collect())
}
