//! What the service has said to what was asked of it.

use super::{Effect, entries, heard, select, watching};
use crate::event::ConversationRef;
use crate::id::{ConversationId, UserId};
use crate::request::{Contact, Device, Friendship, Group, JoinRequest, Link, Members, Role};
use crate::terminal::calendar;
use crate::terminal::clean;
use crate::terminal::effect::{Answer, Ask};
use crate::terminal::happened::{listed, until_words};
use crate::terminal::model::{GroupState, Model, Overlay};
use crate::terminal::people::Relation;
use crate::terminal::sheet::Sheet;

pub(super) fn answered(model: &mut Model, answer: Answer) -> Vec<Effect> {
    match answer {
        Answer::Readers(readers) => return self::readers(model, &readers),
        Answer::Hidden { conversation, seq } => heard::hidden(model, conversation, &[seq]),
        Answer::Joined(group) => return joined(model, &group),
        Answer::Changed(group) => return changed(model, &group),
        Answer::Link { conversation, link } => self::link(model, conversation, &link),
        Answer::Members { conversation, members, is_shown } => {
            self::members(model, conversation, members, is_shown);
        }
        Answer::JoinRequests { conversation, requests } => {
            join_requests(model, conversation, &requests);
        }
        Answer::Contacts(contacts) => {
            model.has_contacts = true;
            model.people.forget_relations();
            for contact in &contacts.contacts {
                model.people.relate(contact);
            }
            return watching::watch(model).into_iter().collect();
        }
        Answer::Contact(contact) => self::contact(model, &contact),
        Answer::Devices(devices) => self::devices(model, &devices),
        Answer::Settings { conversation, settings } => {
            if let Some(known) = model.conversations.get_mut(&conversation) {
                known.settings = settings;
                model.sort();
            }
        }
    }
    Vec::new()
}

fn show(model: &mut Model, sheet: Sheet) {
    model.overlay = Some(Overlay::Sheet(sheet));
}

/// Who has read a message.
fn readers(model: &mut Model, readers: &[UserId]) -> Vec<Effect> {
    let others = readers.iter().filter(|user| **user != model.me);
    let lines = others.map(|user| model.people.full_name(*user)).collect();
    show(model, Sheet::new("Read by", lines));
    heard::ask_for_names(model, readers)
}

/// The user has made a group, has joined one, or has asked to.
fn joined(model: &mut Model, group: &Group) -> Vec<Effect> {
    let name = clean::line(&group.profile.name);
    if group.asked {
        model.say(format!("you have asked to join {name}; an admin has to accept it"));
        return Vec::new();
    }
    let to = ConversationRef { id: group.conversation, peer: None };
    let now_ms = model.now_ms;
    let Some(known) = model.conversation(to) else {
        model.say("too many conversations are listed");
        return Vec::new();
    };
    known.group = Some(GroupState::of(group));
    known.last_activity_ms = known.last_activity_ms.max(now_ms);
    model.sort();
    not_added(model, group);
    select(model, to.id)
}

/// The user has changed a group.
fn changed(model: &mut Model, group: &Group) -> Vec<Effect> {
    let effects = entries::group(model, group.conversation, Some(group));
    not_added(model, group);
    if group.role == Role::Outside {
        model.say(format!("you have left {}", clean::line(&group.profile.name)));
    }
    effects
}

fn not_added(model: &mut Model, group: &Group) {
    if !group.refused.is_empty() {
        let names = listed(&group.refused, &|user| model.name(user));
        model.say(format!("{names} could not be added: they do not allow it, or have too many"));
    }
}

fn link(model: &mut Model, conversation: ConversationId, link: &Link) {
    let name = model.conversations.get(&conversation).map(|known| model.title(known));
    let secret = link.secret.as_ref().map(crate::request::LinkSecret::to_text);
    let lines = vec![
        "Whoever has it joins by /join and these 64 digits:".to_owned(),
        secret.unwrap_or_default(),
        format!("It works{}.", until_words(link.expires_ms)),
    ];
    show(model, Sheet::new(format!("Link to {}", name.unwrap_or_default()), lines));
}

fn members(model: &mut Model, conversation: ConversationId, page: Members, is_shown: bool) {
    for member in &page.members {
        model.people.learn(&member.user);
    }
    if !is_shown {
        return;
    }
    let lines = page.members.iter().map(|member| {
        let role = match member.role {
            Role::Owner => ", owner",
            Role::Admin => ", admin",
            _ => "",
        };
        let muted = match member.muted_until_ms {
            until_ms if until_ms > model.now_ms => format!(", muted{}", until_words(until_ms)),
            _ => String::new(),
        };
        format!("{}{role}{muted}", model.people.full_name(member.user.user))
    });
    let name = model.conversations.get(&conversation).map(|known| model.title(known));
    let title = format!("Members of {} (group {conversation})", name.unwrap_or_default());
    let mut sheet = Sheet::new(title, lines.collect());
    let next = page.next_page;
    sheet.more =
        (!next.is_empty()).then_some(Ask::Members { conversation, page: next, is_shown: true });
    show(model, sheet);
}

fn join_requests(model: &mut Model, conversation: ConversationId, requests: &[JoinRequest]) {
    model.joins.retain(|(of, _), _| *of != conversation);
    for request in requests {
        model.people.learn(&request.user);
        model.join_asked(conversation, request.user.user, &request.text);
    }
}

fn contact(model: &mut Model, contact: &Contact) {
    model.people.relate(contact);
    let user = contact.user.user;
    let said = model.people.relation(user).map_or("no contact".to_owned(), words);
    model.say(format!("{}: {said}", model.people.full_name(user)));
}

/// What a relation is, in words.
fn words(relation: &Relation) -> String {
    let mut all = Vec::new();
    match relation.friendship {
        Friendship::Friends => all.push("friends".to_owned()),
        Friendship::Asked => all.push("you have asked to be friends".to_owned()),
        Friendship::Invited => {
            let colon = if relation.text.is_empty() { "" } else { ": " };
            all.push(format!("asks to be friends{colon}{}", relation.text));
        }
        Friendship::None | Friendship::Other(_) => {}
    }
    match (relation.follows, relation.is_followed) {
        (true, true) => all.push("you follow each other".to_owned()),
        (true, false) => all.push("you follow".to_owned()),
        (false, true) => all.push("follows you".to_owned()),
        (false, false) => {}
    }
    if relation.blocks {
        all.push("blocked".to_owned());
    }
    if !relation.remark.is_empty() {
        all.push(format!("remark \"{}\"", relation.remark));
    }
    if all.is_empty() { "no contact".to_owned() } else { all.join(", ") }
}

/// Contacts and requests: who asks for something comes first.
pub(super) fn show_contacts(model: &mut Model) {
    let mut lines = Vec::new();
    for ((conversation, user), text) in &model.joins {
        let group = model.conversations.get(conversation).map(|known| model.title(known));
        let colon = if text.is_empty() { "" } else { ": " };
        let who = model.people.full_name(*user);
        let group = group.unwrap_or_default();
        lines.push(format!("! {who} asks to join {group}{colon}{text}"));
    }
    let mut contacts: Vec<_> = model
        .people
        .relations()
        .map(|(user, relation)| {
            let asks = relation.friendship == Friendship::Invited;
            let mark = if asks { "! " } else { "" };
            let line = format!("{mark}{}: {}", model.people.full_name(user), words(relation));
            (!asks, line)
        })
        .collect();
    contacts.sort();
    lines.extend(contacts.into_iter().map(|(_, line)| line));
    let title = "Contacts; /accept NAME and /decline NAME answer those with !";
    show(model, Sheet::new(title, lines));
}

fn devices(model: &mut Model, devices: &[Device]) {
    let lines = devices.iter().enumerate().map(|(n, device)| {
        let own = if device.own { " (this one)" } else { "" };
        let seen = match device.seen_ms {
            0 => String::new(),
            seen_ms => format!(", seen {}", calendar::moment(seen_ms)),
        };
        let (label, added) = (clean::line(&device.label), calendar::moment(device.created_ms));
        format!("{}. {label}{own}, added {added}{seen}", n + 1)
    });
    let sheet = Sheet::new("Devices; /revoke NUMBER signs one out for good", lines.collect());
    model.devices = devices.iter().map(|device| device.device).collect();
    show(model, sheet);
}
