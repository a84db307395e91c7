//! What is to be echoed, and when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use super::COPY_BYTES_MAX;
use crate::frame::bare;
use crate::wire::{self, frame::What};

/// When each copy goes, after its original. Not at once: what is queued together shares a packet.
const AFTER: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(16)];
/// Copies that wait, at the most; further writes are not echoed.
const WAITING_MAX: usize = 256;
/// Bytes that are copied in one second, at the most.
const BYTES_PER_S_MAX: usize = 64 * 1024;
/// Bytes around one copy's data and around all of them, at the most.
const COPY_OVERHEAD: usize = 28;

/// The copies of one connection that are on their way.
#[derive(Debug, Default)]
pub struct EchoQueue {
    /// In the order of their times, for each of [`AFTER`].
    waiting: [VecDeque<Waiting>; AFTER.len()],
    second: Option<(Instant, usize)>,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    stream: u64,
    offset: u64,
    data: Bytes,
}

impl EchoQueue {
    /// Takes what was just written to a stream at this offset, to be echoed `copies` times. Too
    /// much is left out. Says whether it is taken.
    pub fn offer(
        &mut self,
        now: Instant,
        copies: u8,
        (stream, offset): (u64, u64),
        data: &Bytes,
    ) -> bool {
        let copies = usize::from(copies).min(AFTER.len());
        let waiting: usize = self.waiting.iter().map(VecDeque::len).sum();
        let has_room = copies > 0
            && (1..=COPY_BYTES_MAX).contains(&data.len())
            && waiting + copies <= WAITING_MAX;
        if !has_room || !self.take_budget(now, copies * data.len()) {
            return false;
        }
        for (after, waiting) in AFTER.iter().zip(&mut self.waiting).take(copies) {
            let due = now + *after;
            waiting.push_back(Waiting { due, stream, offset, data: data.clone() });
        }
        true
    }

    /// When the next copy is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|queue| queue.front()).map(|first| first.due).min()
    }

    /// The datagrams that are due, none above `bytes_max`. Copies that are due together share one.
    pub fn take_due(&mut self, now: Instant, bytes_max: usize) -> Vec<Bytes> {
        let mut datagrams = Vec::new();
        let mut copies: Vec<wire::Copy> = Vec::new();
        let mut bytes = 0;
        for queue in &mut self.waiting {
            while let Some(next) = queue.pop_front_if(|next| next.due <= now) {
                let size = next.data.len() + COPY_OVERHEAD;
                // The path has become narrower since it was taken.
                if size > bytes_max {
                    continue;
                }
                if bytes + size > bytes_max {
                    datagrams.push(encode(std::mem::take(&mut copies)));
                    bytes = 0;
                }
                bytes += size;
                let Waiting { stream, offset, data, .. } = next;
                copies.push(wire::Copy { stream, offset, data });
            }
        }
        if !copies.is_empty() {
            datagrams.push(encode(copies));
        }
        datagrams
    }

    fn take_budget(&mut self, now: Instant, bytes: usize) -> bool {
        let spent = match self.second {
            Some((begun, spent)) if now < begun + Duration::from_secs(1) => spent,
            _ => {
                self.second = Some((now, 0));
                0
            }
        };
        if spent + bytes > BYTES_PER_S_MAX {
            return false;
        }
        if let Some((_, spent)) = &mut self.second {
            *spent += bytes;
        }
        true
    }
}

fn encode(copies: Vec<wire::Copy>) -> Bytes {
    bare(What::Echo(wire::Echo { copies })).encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::frame;

    fn data(length: usize) -> Bytes {
        vec![7; length].into()
    }

    fn copies(datagrams: Vec<Bytes>) -> Vec<Vec<(u64, u64, usize)>> {
        let of = |datagram: Bytes| match frame::decode(datagram).unwrap().1 {
            What::Echo(echo) => {
                echo.copies.iter().map(|c| (c.stream, c.offset, c.data.len())).collect()
            }
            other => panic!("{other:?}"),
        };
        datagrams.into_iter().map(of).collect()
    }

    #[test]
    fn copies_go_later_and_those_due_together_share_a_datagram() {
        let now = Instant::now();
        let mut queue = EchoQueue::default();
        assert!(queue.offer(now, 1, (4, 0), &data(100)));
        assert!(queue.offer(now, 2, (8, 50), &data(200)));
        assert_eq!(queue.next_due(), Some(now + AFTER[0]));
        assert!(queue.take_due(now, 1_200).is_empty());
        let due = queue.take_due(now + AFTER[0], 1_200);
        assert_eq!(copies(due), [[(4, 0, 100), (8, 50, 200)]]);
        assert_eq!(queue.next_due(), Some(now + AFTER[1]));
        assert_eq!(copies(queue.take_due(now + AFTER[1], 1_200)), [[(8, 50, 200)]]);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn no_datagram_is_larger_than_the_path_takes() {
        let now = Instant::now();
        let mut queue = EchoQueue::default();
        for n in 0..10 {
            assert!(queue.offer(now, 1, (1 << 40, n << 40), &data(COPY_BYTES_MAX - 500)));
        }
        let due = queue.take_due(now + AFTER[0], 1_150);
        assert!(due.iter().all(|datagram| datagram.len() <= 1_150) && due.len() == 5);
        assert!(queue.offer(now, 1, (4, 0), &data(900)));
        assert!(queue.take_due(now + AFTER[0], 500).is_empty(), "it does not fit any more");
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn what_is_too_much_is_not_echoed() {
        let now = Instant::now();
        let mut queue = EchoQueue::default();
        assert!(!queue.offer(now, 0, (4, 0), &data(1)), "no loss");
        assert!(!queue.offer(now, 1, (4, 0), &data(0)));
        assert!(!queue.offer(now, 1, (4, 0), &data(COPY_BYTES_MAX + 1)));
        let taken = (0..1_000).filter(|n| queue.offer(now, 1, (4, *n), &data(1))).count();
        assert_eq!(taken, WAITING_MAX);
        let mut queue = EchoQueue::default();
        let taken = (0..1_000).filter(|n| queue.offer(now, 1, (4, *n), &data(1_000))).count();
        assert_eq!(taken, BYTES_PER_S_MAX / 1_000);
        assert!(queue.offer(now + Duration::from_secs(1), 1, (4, 0), &data(1_000)));
    }
}
