//! Where a client stands in a conversation, and how it proves it.

use crate::entry::Entry;

/// A position, and the proof of which entry stands there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cursor {
    /// The entry's place, from 1.
    pub seq: u64,
    /// The last eight bytes of its id, XOR the time of its commit (docs/protocol.md, §5).
    pub tail: [u8; 8],
}

impl Cursor {
    /// The cursor that stands on an entry.
    pub fn of(entry: &Entry) -> Self {
        let mut tail = entry.time_ms.to_be_bytes();
        for (byte, of_id) in tail.iter_mut().zip(entry.id.tail()) {
            *byte ^= of_id;
        }
        Self { seq: entry.seq, tail }
    }
}

/// Older cursors kept behind the newest, at the most (the protocol's limit).
pub(crate) const OLDER_MAX: usize = 16;

/// The newest cursor and older ones at doubling distances behind it, so that
/// after a reset of the server's history little has to be read again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct CursorTrail {
    newest: Option<Cursor>,
    /// Falling seqs, thinned out so that distances about double.
    older: Vec<Cursor>,
}

impl CursorTrail {
    /// A trail that starts at this cursor.
    pub(crate) fn new(newest: Option<Cursor>) -> Self {
        Self { newest, older: Vec::new() }
    }

    /// The trail with these cursors, newest first; out of order ones are left out.
    pub(crate) fn from_cursors(cursors: impl IntoIterator<Item = Cursor>) -> Self {
        let mut trail = Self::default();
        for cursor in cursors {
            match trail.newest {
                None => trail.newest = Some(cursor),
                Some(newest) => {
                    let last = trail.older.last().unwrap_or(&newest);
                    if cursor.seq < last.seq && trail.older.len() < OLDER_MAX {
                        trail.older.push(cursor);
                    }
                }
            }
        }
        trail
    }

    /// The newest cursor.
    pub(crate) fn newest(&self) -> Option<Cursor> {
        self.newest
    }

    /// The older ones, newest first; at most [`OLDER_MAX`].
    pub(crate) fn older(&self) -> &[Cursor] {
        &self.older
    }

    /// Moves on to a later entry. An earlier or equal one changes nothing.
    pub(crate) fn advance(&mut self, to: Cursor) {
        if let Some(newest) = self.newest {
            if to.seq <= newest.seq {
                return;
            }
            self.older.insert(0, newest);
            self.thin(to.seq);
        }
        self.newest = Some(to);
    }

    /// Forgets all cursors above `seq`.
    pub(crate) fn drop_above(&mut self, seq: u64) {
        self.older.retain(|cursor| cursor.seq <= seq);
        if self.newest.is_some_and(|cursor| cursor.seq > seq) {
            self.newest = if self.older.is_empty() { None } else { Some(self.older.remove(0)) };
        }
    }

    /// Thins the older cursors out: where three neighbours lie at distances to `head` whose
    /// binary logarithms differ by at most one, the middle one goes.
    fn thin(&mut self, head: u64) {
        let class = |cursor: &Cursor| (head - cursor.seq).ilog2();
        let mut index = 0;
        while index + 1 < self.older.len() {
            let drop_next = index + 2 < self.older.len()
                && class(&self.older[index + 2]) <= class(&self.older[index]) + 1;
            if drop_next {
                self.older.remove(index + 1);
            } else {
                index += 1;
            }
        }
        self.older.truncate(OLDER_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(seq: u64) -> Cursor {
        Cursor { seq, tail: seq.to_be_bytes() }
    }

    #[test]
    fn older_cursors_lie_at_about_doubling_distances_and_are_few() {
        let mut trail = CursorTrail::default();
        for seq in 1..=10_000 {
            trail.advance(cursor(seq));
            assert!(trail.older().len() <= OLDER_MAX);
            assert!(trail.older().windows(2).all(|w| w[0].seq > w[1].seq));
        }
        assert_eq!(trail.newest(), Some(cursor(10_000)));
        let distances: Vec<u64> = trail.older().iter().map(|c| 10_000 - c.seq).collect();
        assert!(distances[0] <= 2, "{distances:?}");
        assert!(*distances.last().unwrap_or(&0) >= 5_000, "{distances:?}");
        for pair in distances.windows(2) {
            assert!(pair[1] <= pair[0] * 4 + 2, "{distances:?}");
        }
    }

    #[test]
    fn a_reset_falls_back_to_the_newest_cursor_that_is_left() {
        let mut trail = CursorTrail::from_cursors([cursor(9), cursor(7), cursor(3), cursor(8)]);
        assert_eq!(trail.older(), [cursor(7), cursor(3)]);
        trail.drop_above(9);
        assert_eq!(trail.newest(), Some(cursor(9)));
        trail.drop_above(6);
        assert_eq!((trail.newest(), trail.older()), (Some(cursor(3)), &[][..]));
        trail.drop_above(0);
        assert_eq!(trail, CursorTrail::default());
    }

    #[test]
    fn a_cursor_never_goes_back_by_itself() {
        let mut trail = CursorTrail::new(Some(cursor(5)));
        trail.advance(cursor(5));
        trail.advance(cursor(4));
        assert_eq!(trail, CursorTrail::new(Some(cursor(5))));
    }
}
