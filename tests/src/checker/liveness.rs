//! Whether everyone caught up, and whether the run was worth anything.

use std::collections::{BTreeMap, HashMap};

use super::event::{Conversation, FaultKind, Way, What};
use super::index::{Device, Index, key_of};
use super::{Check, Expectations, Place, Verdict};

/// An online session's life in one conversation.
#[derive(Default)]
struct Attached {
    since: u64,
    /// When its highest place rose to what.
    rises: Vec<(u64, u64)>,
}

/// Every session that is online at the end and attached to a conversation has every stored
/// entry of it within the bound: from when it was stored, the last heal, or the session's first
/// attaching since it came online, whichever was last.
pub(super) fn check_liveness(
    index: &Index<'_>,
    expectations: &Expectations,
    verdict: &mut Verdict,
) {
    let Some(bound_ms) = expectations.liveness_ms else {
        return;
    };
    let is_heal = |what: &What| matches!(what, What::Heal);
    let is_fault = |what: &What| matches!(what, What::Fault { .. });
    let last = |is: &dyn Fn(&What) -> bool| index.events.iter().rposition(|event| is(&event.what));
    let (heal, fault) = (last(&is_heal), last(&is_fault));
    if fault > heal {
        verdict.report(Check::Liveness, Place::default(), || {
            "the last fault was never healed".to_owned()
        });
    }
    let healed_at = heal.and_then(|at| index.events.get(at)).map_or(0, |event| event.at_us);
    let stored = stored(index);
    for ((device, conversation), attached) in attached(index) {
        let Some(user) = index.users.get(&device) else {
            continue;
        };
        let mut rises = attached.rises.iter().peekable();
        let mut late: Option<(u64, Option<u64>)> = None;
        let mut late_count = 0_u64;
        verdict.counts.followed += 1;
        let own = index.own.get(&(device, conversation));
        for (seq, stored_at) in stored.get(&conversation).into_iter().flatten() {
            if own.is_some_and(|own| own.contains(seq)) || !index.may_see(conversation, *user, *seq)
            {
                continue;
            }
            while rises.next_if(|(_, top)| top < seq).is_some() {}
            let start = healed_at.max(attached.since).max(*stored_at);
            let lag = rises.peek().map(|(at, _)| at.saturating_sub(start));
            verdict.counts.worst_lag_us = verdict.counts.worst_lag_us.max(lag.unwrap_or(0));
            if lag.is_none_or(|lag| lag > bound_ms.saturating_mul(1000)) {
                late.get_or_insert((*seq, lag));
                late_count += 1;
            }
        }
        if let Some((seq, lag)) = late {
            verdict.report(Check::Liveness, Place::new(conversation, seq), || {
                let when = lag.map_or("never".to_owned(), |lag| format!("after {} ms", lag / 1000));
                format!("{conversation}/{seq}: session {device:?} had it {when}, and so for {late_count} entries")
            });
        }
    }
}

/// When each entry was known to be stored: at its acknowledgement, its first sighting, or the
/// reading of the final log.
fn stored(index: &Index<'_>) -> HashMap<Conversation, BTreeMap<u64, u64>> {
    let mut stored: HashMap<Conversation, BTreeMap<u64, u64>> = HashMap::new();
    let mut add = |conversation, seq, at: u64| {
        let known = stored.entry(conversation).or_default().entry(seq).or_insert(at);
        *known = at.min(*known);
    };
    for (at, conversation, entries) in &index.logs {
        for entry in *entries {
            let send = key_of(*conversation, entry).and_then(|key| index.sends.get(&key));
            add(*conversation, entry.seq, send.and_then(|send| send.stored_at).unwrap_or(*at));
        }
    }
    for sighting in &index.sightings {
        add(sighting.conversation, sighting.entry.seq, sighting.at);
    }
    stored
}

fn attached(index: &Index<'_>) -> BTreeMap<(Device, Conversation), Attached> {
    let mut online: HashMap<Device, HashMap<Conversation, Attached>> = HashMap::new();
    for event in index.events {
        let at = event.at_us;
        let (session, conversation, seq, resets) = match event.what {
            What::SignOut { session } => {
                online.remove(&(event.process, session));
                continue;
            }
            What::Resume { session, conversation, from } => (session, conversation, from, false),
            What::Reset { session, conversation, to } => (session, conversation, to, true),
            What::Deliver { session, conversation, seq, way: Way::Live, .. }
            | What::Gap { session, conversation, to: seq, .. } => {
                (session, conversation, seq, false)
            }
            _ => continue,
        };
        let attached = online.entry((event.process, session)).or_default().entry(conversation);
        let attached = attached.or_insert_with(|| Attached { since: at, rises: Vec::new() });
        if resets {
            attached.rises.retain(|(_, top)| *top < seq);
        }
        if attached.rises.last().is_none_or(|(_, top)| *top < seq) {
            attached.rises.push((at, seq));
        }
    }
    let flat = online.into_iter().flat_map(|(device, conversations)| {
        conversations
            .into_iter()
            .map(move |(conversation, attached)| ((device, conversation), attached))
    });
    flat.collect()
}

/// The run did what it was meant to.
pub(super) fn check_non_vacuity(
    index: &Index<'_>,
    expectations: &Expectations,
    verdict: &mut Verdict,
) {
    for event in index.events {
        if let What::Truncated { missing } = event.what {
            verdict.report(Check::NonVacuity, Place::default(), || {
                format!("process {} could not record {missing} events", event.process)
            });
        }
    }
    verdict.counts.in_flight_at_kill = in_flight_at_kills(index);
    let counts = verdict.counts.clone();
    let mut least = vec![
        ("acknowledged messages".to_owned(), counts.acks, expectations.acks_min),
        ("deliveries".to_owned(), counts.delivers, expectations.delivers_min),
        ("acknowledged resends".to_owned(), counts.resends, expectations.resends_min),
        ("resumes".to_owned(), counts.resumes, expectations.resumes_min),
        ("previews".to_owned(), counts.previews, expectations.previews_min),
    ];
    for (kind, min) in &expectations.faults_min {
        let found = counts.faults.get(kind).copied().unwrap_or(0);
        least.push((format!("faults of kind {kind:?}"), found, *min));
    }
    if let Some(found) = counts.in_flight_at_kill {
        let what = "sends in flight at each kill".to_owned();
        least.push((what, found, expectations.in_flight_at_kill_min));
    }
    for (what, found, min) in least.into_iter().filter(|(_, found, min)| found < min) {
        verdict.report(Check::NonVacuity, Place::default(), || {
            format!("the run had {found} {what}, and needs {min}")
        });
    }
    if expectations.liveness_ms.is_some() && counts.followed == 0 {
        verdict.report(Check::NonVacuity, Place::default(), || {
            "nobody was online and attached at the end, so that nobody was seen to catch up"
                .to_owned()
        });
    }
    let mut unread: Vec<_> = index.sends.iter().filter(|(_, send)| !send.acks.is_empty()).collect();
    unread.retain(|(key, _)| !index.entries.contains_key(&key.conversation));
    unread.dedup_by_key(|(key, _)| key.conversation);
    for (key, _) in unread {
        let conversation = key.conversation;
        let place = Place { conversation: Some(conversation), ..Place::default() };
        verdict.report(Check::NonVacuity, place, || {
            format!("{conversation}: messages were acknowledged, and nobody read the final log")
        });
    }
}

/// The fewest sends without an outcome at any kill. A send that never had one counts for the
/// first kill after it alone.
fn in_flight_at_kills(index: &Index<'_>) -> Option<u64> {
    let kills = index.events.iter().filter_map(|event| match event.what {
        What::Fault { kind: FaultKind::Kill, .. } => Some(event.at_us),
        _ => None,
    });
    let kills: Vec<u64> = kills.collect();
    let mut in_flight = vec![0_i64; kills.len() + 1];
    for send in index.sends.values() {
        let first = kills.partition_point(|at| *at <= send.invoked_at);
        let end = match send.ended_at {
            Some(ended_at) => kills.partition_point(|at| *at <= ended_at),
            None => (first + 1).min(kills.len()),
        };
        for (at, change) in [(first, 1), (end.max(first), -1)] {
            in_flight.get_mut(at).into_iter().for_each(|count| *count += change);
        }
    }
    let mut now = 0;
    let running = in_flight.into_iter().take(kills.len()).map(|change| {
        now += change;
        u64::try_from(now).unwrap_or(0)
    });
    running.min()
}
