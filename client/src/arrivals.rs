//! The order in which one conversation's entries are handed out. Pure.
//!
//! **Invariant:** what comes out is 1, 2, 3, ... above the start, each seq once,
//! as an entry or within a gap; nothing else moves the position but a reset.

use std::collections::{BTreeMap, VecDeque};

use crate::cursor::{Cursor, CursorTrail};
use crate::event::GapReason;

/// Entries that came before their turn, at the most. More than the newest 200 that follow a
/// skipped gap, and what comes live while that gap is filled.
pub(crate) const HELD_MAX: usize = 1_024;
/// Bytes of their bodies, at the most.
pub(crate) const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Ids of entries that previews are matched with.
const RECENT_MAX: usize = 32;

/// What is handed out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Out<E> {
    Entry(E),
    Gap { from: u64, to: u64, reason: GapReason },
}

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offered {
    /// It was next.
    Next,
    /// It waits for earlier ones.
    Held,
    /// It was there already.
    Duplicate,
}

#[derive(Debug)]
enum Held<E> {
    Entry { tail: [u8; 8], bytes: usize, entry: E },
    Gap { to: u64, reason: GapReason },
}

#[derive(Debug)]
pub(crate) struct Arrivals<E> {
    position: u64,
    trail: CursorTrail,
    held: BTreeMap<u64, Held<E>>,
    held_bytes: usize,
    recent: VecDeque<[u8; 8]>,
}

impl<E> Arrivals<E> {
    /// Starts after the trail's newest cursor.
    pub(crate) fn new(trail: CursorTrail) -> Self {
        Self {
            position: trail.newest().map_or(0, |cursor| cursor.seq),
            trail,
            held: BTreeMap::new(),
            held_bytes: 0,
            recent: VecDeque::new(),
        }
    }

    /// Everything up to here was handed out.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The cursors of what was handed out.
    pub(crate) fn trail(&self) -> &CursorTrail {
        &self.trail
    }

    /// Whether the entry whose id ends so has come, as far as is remembered.
    pub(crate) fn knows(&self, tail: [u8; 8]) -> bool {
        self.recent.contains(&tail)
    }

    /// Takes an entry; what can be handed out now goes to `out`. Gives it back if too many
    /// wait already.
    pub(crate) fn offer(
        &mut self,
        at: Cursor,
        bytes: usize,
        entry: E,
        out: &mut Vec<Out<E>>,
    ) -> Result<Offered, E> {
        if at.seq <= self.position {
            return Ok(Offered::Duplicate);
        }
        if at.seq == self.position + 1 {
            self.hand_out(at, entry, out);
            self.drain(out);
            return Ok(Offered::Next);
        }
        if matches!(self.held.get(&at.seq), Some(Held::Entry { .. })) {
            return Ok(Offered::Duplicate);
        }
        if self.held.len() >= HELD_MAX || self.held_bytes + bytes > HELD_BYTES_MAX {
            return Err(entry);
        }
        self.held_bytes += bytes;
        let held = Held::Entry { tail: at.tail, bytes, entry };
        self.held.insert(at.seq, held);
        Ok(Offered::Held)
    }

    /// Takes a gap: none of these entries will come.
    pub(crate) fn gap(&mut self, from: u64, to: u64, reason: GapReason, out: &mut Vec<Out<E>>) {
        if to <= self.position || from > to {
            return;
        }
        if from > self.position + 1 {
            if self.held.len() < HELD_MAX {
                self.held.entry(from).or_insert(Held::Gap { to, reason });
            }
            return;
        }
        self.skip(to, reason, out);
        self.drain(out);
    }

    /// The seqs that are missing before the first one that is held.
    pub(crate) fn hole(&self) -> Option<(u64, u64)> {
        let (first, _) = self.held.first_key_value()?;
        Some((self.position + 1, first - 1))
    }

    /// Starts again after this cursor, as the application wishes.
    pub(crate) fn restart(&mut self, from: Option<Cursor>) {
        *self = Self::new(CursorTrail::new(from));
    }

    /// Starts after `seq`, of whose entry nothing is known.
    pub(crate) fn restart_unproved(&mut self, seq: u64) {
        self.restart(None);
        self.position = seq;
    }

    /// Falls back to `to`. Says whether anything was above it.
    pub(crate) fn reset(&mut self, to: u64) -> bool {
        self.clear_held();
        self.recent.clear();
        self.trail.drop_above(to);
        let fell = self.position > to;
        self.position = self.position.min(to);
        fell
    }

    /// Forgets what waits: it comes again on the next stream.
    pub(crate) fn clear_held(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }

    fn drain(&mut self, out: &mut Vec<Out<E>>) {
        while let Some(first) = self.held.first_entry() {
            let seq = *first.key();
            if seq > self.position + 1 {
                return;
            }
            match first.remove() {
                Held::Entry { tail, bytes, entry } => {
                    self.held_bytes -= bytes;
                    if seq > self.position {
                        self.hand_out(Cursor { seq, tail }, entry, out);
                    }
                }
                Held::Gap { to, reason } => {
                    if to > self.position {
                        self.skip(to, reason, out);
                    }
                }
            }
        }
    }

    fn hand_out(&mut self, at: Cursor, entry: E, out: &mut Vec<Out<E>>) {
        self.position = at.seq;
        self.trail.advance(at);
        out.push(Out::Entry(entry));
    }

    fn skip(&mut self, to: u64, reason: GapReason, out: &mut Vec<Out<E>>) {
        // What is held within the gap is better than the gap.
        let held = self
            .held
            .range(..=to)
            .find(|(_, held)| matches!(held, Held::Entry { .. }))
            .map(|(seq, _)| *seq);
        let until = held.map_or(to, |seq| seq - 1);
        if until > self.position {
            out.push(Out::Gap { from: self.position + 1, to: until, reason });
            self.position = until;
        }
        if until < to {
            self.drain(out);
            if self.position < to {
                self.skip(to, reason, out);
            }
        }
    }

    /// Notes that the entry whose id ends so has come.
    pub(crate) fn remember(&mut self, tail: [u8; 8]) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Cursor {
        Cursor { seq, tail: seq.to_be_bytes() }
    }

    fn run(arrivals: &mut Arrivals<u64>, seqs: &[u64]) -> Vec<Out<u64>> {
        let mut out = Vec::new();
        for &seq in seqs {
            assert!(arrivals.offer(at(seq), 1, seq, &mut out).is_ok());
        }
        out
    }

    fn entries(out: &[Out<u64>]) -> Vec<u64> {
        out.iter()
            .flat_map(|out| match out {
                Out::Entry(seq) => *seq..=*seq,
                Out::Gap { from, to, .. } => *from..=*to,
            })
            .collect()
    }

    #[test]
    fn whatever_the_order_entries_come_out_once_and_rising() {
        let mut arrivals = Arrivals::new(CursorTrail::default());
        let out = run(&mut arrivals, &[2, 1, 1, 5, 3, 3, 5, 4, 2, 6]);
        assert_eq!(entries(&out), [1, 2, 3, 4, 5, 6]);
        assert_eq!(arrivals.position(), 6);
        assert_eq!(arrivals.trail().newest(), Some(at(6)));
    }

    #[test]
    fn a_hole_is_told_and_closed_by_entries_or_a_gap() {
        let mut arrivals = Arrivals::new(CursorTrail::new(Some(at(10))));
        let mut out = run(&mut arrivals, &[15, 16, 9]);
        assert!(out.is_empty());
        assert_eq!(arrivals.hole(), Some((11, 14)));
        out.extend(run(&mut arrivals, &[11]));
        arrivals.gap(12, 14, GapReason::Retention, &mut out);
        assert_eq!(entries(&out), [11, 12, 13, 14, 15, 16]);
        assert_eq!(arrivals.hole(), None);
        assert_eq!(arrivals.trail().newest(), Some(at(16)));
    }

    #[test]
    fn a_gap_leaves_out_what_is_there() {
        let mut arrivals = Arrivals::new(CursorTrail::default());
        let mut out = run(&mut arrivals, &[3, 5]);
        arrivals.gap(1, 6, GapReason::Skipped, &mut out);
        assert_eq!(entries(&out), [1, 2, 3, 4, 5, 6]);
        assert_eq!(out[1], Out::Entry(3));
        assert_eq!(out[3], Out::Entry(5));
        arrivals.gap(4, 6, GapReason::Skipped, &mut out);
        arrivals.gap(9, 8, GapReason::Skipped, &mut out);
        assert_eq!(out.len(), 5);
    }

    #[test]
    fn a_gap_that_comes_early_waits_for_its_turn() {
        let mut arrivals = Arrivals::new(CursorTrail::default());
        let mut out = Vec::new();
        arrivals.gap(2, 4, GapReason::NotAMember, &mut out);
        out.extend(run(&mut arrivals, &[5]));
        assert!(out.is_empty());
        out.extend(run(&mut arrivals, &[1]));
        assert_eq!(entries(&out), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_reset_goes_back_and_what_follows_comes_anew() {
        let mut arrivals = Arrivals::new(CursorTrail::default());
        run(&mut arrivals, &[1, 2, 3, 4, 5, 7]);
        assert!(arrivals.reset(3));
        assert_eq!(arrivals.position(), 3);
        assert_eq!(arrivals.hole(), None);
        assert!(arrivals.trail().newest().is_some_and(|c| c.seq <= 3));
        assert_eq!(entries(&run(&mut arrivals, &[4, 5])), [4, 5]);
        assert!(!arrivals.reset(9));
        assert!(arrivals.reset(0));
        assert_eq!(arrivals.trail().newest(), None);
    }

    #[test]
    fn what_is_held_is_bounded_in_number_and_bytes() {
        let mut arrivals = Arrivals::new(CursorTrail::default());
        let mut out = Vec::new();
        for seq in 0..HELD_MAX as u64 {
            assert_eq!(arrivals.offer(at(seq + 2), 1, 0, &mut out), Ok(Offered::Held));
        }
        let above = at(HELD_MAX as u64 + 2);
        assert_eq!(arrivals.offer(above, 1, 0, &mut out), Err(0));
        arrivals.clear_held();
        assert_eq!(arrivals.offer(at(3), HELD_BYTES_MAX, 0, &mut out), Ok(Offered::Held));
        assert_eq!(arrivals.offer(at(4), 1, 0, &mut out), Err(0));
        assert_eq!(arrivals.offer(at(3), 1, 0, &mut out), Ok(Offered::Duplicate));
    }
}
