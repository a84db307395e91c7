//! Entries, pages and lists that the client brings.

use super::{Effect, heard, introduce, select};
use crate::entry::{Entry, Preview, kind};
use crate::event::{Acked, ConversationRef, GapReason};
use crate::id::{ConversationId, UserId};
use crate::request::{Group, Page, Role, Summaries, Summary};
use crate::terminal::log::{Form, Row, body};
use crate::terminal::model::{
    Conversation, GroupState, Last, MESSAGES_AWAY_MAX, MESSAGES_MAX, Model, PREVIEW_MS,
    PREVIEWS_MAX, Shown,
};
use crate::terminal::view;

fn peer_of(model: &Model, conversation: ConversationId, sender: UserId) -> Option<UserId> {
    (ConversationId::of_pair(model.me, sender) == conversation).then_some(sender)
}

pub(super) fn entry(model: &mut Model, entry: &Entry) -> Vec<Effect> {
    let (me, width) = (model.me, model.drawn.width);
    let selected = model.selected;
    let peer = peer_of(model, entry.conversation, entry.sender);
    let to = ConversationRef { id: entry.conversation, peer };
    let Some(known) = model.conversation(to) else {
        return Vec::new();
    };
    let is_unlisted = known.to.peer.is_none() && known.group.is_none();
    let was_asked = known.is_group_asked;
    known.is_group_asked |= is_unlisted;
    let is_selected = selected == Some(entry.conversation);
    let is_new = entry.seq > known.head;
    let is_known = known.log.get(entry.seq).is_some();
    put(known, entry);
    let mut effects = Vec::new();
    if is_new {
        known.head = entry.seq;
        known.last_activity_ms = known.last_activity_ms.max(entry.time_ms);
        known.typing.retain(|user| *user != entry.sender);
        if entry.is_message() && entry.sender != me && entry.seq > known.read {
            known.unread += 1;
            known.mentions += u64::from(entry.mentions(me));
        }
        if entry.kind == kind::GROUP && !is_unlisted {
            effects.extend(ask_for_group(known));
        }
    }
    known.tell_last();
    known.trim(if is_selected { MESSAGES_MAX } else { MESSAGES_AWAY_MAX });
    let unknown = row_users(known.log.get(entry.seq), entry.sender);
    if is_new && is_selected && !is_known {
        keep_in_view(model, entry.seq, width);
    }
    model.sort();
    effects.extend(heard::ask_for_names(model, &unknown));
    if is_unlisted && !was_asked {
        effects.push(Effect::List);
    }
    if model.selected.is_none() {
        effects.extend(select(model, entry.conversation));
    }
    effects
}

/// What is on the screen stays where it is while it is scrolled.
fn keep_in_view(model: &mut Model, seq: u64, width: usize) {
    let Some(known) = model.on_screen().filter(|known| known.scroll > 0) else {
        return;
    };
    let rows = view::height(model, known, seq, width);
    if let Some(known) = model.on_screen_mut() {
        known.scroll += rows;
    }
}

/// Whose names an entry shows.
fn row_users(row: Option<&Row>, sender: UserId) -> Vec<UserId> {
    let mut users = vec![sender];
    if let Some(Row { form: Form::Happened(happened), .. }) = row {
        users.extend_from_slice(happened.users());
    }
    users
}

/// What the group is now, asked for once however much has happened.
fn ask_for_group(known: &mut Conversation) -> Option<Effect> {
    (!std::mem::replace(&mut known.is_group_asked, true)).then_some(Effect::Group(known.to.id))
}

fn put(known: &mut Conversation, entry: &Entry) {
    known.pending.retain(|pending| pending.id != entry.id);
    known.previews.retain(|shown| shown.id != entry.id || shown.sender != entry.sender);
    known.log.entry(entry);
    known.has_start |= entry.seq == 1;
}

pub(super) fn preview(model: &mut Model, preview: &Preview) -> Vec<Effect> {
    let until_ms = model.now_ms + PREVIEW_MS;
    let peer = peer_of(model, preview.conversation, preview.sender);
    let text = body(preview.kind, &preview.body);
    let (id, sender) = (preview.id, preview.sender);
    let to = ConversationRef { id: preview.conversation, peer };
    if kind::is_change(preview.kind) {
        return Vec::new();
    }
    let Some(known) = model.conversation(to) else {
        return Vec::new();
    };
    let is_there = known.log.rows().values().any(|row| row.id == id && row.sender == sender)
        || known.previews.iter().any(|shown| shown.id == id && shown.sender == sender);
    if !is_there {
        if known.previews.len() >= PREVIEWS_MAX {
            known.previews.pop_front();
        }
        known.previews.push_back(Shown { id, sender, text, until_ms });
    }
    heard::ask_for_names(model, &[sender])
}

/// The entry itself follows; until then the message stands in its place.
pub(super) fn acked(model: &mut Model, acked: Acked) {
    let (me, now_ms) = (model.me, model.now_ms);
    let Some(known) = model.conversations.get_mut(&acked.conversation) else {
        return;
    };
    known.changes.remove(&acked.id);
    let Some(at) = known.pending.iter().position(|pending| pending.id == acked.id) else {
        return;
    };
    let Some(pending) = known.pending.remove(at) else {
        return;
    };
    let entry = Entry {
        conversation: acked.conversation,
        seq: acked.seq,
        id: acked.id,
        sender: me,
        time_ms: if acked.time_ms == 0 { now_ms } else { acked.time_ms },
        count: 0,
        kind: kind::TEXT,
        body: Ok(pending.text.into()),
        target: pending.reply_to,
        mentions: Vec::new(),
        state: crate::entry::EntryState::default(),
    };
    if known.log.get(acked.seq).is_none() {
        put(known, &entry);
    }
}

/// Entries that are not shown. Those that history has are read when they are scrolled to: what
/// is older is forgotten, so that what is loaded has no holes.
pub(super) fn gap(known: &mut Conversation, from: u64, to: u64, reason: GapReason) {
    if reason != GapReason::Skipped {
        known.gaps.insert(from, (to, reason));
        known.has_start |= from <= 1;
        return;
    }
    let mut first = to + 1;
    while known.log.get(first - 1).is_some() {
        first -= 1;
    }
    if first > from {
        known.log.forget_before(first);
        known.gaps.retain(|start, _| *start >= first);
        known.has_start = false;
    }
}

pub(super) fn listed(model: &mut Model, list: Summaries) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut unknown = Vec::new();
    for line in list.summaries {
        if let Some(peer) = &line.peer {
            model.people.learn(peer);
        }
        let to = ConversationRef {
            id: line.conversation,
            peer: line.peer.as_ref().map(|peer| peer.user),
        };
        let (me, is_selected) = (model.me, model.selected == Some(to.id));
        let Some(known) = model.conversation(to) else {
            break;
        };
        let has_unread = line.unread > 0;
        if let Some(last) = &line.last {
            unknown.extend(row_users(Some(&Row::of(last, me)), last.sender));
        }
        summarize(known, line, me);
        if has_unread && !known.is_attached {
            known.is_attached = true;
            effects.push(Effect::Attach(to));
        }
        if is_selected && known.oldest().is_none() && known.head > 0 && !known.is_loading {
            known.is_loading = true;
            effects.push(Effect::History { conversation: to.id, to: 0 });
        }
    }
    model.sort();
    match model.order.first().copied() {
        Some(first) if model.selected.is_none() => effects.extend(select(model, first)),
        // It may be known to be a group only now.
        _ => effects.extend(model.on_screen_mut().map(introduce).unwrap_or_default()),
    }
    effects.extend(heard::ask_for_names(model, &unknown));
    effects
}

/// Takes what the list says of one conversation, unless more is known already.
fn summarize(known: &mut Conversation, line: Summary, me: UserId) {
    known.read = known.read.max(line.own.1);
    if let Some(peer) = known.to.peer {
        let (delivered, read) = line.peer_receipt;
        known.receipt(crate::event::Receipt { user: peer, delivered, read });
    }
    let head = line.last.as_ref().map_or(0, |last| last.seq);
    if head >= known.head {
        known.head = head;
        known.unread = line.unread;
        known.mentions = line.mentions;
        known.last_activity_ms = known.last_activity_ms.max(line.last_activity_ms);
        let last = line.last.as_ref().map(|last| Last::of(&Row::of(last, me)));
        if let Some(last) = last.filter(|last| *last != Last::Nothing) {
            known.last = last;
        }
    }
    known.settings = line.settings;
    if let Some(group) = line.group {
        known.group = Some(GroupState::of(&group));
    }
    known.is_group_asked = false;
}

/// What a group is now; `None`: the user is no member.
pub(super) fn group(
    model: &mut Model,
    conversation: ConversationId,
    group: Option<&Group>,
) -> Vec<Effect> {
    let Some(known) = model.conversations.get_mut(&conversation) else {
        return Vec::new();
    };
    known.is_group_asked = false;
    match (group, &mut known.group) {
        (Some(group), state) => *state = Some(GroupState::of(group)),
        (None, Some(state)) => state.role = Role::Outside,
        (None, None) => {}
    }
    Vec::new()
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
    let mut users = Vec::new();
    // From the newest on, so that what does not fit is the oldest.
    for entry in page.entries.iter().rev() {
        put(known, entry);
        users.extend(row_users(known.log.get(entry.seq), entry.sender));
    }
    known.tell_last();
    if !is_selected {
        known.trim(MESSAGES_AWAY_MAX);
    }
    users.sort_unstable();
    users.dedup();
    heard::ask_for_names(model, &users)
}
