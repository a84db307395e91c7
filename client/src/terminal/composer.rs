//! The text that is being written, and where in it the cursor is.

use unicode_segmentation::UnicodeSegmentation as _;

use super::clean;

/// Bytes of one message that can be typed or pasted; further ones are not taken.
pub(super) const COMPOSER_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Default, Clone)]
pub(super) struct Composer {
    text: String,
    /// A byte's index, at the edge of a grapheme.
    cursor: usize,
}

impl Composer {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or_default()
    }

    /// Puts cleaned text in at the cursor. Says whether there was room for it.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        if text.len() > COMPOSER_BYTES_MAX {
            return false;
        }
        let text = clean::text(text);
        let fits = self.text.len() + text.len() <= COMPOSER_BYTES_MAX;
        if fits {
            self.text.insert_str(self.cursor, &text);
            self.cursor += text.len();
        }
        fits
    }

    pub(super) fn set(&mut self, text: &str) {
        self.text.clear();
        self.cursor = 0;
        self.insert(text);
    }

    /// Replaces the last `bytes` bytes before the cursor. Says whether there was room.
    pub(super) fn replace_before(&mut self, bytes: usize, text: &str) -> bool {
        let from = self.cursor.saturating_sub(bytes);
        if !self.text.is_char_boundary(from) {
            return false;
        }
        self.remove(from, self.cursor);
        self.insert(text)
    }

    pub(super) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    fn previous(&self) -> usize {
        self.before().grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn next(&self) -> usize {
        self.cursor + self.after().graphemes(true).next().map_or(0, str::len)
    }

    fn word_start(&self) -> usize {
        let words = self.before().split_word_bound_indices();
        words.rev().find(|(_, word)| !word.trim().is_empty()).map_or(0, |(at, _)| at)
    }

    fn word_end(&self) -> usize {
        let mut words = self.after().split_word_bound_indices();
        let end = words.find(|(_, word)| !word.trim().is_empty());
        end.map_or(self.text.len(), |(at, word)| self.cursor + at + word.len())
    }

    fn line_start(&self) -> usize {
        self.before().rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        self.after().find('\n').map_or(self.text.len(), |at| self.cursor + at)
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.previous();
    }

    pub(super) fn right(&mut self) {
        self.cursor = self.next();
    }

    pub(super) fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    pub(super) fn word_right(&mut self) {
        self.cursor = self.word_end();
    }

    pub(super) fn home(&mut self) {
        self.cursor = self.line_start();
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.line_end();
    }

    /// To the line above, as far as the same column. Says whether there is one.
    pub(super) fn up(&mut self) -> bool {
        let start = self.line_start();
        if start == 0 {
            return false;
        }
        let column = self.before().get(start..).map_or(0, |line| line.graphemes(true).count());
        self.cursor = start - 1;
        self.home();
        self.go_right(column);
        true
    }

    /// To the line below, as far as the same column. Says whether there is one.
    pub(super) fn down(&mut self) -> bool {
        let end = self.line_end();
        if end == self.text.len() {
            return false;
        }
        let start = self.line_start();
        let column = self.before().get(start..).map_or(0, |line| line.graphemes(true).count());
        self.cursor = end + 1;
        self.go_right(column);
        true
    }

    fn go_right(&mut self, columns: usize) {
        let end = self.line_end();
        for _ in 0..columns {
            if self.cursor < end {
                self.right();
            }
        }
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.cursor = from;
    }

    pub(super) fn backspace(&mut self) {
        self.remove(self.previous(), self.cursor);
    }

    pub(super) fn delete(&mut self) {
        self.remove(self.cursor, self.next());
    }

    pub(super) fn delete_word(&mut self) {
        self.remove(self.word_start(), self.cursor);
    }

    pub(super) fn delete_to_start(&mut self) {
        self.remove(self.line_start(), self.cursor);
    }

    pub(super) fn delete_to_end(&mut self) {
        self.remove(self.cursor, self.line_end());
    }
}

#[cfg(test)]
mod tests {
    use super::{COMPOSER_BYTES_MAX, Composer};

    fn with(text: &str) -> Composer {
        let mut composer = Composer::default();
        composer.set(text);
        composer
    }

    #[test]
    fn the_cursor_moves_by_what_people_see() {
        let mut composer = with("a你e\u{301}");
        composer.left();
        assert_eq!(composer.before(), "a你");
        composer.backspace();
        assert_eq!(composer.text(), "ae\u{301}");
        composer.delete();
        assert_eq!(composer.text(), "a");
    }

    #[test]
    fn lines_and_words_are_places_to_go_to() {
        let mut composer = with("one two\nthree");
        assert!(composer.up());
        assert_eq!(composer.before(), "one t");
        assert!(!composer.up());
        composer.word_left();
        assert_eq!(composer.before(), "one ");
        composer.delete_word();
        assert_eq!(composer.text(), "two\nthree");
        composer.end();
        assert!(composer.down());
        composer.delete_to_start();
        composer.delete_to_end();
        assert_eq!(composer.text(), "two\n");
    }

    #[test]
    fn what_is_pasted_is_clean_and_bounded() {
        let mut composer = with("\u{1b}[31mred");
        assert!(!composer.text().contains('\u{1b}'));
        assert!(!composer.insert(&"x".repeat(COMPOSER_BYTES_MAX)));
        assert!(!composer.insert(&"x".repeat(COMPOSER_BYTES_MAX + 1)));
        assert!(composer.insert("!"));
    }
}
