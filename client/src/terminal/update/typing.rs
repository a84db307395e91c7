//! Saying that the user writes: with each change of what is typed, as long as it will be a
//! message. The client says it at most once in a while.

use super::Effect;
use crate::id::ConversationId;
use crate::terminal::model::Model;

/// The conversation for which a message is being written.
fn written_for(model: &Model) -> Option<ConversationId> {
    let text = model.composer.text().trim_start();
    let is_command = text.starts_with('/') && !text.starts_with("//");
    model.selected.filter(|_| !text.is_empty() && !is_command)
}

/// What is to be said after something was typed; `before` is what stood there.
pub(super) fn say(model: &mut Model, before: &str) -> Vec<Effect> {
    let (was, now) = (model.writing, written_for(model));
    let mut effects = Vec::new();
    if let Some(conversation) = was.filter(|_| was != now) {
        effects.push(Effect::Typing { conversation, is_typing: false });
    }
    if model.composer.text() == before {
        // Nothing was typed: a text that was left standing says nothing elsewhere.
        model.writing = was.filter(|_| was == now);
        return effects;
    }
    model.writing = now;
    if let Some(conversation) = now {
        effects.push(Effect::Typing { conversation, is_typing: true });
    }
    effects
}
