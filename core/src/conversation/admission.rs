//! Who may say what: messages and what changes them.

use super::Conversation;
use crate::change::{GroupProfile, Role};
use crate::entry::{EVERYBODY, Entry, EntryKind, Family};
use crate::error::Rejection;
use crate::id::{ClientMessageId, RightsVersion, UserId};
use crate::limits;
use crate::store::{Append, ConversationKind, Member};

/// What the deployment allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendRules {
    /// Messages to somebody who is no contact and has never answered, at the most; 0: any number.
    pub strangers_max: u64,
    /// For how long an author may edit a message, in milliseconds.
    pub edit_window_ms: u64,
    /// For how long a message may be recalled, in milliseconds.
    pub recall_window_ms: u64,
}

impl Default for SendRules {
    fn default() -> Self {
        Self {
            strangers_max: limits::STRANGER_MESSAGES_DEFAULT,
            edit_window_ms: limits::CHANGE_WINDOW_MS_DEFAULT,
            recall_window_ms: limits::CHANGE_WINDOW_MS_DEFAULT,
        }
    }
}

impl<O> Conversation<O> {
    /// Judges what somebody wants to send, at Unix time `now_ms`. What a change wants of its
    /// target is judged apart, by [`judge_change`].
    ///
    /// # Errors
    /// `NotFound`, `Blocked`, `NotAccepted`, `Muted`, `Forbidden`, `TooOld`, `FromTheFuture` or `Invalid`.
    pub fn admit(
        &self,
        append: &Append,
        rules: &SendRules,
        now_ms: u64,
    ) -> Result<RightsVersion, Rejection> {
        let sender = self.member(append.sender)?;
        match &self.kind {
            ConversationKind::Own => {
                return Err(Rejection::Forbidden { needed: "the service writes a user's own log" });
            }
            ConversationKind::Pair => self.admit_to_pair(append, rules)?,
            ConversationKind::Group(profile) => admit_to_group(profile, sender, append, now_ms)?,
        }
        judge_id(append.id, now_ms)?;
        Ok(self.rights_version)
    }

    fn admit_to_pair(&self, append: &Append, rules: &SendRules) -> Result<(), Rejection> {
        if self.members.iter().any(|m| m.blocks) {
            return Err(Rejection::Blocked);
        }
        let Some(peer) = self.members.iter().find(|m| m.user != append.sender) else {
            return Ok(());
        };
        if !peer.accepts {
            return Err(Rejection::NotAccepted {
                why: "the other one takes messages of contacts only",
            });
        }
        let is_answered = peer.is_contact || peer.has_written;
        if is_answered || rules.strangers_max == 0 || !append.kind.is_countable() {
            return Ok(());
        }
        // Nobody else has written, so whatever counts is of this sender.
        let room = rules.strangers_max.saturating_sub(self.count);
        let waiting =
            self.in_flight.keys().filter(|(user, id)| *user == append.sender && *id != append.id);
        if (waiting.take(limits::HELD_ENTRIES_MAX).count() as u64) < room {
            return Ok(());
        }
        Err(Rejection::NotAccepted { why: "nothing more before the other one answers" })
    }
}

fn admit_to_group(
    profile: &GroupProfile,
    sender: &Member,
    append: &Append,
    now_ms: u64,
) -> Result<(), Rejection> {
    // Taking something back is not writing.
    if !matches!(append.kind, EntryKind::Recall | EntryKind::Unreact) {
        if sender.muted_until_ms > now_ms {
            return Err(Rejection::Muted { until_ms: sender.muted_until_ms });
        }
        if profile.muted && sender.role < Role::Admin {
            return Err(Rejection::Muted { until_ms: 0 });
        }
    }
    if append.mentions.contains(&EVERYBODY) && sender.role < Role::Admin {
        return Err(Rejection::Forbidden { needed: "an admin or the owner mentions everybody" });
    }
    Ok(())
}

/// Judges a message's id by its time alone.
///
/// # Errors
/// `Invalid` if it is no UUIDv7, `TooOld` or `FromTheFuture`.
pub fn judge_id(id: ClientMessageId, now_ms: u64) -> Result<(), Rejection> {
    let Some(time_ms) = id.time_ms() else {
        return Err(Rejection::Invalid { field: "id", problem: "not a UUIDv7".to_owned() });
    };
    if time_ms + limits::DEDUPE_HORIZON_MS < now_ms {
        return Err(Rejection::TooOld);
    }
    if time_ms > now_ms + limits::ID_AHEAD_MAX_MS {
        return Err(Rejection::FromTheFuture { server_time_ms: now_ms });
    }
    Ok(())
}

/// Checks what a send says beside its body's encoding: who is mentioned, whether there is a
/// target, and of a recall or reaction the body. Needs nothing but the send itself.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub fn check_send(append: &Append) -> Result<(), Rejection> {
    let invalid = |field, problem: String| Err(Rejection::Invalid { field, problem });
    let mentions = append.mentions.len();
    if mentions > limits::MENTIONS_MAX {
        return invalid("mentions", format!("{mentions} users; at most {}", limits::MENTIONS_MAX));
    }
    if append.kind.family() != Family::Change {
        return Ok(());
    }
    if append.target.is_none() {
        return invalid("target", "a change names the entry that it changes".to_owned());
    }
    if mentions > 0 {
        return invalid("mentions", "a change mentions nobody".to_owned());
    }
    match append.kind {
        EntryKind::Recall if !append.body.is_empty() => {
            invalid("body", "that of a recall is empty".to_owned())
        }
        EntryKind::React | EntryKind::Unreact => check_reaction(append),
        _ => Ok(()),
    }
}

fn check_reaction(append: &Append) -> Result<(), Rejection> {
    let invalid = |problem: String| Err(Rejection::Invalid { field: "body", problem });
    let bytes = append.body.len();
    if append.encoding != 0 {
        return invalid("that of a reaction is in encoding 0".to_owned());
    }
    if !(1..=limits::REACTION_BYTES_MAX).contains(&bytes) {
        return invalid(format!(
            "{bytes} bytes; a reaction has 1 to {}",
            limits::REACTION_BYTES_MAX
        ));
    }
    let Ok(text) = std::str::from_utf8(&append.body) else {
        return invalid("a reaction is UTF-8".to_owned());
    };
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return invalid("a reaction is one emoji: no spaces, no control characters".to_owned());
    }
    Ok(())
}

/// Judges a change by its target, as the store has it at Unix time `now_ms`. `role` is what the sender is
/// in the group; `None` in a pair.
///
/// # Errors
/// `Invalid` if there is no such message, `Forbidden`, `Conflict` if it was recalled or edited
/// meanwhile, `TooLate`.
pub fn judge_change(
    append: &Append,
    target: Option<&Entry>,
    role: Option<Role>,
    rules: &SendRules,
    now_ms: u64,
) -> Result<(), Rejection> {
    let family = target.and_then(|t| EntryKind::from_number(t.kind.into())).map(EntryKind::family);
    let (Some(target), Some(family @ (Family::Message | Family::Service))) = (target, family)
    else {
        return Err(Rejection::Invalid { field: "target", problem: "no such message".to_owned() });
    };
    let is_reaction = matches!(append.kind, EntryKind::React | EntryKind::Unreact);
    if family == Family::Service && !is_reaction {
        return Err(Rejection::Forbidden { needed: "the service's own messages stay as they are" });
    }
    may_change(append, target.sender, role)?;
    if target.changes.recalled {
        return Err(Rejection::Conflict { what: "the message" });
    }
    let (what, window_ms) = match append.kind {
        EntryKind::Edit => ("editing", rules.edit_window_ms),
        EntryKind::Recall => ("recalling", rules.recall_window_ms),
        _ => return Ok(()),
    };
    if now_ms > target.placed.time_ms.saturating_add(window_ms) {
        return Err(Rejection::TooLate { what, window_ms });
    }
    if append.kind == EntryKind::Edit && append.revision != Some(target.changes.revision) {
        return Err(Rejection::Conflict { what: "the message" });
    }
    Ok(())
}

fn may_change(append: &Append, author: UserId, role: Option<Role>) -> Result<(), Rejection> {
    let is_author = append.sender == author;
    match append.kind {
        EntryKind::Edit if !is_author => Err(Rejection::Forbidden { needed: "the author" }),
        EntryKind::Recall if !is_author && role < Some(Role::Admin) => {
            Err(Rejection::Forbidden { needed: "the author, an admin or the owner" })
        }
        _ => Ok(()),
    }
}
