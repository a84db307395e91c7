//! What all emulators share: each packet's fate, the counts, and what is on its way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use mio::Waker;

use super::counters::{Counters, count};
use super::path::{Cause, Fate, Path, nanos};
use super::profile::Profile;
use super::schedule::Schedule;
use crate::ledger::Clock;

/// One emulator's packets; `T` says where one of them goes.
#[derive(Debug)]
pub(super) struct Course<T> {
    pub(super) clock: Clock,
    pub(super) profile: Profile,
    pub(super) up: Counters,
    pub(super) down: Counters,
    schedule: Schedule<Parcel<T>>,
    /// Nothing gets through until then, beside the profile's own blackouts.
    dark_until_ns: AtomicU64,
    stopped: AtomicBool,
}

/// The threads of an emulator: one reads and decides, one sends what is due. They end when this is
/// dropped.
#[derive(Debug)]
pub(super) struct Threads<T> {
    course: Arc<Course<T>>,
    waker: Waker,
    running: Vec<JoinHandle<()>>,
}

impl<T> Threads<T> {
    /// Starts them; the waker is that of the reader's poll.
    pub(super) fn start(
        course: &Arc<Course<T>>,
        waker: Waker,
        read: impl FnOnce() + Send + 'static,
        send: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let mut threads = Self { course: Arc::clone(course), waker, running: Vec::new() };
        threads.running.push(Builder::new().name("link-read".to_owned()).spawn(read)?);
        threads.running.push(Builder::new().name("link-send".to_owned()).spawn(send)?);
        Ok(threads)
    }

    /// Lets the reader look at what was asked for.
    pub(super) fn wake(&self) -> io::Result<()> {
        self.waker.wake()
    }
}

impl<T> Drop for Threads<T> {
    fn drop(&mut self) {
        self.course.stopped.store(true, Ordering::Relaxed);
        self.course.schedule.close();
        // Without it the reader would end with the next packet.
        drop(self.wake());
        for thread in self.running.drain(..) {
            drop(thread.join());
        }
    }
}

/// A packet on its way.
#[derive(Debug)]
pub(super) struct Parcel<T> {
    pub(super) to: T,
    pub(super) is_up: bool,
    pub(super) bytes: Box<[u8]>,
}

impl<T: Clone> Course<T> {
    pub(super) fn new(profile: &Profile) -> Self {
        let clock = Clock::start();
        Self {
            clock,
            profile: profile.clone(),
            up: Counters::default(),
            down: Counters::default(),
            schedule: Schedule::new(clock),
            dark_until_ns: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn counters(&self, is_up: bool) -> &Counters {
        if is_up { &self.up } else { &self.down }
    }

    /// From now on nothing gets through for so long; zero ends it.
    pub(super) fn black_out(&self, lasting: Duration) {
        let until_ns = self.clock.now().saturating_add(nanos(lasting));
        self.dark_until_ns.store(until_ns, Ordering::Relaxed);
    }

    /// Waits for the next packet that is due; `None` once it is stopped.
    pub(super) fn next(&self) -> Option<Parcel<T>> {
        self.schedule.next()
    }

    /// Whether the threads are to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The paths of the link with this number, up and down.
    pub(super) fn paths(&self, seed: u64, link: usize) -> (Path, Path) {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(2 * link as u64);
        let now_ns = self.clock.now();
        (
            Path::new(self.profile.up, seed, now_ns),
            Path::new(self.profile.down, seed.wrapping_add(1), now_ns),
        )
    }

    /// Decides about a packet and puts it on its way. `size`: what it counts as, in bytes.
    pub(super) fn take(&self, to: &T, path: &mut Path, is_up: bool, bytes: &[u8], size: usize) {
        let now_ns = self.clock.now();
        let counters = self.counters(is_up);
        count(&counters.packets);
        counters.bytes.fetch_add(size as u64, Ordering::Relaxed);
        if self.is_dark(now_ns) {
            count(&counters.blacked_out);
            return;
        }
        let arrival = match path.offer(now_ns, size) {
            Fate::Lost(Cause::Chance) => return count(&counters.lost),
            Fate::Lost(Cause::Queue) => return count(&counters.queue_full),
            Fate::Comes(arrival) => arrival,
        };
        let mut bytes: Box<[u8]> = bytes.into();
        if let Some((at, bits)) = arrival.damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
            count(&counters.corrupted);
        }
        if arrival.reordered {
            count(&counters.reordered);
        }
        if let Some(at_ns) = arrival.copy_at_ns {
            count(&counters.duplicated);
            self.put(at_ns, Parcel { to: to.clone(), is_up, bytes: bytes.clone() });
        }
        self.put(arrival.at_ns, Parcel { to: to.clone(), is_up, bytes });
    }

    fn put(&self, at_ns: u64, parcel: Parcel<T>) {
        let counters = self.counters(parcel.is_up);
        if !self.schedule.put(at_ns, parcel.bytes.len(), parcel) {
            count(&counters.failed);
        }
    }

    fn is_dark(&self, now_ns: u64) -> bool {
        let recurring = self.profile.blackout.is_some_and(|blackout| {
            let every_ns = nanos(blackout.every);
            now_ns >= every_ns && now_ns % every_ns < nanos(blackout.lasting)
        });
        recurring || now_ns < self.dark_until_ns.load(Ordering::Relaxed)
    }
}
