//! What two users are to each other: friends by request and consent, followers, blocked.
//!
//! Each has a side of his own ([`Contact`]); one decision changes both. A block is known only to who
//! set it: to the other one a request to be friends looks as if it were open for ever.
//! A request that finds all as it asks for comes to nothing, and succeeds.

use crate::change::{Contact, Friendship, Guard, RowChange};
use crate::error::Rejection;
use crate::event::{Decision, Event, Log};
use crate::id::{ConversationId, UserId};
use crate::limits;
use crate::store::{RelationRecord, User};
use crate::text;

/// What a user can ask of his relation to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RelationCommand {
    /// To be friends, with a text. Who was asked himself agrees by it.
    Ask(String),
    /// He agrees to what the other one asked.
    Accept,
    /// He does not, or takes his own request back.
    Decline,
    /// Friends no longer.
    Remove,
    /// His own name for the other one; empty removes it.
    Remark(String),
    /// He follows the other one, or does no longer.
    Follow(bool),
    /// He blocks the other one, or does no longer.
    Block(bool),
}

/// What a request comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// What is to be done.
    pub decision: Decision,
    /// The caller's side afterwards.
    pub own: Contact,
    /// Whether he blocks the other one afterwards.
    pub blocks: bool,
}

/// Whether two sides make contacts: friends, or following each other.
pub fn are_contacts(a: &Contact, b: &Contact) -> bool {
    let friends = a.friendship == Friendship::Friends && b.friendship == Friendship::Friends;
    friends || (a.follows && b.follows)
}

/// Judges a request of `own` about `other` at Unix time `now_ms`.
///
/// # Errors
/// `Invalid`, `Blocked` (by the caller himself), `Conflict` if what is to be accepted is not
/// there, `LimitReached`.
pub fn judge(
    own: &User,
    other: &User,
    record: &RelationRecord,
    command: RelationCommand,
    now_ms: u64,
) -> Result<Judged, Rejection> {
    if own.id == other.id {
        return Err(Rejection::Invalid { field: "user", problem: "that is you".to_owned() });
    }
    let mut after = record.clone();
    match command {
        RelationCommand::Ask(text) => {
            text::check_lines("text", &text, limits::REQUEST_TEXT_BYTES_MAX)?;
            ask(&mut after, text)?;
        }
        RelationCommand::Accept => accept(&mut after)?,
        RelationCommand::Decline => end(&mut after, &[Friendship::Asked, Friendship::Invited]),
        RelationCommand::Remove => end(&mut after, &[Friendship::Friends]),
        RelationCommand::Remark(remark) => {
            text::check_line("remark", &remark, limits::NICKNAME_BYTES_MAX)?;
            after.own.remark = remark;
        }
        RelationCommand::Follow(follows) => {
            if follows && after.blocks {
                return Err(Rejection::Blocked);
            }
            after.own.follows = follows;
        }
        RelationCommand::Block(blocks) => after.blocks = blocks,
    }
    decide((own, other), record, after, now_ms)
}

fn ask(after: &mut RelationRecord, text: String) -> Result<(), Rejection> {
    if after.blocks {
        return Err(Rejection::Blocked);
    }
    match after.own.friendship {
        Friendship::Friends | Friendship::Asked => {}
        Friendship::Invited => befriend(after),
        // The other one has asked too, and this side was not told: it had blocked him then.
        Friendship::None if after.other.friendship == Friendship::Asked => befriend(after),
        Friendship::None => {
            (after.own.friendship, after.own.text) = (Friendship::Asked, text.clone());
            (after.other.friendship, after.other.text) = (Friendship::Invited, text);
        }
    }
    Ok(())
}

fn accept(after: &mut RelationRecord) -> Result<(), Rejection> {
    if after.blocks {
        return Err(Rejection::Blocked);
    }
    match after.own.friendship {
        Friendship::Friends => {}
        Friendship::Invited => befriend(after),
        Friendship::None | Friendship::Asked => {
            return Err(Rejection::Conflict { what: "the request to be friends" });
        }
    }
    Ok(())
}

fn befriend(after: &mut RelationRecord) {
    for side in [&mut after.own, &mut after.other] {
        side.friendship = Friendship::Friends;
        side.text.clear();
    }
}

/// Ends what the two have, if the caller's side is at one of these.
fn end(after: &mut RelationRecord, at: &[Friendship]) {
    if at.contains(&after.own.friendship) {
        for side in [&mut after.own, &mut after.other] {
            side.friendship = Friendship::None;
            side.text.clear();
        }
    }
}

/// Makes the rows, versions and events of what has changed.
fn decide(
    (own, other): (&User, &User),
    before: &RelationRecord,
    mut after: RelationRecord,
    now_ms: u64,
) -> Result<Judged, Rejection> {
    // Judged as if there were no block: the limits too must not tell of it.
    has_room(&before.own, &after.own, before.own_contacts, "contacts of a user")?;
    has_room(&before.other, &after.other, before.other_contacts, "contacts of the other one")?;
    if before.is_blocked && is_new_request(before, &after) {
        after.other = before.other.clone();
    }
    let own_moved = after.own != before.own;
    let other_moved = after.other != before.other;
    let block_moved = after.blocks != before.blocks;
    let follow_moved = after.own.follows != before.own.follows;
    if own_moved {
        after.own.changed_ms = now_ms;
    }
    if other_moved {
        after.other.changed_ms = now_ms;
    }
    let judged =
        |decision, after: RelationRecord| Judged { decision, own: after.own, blocks: after.blocks };
    if !own_moved && !other_moved && !block_moved {
        return Ok(judged(Decision::default(), after));
    }
    let mut rows = Vec::new();
    if own_moved {
        rows.push(side(own.id, other.id, &after.own));
    }
    if other_moved {
        rows.push(side(other.id, own.id, &after.other));
    }
    if block_moved {
        let pair = ConversationId::of_pair(own.id, other.id);
        rows.push(RowChange::Block(pair, own.id, after.blocks));
    }
    if block_moved || after.is_contact() != before.is_contact() {
        rows.push(RowChange::BumpPair(own.id, other.id));
    }
    let log_of = ConversationId::of_user;
    let mut events = vec![(
        Log::Of(own.id),
        Event::ContactChanged {
            user: other.clone(),
            contact: after.own.clone(),
            is_followed: after.other.follows,
            blocks: after.blocks,
        },
    )];
    if other_moved || (follow_moved && !before.is_blocked) {
        events.push((
            Log::Of(other.id),
            Event::ContactChanged {
                user: own.clone(),
                contact: after.other.clone(),
                is_followed: after.own.follows,
                blocks: after.is_blocked,
            },
        ));
    }
    let guards = vec![
        Guard { conversation: log_of(own.id), version: before.own_version, bumps: true },
        Guard { conversation: log_of(other.id), version: before.other_version, bumps: other_moved },
    ];
    Ok(judged(Decision { guards, rows, events }, after))
}

/// Whether the other one would be asked by this.
fn is_new_request(before: &RelationRecord, after: &RelationRecord) -> bool {
    before.other.friendship == Friendship::None && after.other.friendship == Friendship::Invited
}

fn has_room(
    before: &Contact,
    after: &Contact,
    contacts: u64,
    what: &'static str,
) -> Result<(), Rejection> {
    if exists(before) || !exists(after) || contacts < limits::CONTACTS_MAX {
        return Ok(());
    }
    Err(Rejection::LimitReached { what, max: limits::CONTACTS_MAX })
}

/// Whether there is anything in a side.
fn exists(side: &Contact) -> bool {
    side.friendship != Friendship::None || side.follows || !side.remark.is_empty()
}

fn side(owner: UserId, other: UserId, contact: &Contact) -> RowChange {
    let contact = exists(contact).then(|| contact.clone());
    RowChange::Contact { owner, other, contact }
}

#[cfg(test)]
#[path = "relation/tests.rs"]
mod tests;
