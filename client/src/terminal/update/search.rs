//! Searching what is loaded of the conversation on the screen.

use crate::terminal::model::Model;

/// Characters of what is searched for, at the most.
const SEARCH_CHARS_MAX: usize = 100;

/// Goes to a match: the newest one that is not newer than the one shown, or with `newer` the
/// next in that direction. Letters match whatever their case is.
pub(super) fn look(model: &mut Model, newer: Option<bool>) {
    let Some(search) = &model.search else {
        return;
    };
    let text: String = search.text.chars().take(SEARCH_CHARS_MAX).collect();
    let wanted = text.to_lowercase();
    let at = search.at;
    let mut matches = Vec::new();
    if let Some(conversation) = model.on_screen().filter(|_| !wanted.is_empty()) {
        let found = conversation.log.shown().filter(|(_, row)| {
            row.text.to_lowercase().contains(&wanted)
                || model.name(row.sender).to_lowercase() == wanted
        });
        matches.extend(found.map(|(seq, _)| seq));
    }
    let older_or_same = |seq: u64| matches.iter().rev().find(|found| **found <= seq);
    let found = match (at, newer) {
        (None, _) => matches.last(),
        (Some(at), None) => older_or_same(at).or(matches.last()),
        (Some(at), Some(false)) => older_or_same(at.saturating_sub(1)).or(matches.last()),
        (Some(at), Some(true)) => matches.iter().find(|found| **found > at).or(matches.first()),
    };
    let found = found.copied();
    let count = matches.len();
    if let Some(search) = &mut model.search {
        search.text = text;
        search.at = found;
        search.matches = count;
    }
    model.wanted = found;
}
