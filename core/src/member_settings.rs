//! What a member keeps for himself about a conversation: how it stands in his list, and entries
//! that he wants to see no more. The last request counts; nobody else's rights rest on it.

use crate::change::{MemberSettings, RowChange};
use crate::error::Rejection;
use crate::event::{Decision, Event, Log};
use crate::id::{ConversationId, Seq, UserId};
use crate::limits::{HIDE_BATCH_MAX, TIME_MS_MAX};

/// Judges a member's new settings for a conversation.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub fn set(
    user: UserId,
    conversation: ConversationId,
    settings: MemberSettings,
) -> Result<Decision, Rejection> {
    for (field, time_ms) in [
        ("settings.silenced_until_ms", settings.silenced_until_ms),
        ("settings.pinned_ms", settings.pinned_ms),
    ] {
        if time_ms > TIME_MS_MAX {
            return Err(Rejection::Invalid { field, problem: format!("at most {TIME_MS_MAX}") });
        }
    }
    Ok(Decision {
        guards: Vec::new(),
        rows: vec![RowChange::MemberSettings(user, conversation, settings)],
        events: vec![(Log::Of(user), Event::ConversationSet(conversation, settings))],
    })
}

/// Judges the hiding of entries that the member may see.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub fn hide(
    user: UserId,
    conversation: ConversationId,
    mut seqs: Vec<Seq>,
) -> Result<Decision, Rejection> {
    if !(1..=HIDE_BATCH_MAX).contains(&seqs.len()) || seqs.contains(&Seq(0)) {
        let problem = format!("1 to {HIDE_BATCH_MAX} entries, from 1 on");
        return Err(Rejection::Invalid { field: "seqs", problem });
    }
    seqs.sort_unstable();
    seqs.dedup();
    Ok(Decision {
        guards: Vec::new(),
        rows: vec![RowChange::Hide(user, conversation, seqs.clone())],
        events: vec![(Log::Of(user), Event::EntriesHidden(conversation, seqs))],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    const USER: UserId = UserId([1; 16]);
    const CONVERSATION: ConversationId = ConversationId([2; 16]);

    #[test]
    fn what_a_member_keeps_for_himself_is_bounded() {
        for (time_ms, fits) in [(0, true), (TIME_MS_MAX, true), (TIME_MS_MAX + 1, false)] {
            let pinned = MemberSettings { pinned_ms: time_ms, ..MemberSettings::default() };
            assert_eq!(set(USER, CONVERSATION, pinned).is_ok(), fits);
            let silenced = MemberSettings { silenced_until_ms: time_ms, ..pinned };
            assert_eq!(set(USER, CONVERSATION, silenced).is_ok(), fits);
        }
        for (entries, fits) in
            [(0, false), (1, true), (HIDE_BATCH_MAX, true), (HIDE_BATCH_MAX + 1, false)]
        {
            let seqs = (1..=entries as u64).map(Seq).collect();
            assert_eq!(hide(USER, CONVERSATION, seqs).is_ok(), fits, "{entries}");
        }
        assert!(hide(USER, CONVERSATION, vec![Seq(0)]).is_err());
        let twice = hide(USER, CONVERSATION, vec![Seq(2), Seq(1), Seq(2)]).unwrap();
        assert_eq!(twice.rows, [RowChange::Hide(USER, CONVERSATION, vec![Seq(1), Seq(2)])]);
    }
}
