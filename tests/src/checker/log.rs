//! What the final log must hold: agreement, loss, duplicates, phantoms, density.

use std::collections::{HashMap, HashSet};

use super::event::{Conversation, LogEntry, What};
use super::index::{Index, Send, count, key_of};
use super::{Check, Expectations, Place, Verdict};

pub(super) fn check(index: &Index<'_>, expectations: &Expectations, verdict: &mut Verdict) {
    agreement(index, verdict);
    loss(index, verdict);
    once(index, verdict);
    acknowledgements(index, verdict);
    phantoms(index, expectations, verdict);
    dense(index, expectations, verdict);
}

/// The final log is the measure; where it holds nothing, the first sighting is.
fn agreement(index: &Index<'_>, verdict: &mut Verdict) {
    let mut truth = HashMap::new();
    for (conversation, log) in &index.entries {
        truth.extend(log.values().map(|entry| ((*conversation, entry.seq), *entry)));
    }
    let read = index.logs.iter().flat_map(|(_, conversation, entries)| {
        entries.iter().map(move |entry| (*conversation, *entry, None))
    });
    let seen = index.sightings.iter().map(|s| (s.conversation, s.entry, Some(s.device)));
    for (conversation, entry, device) in read.chain(seen) {
        let first = *truth.entry((conversation, entry.seq)).or_insert(entry);
        if first != entry {
            verdict.report(Check::Agreement, Place::of(conversation, entry.seq, entry.id), || {
                let who = device.map_or("a final log".to_owned(), |d| format!("session {d:?}"));
                let (seq, first) = (entry.seq, describe(&first));
                format!("{conversation}/{seq}: {who} has {}, others have {first}", describe(&entry))
            });
        }
    }
}

fn describe(entry: &LogEntry) -> String {
    let sender = entry.sender.map_or("the server".to_owned(), |user| user.to_string());
    format!("message {} of {sender} with body {}", entry.id, entry.body)
}

fn loss(index: &Index<'_>, verdict: &mut Verdict) {
    let mut lost = HashSet::new();
    for (key, send) in &index.sends {
        let conversation = key.conversation;
        let Some(seq) = send.acks.first().filter(|_| index.entries.contains_key(&conversation))
        else {
            continue;
        };
        if !index.places.contains_key(key) {
            lost.insert((conversation, *seq));
            verdict.report(Check::Loss, Place::of(conversation, *seq, key.id), || {
                let id = key.id;
                format!("{conversation}/{seq}: message {id} was acknowledged and is not in the final log")
            });
        }
    }
    for sighting in &index.sightings {
        let (conversation, entry) = (sighting.conversation, sighting.entry);
        let Some(log) = index.entries.get(&conversation) else {
            continue;
        };
        if !log.contains_key(&entry.seq) && lost.insert((conversation, entry.seq)) {
            verdict.report(Check::Loss, Place::of(conversation, entry.seq, entry.id), || {
                let (seq, id) = (entry.seq, entry.id);
                let device = sighting.device;
                format!("{conversation}/{seq}: session {device:?} was given {id}, and the final log has nothing there")
            });
        }
    }
    verdict.counts.lost = verdict.total(Check::Loss);
}

/// Each message at most once; those of unknown outcome are reported under their own name.
fn once(index: &Index<'_>, verdict: &mut Verdict) {
    for (key, places) in index.places.iter().filter(|(_, places)| places.len() > 1) {
        let unknown = index.sends.get(key).is_some_and(Send::is_unknown);
        let check = if unknown { Check::Unknown } else { Check::Duplicate };
        verdict.counts.duplicated += count(places.len()) - 1;
        verdict.report(check, Place::of(key.conversation, places.last().copied(), key.id), || {
            let (conversation, id) = (key.conversation, key.id);
            format!("{conversation}: message {id} is stored {} times, at {places:?}", places.len())
        });
    }
}

fn acknowledgements(index: &Index<'_>, verdict: &mut Verdict) {
    for (key, send) in &index.sends {
        let Some(place) = index.place(key, send) else {
            continue;
        };
        if let Some(other) = send.acks.iter().find(|seq| **seq != place) {
            verdict.report(Check::AckAgreement, Place::of(key.conversation, *other, key.id), || {
                let (conversation, id) = (key.conversation, key.id);
                format!("{conversation}/{other}: message {id} was acknowledged there and is at {place}")
            });
        }
    }
    for (conversation, id, seq) in &index.stray_acks {
        verdict.report(Check::Phantom, Place::of(*conversation, *seq, *id), || {
            format!("{conversation}/{seq}: message {id} was acknowledged to a session that never sent it")
        });
    }
}

fn phantoms(index: &Index<'_>, expectations: &Expectations, verdict: &mut Verdict) {
    let mut seen = HashSet::new();
    for (conversation, log) in &index.entries {
        for entry in log.values() {
            seen.insert((*conversation, *entry));
            phantom(index, verdict, *conversation, entry, "stored");
        }
    }
    for sighting in &index.sightings {
        let (conversation, entry) = (sighting.conversation, sighting.entry);
        // A sighting that contradicts the log is reported as a disagreement.
        let in_log =
            index.entries.get(&conversation).is_some_and(|log| log.contains_key(&entry.seq));
        if !in_log && seen.insert((conversation, entry)) {
            phantom(index, verdict, conversation, &entry, "delivered");
        }
        let send = key_of(conversation, &entry).and_then(|key| index.sends.get(&key));
        if send.is_some_and(|send| sighting.at + expectations.clock_skew_us < send.invoked_at) {
            verdict.report(Check::Phantom, Place::of(conversation, entry.seq, entry.id), || {
                let (seq, id) = (entry.seq, entry.id);
                format!("{conversation}/{seq}: message {id} was delivered before it was sent")
            });
        }
    }
    for event in index.events {
        let What::Preview { conversation, sender, id, body, .. } = event.what else {
            continue;
        };
        let entry = LogEntry { seq: 0, sender: Some(sender), id, body };
        if seen.insert((conversation, entry)) {
            // What is refused later may have been previewed before.
            if !is_refused(index, conversation, &entry) {
                phantom(index, verdict, conversation, &entry, "previewed");
            }
        }
    }
}

fn is_refused(index: &Index<'_>, conversation: Conversation, entry: &LogEntry) -> bool {
    let send = key_of(conversation, entry).and_then(|key| index.sends.get(&key));
    send.is_some_and(Send::is_refused)
}

fn phantom(
    index: &Index<'_>,
    verdict: &mut Verdict,
    conversation: Conversation,
    entry: &LogEntry,
    how: &str,
) {
    let Some(key) = key_of(conversation, entry) else {
        return;
    };
    let (check, why) = match index.sends.get(&key) {
        None => (Check::Phantom, "nobody sent it"),
        Some(send) if send.is_refused() => (Check::AbortedRead, "it was definitely refused"),
        Some(send) if !send.bodies.contains(&entry.body) => {
            (Check::Phantom, "it was sent with another body")
        }
        Some(_) => return,
    };
    verdict.report(check, Place::of(conversation, entry.seq, entry.id), || {
        let (seq, what) = (entry.seq, describe(entry));
        format!("{conversation}/{seq}: {what} was {how}, and {why}")
    });
}

fn dense(index: &Index<'_>, expectations: &Expectations, verdict: &mut Verdict) {
    for (_, conversation, entries) in &index.logs {
        let mut last = 0;
        for entry in *entries {
            let seq = entry.seq;
            if seq <= last || (expectations.dense && seq != last + 1) {
                verdict.report(Check::Dense, Place::of(*conversation, seq, entry.id), || {
                    format!("{conversation}/{seq}: the final log has it after {last}")
                });
            }
            last = seq;
        }
    }
}
