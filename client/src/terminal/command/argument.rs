//! Words behind a command, understood.

use crate::request::{Audience, JoinBy, Joins, LinkSecret, MemberSettings, Role};
use crate::terminal::effect::Privately;

/// The longest time that is taken, in milliseconds (100 years).
const TIME_MS_MAX: u64 = 100 * 365 * 24 * 60 * 60 * 1_000;

/// When a time like `10m` is over; without one: never.
pub(in crate::terminal) fn until(text: &str, now_ms: u64) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(MemberSettings::FOR_GOOD_MS);
    }
    let wrong = || format!("{text} is no time; say 30s, 10m, 2h or 3d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms: u64 = match text.strip_prefix(digits).unwrap_or_default() {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    let time_ms = count.checked_mul(unit_ms).filter(|ms| (1..=TIME_MS_MAX).contains(ms));
    Ok(now_ms.saturating_add(time_ms.ok_or_else(wrong)?))
}

pub(in crate::terminal) fn role(text: &str) -> Result<Role, String> {
    match text {
        "admin" => Ok(Role::Admin),
        "member" => Ok(Role::Member),
        "owner" => Err("there is one owner; /transfer USER makes another one".to_owned()),
        other => Err(format!("{other} is no role; say admin or member")),
    }
}

pub(in crate::terminal) fn joins(text: &str) -> Result<Joins, String> {
    match text {
        "invitation" => Ok(Joins::ByInvitation),
        "request" => Ok(Joins::ByRequest),
        "open" => Ok(Joins::Open),
        other => Err(format!("{other}: say invitation, request or open")),
    }
}

pub(in crate::terminal) fn privately(text: &str) -> Result<Privately, String> {
    match text {
        "messages" => Ok(Privately::Messages),
        "groups" => Ok(Privately::Groups),
        "presence" => Ok(Privately::Presence),
        other => Err(format!("{other}: say messages, groups or presence")),
    }
}

pub(in crate::terminal) fn audience(text: &str) -> Result<Audience, String> {
    match text {
        "everybody" => Ok(Audience::Everybody),
        "contacts" => Ok(Audience::Contacts),
        "nobody" => Ok(Audience::Nobody),
        other => Err(format!("{other}: say everybody, contacts or nobody")),
    }
}

/// A link's 64 digits, or a group's id and a text.
pub(in crate::terminal) fn join_by(place: &str, text: &str) -> Result<JoinBy, String> {
    if let Some(secret) = LinkSecret::from_text(place) {
        return Ok(JoinBy::Link(secret));
    }
    let group = place.parse();
    group.map(|group| JoinBy::Asking(group, text.to_owned())).map_err(|_| {
        "neither a link (64 hexadecimal digits) nor a group's id (32 of them)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(until("10m", 1_000), Ok(601_000));
        assert_eq!(until("3d", 0), Ok(3 * 86_400_000));
        assert_eq!(until("", 5), Ok(MemberSettings::FOR_GOOD_MS));
        for wrong in ["10", "m", "-1m", "1w", "0m", "99999999999999999999d", "4000000000d", "1 m"] {
            assert!(until(wrong, 0).is_err_and(|why| why.contains("2h")), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_word_of_a_command_is_said() {
        assert!(role("boss").is_err_and(|why| why.contains("admin or member")));
        assert!(role("owner").is_err_and(|why| why.contains("/transfer")));
        assert!(joins("x").is_err() && privately("x").is_err() && audience("x").is_err());
        assert!(join_by("xyz", "").is_err_and(|why| why.contains("64")));
        assert!(matches!(join_by(&"ab".repeat(32), ""), Ok(JoinBy::Link(_))));
        let id = "00000000-0000-0000-0000-000000000001";
        assert!(matches!(join_by(id, "me"), Ok(JoinBy::Asking(_, text)) if text == "me"));
    }
}
