//! What each session was given: contiguity, isolation, receipts.

use std::collections::HashMap;

use super::event::{Conversation, Event, FaultKind, GapReason, User, Way, What};
use super::index::{Device, Index};
use super::{Check, Expectations, Place, Verdict};

pub(super) fn check(index: &Index<'_>, expectations: &Expectations, verdict: &mut Verdict) {
    contiguous(index, verdict);
    isolation(index, verdict);
    receipts(index, expectations, verdict);
}

/// Where one session stands in one conversation.
#[derive(Default)]
struct Position {
    begun: bool,
    last: u64,
    head: u64,
}

fn contiguous(index: &Index<'_>, verdict: &mut Verdict) {
    let restored = verdict.counts.faults.contains_key(&FaultKind::Restore);
    let mut positions: HashMap<(Device, Conversation), Position> = HashMap::new();
    for event in index.events {
        let Some((device, conversation)) = session_of(event) else {
            continue;
        };
        let position = positions.entry((device, conversation)).or_default();
        if let Some((seq, what)) = step(index, position, device, &event.what, restored) {
            verdict.report(Check::SessionContiguous, Place::new(conversation, seq), || {
                format!("{conversation}/{seq}: session {device:?} {what}")
            });
        }
        let moved = match event.what {
            What::Deliver { way, .. } => way == Way::Live,
            What::Resume { .. } | What::Gap { .. } | What::Reset { .. } => true,
            _ => false,
        };
        position.begun |= moved;
    }
    verdict.counts.holes = verdict.total(Check::SessionContiguous);
}

/// Moves the position over one event; the place and the complaint, if it may not be.
fn step(
    index: &Index<'_>,
    position: &mut Position,
    device: Device,
    what: &What,
    restored: bool,
) -> Option<(u64, String)> {
    let start = position.last;
    // The session's own acknowledged messages need no delivery.
    let pass_own = |position: &mut Position, conversation: &Conversation, until: u64| {
        let own = index.own.get(&(device, *conversation));
        while position.last + 1 < until && own.is_some_and(|own| own.contains(&(position.last + 1)))
        {
            position.last += 1;
        }
    };
    match what {
        What::Deliver { conversation, seq, way: Way::Live, .. } => {
            pass_own(position, conversation, *seq);
            let legal = *seq == position.last + 1;
            position.last = *seq;
            (!legal).then(|| (*seq, format!("was given it after {start}")))
        }
        What::Resume { conversation, from, .. } => {
            pass_own(position, conversation, from.saturating_add(1));
            // A device may bring a cursor from before the history began.
            let legal = *from <= position.last || !position.begun;
            position.last = *from;
            (!legal).then(|| {
                (*from, format!("resumed from there, having been given only up to {start}"))
            })
        }
        What::Gap { conversation, from, to, reason, .. } => {
            pass_own(position, conversation, *from);
            let legal = *from == position.last + 1 && from <= to;
            position.last = position.last.max(*to);
            if !legal {
                return Some((*from, format!("was told of a gap {from}..={to} after {start}")));
            }
            let user = index.users.get(&device).filter(|_| *reason == GapReason::NotMember)?;
            let mut stays = index.stays(*conversation, *user).iter();
            let hidden = stays.any(|(first, last)| first <= to && from <= last);
            hidden
                .then(|| (*from, format!("was denied {from}..={to}, where its user was a member")))
        }
        What::Reset { to, .. } => {
            position.last = *to;
            position.head = position.head.min(*to);
            let legal = restored || *to >= start;
            (!legal)
                .then(|| (*to, format!("was reset from {start}, and no backup had been restored")))
        }
        What::Sync { head, .. } => {
            let before = std::mem::replace(&mut position.head, *head);
            let legal = *head >= before || restored;
            (!legal).then(|| (*head, format!("was told this head after {before}")))
        }
        _ => None,
    }
}

fn session_of(event: &Event) -> Option<(Device, Conversation)> {
    let (What::Deliver { session, conversation, .. }
    | What::Resume { session, conversation, .. }
    | What::Gap { session, conversation, .. }
    | What::Reset { session, conversation, .. }
    | What::AckSend { session, conversation, .. }
    | What::Receipt { session, conversation, .. }
    | What::Preview { session, conversation, .. }
    | What::Sync { session, conversation, .. }) = event.what
    else {
        return None;
    };
    Some(((event.process, session), conversation))
}

fn isolation(index: &Index<'_>, verdict: &mut Verdict) {
    for sighting in &index.sightings {
        let (conversation, entry, device) =
            (sighting.conversation, sighting.entry, sighting.device);
        let user = index.users.get(&device);
        if !user.is_some_and(|user| index.may_see(conversation, *user, entry.seq)) {
            verdict.report(Check::Isolation, Place::of(conversation, entry.seq, entry.id), || {
                let who = user.map_or("nobody known".to_owned(), User::to_string);
                let seq = entry.seq;
                format!("{conversation}/{seq}: session {device:?} of {who} was given it, outside its membership")
            });
        }
    }
    for (conversation, log) in &index.entries {
        for (seq, entry) in log {
            let Some(sender) = entry.sender else { continue };
            if !index.may_see(*conversation, sender, *seq) {
                verdict.report(Check::Isolation, Place::of(*conversation, *seq, entry.id), || {
                    format!("{conversation}/{seq}: {sender} wrote it, outside its membership")
                });
            }
        }
    }
    for event in index.events {
        let Some((device, conversation)) = session_of(event) else {
            continue;
        };
        let (what, id) = match event.what {
            What::Preview { id, .. } => ("shown a preview", Some(id)),
            What::Sync { .. } => ("shown it in its list", None),
            _ => continue,
        };
        // Previews have no place, so that any membership allows them.
        let user = index.users.get(&device);
        if user.is_none_or(|user| index.stays(conversation, *user).is_empty()) {
            let place = Place { conversation: Some(conversation), seq: None, id };
            verdict.report(Check::Isolation, place, || {
                format!(
                    "{conversation}: session {device:?} was {what}, and its user was never a member"
                )
            });
        }
    }
}

/// Per user and conversation, when the highest place it knew of rose to what.
type Known = HashMap<(Conversation, User), Vec<(u64, u64)>>;

fn known(index: &Index<'_>) -> Known {
    let mut known = Known::new();
    for event in index.events {
        let Some((device, conversation)) = session_of(event) else {
            continue;
        };
        let Some(user) = index.users.get(&device) else {
            continue;
        };
        let (What::Deliver { seq, .. }
        | What::AckSend { seq, .. }
        | What::Resume { from: seq, .. }
        | What::Gap { to: seq, .. }
        | What::Sync { head: seq, .. }) = event.what
        else {
            continue;
        };
        let rises = known.entry((conversation, *user)).or_default();
        if rises.last().is_none_or(|(_, top)| *top < seq) {
            rises.push((event.at_us, seq));
        }
    }
    known
}

fn receipts(index: &Index<'_>, expectations: &Expectations, verdict: &mut Verdict) {
    let known = known(index);
    let mut marks: HashMap<(Device, Conversation), HashMap<User, (u64, u64)>> = HashMap::new();
    for event in index.events {
        let Some((device, conversation)) = session_of(event) else {
            continue;
        };
        match event.what {
            What::Reset { to, .. } => {
                for (delivered, read) in
                    marks.entry((device, conversation)).or_default().values_mut()
                {
                    (*delivered, *read) = ((*delivered).min(to), (*read).min(to));
                }
            }
            What::Receipt { user, delivered, read, .. } => {
                let marks =
                    marks.entry((device, conversation)).or_default().entry(user).or_default();
                let before = std::mem::replace(marks, (delivered, read));
                let mut report = |seq, what: String| {
                    verdict.report(Check::Receipts, Place::new(conversation, seq), || {
                        format!(
                            "{conversation}/{seq}: the mark of {user} at session {device:?} {what}"
                        )
                    });
                };
                if delivered < before.0 || read < before.1 {
                    report(
                        delivered.min(read),
                        format!("ran back from {before:?} to {:?}", (delivered, read)),
                    );
                }
                let rises = known.get(&(conversation, user)).map_or(&[][..], Vec::as_slice);
                let until = event.at_us.saturating_add(expectations.clock_skew_us);
                let rise = rises.partition_point(|(at, _)| *at <= until).checked_sub(1);
                let top = rise.and_then(|rise| rises.get(rise)).map_or(0, |(_, top)| *top);
                if delivered.max(read) > top {
                    report(
                        delivered.max(read),
                        format!("is above {top}, the last that it was given"),
                    );
                }
            }
            What::Sync { head, unread, .. } if unread > head => {
                verdict.report(Check::Receipts, Place::new(conversation, head), || {
                    format!("{conversation}/{head}: session {device:?} was told {unread} unread of {head}")
                });
            }
            _ => {}
        }
    }
}
