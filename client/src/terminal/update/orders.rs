//! Commands: what they are about, and what is asked of the service then.

use super::{Effect, answered, message, search, select, watching};
use crate::event::ConversationRef;
use crate::id::{ConversationId, UserId};
use crate::request::{ContactCommand, Friendship, GroupCommand, MemberSettings, UserFound};
use crate::terminal::command::{Verb, argument};
use crate::terminal::effect::{Ask, ProfileChange, Purpose, Saying};
use crate::terminal::model::{Model, Overlay, Search};
use crate::terminal::prompt::Prompt;

/// What stands for everybody in `/mute` and for all other devices in `/revoke`.
const ALL: &str = "all";
const OTHERS: &str = "others";

pub(super) fn carry_out(
    model: &mut Model,
    verb: Verb,
    mut names: Vec<String>,
    text: String,
) -> Result<Vec<Effect>, String> {
    let first = names.first().cloned().unwrap_or_default();
    let contact = |command| Purpose::Contact(command);
    let purpose = match verb {
        Verb::Direct => Purpose::Open { text },
        Verb::Ask => contact(ContactCommand::Ask(text)),
        Verb::Accept => Purpose::Answer { accepts: true },
        Verb::Decline => Purpose::Answer { accepts: false },
        Verb::Unfriend => contact(ContactCommand::Remove),
        Verb::Follow => contact(ContactCommand::Follow(true)),
        Verb::Unfollow => contact(ContactCommand::Follow(false)),
        Verb::Remark => contact(ContactCommand::Remark(text)),
        Verb::Block => contact(ContactCommand::Block(true)),
        Verb::Unblock => contact(ContactCommand::Block(false)),
        Verb::Group if names.is_empty() => {
            return Ok(vec![Effect::Ask(Ask::NewGroup { name: text, users: Vec::new() })]);
        }
        Verb::Group => Purpose::NewGroup { name: text },
        Verb::Add => Purpose::Add(group(model)?),
        Verb::Remove => Purpose::Remove(group(model)?),
        Verb::Transfer => Purpose::Transfer(group(model)?),
        Verb::Role => Purpose::SetRole(group(model)?, argument::role(&text)?),
        Verb::Mute | Verb::Unmute if first == ALL => {
            if !text.is_empty() {
                return Err("all are muted until /unmute all; a TIME is for one USER".to_owned());
            }
            return change_profile(model, ProfileChange::Muted(verb == Verb::Mute));
        }
        Verb::Mute => Purpose::Mute(group(model)?, argument::until(&text, model.now_ms)?),
        Verb::Unmute => Purpose::Mute(group(model)?, 0),
        _ => return without_users(model, verb, &first, text),
    };
    names.sort();
    names.dedup();
    Ok(vec![Effect::Find { names, purpose }])
}

/// Commands that name no user.
fn without_users(
    model: &mut Model,
    verb: Verb,
    first: &str,
    text: String,
) -> Result<Vec<Effect>, String> {
    let ask = match verb {
        Verb::Act(action) => return message::act(model, action, &text),
        Verb::Rename => return change_profile(model, ProfileChange::Name(text)),
        Verb::Joins => return change_profile(model, ProfileChange::Joins(argument::joins(&text)?)),
        Verb::Leave => {
            Ask::ChangeGroup { conversation: group(model)?, command: GroupCommand::Leave }
        }
        Verb::Link => Ask::Link(group(model)?),
        Verb::Join => Ask::Join(argument::join_by(first, &text)?),
        Verb::Members => {
            let (conversation, page) = (group(model)?, bytes::Bytes::new());
            Ask::Members { conversation, page, is_shown: true }
        }
        Verb::Pin | Verb::Archive | Verb::Silence => settings(model, verb, &text)?,
        Verb::Nick => Ask::Nick(text),
        Verb::Privacy => {
            Ask::Privacy { what: argument::privately(first)?, audience: argument::audience(&text)? }
        }
        Verb::Devices => Ask::Devices,
        Verb::Revoke => revoke(model, &text)?,
        other => {
            return Ok(here(model, other, text));
        }
    };
    Ok(vec![Effect::Ask(ask)])
}

/// Commands that ask nothing of the service.
fn here(model: &mut Model, verb: Verb, text: String) -> Vec<Effect> {
    match verb {
        Verb::Contacts => answered::show_contacts(model),
        Verb::Password => model.prompt = Some(Prompt::default()),
        Verb::Find => {
            model.search = Some(Search { text, ..Search::default() });
            search::look(model, None);
        }
        Verb::Quit => return vec![Effect::Quit],
        _ => model.overlay = Some(Overlay::Help { scroll: 0 }),
    }
    Vec::new()
}

/// The group on the screen.
fn group(model: &Model) -> Result<ConversationId, String> {
    let known = model.on_screen().ok_or("no conversation is open")?;
    match known.to.peer {
        None => Ok(known.to.id),
        Some(_) => Err("this is no group; open one first".to_owned()),
    }
}

fn change_profile(model: &Model, change: ProfileChange) -> Result<Vec<Effect>, String> {
    let conversation = group(model)?;
    Ok(vec![Effect::Ask(Ask::ChangeProfile { conversation, change })])
}

/// The user's settings for the conversation on the screen, one of them changed.
fn settings(model: &Model, verb: Verb, text: &str) -> Result<Ask, String> {
    let known = model.on_screen().ok_or("no conversation is open")?;
    let mut settings: MemberSettings = known.settings;
    match verb {
        Verb::Pin if settings.pinned_ms > 0 => settings.pinned_ms = 0,
        Verb::Pin => settings.pinned_ms = model.now_ms,
        Verb::Archive => settings.archived = !settings.archived,
        _ if text == "off" => settings.silenced_until_ms = 0,
        _ => settings.silenced_until_ms = argument::until(text, model.now_ms)?,
    }
    Ok(Ask::Settings { conversation: known.to.id, settings })
}

fn revoke(model: &Model, text: &str) -> Result<Ask, String> {
    if text == OTHERS {
        return Ok(Ask::Revoke(None));
    }
    let number: usize = text.parse().map_err(|_| format!("{text} is no number of /devices"))?;
    let device = number.checked_sub(1).and_then(|at| model.devices.get(at));
    let device = device.ok_or_else(|| format!("/devices has listed no number {number}"))?;
    Ok(Ask::Revoke(Some(*device)))
}

/// Users were looked up: goes on with what they were looked up for.
pub(super) fn found(
    model: &mut Model,
    names: &[String],
    purpose: Purpose,
    found: &[UserFound],
) -> Vec<Effect> {
    for user in found {
        model.people.learn(user);
    }
    let is_there = |name: &String| found.iter().any(|user| user.name == *name);
    let missing: Vec<_> = names.iter().filter(|name| !is_there(name)).cloned().collect();
    let users: Vec<UserId> = found.iter().map(|user| user.user).collect();
    let Some(user) = users.first().copied().filter(|_| missing.is_empty()) else {
        model.say(format!("there is no user {}", missing.join(", ")));
        return Vec::new();
    };
    go_on(model, purpose, users, user).unwrap_or_else(|why| {
        model.say(why);
        Vec::new()
    })
}

fn go_on(
    model: &mut Model,
    purpose: Purpose,
    users: Vec<UserId>,
    user: UserId,
) -> Result<Vec<Effect>, String> {
    let is_about_others = matches!(purpose, Purpose::Open { .. } | Purpose::Contact(_));
    if user == model.me && is_about_others {
        return Err("that is yourself".to_owned());
    }
    let change = |conversation, command| Ask::ChangeGroup { conversation, command };
    Ok(vec![Effect::Ask(match purpose {
        Purpose::Open { text } => return open(model, user, text),
        Purpose::Answer { accepts } => return answer(model, user, accepts),
        Purpose::Contact(command) => Ask::ChangeContact { user, command },
        Purpose::NewGroup { name } => Ask::NewGroup { name, users },
        Purpose::Add(group) => change(group, GroupCommand::Add(users)),
        Purpose::Remove(group) => change(group, GroupCommand::Remove(users)),
        Purpose::SetRole(group, role) => change(group, GroupCommand::SetRole(user, role)),
        Purpose::Mute(group, until_ms) => change(group, GroupCommand::Mute(user, until_ms)),
        Purpose::Transfer(group) => change(group, GroupCommand::Transfer(user)),
    })])
}

fn open(model: &mut Model, user: UserId, text: String) -> Result<Vec<Effect>, String> {
    let to = ConversationRef { id: ConversationId::of_pair(model.me, user), peer: Some(user) };
    if model.conversation(to).is_none() {
        return Err("too many conversations are listed".to_owned());
    }
    let mut effects = select(model, to.id);
    effects.extend(watching::watch(model));
    if !text.is_empty() {
        effects.push(Effect::Send { to, what: Saying::text(text) });
    }
    Ok(effects)
}

/// Answers what a user asks for: to be friends; else to join the group on the screen, or the
/// first group that knows of it.
fn answer(model: &Model, user: UserId, accepts: bool) -> Result<Vec<Effect>, String> {
    let friendship = model.people.relation(user).map(|relation| relation.friendship);
    let is_asked = friendship == Some(Friendship::Invited);
    let is_asking = friendship == Some(Friendship::Asked) && !accepts;
    if is_asked || is_asking {
        let command = if accepts { ContactCommand::Accept } else { ContactCommand::Decline };
        return Ok(vec![Effect::Ask(Ask::ChangeContact { user, command })]);
    }
    let here = model.selected.filter(|id| model.joins.contains_key(&(*id, user)));
    let elsewhere = || model.joins.keys().find(|(_, who)| *who == user).map(|(id, _)| *id);
    let conversation = here
        .or_else(elsewhere)
        .ok_or_else(|| format!("{} has asked for nothing", model.name(user)))?;
    let command = if accepts { GroupCommand::Accept(user) } else { GroupCommand::Decline(user) };
    Ok(vec![Effect::Ask(Ask::ChangeGroup { conversation, command })])
}
