//! Text from outside, made fit for a terminal.
//!
//! What steers a terminal (C0, C1, escape), what turns the direction of writing (Unicode TR9,
//! §2), and what changes the width of its neighbours or has none becomes a replacement
//! character or is left out. What is left has the same width in every terminal.

use unicode_width::UnicodeWidthChar as _;

/// Characters of one text that are shown, at the most.
const CHARS_MAX: usize = 8_192;
/// Combining marks on one character, at the most; further ones are left out.
const MARKS_MAX: usize = 3;
/// Columns of a tab.
const TAB: &str = "    ";

enum Fate {
    Keep,
    Replace,
    LeaveOut,
    NewLine,
}

fn fate(c: char) -> Fate {
    match c {
        '\n' | '\u{2028}' | '\u{2029}' | '\u{85}' => Fate::NewLine,
        c if c.is_control() => Fate::Replace,
        // Directions: marks, embeddings, overrides, isolates.
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Fate::Replace
        }
        // Nothing to see: soft hyphen, fillers, joiners, invisible operators, variation
        // selectors, annotations, tags; and skin tones, whose width terminals disagree about.
        '\u{ad}'
        | '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1f3fb}'..='\u{1f3ff}'
        | '\u{e0000}'..='\u{e0fff}' => Fate::LeaveOut,
        _ => Fate::Keep,
    }
}

/// A text of several lines. Line ends become `\n`.
pub fn text(from_outside: &str) -> String {
    let mut shown = String::with_capacity(from_outside.len().min(CHARS_MAX));
    let mut marks = None;
    let mut chars = from_outside.chars().take(CHARS_MAX).peekable();
    while let Some(c) = chars.next() {
        if c == '\r' && chars.peek() == Some(&'\n') {
            continue;
        }
        if c == '\t' {
            shown.push_str(TAB);
            marks = None;
            continue;
        }
        match fate(c) {
            Fate::NewLine => {
                shown.push('\n');
                marks = None;
            }
            Fate::Replace => {
                shown.push(char::REPLACEMENT_CHARACTER);
                marks = Some(0);
            }
            Fate::LeaveOut => {}
            Fate::Keep if c.width() == Some(0) => {
                // A mark needs something that it stands on.
                if let Some(count) = marks.filter(|count| *count < MARKS_MAX) {
                    shown.push(c);
                    marks = Some(count + 1);
                }
            }
            Fate::Keep => {
                shown.push(c);
                marks = Some(0);
            }
        }
    }
    if from_outside.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// One line: a name, a reason. Line ends become spaces.
pub fn line(from_outside: &str) -> String {
    text(from_outside).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::{CHARS_MAX, line, text};

    #[test]
    fn text_of_people_stays_as_it_is() {
        for kind in ["hello", "你好 🌊 ok", "e\u{301}te\u{301}", "שלום", "a\nb", "สวัสดี"]
        {
            assert_eq!(text(kind), kind);
        }
    }

    #[test]
    fn what_steers_a_terminal_is_replaced() {
        assert_eq!(text("\u{1b}[2Jx\u{9b}31m\u{7}"), "\u{fffd}[2Jx\u{fffd}31m\u{fffd}");
        assert_eq!(text("a\rb\r\nc\td"), "a\u{fffd}b\nc    d");
        assert_eq!(text("x\u{202e}y\u{2066}z\u{200f}"), "x\u{fffd}y\u{fffd}z\u{fffd}");
        assert_eq!(line("a\nb\u{2028}c\u{85}d"), "a b c d");
    }

    #[test]
    fn nothing_is_there_that_cannot_be_seen() {
        assert_eq!(text("a\u{200b}l\u{feff}i\u{2060}ce\u{e0041}\u{fe0f}"), "alice");
        let piled = format!("z{}", "\u{335}".repeat(500));
        assert_eq!(text(&piled).chars().count(), 4);
        assert_eq!(text("\u{301}a"), "a");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let shown = text(&"x".repeat(CHARS_MAX + 1));
        assert_eq!(shown.chars().count(), CHARS_MAX + 1);
        assert!(shown.ends_with('…'));
    }
}
