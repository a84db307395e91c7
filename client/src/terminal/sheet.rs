//! A page of lines that covers the messages until it is closed.

use super::effect::Ask;

/// Lines of one page, at the most.
const LINES_MAX: usize = 1_000;

/// Lines under a title. Clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sheet {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    pub(super) scroll: u16,
    /// Where the next page comes from.
    pub(super) more: Option<Ask>,
}

impl Sheet {
    pub(super) fn new(title: impl Into<String>, lines: Vec<String>) -> Self {
        let mut lines = lines;
        lines.truncate(LINES_MAX);
        if lines.is_empty() {
            lines.push("nobody, nothing".to_owned());
        }
        Self { title: title.into(), lines, scroll: 0, more: None }
    }
}
