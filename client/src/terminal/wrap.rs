//! Lines of a width: words stay whole where they fit.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// Breaks a clean text into lines of at most `width` columns; at least one line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    // Room for one wide character.
    let width = width.max(2);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let (mut line, mut used) = (String::new(), 0);
        for word in paragraph.split_word_bounds() {
            let needed = word.width();
            if used + needed <= width {
                line.push_str(word);
                used += needed;
                continue;
            }
            if used > 0 {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
                used = 0;
                if word.trim().is_empty() {
                    continue;
                }
            }
            for piece in word.graphemes(true) {
                if used + piece.width() > width && used > 0 {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push_str(piece);
                used += piece.width();
            }
        }
        lines.push(line);
    }
    lines
}

/// As much of the start as fits into `width` columns; `…` says that it is cut.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 1;
    for piece in text.graphemes(true) {
        used += piece.width();
        if used > width {
            break;
        }
        shown.push_str(piece);
    }
    if width > 0 {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr as _;

    use super::{cut, wrap};

    #[test]
    fn words_stay_whole_where_they_fit() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a\n\nb", 8), ["a", "", "b"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(wrap("你好世界", 4), ["你好", "世界"]);
        assert_eq!(wrap("a🌊🌊", 4), ["a🌊", "🌊"]);
        assert_eq!(cut("你好世界", 5), "你好…");
        assert_eq!(cut("你好", 4), "你好");
        for width in 2..12 {
            for line in wrap("x 你好 🌊 supercalifragilistic e\u{301}e\u{301}", width) {
                assert!(line.width() <= width, "{line:?} is wider than {width}");
            }
        }
    }
}
