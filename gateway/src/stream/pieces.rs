//! What came of a stream behind a hole. quinn would keep the whole datagram of each fragment, however
//! small the fragment is, on every stream of a connection. So fragments are taken out of it as they come,
//! and what is kept is a copy of their bytes alone, with a cost that is counted.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Neighbours are joined up to this size.
const PIECE_BYTES: usize = 1_024;
/// What a piece takes besides its bytes, here and in quinn's record of what came.
const PIECE_OVERHEAD: usize = 96;

/// What pieces take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cost {
    /// Bytes of memory.
    pub bytes: usize,
    /// How many they are.
    pub pieces: usize,
}

/// The pieces of one stream that are not next. They never overlap: quinn gives each byte once.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// By their offset.
    by_offset: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
}

impl Pieces {
    /// Keeps a copy of what came at an offset.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) {
        if let Some((at, piece)) = self.by_offset.range_mut(..offset).next_back()
            && at + piece.len() as u64 == offset
            && piece.len() + bytes.len() <= PIECE_BYTES
        {
            self.bytes -= piece.capacity();
            piece.extend_from_slice(bytes);
            self.bytes += piece.capacity();
            return;
        }
        let piece = bytes.to_vec();
        self.bytes += piece.capacity();
        self.by_offset.insert(offset, piece);
    }

    /// Takes the first piece if it begins at `next` or before it.
    pub(super) fn take(&mut self, next: u64) -> Option<(u64, Bytes)> {
        let first = self.by_offset.first_entry().filter(|first| *first.key() <= next)?;
        let (offset, piece) = first.remove_entry();
        self.bytes -= piece.capacity();
        Some((offset, piece.into()))
    }

    /// What they take.
    pub(super) fn cost(&self) -> Cost {
        let pieces = self.by_offset.len();
        Cost { bytes: self.bytes + pieces * PIECE_OVERHEAD, pieces }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, reason = "bytes that count and begin anew")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_come_back_in_order_and_cost_nothing_then(
            lengths in prop::collection::vec(1usize..700, 1..60),
            order in any::<u64>(),
        ) {
            let mut at = 0;
            let mut parts: Vec<(u64, Vec<u8>)> = Vec::new();
            for length in lengths {
                parts.push((at, (0..length).map(|n| (at as usize + n) as u8).collect()));
                at += length as u64;
            }
            // The first comes last, so that all others are behind a hole.
            let first = parts.remove(0);
            let mut state = order;
            for n in (1..parts.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                parts.swap(n, (state >> 33) as usize % (n + 1));
            }
            let mut pieces = Pieces::default();
            let mut held = 0;
            for (offset, bytes) in &parts {
                pieces.put(*offset, bytes);
                held += bytes.len();
                prop_assert!(pieces.take(0).is_none());
                prop_assert!(pieces.cost().bytes >= held);
                // Joining wastes no more than it saves.
                prop_assert!(pieces.cost().bytes <= 2 * held + pieces.cost().pieces * PIECE_OVERHEAD);
            }
            let mut whole = first.1;
            while let Some((offset, bytes)) = pieces.take(whole.len() as u64) {
                prop_assert_eq!(offset, whole.len() as u64);
                whole.extend_from_slice(&bytes);
            }
            prop_assert!(whole.iter().enumerate().all(|(n, byte)| *byte == n as u8));
            prop_assert_eq!(whole.len() as u64, at);
            prop_assert_eq!(pieces.cost(), Cost::default());
        }
    }

    #[test]
    fn small_neighbours_are_one_piece_and_single_bytes_are_not() {
        let mut pieces = Pieces::default();
        (1..=500u64).for_each(|at| pieces.put(at, b"x"));
        assert_eq!(pieces.cost().pieces, 1);
        (501..=600u64).for_each(|at| pieces.put(2 * at, b"x"));
        assert_eq!(pieces.cost().pieces, 101);
        assert!(pieces.cost().bytes >= 101 * PIECE_OVERHEAD);
    }
}
