//! Accounts: what names and passwords may be, and what a user changes about himself.

use bytes::Bytes;

use crate::change::{Guard, Privacy, Revoked, RowChange};
use crate::error::Rejection;
use crate::event::{Decision, Event, Log};
use crate::id::{ConversationId, DeviceId};
use crate::limits::{
    AVATAR_BYTES_MAX, DEVICE_LABEL_BYTES_MAX, NICKNAME_BYTES_MAX, PASSWORD_BYTES_MAX,
    PASSWORD_BYTES_MIN, SETTING_KEY_BYTES_MAX, SETTING_VALUE_BYTES_MAX, SETTINGS_MAX,
    USER_NAME_CHARS_MAX, USER_NAME_CHARS_MIN,
};
use crate::store::{AccountRecord, User};
use crate::text;

/// What a user asks of his own account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccountCommand {
    /// A nickname, and a reference to a picture; empty for none.
    Person {
        /// The name to be shown.
        nickname: String,
        /// The picture.
        avatar: String,
    },
    /// What others may do.
    Privacy(Privacy),
    /// A free setting.
    Set(String, Bytes),
    /// It is removed.
    Unset(String),
}

/// Checks a user name. It is compared byte by byte, so only forms that
/// nobody can confuse are allowed.
///
/// # Errors
/// [`Rejection::Invalid`] that names what is allowed.
pub fn check_user_name(name: &str) -> Result<(), Rejection> {
    let long_enough = (USER_NAME_CHARS_MIN..=USER_NAME_CHARS_MAX).contains(&name.len());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let well_formed = name.chars().all(|c| plain(c) || matches!(c, '.' | '_' | '-'))
        && name.chars().next().is_some_and(plain);
    if long_enough && well_formed {
        return Ok(());
    }
    Err(Rejection::Invalid {
        field: "user_name",
        problem: format!(
            "{USER_NAME_CHARS_MIN} to {USER_NAME_CHARS_MAX} of a-z 0-9 . _ -, beginning with a letter or digit"
        ),
    })
}

/// The user name that comes nearest to what an outside issuer calls somebody (a name, an address of
/// mail): in lower case, up to an `@`, without what a user name may not have. `None` if too little is left.
pub fn user_name_like(text: &str) -> Option<String> {
    let plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name: String = text
        .chars()
        .take_while(|c| *c != '@')
        .take(NAME_CHARS_READ)
        .map(|c| if c == ' ' { '.' } else { c.to_ascii_lowercase() })
        .filter(|c| plain(c) || matches!(c, '.' | '_' | '-'))
        .skip_while(|c| !plain(c))
        .take(USER_NAME_CHARS_MAX)
        .collect();
    check_user_name(&name).is_ok().then_some(name)
}

/// Characters of what an outside issuer calls somebody that are looked at.
const NAME_CHARS_READ: usize = 256;

/// A user name that may be free where `name` is not: with a number, and cut where it gets too long.
pub fn numbered_user_name(name: &str, number: u32) -> String {
    let number = format!("-{number}");
    let room = USER_NAME_CHARS_MAX - number.len();
    name.chars().take(room).chain(number.chars()).collect()
}

/// Checks what a person calls a device.
///
/// # Errors
/// [`Rejection::Invalid`] that names what is allowed.
pub fn check_device_label(label: &str) -> Result<(), Rejection> {
    if label.len() <= DEVICE_LABEL_BYTES_MAX && !label.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Rejection::Invalid {
        field: "device_label",
        problem: format!("at most {DEVICE_LABEL_BYTES_MAX} bytes, no control characters"),
    })
}

/// Checks a new password. Whether it is a good one is the person's affair.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field and what is allowed.
pub fn check_password(field: &'static str, password: &str) -> Result<(), Rejection> {
    if (PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Ok(());
    }
    let problem = format!("{PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes");
    Err(Rejection::Invalid { field, problem })
}

fn guard(account: &AccountRecord, bumps: bool) -> Guard {
    let conversation = ConversationId::of_user(account.user.id);
    Guard { conversation, version: account.version, bumps }
}

/// Judges a change of the user's own account.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field, [`Rejection::LimitReached`] for one setting too many.
pub fn change(account: &AccountRecord, command: AccountCommand) -> Result<Decision, Rejection> {
    let user = account.user.id;
    let told = |nickname: &str, avatar: &str, privacy| Event::AccountChanged {
        nickname: nickname.to_owned(),
        avatar: avatar.to_owned(),
        privacy,
    };
    let (row, event) = match command {
        AccountCommand::Person { nickname, avatar } => {
            text::check_line("person.nickname", &nickname, NICKNAME_BYTES_MAX)?;
            text::check_line("person.avatar", &avatar, AVATAR_BYTES_MAX)?;
            if (&nickname, &avatar) == (&account.user.nickname, &account.user.avatar) {
                return Ok(Decision::default());
            }
            let event = told(&nickname, &avatar, account.privacy);
            (RowChange::Person { user, nickname, avatar }, event)
        }
        AccountCommand::Privacy(privacy) if privacy == account.privacy => {
            return Ok(Decision::default());
        }
        AccountCommand::Privacy(privacy) => {
            let event = told(&account.user.nickname, &account.user.avatar, privacy);
            (RowChange::Privacy(user, privacy), event)
        }
        AccountCommand::Set(key, value) => return set(account, key, value),
        AccountCommand::Unset(key) => {
            if !account.settings.iter().any(|(known, _)| *known == key) {
                return Ok(Decision::default());
            }
            (RowChange::Setting(user, key.clone(), None), Event::SettingChanged(key, None))
        }
    };
    Ok(one(account, row, event))
}

fn one(account: &AccountRecord, row: RowChange, event: Event) -> Decision {
    Decision {
        guards: vec![guard(account, true)],
        rows: vec![row],
        events: vec![(Log::Of(account.user.id), event)],
    }
}

fn set(account: &AccountRecord, key: String, value: Bytes) -> Result<Decision, Rejection> {
    text::check_line("set.key", &key, SETTING_KEY_BYTES_MAX)?;
    if key.is_empty() {
        return Err(Rejection::Invalid { field: "set.key", problem: "it is empty".to_owned() });
    }
    if value.len() > SETTING_VALUE_BYTES_MAX {
        let problem = format!("{} bytes; at most {SETTING_VALUE_BYTES_MAX}", value.len());
        return Err(Rejection::Invalid { field: "set.value", problem });
    }
    match account.settings.iter().find(|(known, _)| *known == key) {
        Some((_, known)) if *known == value => return Ok(Decision::default()),
        None if account.settings.len() >= SETTINGS_MAX => {
            return Err(Rejection::LimitReached { what: "settings", max: SETTINGS_MAX as u64 });
        }
        _ => {}
    }
    let row = RowChange::Setting(account.user.id, key.clone(), Some(value.clone()));
    Ok(one(account, row, Event::SettingChanged(key, Some(value))))
}

/// Signs devices out for good, at `at_ms` (Unix milliseconds).
pub fn revoke(account: &AccountRecord, devices: Revoked, at_ms: u64) -> Decision {
    let row = RowChange::Revoke { user: account.user.id, devices, at_ms };
    one(account, row, Event::DevicesRevoked(devices))
}

/// A new password (a PHC string), for whoever proved the one that `account` was read with; with
/// `revokes` all other devices are signed out, at `at_ms`.
pub fn change_password(
    account: &AccountRecord,
    password: String,
    revokes: Option<Revoked>,
    at_ms: u64,
) -> Decision {
    let row = RowChange::Password(account.user.id, password);
    match revokes {
        Some(devices) => {
            let mut decision = revoke(account, devices, at_ms);
            decision.rows.insert(0, row);
            decision
        }
        // The entry says nothing new; by its id the store knows the change when it is given again.
        None => {
            let (User { nickname, avatar, .. }, privacy) = (account.user.clone(), account.privacy);
            one(account, row, Event::AccountChanged { nickname, avatar, privacy })
        }
    }
}

/// Tells the user's own log of a device that was added.
pub fn device_added(account: &AccountRecord, device: DeviceId, label: String) -> Decision {
    Decision {
        guards: Vec::new(),
        rows: Vec::new(),
        events: vec![(Log::Of(account.user.id), Event::DeviceAdded(device, label))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{RightsVersion, UserId};

    fn account(settings: usize) -> AccountRecord {
        AccountRecord {
            user: User::named(UserId([1; 16]), "alice".to_owned()),
            privacy: Privacy::default(),
            has_password: false,
            version: RightsVersion(3),
            settings: (0..settings).map(|n| (n.to_string(), Bytes::new())).collect(),
        }
    }

    #[test]
    fn settings_are_bounded_in_number_and_size_and_the_same_again_is_nothing() {
        let set = |account: &AccountRecord, key: &str, len: usize| {
            change(account, AccountCommand::Set(key.to_owned(), vec![1; len].into()))
        };
        let few = account(SETTINGS_MAX - 1);
        let full = account(SETTINGS_MAX);
        assert!(set(&few, "new", SETTING_VALUE_BYTES_MAX).is_ok_and(|d| !d.is_nothing()));
        assert!(set(&few, "new", SETTING_VALUE_BYTES_MAX + 1).is_err());
        assert!(matches!(set(&full, "new", 1), Err(Rejection::LimitReached { .. })));
        assert!(set(&full, "0", 1).is_ok_and(|d| !d.is_nothing()));
        assert!(set(&full, "0", 0).is_ok_and(|d| d.is_nothing()));
        assert!(set(&few, "", 1).is_err() && set(&few, "a\nb", 1).is_err());
        assert!(set(&few, &"k".repeat(SETTING_KEY_BYTES_MAX + 1), 1).is_err());
        let unset = |key: &str| change(&full, AccountCommand::Unset(key.to_owned()));
        assert!(unset("0").is_ok_and(|d| !d.is_nothing()));
        assert!(unset("unknown").is_ok_and(|d| d.is_nothing()));
    }

    #[test]
    fn a_person_s_texts_are_bounded() {
        let person = |nickname: usize, avatar: usize| AccountCommand::Person {
            nickname: "n".repeat(nickname),
            avatar: "a".repeat(avatar),
        };
        let of = account(0);
        assert!(change(&of, person(NICKNAME_BYTES_MAX, AVATAR_BYTES_MAX)).is_ok());
        assert!(change(&of, person(NICKNAME_BYTES_MAX + 1, 0)).is_err());
        assert!(change(&of, person(0, AVATAR_BYTES_MAX + 1)).is_err());
        assert!(change(&of, person(0, 0)).is_ok_and(|d| d.is_nothing()));
    }

    #[test]
    fn a_password_rests_on_the_version_that_it_was_proved_against() {
        let decision = change_password(&account(0), "phc".to_owned(), None, 0);
        assert_eq!(decision.guards[0].version, RightsVersion(3));
        assert!(decision.guards[0].bumps);
        for (len, fits) in [(7, false), (8, true), (256, true), (257, false)] {
            assert_eq!(check_password("password", &"p".repeat(len)).is_ok(), fits, "{len}");
        }
    }

    #[test]
    fn names_are_bounded_and_plain() {
        for (len, fits) in [
            (USER_NAME_CHARS_MIN - 1, false),
            (USER_NAME_CHARS_MIN, true),
            (USER_NAME_CHARS_MIN + 1, true),
            (USER_NAME_CHARS_MAX - 1, true),
            (USER_NAME_CHARS_MAX, true),
            (USER_NAME_CHARS_MAX + 1, false),
        ] {
            assert_eq!(check_user_name(&"a".repeat(len)).is_ok(), fits, "{len}");
        }
        for bad in ["Alice", "al ice", ".alice", "al\u{202e}ice", "-a", "\u{1b}[2J", "爱丽丝"] {
            assert!(check_user_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_user_name("alice.b-2_c").is_ok());
    }

    #[test]
    fn what_an_issuer_calls_somebody_becomes_a_user_name_or_nothing() {
        for (text, name) in [
            ("alice", Some("alice")),
            ("Alice.Smith@example.com", Some("alice.smith")),
            ("-_.Bob", Some("bob")),
            ("Ann Lee", Some("ann.lee")),
            ("J\u{f6}rg\u{202e}\u{0}", Some("jrg")),
            ("\u{1b}[2J", Some("2j")),
            ("x", None),
            ("@example.com", None),
            ("\u{738b}\u{5c0f}\u{660e}", None),
            ("", None),
        ] {
            assert_eq!(user_name_like(text).as_deref(), name, "{text:?}");
        }
        let longest = user_name_like(&"a".repeat(1_000)).unwrap_or_default();
        assert_eq!(longest.len(), USER_NAME_CHARS_MAX);
        for name in [longest.as_str(), "al"] {
            let numbered = numbered_user_name(name, u32::MAX);
            assert!(check_user_name(&numbered).is_ok(), "{numbered}");
        }
    }
}
