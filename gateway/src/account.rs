//! What is done with accounts and devices, for requests and for the admin API alike.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::FutureExt as _;
use petrel_core::account::{self, AccountCommand};
use petrel_core::change::Revoked;
use petrel_core::error::Rejection;
use petrel_core::id::{DeviceId, UserId};
use petrel_core::limits::{DEVICE_SECRET_BYTES, DEVICES_PER_USER_MAX};
use petrel_core::store::{AccountRecord, NewAccount, NewDevice, StoreError, User};
use rand::RngCore;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::attach::unavailable;
use crate::change::{Caller, carry_out};
use crate::clock;
use crate::gateway::Gateway;
use crate::issuer::Subject;

/// Names that are tried for an account that an outside issuer's token makes.
const NAMES_TRIED_MAX: u32 = 8;
/// What an account is called whose issuer says nothing that a user name could be.
const NAMELESS: &str = "user";

/// A device's secret, before it is hashed for good.
pub(crate) type DeviceSecret = [u8; DEVICE_SECRET_BYTES];

/// A device that was just made.
pub(crate) struct MadeDevice {
    /// Whose.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Shown this once.
    pub secret: DeviceSecret,
}

fn new_secret() -> (DeviceSecret, [u8; 32]) {
    let mut secret = [0; DEVICE_SECRET_BYTES];
    rand::rng().fill_bytes(&mut secret);
    (secret, Sha256::digest(secret).into())
}

/// Makes the ids and the secret of a new account. The store gets only the secret's hash.
pub(crate) fn new_account(name: String, label: String) -> (NewAccount, DeviceSecret) {
    let (secret, secret_hash) = new_secret();
    let account = NewAccount {
        user: User::named(Uuid::now_v7().into(), name),
        device: Uuid::now_v7().into(),
        device_label: label,
        secret_hash,
        created_ms: clock::unix_ms(),
        password: None,
        outside: None,
    };
    (account, secret)
}

impl Gateway {
    /// The account of a user who exists.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Rejection::Unavailable`].
    pub(crate) async fn account(&self, user: UserId) -> Result<AccountRecord, Rejection> {
        let found = self.store.account(user).await.map_err(|error| unavailable(&error))?;
        found.ok_or(Rejection::NotFound)
    }

    /// Makes an account with one device and, unless it is empty, a password.
    ///
    /// # Errors
    /// [`Rejection::NameTaken`], and what is wrong with name, label or password.
    pub(crate) async fn register(
        &self,
        name: String,
        label: String,
        password: String,
    ) -> Result<MadeDevice, Rejection> {
        account::check_user_name(&name)?;
        account::check_device_label(&label)?;
        if name == self.config.admin.system_name {
            return Err(Rejection::NameTaken);
        }
        let (mut account, secret) = new_account(name, label);
        if !password.is_empty() {
            account::check_password("password", &password)?;
            account.password = Some(self.passwords.hash(password).await?);
        }
        let made = self.store.register(&account).await.map_err(|error| unavailable(&error))?;
        if !made {
            return Err(Rejection::NameTaken);
        }
        Ok(MadeDevice { user: account.user.id, device: account.device, secret })
    }

    /// Makes a new device of the user whom an outside issuer's subject stands for; at the first time
    /// the account too, which counts as a registration.
    ///
    /// # Errors
    /// [`Rejection::LimitReached`], [`Rejection::RateLimited`], and what is wrong with the label.
    pub(crate) async fn enter_from_outside(
        self: &Arc<Self>,
        issuer: &str,
        who: &Subject,
        source: IpAddr,
        label: String,
    ) -> Result<MadeDevice, Rejection> {
        account::check_device_label(&label)?;
        for tried in 0..NAMES_TRIED_MAX {
            let known = self.store.outside(issuer, &who.subject).await;
            if let Some(user) = known.map_err(|error| unavailable(&error))? {
                return self.add_device(user.id, label).await;
            }
            if tried == 0 {
                self.doors
                    .take_registration(source)
                    .map_err(|retry_after_ms| Rejection::RateLimited { retry_after_ms })?;
            }
            let wanted = who.preferred_name.as_deref().and_then(account::user_name_like);
            let name = match wanted {
                Some(name) if tried == 0 && name != self.config.admin.system_name => name,
                name => {
                    let name = name.as_deref().unwrap_or(NAMELESS);
                    account::numbered_user_name(name, rand::random())
                }
            };
            let (mut account, secret) = new_account(name, label.clone());
            account.outside = Some((issuer.to_owned(), who.subject.clone()));
            match self.store.register(&account).await {
                Ok(true) => {
                    return Ok(MadeDevice {
                        user: account.user.id,
                        device: account.device,
                        secret,
                    });
                }
                // The name is taken; or another log-in of the same subject was quicker, which
                // PostgreSQL may tell as a key that is there twice.
                Ok(false) | Err(StoreError::Permanent(_)) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(Rejection::Conflict { what: "the user name" })
    }

    /// Adds one more device of a user, and tells his log of it.
    ///
    /// # Errors
    /// [`Rejection::LimitReached`], and what is wrong with the label.
    pub(crate) async fn add_device(
        self: &Arc<Self>,
        user: UserId,
        label: String,
    ) -> Result<MadeDevice, Rejection> {
        account::check_device_label(&label)?;
        let account = self.account(user).await?;
        let (secret, secret_hash) = new_secret();
        let device = NewDevice {
            user,
            device: Uuid::now_v7().into(),
            label: label.clone(),
            secret_hash,
            created_ms: clock::unix_ms(),
        };
        let added = self.store.add_device(&device, DEVICES_PER_USER_MAX).await;
        if !added.map_err(|error| unavailable(&error))? {
            let max = DEVICES_PER_USER_MAX as u64;
            return Err(Rejection::LimitReached { what: "devices of a user", max });
        }
        let device = device.device;
        let caller = Caller { user, id: Uuid::now_v7().into() };
        let told = carry_out(self, caller, || {
            let decision = account::device_added(&account, device, label.clone());
            async { Ok((decision, ())) }.boxed()
        });
        if let Err(error) = told.await {
            // The device is there all the same, and in the list of devices.
            tracing::warn!(%error, %user, "a device that was added is not told to its user's log");
        }
        Ok(MadeDevice { user, device, secret })
    }

    /// Signs devices of a user out for good and ends their sessions; nothing if there are none.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] if the one that is named is not his.
    pub(crate) async fn revoke(
        self: &Arc<Self>,
        caller: Caller,
        devices: Revoked,
    ) -> Result<(), Rejection> {
        carry_out(self, caller, || {
            async move {
                let account = self.account(caller.user).await?;
                let all = self.store.devices(caller.user).await;
                let all = all.map_err(|error| unavailable(&error))?;
                let is_there = match devices {
                    Revoked::One(device) => {
                        if !all.iter().any(|line| line.device == device) {
                            return self.revoked_before(caller.user, device).await;
                        }
                        true
                    }
                    Revoked::AllBut(kept) => all.iter().any(|line| Some(line.device) != kept),
                };
                let decision = if is_there {
                    account::revoke(&account, devices, clock::unix_ms())
                } else {
                    petrel_core::event::Decision::default()
                };
                Ok((decision, ()))
            }
            .boxed()
        })
        .await?;
        self.end_revoked().await;
        Ok(())
    }

    /// What was revoked before is as it was asked for.
    async fn revoked_before(
        &self,
        user: UserId,
        device: DeviceId,
    ) -> Result<(petrel_core::event::Decision, ()), Rejection> {
        let known = self.store.device(device).await.map_err(|error| unavailable(&error))?;
        match known {
            Some(record) if record.user.id == user => Ok(Default::default()),
            _ => Err(Rejection::NotFound),
        }
    }

    /// Ends the sessions of what was revoked just now.
    async fn end_revoked(&self) {
        if let Err(error) = self.learn_revoked().await {
            tracing::warn!(%error, "sessions of revoked devices end as soon as the store answers");
        }
    }

    /// Sets a user's password. `old` proves that it is his to change; `None` for the operator. So does
    /// knowing the one that is in force: whoever asks again because the answer got lost names it as the new one.
    ///
    /// # Errors
    /// [`Rejection::WrongSecret`], and what is wrong with the new one.
    pub(crate) async fn change_password(
        self: &Arc<Self>,
        caller: Caller,
        old: Option<String>,
        new: String,
        revokes: Option<Revoked>,
    ) -> Result<(), Rejection> {
        account::check_password("new", &new)?;
        let phc = self.passwords.hash(new.clone()).await?;
        carry_out(self, caller, || {
            let (proofs, phc) = (old.clone().map(|old| [old, new.clone()]), phc.clone());
            async move {
                let account = self.account(caller.user).await?;
                if let Some([old, new]) = proofs {
                    self.check_old(&account, old, new).await?;
                }
                let now_ms = clock::unix_ms();
                Ok((account::change_password(&account, phc, revokes, now_ms), ()))
            }
            .boxed()
        })
        .await?;
        if revokes.is_some() {
            self.end_revoked().await;
        }
        Ok(())
    }

    async fn check_old(
        &self,
        account: &AccountRecord,
        old: String,
        new: String,
    ) -> Result<(), Rejection> {
        if !account.has_password && old.is_empty() {
            return Ok(());
        }
        let known = self.store.password(&account.user.name).await;
        let known = known.map_err(|error| unavailable(&error))?;
        let phc = known.map(|record| record.password);
        if self.passwords.verify(old, phc.clone()).await? || self.passwords.verify(new, phc).await?
        {
            return Ok(());
        }
        Err(Rejection::WrongSecret)
    }

    /// Changes a user's account; gives it as it is then.
    ///
    /// # Errors
    /// What the rules say.
    pub(crate) async fn change_account(
        self: &Arc<Self>,
        caller: Caller,
        command: AccountCommand,
    ) -> Result<AccountRecord, Rejection> {
        carry_out(self, caller, || {
            let command = command.clone();
            async move {
                let account = self.account(caller.user).await?;
                Ok((account::change(&account, command)?, ()))
            }
            .boxed()
        })
        .await?;
        self.sessions.for_each(caller.user, |session| session.forget_presence_shown());
        self.account(caller.user).await
    }
}
