//! What can be done with a message: by key, by the menu, by commands.

use super::log::{Form, Row};
use super::model::{Conversation, Model};
use crate::request::Role;

/// Reactions that the menu offers.
const QUICK: [&str; 4] = ["👍", "❤", "😂", "🎉"];
/// Words for reactions that keyboards do not have.
const WORDS: &[(&str, &str)] = &[
    ("+1", "👍"),
    ("-1", "👎"),
    ("heart", "❤"),
    ("laugh", "😂"),
    ("party", "🎉"),
    ("eyes", "👀"),
    ("ok", "👌"),
    ("wave", "👋"),
    ("sad", "😢"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Reply,
    Edit,
    React,
    /// This reaction at once.
    Quick(&'static str),
    ReadBy,
    Recall,
    Delete,
}

impl Action {
    /// The key in the selection, and what the menu calls it.
    pub(super) fn label(self) -> (char, String) {
        let (key, label) = match self {
            Self::Reply => ('r', "reply"),
            Self::Edit => ('e', "edit"),
            Self::React => ('+', "react ..."),
            Self::Quick(emoji) => return (' ', format!("react {emoji}")),
            Self::ReadBy => ('b', "who has read it"),
            Self::Recall => ('x', "recall for everybody"),
            Self::Delete => ('d', "delete for me"),
        };
        (key, label.to_owned())
    }

    pub(super) fn by_key(key: char) -> Option<Self> {
        let all = [Self::Reply, Self::Edit, Self::React, Self::ReadBy, Self::Recall, Self::Delete];
        all.into_iter().find(|action| action.label().0 == key)
    }

    /// Whether it makes sense for this entry; the service has the last word.
    pub(super) fn fits(self, model: &Model, known: &Conversation, row: &Row) -> bool {
        let is_message = matches!(row.form, Form::Said | Form::System);
        let is_there = is_message && !row.is_recalled;
        let is_own = row.sender == model.me;
        match self {
            Self::Reply | Self::React | Self::Quick(_) => is_there,
            Self::Edit => is_there && is_own && row.is_text,
            Self::ReadBy => is_message,
            Self::Recall => is_there && (is_own || looks_after(known)),
            Self::Delete => row.is_shown(),
        }
    }

    /// What the menu offers for an entry.
    pub(super) fn offered(model: &Model, known: &Conversation, row: &Row) -> Vec<Self> {
        let mut all = vec![Self::Reply];
        all.extend(QUICK.map(Self::Quick));
        all.extend([Self::React, Self::Edit, Self::ReadBy, Self::Recall, Self::Delete]);
        all.retain(|action| action.fits(model, known, row));
        all
    }
}

/// Whether the user is an admin or the owner of the group.
pub(super) fn looks_after(known: &Conversation) -> bool {
    known.group.as_ref().is_some_and(|group| matches!(group.role, Role::Admin | Role::Owner))
}

/// The reaction that a word stands for, or the word itself.
pub(super) fn emoji(word: &str) -> &str {
    WORDS.iter().find(|(name, _)| *name == word).map_or(word, |(_, emoji)| emoji)
}

/// Words that stand for reactions.
pub(super) fn emoji_words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(word, _)| *word)
}
