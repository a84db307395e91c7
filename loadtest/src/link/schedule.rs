//! What is due when, for a thread that sleeps in between.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parking_lot::{Condvar, Mutex};

use crate::ledger::Clock;

/// Bytes that are on their way, at the most, all links together.
const BYTES_MAX: usize = 512 << 20;

/// Things in the order of their times; what is due at the same time in the order it was given.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    clock: Clock,
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: BinaryHeap<Reverse<Due<T>>>,
    given: u64,
    bytes: usize,
    closed: bool,
}

#[derive(Debug)]
struct Due<T> {
    at_ns: u64,
    number: u64,
    bytes: usize,
    what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

impl<T> Schedule<T> {
    pub(super) fn new(clock: Clock) -> Self {
        let state = State { waiting: BinaryHeap::new(), given: 0, bytes: 0, closed: false };
        Self { clock, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Takes something that is due then; `false` if there is no room for it.
    pub(super) fn put(&self, at_ns: u64, bytes: usize, what: T) -> bool {
        let mut state = self.state.lock();
        if state.bytes + bytes > BYTES_MAX {
            return false;
        }
        state.bytes += bytes;
        state.given += 1;
        let number = state.given;
        let is_first = state.waiting.peek().is_none_or(|Reverse(first)| at_ns < first.at_ns);
        state.waiting.push(Reverse(Due { at_ns, number, bytes, what }));
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
        true
    }

    /// The next thing, when it is due; `None` after [`Self::close`].
    pub(super) fn next(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let Some(Reverse(first)) = state.waiting.peek() else {
                self.changed.wait(&mut state);
                continue;
            };
            let at_ns = first.at_ns;
            if at_ns > self.clock.now() {
                self.changed.wait_until(&mut state, self.clock.instant(at_ns));
                continue;
            }
            if let Some(Reverse(due)) = state.waiting.pop() {
                state.bytes -= due.bytes;
                return Some(due.what);
            }
        }
    }

    /// Ends [`Self::next`]; what waits is forgotten.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_the_order_of_their_times_then_as_given() {
        let schedule = Schedule::new(Clock::start());
        for (at_ns, what) in [(300, 'd'), (100, 'a'), (200, 'b'), (200, 'c')] {
            assert!(schedule.put(at_ns, 1, what));
        }
        let came: String = (0..4).filter_map(|_| schedule.next()).collect();
        assert_eq!(came, "abcd");
        schedule.close();
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn it_is_full_at_its_bound() {
        let schedule = Schedule::new(Clock::start());
        assert!(schedule.put(1, BYTES_MAX, ()));
        assert!(!schedule.put(1, 1, ()));
        assert_eq!(schedule.next(), Some(()));
        assert!(schedule.put(1, 1, ()));
    }
}
