//! Accounts and devices.

use petrel_core::account::AccountCommand;
use petrel_core::change::{Audience, Privacy};
use petrel_core::error::Rejection;
use petrel_core::id::DeviceId;
use petrel_core::store::{AccountRecord, DeviceLine};
use petrel_proto::wire::{self, change_account::What};

use super::relation::privacy;
use super::{bytes_of, missing, user_found};

/// An account as its owner sees it.
pub(crate) fn account(account: &AccountRecord) -> wire::Account {
    let setting =
        |(key, value): &(String, _)| wire::Setting { key: key.clone(), value: Clone::clone(value) };
    wire::Account {
        user: Some(user_found(&account.user)),
        privacy: Some(privacy(account.privacy)),
        has_password: account.has_password,
        settings: account.settings.iter().map(setting).collect(),
    }
}

/// A device of the caller's.
pub(crate) fn device_found(line: &DeviceLine, own: DeviceId) -> wire::DeviceFound {
    wire::DeviceFound {
        device: bytes_of(line.device.as_bytes()),
        label: line.label.clone(),
        created_ms: line.created_ms,
        seen_ms: line.seen_ms,
        own: line.device == own,
    }
}

/// What a user asks of his account.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub(crate) fn account_command(what: Option<What>) -> Result<AccountCommand, Rejection> {
    Ok(match what.ok_or_else(|| missing("what"))? {
        What::Person(person) => {
            AccountCommand::Person { nickname: person.nickname, avatar: person.avatar }
        }
        What::Privacy(privacy) => AccountCommand::Privacy(Privacy {
            messages: audience("privacy.messages", privacy.messages)?,
            groups: audience("privacy.groups", privacy.groups)?,
            presence: audience("privacy.presence", privacy.presence)?,
        }),
        What::Set(setting) => AccountCommand::Set(setting.key, setting.value),
        What::Unset(key) => AccountCommand::Unset(key),
    })
}

fn audience(field: &'static str, number: u32) -> Result<Audience, Rejection> {
    Audience::from_number(number.into()).ok_or_else(|| Rejection::Invalid {
        field,
        problem: format!("{number}; 1 everybody, 2 contacts, 3 nobody"),
    })
}
