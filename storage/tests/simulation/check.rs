//! What must hold in the end, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use petrel_core::id::{ClientMessageId, ConversationId};

use crate::store::Conversation;
use crate::world::{History, Line};

type Seqs = BTreeMap<ClientMessageId, (ConversationId, u64)>;

/// Everything that is wrong, in words.
pub(crate) fn check(
    history: &History,
    conversations: &BTreeMap<ConversationId, Conversation>,
) -> Vec<String> {
    let mut wrong = history.violations.clone();
    let seqs = logs(conversations, &mut wrong);
    acked_is_stored(history, &seqs, &mut wrong);
    nothing_else_is_stored(history, &seqs, &mut wrong);
    for (line, sent) in &history.invoked {
        device_order(history, *line, sent.iter().map(|(id, _)| *id), &seqs, &mut wrong);
    }
    real_time_order(history, &seqs, &mut wrong);
    views(history, conversations, &mut wrong);
    wrong
}

/// Dense, without duplicates, and let in by rights that allowed it.
fn logs(conversations: &BTreeMap<ConversationId, Conversation>, wrong: &mut Vec<String>) -> Seqs {
    let mut seqs = Seqs::new();
    for (id, conversation) in conversations {
        for (logged, place) in conversation.log.iter().zip(1..) {
            let placed = logged.entry.placed;
            if placed.seq.0 != place {
                wrong.push(format!("dense: {id} has {} at place {place}", placed.seq));
            }
            let before = seqs.insert(logged.entry.id, (*id, placed.seq.0));
            if let Some((_, seq)) = before {
                wrong.push(format!("duplicate: {} at {seq} and {}", logged.entry.id, placed.seq));
            }
            if conversation.barred.get(&placed.rights_version.0) != Some(&false) {
                wrong.push(format!("rights: {} was stored while barred", logged.entry.id));
            }
        }
        if conversation.head != conversation.log.len() as u64 {
            wrong.push(format!(
                "head: {id} has {} of {} entries",
                conversation.head,
                conversation.log.len()
            ));
        }
    }
    seqs
}

fn acked_is_stored(history: &History, seqs: &Seqs, wrong: &mut Vec<String>) {
    for (id, acked) in &history.acked {
        let stored = seqs.get(id).map(|(_, seq)| *seq);
        if stored != Some(acked.seq) && !acked.announced_lost {
            wrong.push(format!("lost: {id} was acked at {}, and is at {stored:?}", acked.seq));
        }
    }
}

fn nothing_else_is_stored(history: &History, seqs: &Seqs, wrong: &mut Vec<String>) {
    let invoked: BTreeSet<_> = history.invoked.values().flatten().map(|(id, _)| id).collect();
    for (id, (_, seq)) in seqs {
        if !invoked.contains(id) {
            wrong.push(format!("phantom: {id} at {seq} was sent by nobody"));
        }
        if history.refused.contains(id) {
            wrong.push(format!("refused: {id} was refused for good, and is at {seq}"));
        }
    }
}

/// Places rise as the device sent. A message that some gateway turned away for
/// good lost its turn: if that answer never arrived and its resend was let in,
/// it stands where the resend came.
fn device_order(
    history: &History,
    line: Line,
    sent: impl Iterator<Item = ClientMessageId>,
    seqs: &Seqs,
    wrong: &mut Vec<String>,
) {
    let mut last = 0;
    for id in sent.filter(|id| !history.turned_away.contains(id)) {
        let Some((_, seq)) = seqs.get(&id) else { continue };
        if *seq <= last {
            wrong.push(format!("device order: {id} of {line:?} is at {seq}, after {last}"));
        }
        last = last.max(*seq);
    }
}

/// What was sent after an ack stands after what was acked.
fn real_time_order(history: &History, seqs: &Seqs, wrong: &mut Vec<String>) {
    let acked: Vec<_> =
        history.acked.iter().filter_map(|(id, acked)| Some((seqs.get(id)?, acked.at))).collect();
    for (id, sent_at) in history.invoked.values().flatten() {
        let Some((conversation, seq)) = seqs.get(id) else { continue };
        let before = acked
            .iter()
            .filter(|((other, _), at)| other == conversation && at < sent_at)
            .map(|((_, seq), _)| *seq)
            .max();
        if before.is_some_and(|before| before >= *seq) {
            wrong.push(format!("real time: {id} is at {seq}, not after {before:?}"));
        }
    }
}

fn views(
    history: &History,
    conversations: &BTreeMap<ConversationId, Conversation>,
    wrong: &mut Vec<String>,
) {
    for (line, view) in &history.views {
        let log = &conversations[&line.conversation].log;
        let ids: Vec<_> = log.iter().map(|logged| logged.entry.id).collect();
        if *view != ids {
            let (seen, all) = (view.len(), ids.len());
            wrong.push(format!("view: {line:?} holds {seen} entries, not the log's {all}"));
        }
    }
    for (line, (_, left)) in &history.progress {
        if *left > 0 {
            wrong.push(format!("liveness: {line:?} has {left} messages without an answer"));
        }
    }
}
