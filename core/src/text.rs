//! Short texts that people write: names, remarks, requests.

use crate::error::Rejection;

/// Checks a text of one line: at most `bytes_max` bytes, no control characters (U+0000 is
/// one: no store has to hold it).
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub fn check_line(field: &'static str, text: &str, bytes_max: usize) -> Result<(), Rejection> {
    check(field, text, bytes_max, |c| !c.is_control(), "no control characters")
}

/// Checks a text of several lines: as [`check_line`], with line feeds.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub fn check_lines(field: &'static str, text: &str, bytes_max: usize) -> Result<(), Rejection> {
    let allowed = |c: char| c == '\n' || !c.is_control();
    check(field, text, bytes_max, allowed, "no control characters but line feeds")
}

fn check(
    field: &'static str,
    text: &str,
    bytes_max: usize,
    allowed: impl Fn(char) -> bool,
    rule: &str,
) -> Result<(), Rejection> {
    if text.len() > bytes_max {
        let problem = format!("{} bytes; at most {bytes_max}", text.len());
        return Err(Rejection::Invalid { field, problem });
    }
    if text.chars().all(allowed) {
        return Ok(());
    }
    Err(Rejection::Invalid { field, problem: rule.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_in_bytes_and_free_of_control_characters() {
        for (len, fits) in [(0, true), (7, true), (8, true), (9, false)] {
            assert_eq!(check_line("x", &"a".repeat(len), 8).is_ok(), fits, "{len}");
        }
        for (text, line, lines) in [
            ("ééé", true, true),
            ("a\nb", false, true),
            ("a\0b", false, false),
            ("\u{1b}[2J", false, false),
            ("a\u{85}b", false, false),
        ] {
            assert_eq!(check_line("x", text, 8).is_ok(), line, "{text:?}");
            assert_eq!(check_lines("x", text, 8).is_ok(), lines, "{text:?}");
        }
    }
}
