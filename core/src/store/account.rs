//! What is asked about accounts and devices.

use async_trait::async_trait;
use bytes::Bytes;

use super::{StoreError, User};
use crate::change::{MemberSettings, Privacy};
use crate::id::{ConversationId, DeviceId, RightsVersion, UserId};

/// A user's account, as he himself sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountRecord {
    /// Name, nickname, picture.
    pub user: User,
    /// What he lets others do.
    pub privacy: Privacy,
    /// Whether he has a password.
    pub has_password: bool,
    /// The version of his own log.
    pub version: RightsVersion,
    /// His free settings.
    pub settings: Vec<(String, Bytes)>,
}

/// What a log-in with a password is checked against.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PasswordRecord {
    /// Whose.
    pub user: User,
    /// The password as a PHC string.
    pub password: String,
}

/// One more device of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewDevice {
    /// Whose.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// What the person calls it.
    pub label: String,
    /// SHA-256 of its random secret.
    pub secret_hash: [u8; 32],
    /// Unix milliseconds.
    pub created_ms: u64,
}

/// A line of a user's list of devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceLine {
    /// The device.
    pub device: DeviceId,
    /// What the person calls it.
    pub label: String,
    /// When it was added: Unix milliseconds.
    pub created_ms: u64,
    /// When it was last signed in: Unix milliseconds; 0: never.
    pub seen_ms: u64,
}

/// Accounts and devices. (Registering and looking up are in [`super::Store`].)
///
/// # Errors
/// Every method answers [`StoreError`] when the store cannot do what it is asked.
#[async_trait]
pub trait AccountStore {
    /// A user's account.
    async fn account(&self, user: UserId) -> Result<Option<AccountRecord>, StoreError>;
    /// The password of the user with this name; `None` if there is no such user, or no password.
    async fn password(&self, name: &str) -> Result<Option<PasswordRecord>, StoreError>;
    /// One page of all accounts, in the order of the bytes of their names, after this name.
    async fn users_after(&self, name: &str, limit: usize) -> Result<Vec<User>, StoreError>;
    /// The account that an outside issuer's subject stands for.
    async fn outside(&self, issuer: &str, subject: &str) -> Result<Option<User>, StoreError>;
    /// Adds a device that is not revoked; `false` if the user has `devices_max` already. Again with
    /// the same ids: `true`, and nothing changes.
    async fn add_device(&self, device: &NewDevice, devices_max: usize) -> Result<bool, StoreError>;
    /// A user's devices that are not revoked, oldest first.
    async fn devices(&self, user: UserId) -> Result<Vec<DeviceLine>, StoreError>;
    /// Notes when devices were last signed in: Unix milliseconds, never going back.
    async fn devices_seen(&self, seen: &[(DeviceId, u64)]) -> Result<(), StoreError>;
    /// When each of these users was last signed in with any device; 0: never.
    async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, u64)>, StoreError>;
    /// Devices revoked at or after this Unix time in milliseconds, with the time, oldest first, at
    /// most `limit`.
    async fn revoked_since(
        &self,
        since_ms: u64,
        limit: usize,
    ) -> Result<Vec<(DeviceId, u64)>, StoreError>;
    /// One member's settings for one conversation.
    async fn member_settings(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<MemberSettings, StoreError>;
}
