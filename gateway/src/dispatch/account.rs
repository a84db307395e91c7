//! Requests about accounts and devices.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use petrel_core::change::Revoked;
use petrel_core::error::Rejection;
use petrel_core::id::{DeviceId, UserId};
use petrel_core::{account, limits};
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, frame::What};
use sha2::{Digest, Sha256};

use super::done;
use crate::account::MadeDevice;
use crate::attach::unavailable;
use crate::change::Caller;
use crate::gateway::Gateway;
use crate::session::Session;
use crate::{clock, metrics, translate};

fn registered(made: &MadeDevice) -> Bytes {
    encode(&bare(What::Registered(wire::Registered {
        user: Bytes::copy_from_slice(made.user.as_bytes()),
        device: Bytes::copy_from_slice(made.device.as_bytes()),
        device_secret: Bytes::copy_from_slice(&made.secret),
    })))
}

fn token(gateway: &Gateway, user: UserId, device: DeviceId) -> Result<Bytes, Rejection> {
    let (token, expires_ms) = gateway.tokens.issue(user, device, clock::unix_ms())?;
    Ok(encode(&bare(What::Token(wire::Token { token, expires_ms }))))
}

/// A new device with its first token.
fn logged_in(gateway: &Gateway, made: &MadeDevice) -> Result<Vec<Bytes>, Rejection> {
    Ok(vec![registered(made), token(gateway, made.user, made.device)?])
}

pub(super) async fn register(
    gateway: &Gateway,
    register: wire::Register,
) -> Result<Vec<Bytes>, Rejection> {
    let wire::Register { user_name, device_label, password } = register;
    Ok(vec![registered(&gateway.register(user_name, device_label, password).await?)])
}

pub(super) async fn log_in_with_password(
    gateway: &Arc<Gateway>,
    source: IpAddr,
    log_in: wire::LogInWithPassword,
) -> Result<Vec<Bytes>, Rejection> {
    let answered = password_log_in(gateway, source, log_in).await;
    metrics::log_in("password", answered.as_ref().err());
    answered
}

async fn password_log_in(
    gateway: &Arc<Gateway>,
    source: IpAddr,
    log_in: wire::LogInWithPassword,
) -> Result<Vec<Bytes>, Rejection> {
    let wire::LogInWithPassword { user_name, password, device_label } = log_in;
    account::check_user_name(&user_name)?;
    account::check_device_label(&device_label)?;
    account::check_password("password", &password)?;
    gateway
        .doors
        .take_password(Some(source), &user_name)
        .map_err(|retry_after_ms| Rejection::RateLimited { retry_after_ms })?;
    let found = gateway.store.password(&user_name).await.map_err(|error| unavailable(&error))?;
    let (user, phc) = found.map(|record| (record.user.id, record.password)).unzip();
    // An unknown user costs what a known one does.
    let is_right = gateway.passwords.verify(password, phc).await?;
    let user = user.filter(|_| is_right).ok_or(Rejection::WrongSecret)?;
    logged_in(gateway, &gateway.add_device(user, device_label).await?)
}

pub(super) async fn log_in_with_token(
    gateway: &Arc<Gateway>,
    source: IpAddr,
    log_in: wire::LogInWithToken,
) -> Result<Vec<Bytes>, Rejection> {
    let answered = token_log_in(gateway, source, log_in).await;
    metrics::log_in("token", answered.as_ref().err());
    answered
}

async fn token_log_in(
    gateway: &Arc<Gateway>,
    source: IpAddr,
    log_in: wire::LogInWithToken,
) -> Result<Vec<Bytes>, Rejection> {
    let Some(issuer) = &gateway.issuer else {
        return Err(Rejection::Forbidden { needed: "this service believes no outside issuer" });
    };
    let who = issuer.verify(&log_in.token)?;
    let entering = gateway.enter_from_outside(issuer.name(), &who, source, log_in.device_label);
    logged_in(gateway, &entering.await?)
}

pub(super) async fn add_device(
    gateway: &Arc<Gateway>,
    session: &Session,
    add: wire::AddDevice,
) -> Result<Vec<Bytes>, Rejection> {
    Ok(vec![registered(&gateway.add_device(session.user(), add.label).await?)])
}

pub(super) async fn change_password(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    change: wire::ChangePassword,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    let name = gateway.account(session.user()).await?.user.name;
    gateway
        .doors
        .take_password(None, &name)
        .map_err(|retry_after_ms| Rejection::RateLimited { retry_after_ms })?;
    let revokes = change.revoke_others.then(|| Revoked::AllBut(Some(session.device())));
    gateway.change_password(caller, Some(change.old), change.new, revokes).await?;
    Ok(vec![done(wire::Done::default())])
}

pub(super) async fn list_devices(
    gateway: &Gateway,
    session: &Session,
) -> Result<Vec<Bytes>, Rejection> {
    let lines = gateway.store.devices(session.user()).await;
    let lines = lines.map_err(|error| unavailable(&error))?;
    let found = lines.iter().map(|line| {
        encode(&bare(What::DeviceFound(translate::device_found(line, session.device()))))
    });
    Ok(found.chain([done(wire::Done::default())]).collect())
}

pub(super) async fn revoke_device(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    revoke: wire::RevokeDevice,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    let devices = if revoke.device.is_empty() {
        Revoked::AllBut(Some(session.device()))
    } else {
        Revoked::One(translate::id("device", &revoke.device, DeviceId::from_slice)?)
    };
    gateway.revoke(caller, devices).await?;
    Ok(vec![done(wire::Done::default())])
}

pub(super) async fn get_account(
    gateway: &Gateway,
    session: &Session,
) -> Result<Vec<Bytes>, Rejection> {
    let account = translate::account(&gateway.account(session.user()).await?);
    Ok(vec![encode(&bare(What::Account(account)))])
}

pub(super) async fn change_account(
    gateway: &Arc<Gateway>,
    session: &Session,
    id: &Bytes,
    change: wire::ChangeAccount,
) -> Result<Vec<Bytes>, Rejection> {
    let caller = Caller::read(session.user(), id)?;
    let command = translate::account_command(change.what)?;
    let account = translate::account(&gateway.change_account(caller, command).await?);
    Ok(vec![encode(&bare(What::Account(account)))])
}

pub(super) async fn login(gateway: &Gateway, login: &wire::Login) -> Result<Vec<Bytes>, Rejection> {
    let answered = secret_log_in(gateway, login).await;
    metrics::log_in("secret", answered.as_ref().err());
    answered
}

async fn secret_log_in(gateway: &Gateway, login: &wire::Login) -> Result<Vec<Bytes>, Rejection> {
    let device = translate::id("device", &login.device, DeviceId::from_slice)?;
    let found = gateway.store.device(device).await.map_err(|error| unavailable(&error))?;
    // Both sides are hashes of random secrets: how long comparing takes tells nothing of use.
    let hash: [u8; 32] = Sha256::digest(&login.device_secret).into();
    let record = found.filter(|r| r.secret_hash == hash).ok_or(Rejection::WrongSecret)?;
    if record.revoked {
        return Err(Rejection::Revoked);
    }
    Ok(vec![token(gateway, record.user.id, record.device)?])
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
