//! The judge: lost, duplicated, reordered, gaps, altered.

use std::ops::AddAssign;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use crate::ledger::{Conversation, Fate, HistoryEntry, Id};

/// What went wrong, counted. Online findings and those of the history add up,
/// except that a message is lost at most once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Verdict {
    /// Sent and not refused, but without ack or delivery in time; or
    /// acknowledged and not in the history.
    pub lost: u64,
    /// Delivered, acknowledged or stored more than once.
    pub duplicated: u64,
    /// Seen after a later one, placed against the order of sending, or at
    /// different places for its two members.
    pub reordered: u64,
    /// Places that a member never saw, or that the history lacks.
    pub gaps: u64,
    /// Bodies that came back different.
    pub altered: u64,
}

impl Verdict {
    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.gaps += other.gaps;
        self.altered += other.altered;
    }
}

/// How a place fits into what a member has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filling {
    InOrder,
    /// After a later entry had been seen.
    Late,
    /// Seen before.
    Again,
}

/// Which places of a conversation one member has seen, from the first one on.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeqView {
    last: u64,
    last_entry: u64,
    holes: Vec<(u64, u64)>,
}

impl SeqView {
    /// An acknowledgement's place. An entry that was stored earlier may be
    /// acknowledged after later pushes: that is no disorder.
    pub(crate) fn place(&mut self, seq: u64) -> Filling {
        if self.last == 0 {
            self.last = seq;
            return Filling::InOrder;
        }
        if seq > self.last {
            if seq > self.last + 1 {
                self.holes.push((self.last + 1, seq - 1));
            }
            self.last = seq;
            return Filling::InOrder;
        }
        if self.fill(seq) { Filling::Late } else { Filling::Again }
    }

    /// An entry's place.
    pub(crate) fn enter(&mut self, seq: u64) -> Filling {
        let filling = match self.place(seq) {
            // It came after an ack of a later place, not after a later entry.
            Filling::Late if seq > self.last_entry => Filling::InOrder,
            other => other,
        };
        self.last_entry = self.last_entry.max(seq);
        filling
    }

    fn fill(&mut self, seq: u64) -> bool {
        let Some(index) = self.holes.iter().position(|(from, to)| (*from..=*to).contains(&seq))
        else {
            return false;
        };
        let (from, to) = self.holes.swap_remove(index);
        if from < seq {
            self.holes.push((from, seq - 1));
        }
        if seq < to {
            self.holes.push((seq + 1, to));
        }
        true
    }

    /// Nothing up to here is expected.
    pub(crate) fn start_after(&mut self, seq: u64) {
        if seq > self.last {
            self.last = seq;
            self.last_entry = self.last_entry.max(seq);
        }
    }

    /// The places up to `head` that were never seen, as ranges.
    pub(crate) fn missing_up_to(&self, head: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let behind = (head > self.last).then(|| (self.last + 1, head));
        self.holes.iter().copied().chain(behind)
    }

    /// How many places were never seen; forgets them.
    pub(crate) fn take_holes(&mut self) -> u64 {
        std::mem::take(&mut self.holes).iter().map(|(from, to)| to - from + 1).sum()
    }
}

/// Compares a conversation's log with its history, read from the first
/// of our messages to the head.
///
/// Returns what was found, in words.
pub(crate) fn judge_history(
    conversation: &mut Conversation,
    history: &[HistoryEntry],
) -> Vec<String> {
    let mut findings = Vec::new();
    let verdict = &mut conversation.verdict;
    let mut seqs: Vec<u64> = history.iter().map(|entry| entry.seen.seq).collect();
    seqs.sort_unstable();
    let span = format!(
        "the history has {} entries from {} to {}",
        seqs.len(),
        seqs.first().unwrap_or(&0),
        seqs.last().unwrap_or(&0)
    );
    for pair in seqs.windows(2) {
        let missing = (pair[1] - pair[0]).saturating_sub(1);
        if missing > 0 {
            findings.push(format!("{missing} places missing after {}: {span}", pair[0]));
        }
        verdict.gaps += missing;
        verdict.duplicated += u64::from(pair[0] == pair[1]);
    }
    let mut at: FxHashMap<Id, &HistoryEntry> = FxHashMap::default();
    let mut twice: FxHashSet<Id> = FxHashSet::default();
    for entry in history {
        if at.insert(entry.seen.id, entry).is_some() {
            twice.insert(entry.seen.id);
        }
    }
    verdict.duplicated += twice.len() as u64;
    for (member, log) in conversation.log.iter_mut().enumerate() {
        let mut highest = 0;
        for line in log.iter_mut() {
            let Some(entry) = at.get(&line.id) else {
                if line.seq != 0 && line.fate != Fate::Lost {
                    line.fate = Fate::Lost;
                    verdict.lost += 1;
                    let (id, seq) = (hex(&line.id), line.seq);
                    findings.push(format!("{id}, acknowledged at {seq}, is missing: {span}"));
                }
                continue;
            };
            let moved = line.seq != 0 && line.seq != entry.seen.seq;
            let overtaken = entry.seen.seq < highest;
            let foreign = entry.member != Some(member);
            let altered = entry.seen.hash != line.hash;
            if moved || overtaken || foreign || altered {
                findings.push(format!(
                    "{}, acknowledged at {}, is at {} (overtaken: {overtaken}, another's: {foreign}, altered: {altered})",
                    hex(&line.id), line.seq, entry.seen.seq
                ));
            }
            verdict.reordered += u64::from(moved || overtaken || foreign);
            verdict.altered += u64::from(altered);
            highest = highest.max(entry.seen.seq);
        }
    }
    findings
}

fn hex(id: &Id) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_tells_order_lateness_repetition_and_holes_apart() {
        let mut view = SeqView::default();
        for (seq, want) in [
            (5, Filling::InOrder),
            (6, Filling::InOrder),
            (6, Filling::Again),
            (10, Filling::InOrder),
            (8, Filling::Late),
            (8, Filling::Again),
            (7, Filling::Late),
            (11, Filling::InOrder),
            (3, Filling::Again),
        ] {
            assert_eq!(view.enter(seq), want, "{seq}");
        }
        assert_eq!(view.take_holes(), 1);
        assert_eq!(view.take_holes(), 0);
    }

    #[test]
    fn an_entry_behind_an_ack_of_a_later_place_is_in_order() {
        let mut view = SeqView::default();
        assert_eq!(view.enter(1), Filling::InOrder);
        assert_eq!(view.place(3), Filling::InOrder);
        assert_eq!(view.enter(2), Filling::InOrder);
        assert_eq!(view.take_holes(), 0);
    }
}
