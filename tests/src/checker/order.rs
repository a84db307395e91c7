//! The order of places against the order of sending.

use std::collections::{HashMap, HashSet};

use super::event::Conversation;
use super::index::{Device, Index, Key, Send, count};
use super::{Check, Expectations, Place, Verdict};

type Placed<'a> = (&'a Key, &'a Send, u64);

pub(super) fn check(index: &Index<'_>, expectations: &Expectations, verdict: &mut Verdict) {
    let mut conversations: HashMap<Conversation, Vec<Placed<'_>>> = HashMap::new();
    for (key, send) in &index.sends {
        if let Some(place) = index.place(key, send) {
            conversations.entry(key.conversation).or_default().push((key, send, place));
        }
    }
    let mut reordered = HashSet::new();
    for (conversation, mut placed) in conversations {
        placed.sort_unstable_by_key(|(_, send, _)| send.rank);
        for (check, late, early) in
            real_time(&placed, expectations.clock_skew_us).chain(device(&placed))
        {
            let ((key, _, seq), (before, _, above)) = (late, early);
            reordered.insert(*key);
            verdict.report(check, Place::of(conversation, seq, key.id), || {
                let why = match check {
                    Check::DeviceOrder => "the same device had sent before",
                    _ => "was complete before it was sent",
                };
                let (id, other) = (key.id, before.id);
                format!(
                    "{conversation}/{seq}: message {id} is below {other} at {above}, which {why}"
                )
            });
        }
    }
    verdict.counts.reordered = count(reordered.len());
}

type Found<'a> = (Check, Placed<'a>, Placed<'a>);

/// What was stored before another send began is below it. For appends with unique names and
/// known places this is linearizability.
fn real_time<'a>(placed: &[Placed<'a>], skew_us: u64) -> impl Iterator<Item = Found<'a>> {
    let mut found = Vec::new();
    let stored_at = |(_, send, _): &Placed<'a>| send.stored_at;
    let mut complete: Vec<_> = placed.iter().filter(|p| stored_at(p).is_some()).copied().collect();
    complete.sort_by_key(stored_at);
    let mut complete = complete.into_iter().peekable();
    let mut highest: Option<Placed<'a>> = None;
    // `placed` is in the order of sending.
    for late in placed {
        let earlier =
            |p: &Placed<'a>| stored_at(p).is_some_and(|at| at + skew_us < late.1.invoked_at);
        while let Some(next) = complete.next_if(earlier) {
            highest = highest.filter(|top| top.2 > next.2).or(Some(next));
        }
        found.extend(
            highest.filter(|top| top.2 > late.2).map(|top| (Check::RealTimeOrder, *late, top)),
        );
    }
    found.into_iter()
}

fn device<'a>(placed: &[Placed<'a>]) -> impl Iterator<Item = Found<'a>> {
    let mut highest: HashMap<Device, Placed<'a>> = HashMap::new();
    let mut found = Vec::new();
    for next in placed {
        let top = highest.entry(next.1.device).or_insert(*next);
        if top.2 > next.2 {
            found.push((Check::DeviceOrder, *next, *top));
        } else {
            *top = *next;
        }
    }
    found.into_iter()
}
