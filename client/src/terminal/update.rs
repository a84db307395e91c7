//! How the model changes, and what is to be done then. Pure.

mod answered;
mod entries;
mod heard;
mod keys;
mod message;
mod mouse;
mod orders;
mod picking;
mod search;
mod typing;
mod watching;

use bytes::Bytes;

use super::action::looks_after;
use super::command::{self, Line};
pub(super) use super::effect::{Ask, Effect, Input, Saying};
use super::model::{Conversation, Last, MESSAGES_AWAY_MAX, MESSAGES_MAX, Model, Overlay, Pending};
use super::sheet::Sheet;
use super::view::Drawn;
use crate::event::ConversationRef;
use crate::id::{ConversationId, MessageId};
use crate::request::Role;

/// Entries of one page of history.
pub(super) const PAGE_ENTRIES: u32 = 100;

pub(super) fn update(model: &mut Model, input: Input) -> Vec<Effect> {
    match input {
        Input::Terminal(event) => terminal(model, event),
        Input::Client(event) => {
            let before = model.order.len();
            let mut effects = heard::event(model, event);
            if model.order.len() != before {
                // Somebody new is in the list.
                effects.extend(watching::watch(model));
            }
            effects
        }
        Input::Stats(stats) => {
            model.stats = stats;
            Vec::new()
        }
        Input::Queued { to, id, what } => queued(model, to, id, what),
        Input::Answered(answer) => answered::answered(model, answer),
        Input::Listed(list) => {
            let mut effects = entries::listed(model, list);
            effects.extend(watching::watch(model));
            effects
        }
        Input::Page { conversation, page } => entries::page(model, conversation, page),
        Input::NoPage { conversation, why } => {
            // It stays marked as loading, so that it is not asked for with each frame.
            if model.selected == Some(conversation) {
                model.say(format!("earlier messages cannot be read: {why}"));
            }
            Vec::new()
        }
        Input::Names(found) => {
            heard::learn(model, &found);
            Vec::new()
        }
        Input::Group { conversation, group } => entries::group(model, conversation, group.as_ref()),
        Input::Found { names, purpose, found } => orders::found(model, &names, purpose, &found),
        Input::Said(notice) => {
            model.say(notice);
            Vec::new()
        }
        Input::Drawn(drawn) => drawn_now(model, drawn),
        Input::Clock(now_ms) => clock(model, now_ms),
    }
}

fn terminal(model: &mut Model, event: crossterm::event::Event) -> Vec<Effect> {
    use crossterm::event::Event as Terminal;
    let before = model.composer.text().to_owned();
    let mut effects = match event {
        Terminal::Key(key) if key.is_press() || key.is_repeat() => keys::key(model, key),
        Terminal::Mouse(mouse) => mouse::mouse(model, mouse),
        Terminal::Paste(text) => {
            keys::insert(model, &text);
            Vec::new()
        }
        _ => Vec::new(),
    };
    effects.extend(typing::say(model, &before));
    effects
}

/// Scrolls what is in front. The next frame corrects what is too far.
fn scroll(model: &mut Model, rows: usize, up: bool) -> Vec<Effect> {
    if let Some(Overlay::Help { scroll } | Overlay::Sheet(Sheet { scroll, .. })) =
        &mut model.overlay
    {
        let rows = u16::try_from(rows).unwrap_or(u16::MAX);
        *scroll = if up { scroll.saturating_sub(rows) } else { scroll.saturating_add(rows) };
        return Vec::new();
    }
    if let Some(conversation) = model.on_screen_mut() {
        let at = &mut conversation.scroll;
        *at = if up { at.saturating_add(rows) } else { at.saturating_sub(rows) };
        // A page that could not be read may be asked for again now.
        conversation.is_loading &= !up;
    }
    Vec::new()
}

/// Brings a conversation onto the screen.
pub(super) fn select(model: &mut Model, id: ConversationId) -> Vec<Effect> {
    if model.selected == Some(id) {
        return Vec::new();
    }
    if let Some(left) = model.on_screen_mut() {
        left.new_from = None;
        left.scroll = 0;
        left.trim(MESSAGES_AWAY_MAX);
    }
    model.search = None;
    model.composing = None;
    picking::stop(model);
    model.selected = Some(id);
    let Some(conversation) = model.on_screen_mut() else {
        return Vec::new();
    };
    conversation.new_from = (conversation.unread > 0).then_some(conversation.read + 1);
    let mut effects = Vec::new();
    if !conversation.is_attached {
        conversation.is_attached = true;
        effects.push(Effect::Attach(conversation.to));
    }
    if conversation.head > 0 && !conversation.has_start {
        conversation.is_loading = true;
        effects.push(Effect::History { conversation: id, to: 0 });
    }
    effects.extend(introduce(conversation));
    effects
}

/// Asks for the names of a group's members, and for who wants to join, once.
fn introduce(known: &mut Conversation) -> Vec<Effect> {
    let is_member = known.group.as_ref().is_some_and(|group| group.role != Role::Outside);
    if !is_member || std::mem::replace(&mut known.is_introduced, true) {
        return Vec::new();
    }
    let (conversation, page) = (known.to.id, Bytes::new());
    let mut effects = vec![Effect::Ask(Ask::Members { conversation, page, is_shown: false })];
    if looks_after(known) {
        effects.push(Effect::Ask(Ask::JoinRequests(conversation)));
    }
    effects
}

/// The conversation `by` places further down the list.
fn step(model: &mut Model, down: bool) -> Vec<Effect> {
    let at = model.order.iter().position(|id| Some(*id) == model.selected);
    let next = match at {
        None => 0,
        Some(at) if down => at + 1,
        Some(at) => at.saturating_sub(1),
    };
    match model.order.get(next).copied() {
        Some(id) => select(model, id),
        None => Vec::new(),
    }
}

/// Carries out what was typed.
fn submit(model: &mut Model) -> Vec<Effect> {
    let typed = model.composer.text().trim().to_owned();
    if typed.is_empty() {
        return Vec::new();
    }
    // In a group a name at the start is a mention.
    let is_group = model.on_screen().is_some_and(|known| known.to.peer.is_none());
    let is_message = (is_group && typed.starts_with('@')) || model.composing.is_some();
    let line = if is_message && !typed.starts_with('/') {
        Ok(Line::Message(typed))
    } else {
        command::parse(&typed)
    };
    // What it becomes may put another text there.
    let before = model.composer.clone();
    model.composer.take();
    let done = line.and_then(|line| match line {
        Line::Message(text) => message::say(model, text),
        Line::Command { verb, names, text } => orders::carry_out(model, verb, names, text),
    });
    done.unwrap_or_else(|why| {
        model.composer = before;
        model.say(why);
        Vec::new()
    })
}

fn queued(model: &mut Model, to: ConversationRef, id: MessageId, what: Saying) -> Vec<Effect> {
    let (me, now_ms) = (model.me, model.now_ms);
    if let Some(conversation) = model.conversation(to) {
        let (text, reply_to) = match what {
            Saying::Text { text, reply_to, .. } => (text, reply_to),
            Saying::Edit { .. } => return change_queued(conversation, id, "the edit"),
            Saying::Recall { .. } => return change_queued(conversation, id, "the recall"),
            Saying::React { .. } => return change_queued(conversation, id, "the reaction"),
        };
        conversation.last_activity_ms = now_ms;
        conversation.last = Last::Said(me, super::clean::line(&text));
        if conversation.pending.len() >= super::model::PENDING_MAX {
            conversation.pending.pop_front();
        }
        let text = super::clean::text(&text);
        conversation.pending.push_back(Pending { id, text, reply_to, refused: None });
        model.sort();
    }
    Vec::new()
}

fn change_queued(known: &mut Conversation, id: MessageId, what: &'static str) -> Vec<Effect> {
    known.change(id, what);
    Vec::new()
}

/// What was on the screen is read; at the top, older messages are wanted.
fn drawn_now(model: &mut Model, drawn: Drawn) -> Vec<Effect> {
    let mut effects = Vec::new();
    let me = model.me;
    model.wanted = None;
    if let Some(conversation) = drawn.conversation.and_then(|id| model.conversations.get_mut(&id)) {
        let id = conversation.to.id;
        conversation.scroll = drawn.scroll;
        if let Some(seq) = drawn.highest.filter(|seq| *seq > conversation.read) {
            conversation.read = seq;
            conversation.count_unread(me);
            effects.push(Effect::Read { conversation: id, seq });
        }
        let oldest = conversation.oldest().unwrap_or(0);
        let has_room = conversation.log.rows().len() + PAGE_ENTRIES as usize <= MESSAGES_MAX;
        if drawn.is_top && !conversation.is_loading && oldest > 1 && has_room {
            conversation.is_loading = true;
            effects.push(Effect::History { conversation: id, to: oldest - 1 });
        }
    }
    model.drawn = drawn;
    effects
}

fn clock(model: &mut Model, now_ms: u64) -> Vec<Effect> {
    model.now_ms = now_ms;
    if model.notice.as_ref().is_some_and(|(_, until_ms)| *until_ms <= now_ms) {
        model.notice = None;
    }
    for conversation in model.conversations.values_mut() {
        conversation.previews.retain(|preview| preview.until_ms > now_ms);
    }
    Vec::new()
}
