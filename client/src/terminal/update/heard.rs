//! What the client says.

use petrel_proto::code::Code;

use super::{Ask, Effect, entries};
use crate::event::{ConversationRef, Event, OfflineReason, Receipt, Refused};
use crate::id::{ConversationId, UserId};
use crate::logged::{OwnChange, OwnEvent};
use crate::request::{Contact, Friendship, Role, UserFound};
use crate::terminal::clean;
use crate::terminal::model::{Link, Model, PRESENT_MAX, Presence, TYPING_MAX, refusal};

pub(super) fn event(model: &mut Model, event: Event) -> Vec<Effect> {
    match event {
        Event::Online { transport, .. } => {
            model.link = Link::Online(transport);
            for conversation in model.conversations.values_mut() {
                conversation.is_loading = false;
                conversation.is_group_asked = false;
            }
            let mut effects = vec![Effect::List];
            if !model.has_contacts {
                effects.push(Effect::Ask(Ask::Contacts));
            }
            return effects;
        }
        Event::Offline { why, retry_in } => offline(model, &why, retry_in),
        Event::Entry(entry) => return entries::entry(model, &entry),
        Event::Preview(preview) => return entries::preview(model, &preview),
        Event::Acked(acked) => entries::acked(model, acked),
        Event::Refused(refused) => self::refused(model, &refused),
        Event::Receipts { conversation, members } => receipts(model, conversation, &members),
        Event::Gap { conversation, from, to, reason } => {
            if let Some(known) = model.conversations.get_mut(&conversation) {
                entries::gap(known, from, to, reason);
            }
        }
        Event::Reset { conversation, to } => reset(model, conversation, to),
        Event::Attached { conversation, head, peer, .. } => {
            let to = ConversationRef { id: conversation, peer };
            if let Some(known) = model.conversation(to) {
                known.is_attached = true;
                // Entries up to here were counted by the list or are counted as they come.
                if known.log.rows().is_empty() && head > 0 && !known.is_loading {
                    known.head = known.head.max(head);
                }
            }
            return ask_for_names(model, peer.as_slice());
        }
        Event::AttachRefused { conversation, code, text } => {
            if let Some(known) = model.conversations.get_mut(&conversation) {
                known.is_attached = false;
                match &mut known.group {
                    Some(group) if code == Code::NotFound => {
                        group.role = Role::Outside;
                        let name = group.profile.name.clone();
                        model.say(format!("you are no member of {name} any more"));
                    }
                    _ => model.say(format!("cannot be shown: {}", refusal(code, &text))),
                }
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
        Event::Own(own) => return self::own(model, &own),
        Event::OwnMissed => return vec![Effect::List, Effect::Ask(Ask::Contacts)],
        Event::Presence { user, online, seen_ms } => {
            if model.present.len() < PRESENT_MAX || model.present.contains_key(&user) {
                let presence = if online { Presence::Here } else { Presence::Away(seen_ms) };
                model.present.insert(user, presence);
            }
        }
        Event::OutboxUnavailable { why } => {
            model.say(format!("the outbox file cannot be written, so nothing is sent: {why}"));
        }
    }
    Vec::new()
}

fn offline(model: &mut Model, why: &OfflineReason, retry_in: Option<std::time::Duration>) {
    // Nobody's presence is known without a connection; it is told anew after the next sign-in.
    model.present.clear();
    let why = clean::line(&why.to_string());
    let wait = retry_in.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    model.link = match wait {
        Some(wait) => Link::Waiting { why, at_ms: model.now_ms.saturating_add(wait) },
        None => Link::Stopped { why },
    };
}

fn refused(model: &mut Model, refused: &Refused) {
    let why = refusal(refused.code, &refused.text);
    let known = model.conversations.get_mut(&refused.conversation);
    let what = match known {
        Some(known) => {
            if let Some(pending) = known.pending.iter_mut().find(|p| p.id == refused.id) {
                pending.refused = Some(why);
                return;
            }
            known.changes.remove(&refused.id)
        }
        None => None,
    };
    model.say(format!("{} was refused: {why}", what.unwrap_or("a message")));
}

fn reset(model: &mut Model, conversation: ConversationId, to: u64) {
    if let Some(known) = model.conversations.get_mut(&conversation) {
        known.log.reset(conversation, to);
        known.gaps.retain(|_, (last, _)| *last <= to);
        known.head = known.head.min(to);
        known.read = known.read.min(to);
        model.say("the server's history has changed; it is read again");
    }
}

/// Something that is the user's own has changed, on this or another device.
fn own(model: &mut Model, own: &OwnEvent) -> Vec<Effect> {
    match &own.change {
        OwnChange::EntriesHidden { conversation, seqs } => hidden(model, *conversation, seqs),
        OwnChange::Contact(contact) => self::contact(model, contact),
        OwnChange::Account { nickname, .. } => model.people.rename_me(nickname),
        OwnChange::ConversationSet { conversation, settings } => {
            if let Some(known) = model.conversations.get_mut(conversation) {
                known.settings = *settings;
                model.sort();
            }
        }
        OwnChange::JoinAsked { conversation, user, text, closed } => {
            model.people.learn(user);
            if *closed {
                model.joins.remove(&(*conversation, user.user));
            } else if user.user != model.me {
                model.join_asked(*conversation, user.user, text);
                let (who, of) = (model.people.full_name(user.user), &model.conversations);
                let group = of.get(conversation).map(|known| model.title(known));
                let group = group.unwrap_or_else(|| "a group of yours".to_owned());
                model.say(format!("{who} asks to join {group}; /contacts shows it"));
            }
        }
        OwnChange::DeviceAdded { label, .. } => {
            let label = clean::line(label);
            model.say(format!("a device was signed in as you: {label}; /devices lists them"));
        }
        OwnChange::DevicesRevoked(_)
        | OwnChange::SettingSet(_)
        | OwnChange::SettingRemoved(_)
        | OwnChange::Unknown { .. } => {}
    }
    Vec::new()
}

/// Says what is new in a relation if the other one has done it.
fn contact(model: &mut Model, contact: &Contact) {
    let user = contact.user.user;
    let before = model.people.relation(user).map(|relation| relation.friendship);
    model.people.relate(contact);
    let (who, name) = (model.people.full_name(user), clean::line(&contact.user.name));
    match (before, contact.friendship) {
        (Some(Friendship::Invited), Friendship::Invited) => {}
        (_, Friendship::Invited) => {
            let colon = if contact.text.is_empty() { "" } else { ": " };
            let text = clean::line(&contact.text);
            model.say(format!("{who} asks to be friends{colon}{text}; /accept {name}"));
        }
        (Some(Friendship::Asked), Friendship::Friends) => {
            model.say(format!("{who} and you are friends now"));
        }
        _ => {}
    }
}

/// Entries are hidden.
pub(super) fn hidden(model: &mut Model, conversation: ConversationId, seqs: &[u64]) {
    if let Some(known) = model.conversations.get_mut(&conversation) {
        known.log.hide(seqs);
        known.tell_last();
    }
}

fn receipts(model: &mut Model, conversation: ConversationId, members: &[Receipt]) {
    let me = model.me;
    let Some(known) = model.conversations.get_mut(&conversation) else {
        return;
    };
    for receipt in members {
        if receipt.user != me {
            known.receipt(*receipt);
        } else if receipt.read > known.read {
            known.read = receipt.read;
            known.count_unread(me);
        }
    }
}

/// Remembers names, cleaned.
pub(super) fn learn(model: &mut Model, found: &[UserFound]) {
    for user in found {
        model.people.learn(user);
    }
}

pub(super) fn ask_for_names(model: &Model, users: &[UserId]) -> Vec<Effect> {
    let unknown = users.iter().filter(|user| !model.people.is_known(**user));
    let mut unknown: Vec<_> = unknown.copied().collect();
    unknown.sort_unstable();
    unknown.dedup();
    if unknown.is_empty() { Vec::new() } else { vec![Effect::Names(unknown)] }
}
