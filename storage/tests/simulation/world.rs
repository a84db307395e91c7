//! What all parts of one simulated run share: the dice, what was counted, what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use petrel_core::id::{ClientMessageId, ConversationId, DeviceId, UserId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// A fault that is built in on purpose: the checks must find each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sabotage {
    None,
    /// The store does not look for what it has stored before.
    NoDedupeKey,
    /// The store answers, and commits afterwards or never.
    AckBeforeCommit,
    /// The store stores whatever rights a message was admitted by.
    NoRightsCheck,
    /// Locks and look-up in one statement, whose snapshot is older than the
    /// locks; lost races are hidden.
    OneStatement,
    /// After an unknown outcome the ids are looked up without the locks, and
    /// what was not found counts as not stored.
    MereLookUp,
    /// A gateway forgets at once what it refused for good.
    NoTombstones,
}

/// How often what happened: a run in which nothing happened proves nothing.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counters {
    pub(crate) acked: u64,
    pub(crate) committed_unknown: u64,
    pub(crate) aborted_unknown: u64,
    pub(crate) late_transactions: u64,
    pub(crate) duplicates: u64,
    pub(crate) stale: u64,
    pub(crate) readmitted: u64,
    pub(crate) refused_for_good: u64,
    pub(crate) refused_for_now: u64,
    pub(crate) resends: u64,
    pub(crate) resumes: u64,
    pub(crate) previews: u64,
    pub(crate) deaths: u64,
    pub(crate) died_before_push: u64,
    pub(crate) restores: u64,
    pub(crate) resets: u64,
    pub(crate) lock_waits: u64,
    pub(crate) overloads: u64,
    pub(crate) poisoned: u64,
    pub(crate) lingering: u64,
    pub(crate) refused_again: u64,
}

impl Counters {
    pub(crate) fn all(&self) -> [(&'static str, u64); 21] {
        [
            ("acked", self.acked),
            ("committed_unknown", self.committed_unknown),
            ("aborted_unknown", self.aborted_unknown),
            ("late_transactions", self.late_transactions),
            ("duplicates", self.duplicates),
            ("stale", self.stale),
            ("readmitted", self.readmitted),
            ("refused_for_good", self.refused_for_good),
            ("refused_for_now", self.refused_for_now),
            ("resends", self.resends),
            ("resumes", self.resumes),
            ("previews", self.previews),
            ("deaths", self.deaths),
            ("died_before_push", self.died_before_push),
            ("restores", self.restores),
            ("resets", self.resets),
            ("lock_waits", self.lock_waits),
            ("overloads", self.overloads),
            ("poisoned", self.poisoned),
            ("lingering", self.lingering),
            ("refused_again", self.refused_again),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            acked,
            committed_unknown,
            aborted_unknown,
            late_transactions,
            duplicates,
            stale,
            readmitted,
            refused_for_good,
            refused_for_now,
            resends,
            resumes,
            previews,
            deaths,
            died_before_push,
            restores,
            resets,
            lock_waits,
            overloads,
            poisoned,
            lingering,
            refused_again,
        } = other;
        self.acked += acked;
        self.committed_unknown += committed_unknown;
        self.aborted_unknown += aborted_unknown;
        self.late_transactions += late_transactions;
        self.duplicates += duplicates;
        self.stale += stale;
        self.readmitted += readmitted;
        self.refused_for_good += refused_for_good;
        self.refused_for_now += refused_for_now;
        self.resends += resends;
        self.resumes += resumes;
        self.previews += previews;
        self.deaths += deaths;
        self.died_before_push += died_before_push;
        self.restores += restores;
        self.resets += resets;
        self.lock_waits += lock_waits;
        self.overloads += overloads;
        self.poisoned += poisoned;
        self.lingering += lingering;
        self.refused_again += refused_again;
    }
}

/// The sends of one device to one conversation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Line {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) conversation: ConversationId,
}

/// What a client knows of one of its messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub(crate) seq: u64,
    pub(crate) at: Instant,
    /// A Reset told that everything from below this place on is gone.
    pub(crate) announced_lost: bool,
}

/// What was seen, for the checks at the end.
#[derive(Default, Debug)]
pub(crate) struct History {
    /// In the order in which the device sent them.
    pub(crate) invoked: BTreeMap<Line, Vec<(ClientMessageId, Instant)>>,
    pub(crate) acked: BTreeMap<ClientMessageId, Acked>,
    /// Refused for good, as the client was told.
    pub(crate) refused: BTreeSet<ClientMessageId>,
    /// Refused for good by some gateway, told or not: such a message has lost its turn.
    pub(crate) turned_away: BTreeSet<ClientMessageId>,
    /// What each device had in the end: seq and id.
    pub(crate) views: BTreeMap<Line, Vec<ClientMessageId>>,
    /// How far each line is now: entries seen, messages without an answer or not yet sent.
    pub(crate) progress: BTreeMap<Line, (u64, usize)>,
    pub(crate) violations: Vec<String>,
}

/// One run.
#[derive(Debug)]
pub(crate) struct World {
    random: Mutex<StdRng>,
    pub(crate) sabotage: Sabotage,
    pub(crate) counters: Mutex<Counters>,
    pub(crate) history: Mutex<History>,
    /// What goes on whether or not a gateway lives: transactions in the database, clients.
    pub(crate) tasks: TaskTracker,
    /// From here on there are no more faults.
    healed: AtomicBool,
    /// From here on clients go home.
    finished: AtomicBool,
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Sabotage) -> Self {
        Self {
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            sabotage,
            counters: Mutex::default(),
            history: Mutex::default(),
            tasks: TaskTracker::new(),
            healed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        }
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.random.lock().random_range(0..end)
    }

    pub(crate) fn index(&self, len: usize) -> usize {
        self.random.lock().random_range(0..len)
    }

    pub(crate) fn bytes(&self) -> [u8; 16] {
        self.random.lock().random()
    }

    pub(crate) fn ms(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.random.lock().random_range(range))
    }

    /// Whether a fault of this chance (in a thousand) happens now.
    pub(crate) fn fault(&self, per_mille: u64) -> bool {
        let happens = self.below(1000) < per_mille;
        happens && !self.is_healed()
    }

    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    pub(crate) fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.counters.lock());
    }

    pub(crate) fn violation(&self, what: String) {
        self.history.lock().violations.push(what);
    }
}
