//! What is to be sent, and the form in which it travels and waits.

use bytes::Bytes;

use crate::body::BODY_BYTES_MAX;
use crate::entry::{EVERYBODY, kind};
use crate::error::SendError;
use crate::id::UserId;

/// Users that one message mentions, at the most (the protocol's limit).
pub const MENTIONS_MAX: usize = 50;
/// Bytes of one reaction, at the most (the protocol's limit).
pub const REACTION_BYTES_MAX: usize = 32;
/// The largest place of an entry.
const SEQ_MAX: u64 = (1 << 62) - 1;

/// Something to be sent: a message, or a change of an earlier one. Changes wait in the outbox and
/// are sent again like any message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    kind: u16,
    body: Bytes,
    target: Option<u64>,
    mentions: Vec<UserId>,
    revision: u32,
}

impl Draft {
    /// A message of this kind ([`kind`]).
    pub fn new(kind: u16, body: impl Into<Bytes>) -> Self {
        Self { kind, body: body.into(), target: None, mentions: Vec::new(), revision: 0 }
    }

    /// A message of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(kind::TEXT, text.into())
    }

    /// What a message's body becomes. `revision` is the one that it was made from
    /// ([`crate::EntryState::revision`]); has the message another one by now, the edit is refused
    /// with `Conflict`.
    pub fn edit(target: u64, revision: u32, body: impl Into<Bytes>) -> Self {
        Self { target: Some(target), revision, ..Self::new(kind::EDIT, body) }
    }

    /// Removes a message's body, for everybody.
    pub fn recall(target: u64) -> Self {
        Self { target: Some(target), ..Self::new(kind::RECALL, Bytes::new()) }
    }

    /// A reaction to a message: an emoji of at most 32 bytes.
    pub fn react(target: u64, emoji: impl Into<String>) -> Self {
        Self { target: Some(target), ..Self::new(kind::REACT, emoji.into()) }
    }

    /// Takes an own reaction back.
    pub fn unreact(target: u64, emoji: impl Into<String>) -> Self {
        Self { target: Some(target), ..Self::new(kind::UNREACT, emoji.into()) }
    }

    /// Makes a message the reply to the entry at this place.
    #[must_use]
    pub fn reply_to(mut self, seq: u64) -> Self {
        self.target = Some(seq);
        self
    }

    /// Mentions a user; at most 50.
    #[must_use]
    pub fn mention(mut self, user: UserId) -> Self {
        if !self.mentions.contains(&user) {
            self.mentions.push(user);
        }
        self
    }

    /// Mentions all members; in a group, only its owner and admins may.
    #[must_use]
    pub fn mention_everybody(self) -> Self {
        self.mention(EVERYBODY)
    }

    /// Checks it, and gives its body apart from the rest.
    pub(crate) fn check(self) -> Result<(Bytes, Content), SendError> {
        let Self { kind, body, target, mentions, revision } = self;
        if body.len() > BODY_BYTES_MAX {
            return Err(SendError::TooLarge { len: body.len(), max: BODY_BYTES_MAX });
        }
        if mentions.len() > MENTIONS_MAX {
            return Err(SendError::Invalid("more than 50 mentions"));
        }
        if target.is_some_and(|seq| seq == 0 || seq > SEQ_MAX) {
            return Err(SendError::Invalid("a target that is no place of an entry"));
        }
        if kind::is_change(kind) && target.is_none() {
            return Err(SendError::Invalid("a change without a target"));
        }
        if kind::is_change(kind) && !mentions.is_empty() {
            return Err(SendError::Invalid("a change that mentions somebody"));
        }
        if is_reaction(kind) && !is_one_emoji(&body) {
            return Err(SendError::Invalid("a reaction is 1 to 32 bytes of text without spaces"));
        }
        let content = Content {
            kind,
            encoding: 0,
            body: Bytes::new(),
            target,
            mentions: mentions.into(),
            revision,
        };
        Ok((body, content))
    }
}

fn is_reaction(kind: u16) -> bool {
    matches!(kind, kind::REACT | kind::UNREACT)
}

fn is_one_emoji(body: &[u8]) -> bool {
    let text = std::str::from_utf8(body).unwrap_or_default();
    !text.is_empty()
        && text.len() <= REACTION_BYTES_MAX
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// What a message consists of, as it travels. Never changes between tries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    pub(crate) kind: u16,
    pub(crate) encoding: u32,
    pub(crate) body: Bytes,
    pub(crate) target: Option<u64>,
    pub(crate) mentions: std::sync::Arc<[UserId]>,
    pub(crate) revision: u32,
}

impl Content {
    /// Whether the body may travel compressed; that of a reaction is what it is counted by.
    pub(crate) fn may_be_compressed(&self) -> bool {
        !is_reaction(self.kind)
    }

    /// Bytes that count towards the outbox's bound.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + size_of_val(self.mentions.as_ref())
    }

    #[cfg(test)]
    pub(crate) fn plain(kind: u16, encoding: u32, body: Bytes) -> Self {
        Self { kind, encoding, body, target: None, mentions: [].into(), revision: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_that_the_server_would_refuse_are_refused_at_once() {
        let many = (0..=50).fold(Draft::text("hi"), |draft, n| draft.mention(UserId([n + 1; 16])));
        let bad = [
            many,
            Draft::text("hi").reply_to(0),
            Draft::new(kind::EDIT, "no target"),
            Draft::react(1, ""),
            Draft::react(1, "x".repeat(33)),
            Draft::react(1, "a b"),
            Draft::edit(u64::MAX, 0, "x"),
            Draft::recall(1).mention(UserId([1; 16])),
        ];
        for draft in bad {
            assert!(matches!(draft.clone().check(), Err(SendError::Invalid(_))), "{draft:?}");
        }
        let twice = Draft::text("hi").mention_everybody().mention_everybody();
        assert!(twice.check().is_ok_and(|(_, content)| content.mentions.len() == 1));
        assert!(Draft::recall(7).check().is_ok());
    }
}
