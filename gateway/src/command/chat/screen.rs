//! What reaches the terminal. Text from others cannot carry escape sequences
//! or turn the direction of writing round.

use std::io::Write as _;

use petrel_client::Undecodable;

/// Characters of one message that are shown, at the most.
const SHOWN_CHARS_MAX: usize = 4_000;

/// A body as a line of text.
pub(super) fn text(body: &Result<bytes::Bytes, Undecodable>) -> String {
    match body {
        Ok(bytes) => clean(&String::from_utf8_lossy(bytes)),
        Err(error) => format!("[{error}]"),
    }
}

/// Replaces what could steer a terminal: control characters (C0, C1, escape)
/// and those that override the direction of writing (Unicode TR9, §2).
pub(super) fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    text.chars().take(SHOWN_CHARS_MAX).map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// Writes a line that is clean already.
pub(super) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // With the terminal gone there is nobody to read it.
    writeln!(out, "{text}").and_then(|()| out.flush()).ok();
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn no_escape_sequence_reaches_the_terminal() {
        for hostile in
            ["\u{1b}[2J", "a\rb", "\u{9b}31m", "x\u{202e}y", "\u{7}", "\u{1b}]0;title\u{7}"]
        {
            let shown = clean(hostile);
            assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown:?}");
        }
        assert_eq!(clean("你好 🌊 ok"), "你好 🌊 ok");
    }
}
