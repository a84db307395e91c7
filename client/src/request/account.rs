//! Requests about users, the own account, devices and settings.

use std::fmt;

use bytes::Bytes;
use petrel_proto::wire::{self, frame::What};

use super::check::{self, NAME_BYTES_MAX, TEXT_BYTES_MAX, numbered};
use super::contact::ContactCommand;
use super::unexpected;
use crate::client::Client;
use crate::error::ClientError;
use crate::id::{ConversationId, DeviceId, UserId};

/// Bytes of a setting's key, at the most.
const SETTING_KEY_BYTES_MAX: usize = 64;
/// Bytes of a setting's value, at the most.
const SETTING_VALUE_BYTES_MAX: usize = 1_024;
/// Settings in one Account that are believed.
const SETTINGS_MAX: usize = 256;
/// Bytes of a password, at the least and at the most.
const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=256;
/// Devices of one user that are believed.
const DEVICES_MAX: usize = 256;
/// Entries that one request hides, at the most.
const HIDE_MAX: usize = 100;
/// Names and ids of one look-up, at the most.
const LOOKUP_MAX: usize = 100;

/// A user, as everybody may know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserFound {
    /// Who.
    pub user: UserId,
    /// The user's unique name.
    pub name: String,
    /// The name to be shown; empty for none.
    pub nickname: String,
    /// A reference to a picture; empty for none.
    pub avatar: String,
}

impl UserFound {
    /// The name to be shown: the nickname, or the user name if there is none.
    pub fn shown_name(&self) -> &str {
        if self.nickname.is_empty() { &self.name } else { &self.nickname }
    }
}

numbered! {
    /// Who may do something to a user.
    Audience {
        /// Everybody.
        Everybody = 1,
        /// Contacts only.
        Contacts = 2,
        /// Nobody.
        Nobody = 3,
    }
}

/// What a user lets others do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Privacy {
    /// Who may write.
    pub messages: Audience,
    /// Who may put the user into groups.
    pub groups: Audience,
    /// Who sees whether the user is there.
    pub presence: Audience,
}

/// A free setting, which the gateway does not look into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// 1 to 64 bytes.
    pub key: String,
    /// At most 1,024 bytes.
    pub value: Bytes,
}

/// The own account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// As others see it.
    pub user: UserFound,
    /// What others may do.
    pub privacy: Privacy,
    /// Whether one can log in with a password.
    pub has_password: bool,
    /// Free settings.
    pub settings: Vec<Setting>,
}

/// A change of the own account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccountCommand {
    /// Nickname (at most 64 bytes) and reference to a picture (at most 512); empty for none.
    Person {
        /// The name to be shown.
        nickname: String,
        /// A reference to a picture.
        avatar: String,
    },
    /// What others may do.
    Privacy(Privacy),
    /// Sets a free setting.
    Set(Setting),
    /// Removes the free setting with this key.
    Unset(String),
}

/// One of the user's devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Which.
    pub device: DeviceId,
    /// What its owner calls it.
    pub label: String,
    /// When it was added, Unix milliseconds.
    pub created_ms: u64,
    /// When it was seen last, Unix milliseconds; 0: never, or not known.
    pub seen_ms: u64,
    /// It is this one.
    pub own: bool,
}

/// One's settings for one conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemberSettings {
    /// No notifications until then, Unix milliseconds; 0: they are wanted; [`Self::FOR_GOOD_MS`]: never.
    pub silenced_until_ms: u64,
    /// When it was pinned, Unix milliseconds; 0: it is not.
    pub pinned_ms: u64,
    /// It is out of the way.
    pub archived: bool,
}

impl MemberSettings {
    /// The time that stands for "for good".
    pub const FOR_GOOD_MS: u64 = (1 << 62) - 1;
}

/// A password. Its `Debug` is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Checks a password's length.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] unless it has 8 to 256 bytes.
    pub fn new(text: impl Into<String>) -> Result<Self, ClientError> {
        let text = text.into();
        if !PASSWORD_BYTES.contains(&text.len()) {
            let problem = format!("a password has 8 to 256 bytes, not {}", text.len());
            return Err(ClientError::Invalid(problem));
        }
        Ok(Self(text))
    }

    pub(crate) fn expose(&self) -> String {
        self.0.clone()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

pub(crate) fn user_found(found: wire::UserFound) -> Result<UserFound, ClientError> {
    Ok(UserFound {
        user: check::user(&found.user)?,
        name: check::text("a user name", found.name, NAME_BYTES_MAX)?,
        nickname: check::text("a nickname", found.nickname, NAME_BYTES_MAX)?,
        avatar: check::text("an avatar", found.avatar, TEXT_BYTES_MAX)?,
    })
}

pub(crate) fn privacy(said: wire::Privacy) -> Privacy {
    Privacy {
        messages: Audience::from_number(said.messages),
        groups: Audience::from_number(said.groups),
        presence: Audience::from_number(said.presence),
    }
}

pub(crate) fn member_settings(said: wire::MemberSettings) -> MemberSettings {
    let wire::MemberSettings { silenced_until_ms, pinned_ms, archived } = said;
    MemberSettings { silenced_until_ms, pinned_ms, archived }
}

fn setting(said: wire::Setting) -> Result<Setting, ClientError> {
    Ok(Setting {
        key: check::text("a setting's key", said.key, NAME_BYTES_MAX)?,
        value: check::bytes("a setting's value", said.value, 4 * SETTING_VALUE_BYTES_MAX)?,
    })
}

fn account(said: wire::Account) -> Result<Account, ClientError> {
    let missing = |what| ClientError::Protocol(format!("an Account without {what}"));
    if said.settings.len() > SETTINGS_MAX {
        return Err(ClientError::Protocol("an Account with too many settings".to_owned()));
    }
    Ok(Account {
        user: user_found(said.user.ok_or_else(|| missing("a user"))?)?,
        privacy: privacy(said.privacy.ok_or_else(|| missing("privacy"))?),
        has_password: said.has_password,
        settings: said.settings.into_iter().map(setting).collect::<Result<_, _>>()?,
    })
}

fn account_command(command: AccountCommand) -> Result<wire::change_account::What, ClientError> {
    use wire::change_account::What as Wire;
    Ok(match command {
        AccountCommand::Person { nickname, avatar } => {
            check::argument("nickname", nickname.len(), 64)?;
            check::argument("avatar", avatar.len(), 512)?;
            Wire::Person(wire::Person { nickname, avatar })
        }
        AccountCommand::Privacy(privacy) => Wire::Privacy(wire::Privacy {
            messages: privacy.messages.number(),
            groups: privacy.groups.number(),
            presence: privacy.presence.number(),
        }),
        AccountCommand::Set(Setting { key, value }) => {
            check::argument("setting.key", key.len(), SETTING_KEY_BYTES_MAX)?;
            check::argument("setting.value", value.len(), SETTING_VALUE_BYTES_MAX)?;
            Wire::Set(wire::Setting { key, value })
        }
        AccountCommand::Unset(key) => {
            check::argument("setting.key", key.len(), SETTING_KEY_BYTES_MAX)?;
            Wire::Unset(key)
        }
    })
}

fn device_found(said: wire::DeviceFound) -> Result<Device, ClientError> {
    Ok(Device {
        device: check::device(&said.device)?,
        label: check::text("a device's label", said.label, NAME_BYTES_MAX)?,
        created_ms: said.created_ms,
        seen_ms: said.seen_ms,
        own: said.own,
    })
}

impl Client {
    /// Those of these users that exist; at most 100 names and ids in all.
    ///
    /// # Errors
    /// What a request may meet; [`ClientError::Invalid`] for too many.
    pub async fn find_users(
        &self,
        names: &[&str],
        users: &[UserId],
    ) -> Result<Vec<UserFound>, ClientError> {
        check::argument_count("names and users", names.len() + users.len(), LOOKUP_MAX)?;
        let request = What::FindUsers(wire::FindUsers {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            users: users.iter().map(|user| user.to_bytes()).collect(),
        });
        let take = |answer: &mut Vec<UserFound>, _, what| match what {
            What::UserFound(found) if answer.len() < LOOKUP_MAX => {
                answer.push(user_found(found)?);
                Ok(false)
            }
            What::Done(_) => Ok(true),
            _ => Err(unexpected()),
        };
        self.shared().request(request, take).await
    }

    /// The own account, with its settings.
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn account(&self) -> Result<Account, ClientError> {
        self.ask_account(What::GetAccount(wire::GetAccount {})).await
    }

    /// Changes the own account; the answer is the account as it is now.
    ///
    /// # Errors
    /// What a request may meet; `LimitReached` for one setting too many.
    pub async fn change_account(&self, command: AccountCommand) -> Result<Account, ClientError> {
        let what = Some(account_command(command)?);
        self.ask_account(What::ChangeAccount(wire::ChangeAccount { what })).await
    }

    async fn ask_account(&self, request: What) -> Result<Account, ClientError> {
        let answer = self
            .shared()
            .request(request, |answer: &mut Option<Account>, _, what| match what {
                What::Account(said) => {
                    *answer = Some(account(said)?);
                    Ok(true)
                }
                _ => Err(unexpected()),
            })
            .await?;
        answer.ok_or_else(unexpected)
    }

    /// Changes the password, or gives the account its first one (`old` is `None` then).
    ///
    /// # Errors
    /// What a request may meet; `WrongSecret` if `old` is not the password.
    pub async fn change_password(
        &self,
        old: Option<&Password>,
        new: &Password,
        revoke_others: bool,
    ) -> Result<(), ClientError> {
        let old = old.map(Password::expose).unwrap_or_default();
        let new = new.expose();
        let request = wire::ChangePassword { old, new, revoke_others };
        self.shared().request_done(What::ChangePassword(request)).await
    }

    /// The account's devices.
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn devices(&self) -> Result<Vec<Device>, ClientError> {
        let request = What::ListDevices(wire::ListDevices {});
        let take = |answer: &mut Vec<Device>, _, what| match what {
            What::DeviceFound(found) if answer.len() < DEVICES_MAX => {
                answer.push(device_found(found)?);
                Ok(false)
            }
            What::Done(_) => Ok(true),
            _ => Err(unexpected()),
        };
        self.shared().request(request, take).await
    }

    /// Signs a device out for good; `None`: all but this one.
    ///
    /// # Errors
    /// What a request may meet; `NotFound` if it is no device of the user.
    pub async fn revoke_device(&self, device: Option<DeviceId>) -> Result<(), ClientError> {
        let device = device.map(DeviceId::to_bytes).unwrap_or_default();
        self.shared().request_done(What::RevokeDevice(wire::RevokeDevice { device })).await
    }

    /// Silences, pins or archives a conversation, for this user on all devices. All three are
    /// set as they stand in `settings`.
    ///
    /// # Errors
    /// What a request may meet; `NotFound` if the user is no member.
    pub async fn set_conversation(
        &self,
        conversation: ConversationId,
        settings: MemberSettings,
    ) -> Result<(), ClientError> {
        let MemberSettings { silenced_until_ms, pinned_ms, archived } = settings;
        let request = wire::SetConversation {
            conversation: conversation.to_bytes(),
            settings: Some(wire::MemberSettings { silenced_until_ms, pinned_ms, archived }),
        };
        self.shared().request_done(What::SetConversation(request)).await
    }

    /// Removes entries (at most 100) from the user's own view, on all devices.
    ///
    /// # Errors
    /// What a request may meet; [`ClientError::Invalid`] for too many.
    pub async fn hide(
        &self,
        conversation: ConversationId,
        seqs: &[u64],
    ) -> Result<(), ClientError> {
        check::argument_count("seqs", seqs.len(), HIDE_MAX)?;
        let request =
            wire::HideEntries { conversation: conversation.to_bytes(), seqs: seqs.to_vec() };
        self.shared().request_done(What::HideEntries(request)).await
    }

    /// Blocks a user, or lifts the block.
    ///
    /// # Errors
    /// What a request may meet.
    pub async fn set_block(&self, user: UserId, blocks: bool) -> Result<(), ClientError> {
        self.change_contact(user, ContactCommand::Block(blocks)).await?;
        Ok(())
    }
}
