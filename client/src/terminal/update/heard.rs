//! What the client says.

use super::{Effect, select};
use crate::body::Undecodable;
use crate::entry::{Entry, Preview, Reaction, kind};
use crate::event::{Acked, ConversationRef, Event, GapReason, Receipt};
use crate::id::{ConversationId, UserId};
use crate::request::{Page, Summaries, UserFound};
use crate::terminal::clean;
use crate::terminal::model::{
    Conversation, Link, MESSAGES_AWAY_MAX, MESSAGES_MAX, Message, Model, NAMES_MAX, PREVIEW_MS,
    PREVIEWS_MAX, REACTIONS_MAX, Shown, TYPING_MAX, refusal,
};
use crate::terminal::view;

pub(super) fn event(model: &mut Model, event: Event) -> Vec<Effect> {
    match event {
        Event::Online { .. } => {
            model.link = Link::Online;
            for conversation in model.conversations.values_mut() {
                conversation.is_loading = false;
            }
            return vec![Effect::List];
        }
        Event::Offline { why, retry_in } => {
            let why = clean::line(&why.to_string());
            let wait = retry_in.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            model.link = match wait {
                Some(wait) => Link::Waiting { why, at_ms: model.now_ms.saturating_add(wait) },
                None => Link::Stopped { why },
            };
        }
        Event::Entry(entry) => return self::entry(model, &entry),
        Event::Preview(preview) => return self::preview(model, &preview),
        Event::Acked(acked) => self::acked(model, acked),
        Event::Refused(refused) => {
            let why = refusal(refused.code, &refused.text);
            let pending = model.conversations.get_mut(&refused.conversation);
            let pending = pending.and_then(|c| c.pending.iter_mut().find(|p| p.id == refused.id));
            match pending {
                Some(pending) => pending.refused = Some(why),
                None => model.say(format!("a message was not sent: {why}")),
            }
        }
        Event::Receipts { conversation, members } => receipts(model, conversation, &members),
        Event::Gap { conversation, from, to, reason } => {
            if let Some(known) = model.conversations.get_mut(&conversation) {
                gap(known, from, to, reason);
            }
        }
        Event::Reset { conversation, to } => {
            if let Some(known) = model.conversations.get_mut(&conversation) {
                known.messages.retain(|seq, _| *seq <= to);
                known.gaps.retain(|_, (last, _)| *last <= to);
                known.head = known.head.min(to);
                known.read = known.read.min(to);
                model.say("the server's history has changed; it is read again");
            }
        }
        Event::Attached { conversation, head, peer, .. } => {
            let to = ConversationRef { id: conversation, peer };
            if let Some(known) = model.conversation(to) {
                known.is_attached = true;
                // Entries up to here were counted by the list or are counted as they come.
                if known.messages.is_empty() && head > 0 && !known.is_loading {
                    known.head = known.head.max(head);
                }
            }
            return ask_for_names(model, peer.as_slice());
        }
        Event::AttachRefused { conversation, code, text } => {
            if let Some(known) = model.conversations.get_mut(&conversation) {
                known.is_attached = false;
                model.say(format!("cannot be shown: {}", refusal(code, &text)));
            }
        }
        Event::Hint { conversation, peer, .. } => {
            // No stream was free: attach, so that it is shown.
            return vec![Effect::Attach(ConversationRef { id: conversation, peer })];
        }
        Event::Typing { conversation, user, typing } => {
            if let Some(known) = model.conversations.get_mut(&conversation) {
                known.typing.retain(|one| *one != user);
                if typing && known.typing.len() < TYPING_MAX {
                    known.typing.push(user);
                }
            }
            return ask_for_names(model, &[user]);
        }
        Event::Own(_) | Event::OwnMissed => return vec![Effect::List],
        Event::Presence { user, online, .. } => {
            model.present.remove(&user);
            if online && model.present.len() < NAMES_MAX {
                model.present.insert(user);
            }
        }
        Event::OutboxUnavailable { why } => {
            model.say(format!("the outbox file cannot be written, so nothing is sent: {why}"));
        }
    }
    Vec::new()
}

/// A body as it is shown.
fn body(kind: u16, body: &Result<bytes::Bytes, Undecodable>) -> String {
    match body {
        Ok(bytes) if kind == kind::TEXT => clean::text(&String::from_utf8_lossy(bytes)),
        Ok(bytes) if kind == kind::SYSTEM => clean::text(&String::from_utf8_lossy(bytes)),
        Ok(bytes) => format!("[{}, {} bytes]", named(kind), bytes.len()),
        Err(error) => format!("[{error}]"),
    }
}

fn named(kind: u16) -> String {
    match kind {
        kind::CUSTOM => "a message of another application".to_owned(),
        kind::IMAGE => "a picture".to_owned(),
        kind::FILE => "a file".to_owned(),
        kind::VOICE => "a voice message".to_owned(),
        kind::LOCATION => "a place".to_owned(),
        kind::CARD => "a card".to_owned(),
        kind::GROUP => "the group has changed".to_owned(),
        other => format!("kind {other}"),
    }
}

/// Does to a message what an edit, a recall or a reaction says, unless it is done already.
fn change(known: &mut Conversation, entry: &Entry) {
    let Some(target) = entry.target.and_then(|seq| known.messages.get_mut(&seq)) else {
        return;
    };
    if entry.seq <= target.changed {
        return;
    }
    target.changed = entry.seq;
    match entry.kind {
        kind::EDIT if !target.is_recalled => {
            target.text = body(kind::TEXT, &entry.body);
            target.is_edited = true;
        }
        kind::RECALL => {
            target.text.clear();
            target.is_recalled = true;
            target.reactions.clear();
        }
        kind::REACT | kind::UNREACT => {
            let emoji = clean::line(entry.text().unwrap_or_default());
            let has_room = target.reactions.len() < REACTIONS_MAX;
            let found = target.reactions.iter_mut().find(|(known, _)| *known == emoji);
            match (found, entry.kind == kind::REACT) {
                (Some((_, count)), true) => *count += 1,
                (Some((_, count)), false) => *count = count.saturating_sub(1),
                (None, true) if has_room => {
                    target.reactions.push((emoji, 1));
                }
                (None, _) => {}
            }
            target.reactions.retain(|(_, count)| *count > 0);
        }
        _ => {}
    }
}

fn reactions(all: &[Reaction]) -> Vec<(String, u32)> {
    let some = all.iter().take(REACTIONS_MAX);
    some.map(|one| (clean::line(&one.emoji), one.count)).collect()
}

fn peer_of(model: &Model, conversation: ConversationId, sender: UserId) -> Option<UserId> {
    (ConversationId::of_pair(model.me, sender) == conversation).then_some(sender)
}

fn entry(model: &mut Model, entry: &Entry) -> Vec<Effect> {
    let (me, width) = (model.me, model.drawn.width);
    let name = model.name(entry.sender);
    let selected = model.selected;
    let peer = peer_of(model, entry.conversation, entry.sender);
    let Some(known) = model.conversation(ConversationRef { id: entry.conversation, peer }) else {
        return Vec::new();
    };
    let is_unlisted = known.to.peer.is_none();
    let is_selected = selected == Some(entry.conversation);
    let is_new = entry.seq > known.head;
    put(known, entry);
    if is_new {
        known.head = entry.seq;
        known.last_activity_ms = known.last_activity_ms.max(entry.time_ms);
        if entry.is_message() {
            known.last = clean::line(&body(entry.kind, &entry.body));
        }
        known.typing.retain(|user| *user != entry.sender);
        if entry.is_message() && entry.sender != me && entry.seq > known.read {
            known.unread += 1;
        }
        if is_selected && known.scroll > 0 && !kind::is_change(entry.kind) {
            // What is on the screen stays where it is.
            let text = known.messages.get(&entry.seq).map_or("", |message| &message.text);
            known.scroll += view::height(&name, text, width);
        }
    }
    known.trim(if is_selected { MESSAGES_MAX } else { MESSAGES_AWAY_MAX });
    model.sort();
    let mut effects = ask_for_names(model, &[entry.sender]);
    if is_unlisted {
        effects.push(Effect::List);
    }
    if model.selected.is_none() {
        effects.extend(select(model, entry.conversation));
    }
    effects
}

fn put(known: &mut Conversation, entry: &Entry) {
    known.pending.retain(|pending| pending.id != entry.id);
    known.previews.retain(|shown| shown.id != entry.id || shown.sender != entry.sender);
    let message = Message {
        id: entry.id,
        sender: entry.sender,
        time_ms: entry.time_ms,
        text: body(entry.kind, &entry.body),
        is_countable: entry.is_message(),
        is_change: kind::is_change(entry.kind),
        is_edited: entry.state.revision > 0,
        is_recalled: entry.state.recalled || entry.state.hidden,
        changed: entry.state.changed,
        reactions: reactions(&entry.state.reactions),
        reply_to: entry.target,
    };
    if message.is_change {
        change(known, entry);
    }
    known.messages.insert(entry.seq, message);
    known.has_start |= entry.seq == 1;
}

fn preview(model: &mut Model, preview: &Preview) -> Vec<Effect> {
    let until_ms = model.now_ms + PREVIEW_MS;
    let peer = peer_of(model, preview.conversation, preview.sender);
    let text = body(preview.kind, &preview.body);
    let (id, sender) = (preview.id, preview.sender);
    let Some(known) = model.conversation(ConversationRef { id: preview.conversation, peer }) else {
        return Vec::new();
    };
    let is_there = known.messages.values().any(|m| m.id == id && m.sender == sender)
        || known.previews.iter().any(|shown| shown.id == id && shown.sender == sender);
    if !is_there {
        if known.previews.len() >= PREVIEWS_MAX {
            known.previews.pop_front();
        }
        known.previews.push_back(Shown { id, sender, text, until_ms });
    }
    ask_for_names(model, &[sender])
}

fn acked(model: &mut Model, acked: Acked) {
    let (me, now_ms) = (model.me, model.now_ms);
    let Some(known) = model.conversations.get_mut(&acked.conversation) else {
        return;
    };
    let Some(at) = known.pending.iter().position(|pending| pending.id == acked.id) else {
        return;
    };
    let Some(pending) = known.pending.remove(at) else {
        return;
    };
    let time_ms = if acked.time_ms == 0 { now_ms } else { acked.time_ms };
    let message = Message::text(acked.id, me, time_ms, pending.text);
    known.messages.entry(acked.seq).or_insert(message);
    known.has_start |= acked.seq == 1;
}

fn receipts(model: &mut Model, conversation: ConversationId, members: &[Receipt]) {
    let me = model.me;
    let Some(known) = model.conversations.get_mut(&conversation) else {
        return;
    };
    for receipt in members {
        if receipt.user == me {
            if receipt.read > known.read {
                known.read = receipt.read;
                count_unread(known, me);
            }
        } else {
            known.peer_delivered = known.peer_delivered.max(receipt.delivered);
            known.peer_read = known.peer_read.max(receipt.read);
        }
    }
}

/// Others' messages above the read cursor, as far as they are loaded.
pub(super) fn count_unread(known: &mut Conversation, me: UserId) {
    let above = known.messages.range(known.read + 1..);
    let loaded = above.filter(|(_, message)| message.sender != me && message.is_countable).count();
    known.unread = u64::try_from(loaded).unwrap_or(u64::MAX);
}

/// Entries that are not shown. Those that history has are read when they are scrolled to: what
/// is older is forgotten, so that what is loaded has no holes.
fn gap(known: &mut Conversation, from: u64, to: u64, reason: GapReason) {
    if reason != GapReason::Skipped {
        known.gaps.insert(from, (to, reason));
        known.has_start |= from <= 1;
        return;
    }
    let mut first = to + 1;
    while known.messages.contains_key(&(first - 1)) {
        first -= 1;
    }
    if first > from {
        known.messages.retain(|seq, _| *seq >= first);
        known.gaps.retain(|start, _| *start >= first);
        known.has_start = false;
    }
}

pub(super) fn listed(model: &mut Model, list: Summaries) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut unknown = Vec::new();
    for line in list.summaries {
        let peer = line.peer.as_ref().map(|peer| peer.user);
        let to = ConversationRef { id: line.conversation, peer };
        let is_selected = model.selected == Some(to.id);
        let Some(known) = model.conversation(to) else {
            break;
        };
        known.read = known.read.max(line.own.1);
        known.peer_delivered = known.peer_delivered.max(line.peer_receipt.0);
        known.peer_read = known.peer_read.max(line.peer_receipt.1);
        let head = line.last.as_ref().map_or(0, |last| last.seq);
        if head >= known.head {
            known.head = head;
            known.unread = line.unread;
            known.last_activity_ms = known.last_activity_ms.max(line.last_activity_ms);
            if let Some(last) = line.last.as_ref().filter(|last| last.is_message()) {
                known.last = clean::line(&body(last.kind, &last.body));
            }
        }
        known.mentions = line.mentions;
        if let Some(group) = line.group {
            known.name = Some(clean::line(&group.profile.name));
        }
        if line.unread > 0 && !known.is_attached {
            known.is_attached = true;
            effects.push(Effect::Attach(to));
        }
        if is_selected && known.oldest().is_none() && head > 0 && !known.is_loading {
            known.is_loading = true;
            effects.push(Effect::History { conversation: to.id, to: 0 });
        }
        unknown.extend(line.last.map(|last| last.sender));
        learn(model, line.peer.into_iter().collect());
    }
    model.sort();
    if model.selected.is_none()
        && let Some(first) = model.order.first().copied()
    {
        effects.extend(select(model, first));
    }
    effects.extend(ask_for_names(model, &unknown));
    effects
}

pub(super) fn page(model: &mut Model, conversation: ConversationId, page: Page) -> Vec<Effect> {
    let is_selected = model.selected == Some(conversation);
    let Some(known) = model.conversations.get_mut(&conversation) else {
        return Vec::new();
    };
    known.is_loading = false;
    known.head = known.head.max(page.head);
    if page.entries.is_empty() && page.gaps.is_empty() {
        known.has_start = true;
    }
    for (from, to, reason) in page.gaps {
        if reason != GapReason::Skipped {
            gap(known, from, to, reason);
        }
    }
    let mut senders: Vec<_> = page.entries.iter().map(|entry| entry.sender).collect();
    for entry in &page.entries {
        put(known, entry);
    }
    if !is_selected {
        known.trim(MESSAGES_AWAY_MAX);
    }
    senders.sort_unstable();
    senders.dedup();
    ask_for_names(model, &senders)
}

/// Remembers names, cleaned.
pub(super) fn learn(model: &mut Model, found: Vec<UserFound>) {
    if model.names.len() + found.len() > NAMES_MAX {
        let me = model.me;
        model.names.retain(|user, _| *user == me);
    }
    for user in found {
        let name = clean::line(user.shown_name());
        model.names.insert(user.user, name);
    }
}

fn ask_for_names(model: &Model, users: &[UserId]) -> Vec<Effect> {
    let unknown = users.iter().filter(|user| !model.names.contains_key(user));
    let unknown: Vec<_> = unknown.copied().collect();
    if unknown.is_empty() { Vec::new() } else { vec![Effect::Names(unknown)] }
}
