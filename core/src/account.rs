//! Accounts: what a user name may be.

use crate::error::Rejection;
use crate::limits::{DEVICE_LABEL_BYTES_MAX, USER_NAME_CHARS_MAX, USER_NAME_CHARS_MIN};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
