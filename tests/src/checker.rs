//! The history checker: judges a run by what its clients recorded.
//!
//! A [`Recorder`] takes down [events](event), [`check`] holds the [`History`] against the
//! promises and answers with a [`Verdict`]. The checker knows nothing of how Petrel works
//! and uses none of its crates. It needs no search: messages have unique ids and acknowledged
//! places, so sorting is enough, and every check is O(n log n).
//!
//! What a history must hold to be judged:
//! * `SignIn` for every session that is given entries, `Join` (and `Leave`) for every member;
//! * one `FinalLog` for every conversation with acknowledged messages;
//! * a quiet end: after the last `Heal` and the last send, time for all to catch up.
//!
//! Within a session each delivery is the previous plus one; `Resume` says where it starts
//! anew, `Gap` and `Reset` are the only legal holes. A session's own acknowledged messages
//! count as delivered to it, whether or not they are delivered as well. An entry seen a second
//! time (after a resume from below, in a page, as a wire-level repeat) must be the same entry.
//!
//! After a [`Restore`](event::FaultKind::Restore) fault, what was seen before it above a
//! conversation's lowest later `Reset` is void, as the promise says; without one a `Reset`
//! that takes anything away is a violation.

pub mod event;
mod index;
mod liveness;
mod log;
mod order;
mod recorder;
mod session;

use std::collections::BTreeMap;
use std::fmt;

use event::{Conversation, FaultKind, MessageId};
use index::Index;
pub use recorder::{History, Recorder};

/// What was promised, by the name it is reported under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// One place holds one entry, whoever reads it.
    Agreement,
    /// What was acknowledged or delivered is in the final log.
    Loss,
    /// A message is in the log once.
    Duplicate,
    /// What is stored or shown was sent, in that form, before it was seen.
    Phantom,
    /// What was definitely refused is not stored.
    AbortedRead,
    /// A message of unknown outcome is stored once or never.
    Unknown,
    /// The log's places are 1, 2, 3, ... (or only rise, if density is not promised).
    Dense,
    /// What was complete before another send began has the lower place.
    RealTimeOrder,
    /// One device's messages take their places in the order it sent them.
    DeviceOrder,
    /// Every acknowledgement of a message names the same place, where the log has it.
    AckAgreement,
    /// A session is given every entry in order; holes are announced.
    SessionContiguous,
    /// Entries are written and seen by members alone, within their membership.
    Isolation,
    /// Marks never run back, nor ahead of what the user was given.
    Receipts,
    /// After the last fault, everyone online has everything within the bound.
    Liveness,
    /// The run did what it was meant to; otherwise its green means nothing.
    NonVacuity,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub check: Check,
    /// Where, if it concerns one conversation.
    pub conversation: Option<Conversation>,
    /// The place, if it concerns one.
    pub seq: Option<u64>,
    /// The message, if it concerns one.
    pub id: Option<MessageId>,
    /// What happened, for a human.
    pub sentence: String,
}

/// What the run must have promised and contained.
#[derive(Clone, Debug)]
pub struct Expectations {
    /// Places are 1..=N without holes.
    pub dense: bool,
    /// Within how many milliseconds everyone online has an entry that is stored, counted
    /// from the last heal at the earliest; None skips the check.
    pub liveness_ms: Option<u64>,
    /// How far the clocks of two processes may differ, in microseconds.
    pub clock_skew_us: u64,
    /// At least so many messages acknowledged.
    pub acks_min: u64,
    /// At least so many deliveries.
    pub delivers_min: u64,
    /// At least so many transmissions of messages that had been sent before and were then
    /// acknowledged.
    pub resends_min: u64,
    /// At least so many resumes from above 0.
    pub resumes_min: u64,
    /// At least so many previews.
    pub previews_min: u64,
    /// At least so many faults of each kind.
    pub faults_min: BTreeMap<FaultKind, u64>,
    /// At least so many sends without an outcome at the moment of every kill.
    pub in_flight_at_kill_min: u64,
}

impl Default for Expectations {
    /// Dense, caught up within ten seconds, one message acknowledged and delivered.
    fn default() -> Self {
        Self {
            dense: true,
            liveness_ms: Some(10_000),
            clock_skew_us: 0,
            acks_min: 1,
            delivers_min: 1,
            resends_min: 0,
            resumes_min: 0,
            previews_min: 0,
            faults_min: BTreeMap::new(),
            in_flight_at_kill_min: 0,
        }
    }
}

/// What was in the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent.
    pub sends: u64,
    /// Messages acknowledged.
    pub acks: u64,
    /// Messages of which every transmission was definitely refused.
    pub refused: u64,
    /// Messages whose outcome the sender never learnt.
    pub unknown: u64,
    /// Transmissions of messages sent before and later acknowledged.
    pub resends: u64,
    /// Entries given to applications, pages included.
    pub delivers: u64,
    /// Wire-level repeats that a client library dropped.
    pub repeats: u64,
    /// Previews shown.
    pub previews: u64,
    /// Resumes from above 0.
    pub resumes: u64,
    /// Announced gaps.
    pub gaps: u64,
    /// Announced resets.
    pub resets: u64,
    /// Entries in the final logs.
    pub entries: u64,
    /// Messages lost: acknowledged or delivered, and not in the final log.
    pub lost: u64,
    /// Surplus entries of messages that are in the log more than once.
    pub duplicated: u64,
    /// Messages that took their place out of order.
    pub reordered: u64,
    /// Holes and repetitions within sessions that nobody announced.
    pub holes: u64,
    /// Injected faults.
    pub faults: BTreeMap<FaultKind, u64>,
    /// The fewest sends without an outcome at any kill.
    pub in_flight_at_kill: Option<u64>,
    /// How many conversations of online sessions were held against the liveness bound.
    pub followed: u64,
    /// The longest that an online session waited for a stored entry after the last heal.
    pub worst_lag_us: u64,
}

/// What [`check`] found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The first [`VIOLATIONS_KEPT_MAX`] of each check.
    pub violations: Vec<Violation>,
    /// How many there were in all, by check; a check without any is absent.
    pub totals: BTreeMap<Check, u64>,
    /// What was in the history.
    pub counts: Counts,
}

/// How many violations of one check a verdict describes.
pub const VIOLATIONS_KEPT_MAX: u64 = 20;

impl Verdict {
    /// Nothing was broken, and the run was worth something.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.totals.is_empty()
    }

    /// How often a promise was broken.
    #[must_use]
    pub fn total(&self, check: Check) -> u64 {
        self.totals.get(&check).copied().unwrap_or(0)
    }

    fn report(&mut self, check: Check, at: Place, sentence: impl FnOnce() -> String) {
        let total = self.totals.entry(check).or_default();
        *total += 1;
        if *total <= VIOLATIONS_KEPT_MAX {
            let Place { conversation, seq, id } = at;
            let sentence = sentence();
            self.violations.push(Violation { check, conversation, seq, id, sentence });
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        writeln!(f, "{}", if self.is_green() { "green" } else { "RED" })?;
        writeln!(
            f,
            "  sends {} acks {} refused {} unknown {} resends {} entries {}",
            c.sends, c.acks, c.refused, c.unknown, c.resends, c.entries
        )?;
        writeln!(
            f,
            "  delivers {} repeats {} previews {} resumes {} gaps {} resets {} faults {:?} in flight at kill {:?}",
            c.delivers,
            c.repeats,
            c.previews,
            c.resumes,
            c.gaps,
            c.resets,
            c.faults,
            c.in_flight_at_kill
        )?;
        writeln!(
            f,
            "  lost {} duplicated {} reordered {} holes {} worst lag {} ms",
            c.lost,
            c.duplicated,
            c.reordered,
            c.holes,
            c.worst_lag_us / 1000
        )?;
        for (check, total) in &self.totals {
            writeln!(f, "  {check:?}: {total}")?;
            for violation in self.violations.iter().filter(|v| v.check == *check).take(3) {
                writeln!(f, "    {}", violation.sentence)?;
            }
        }
        Ok(())
    }
}

/// Where a violation is.
#[derive(Clone, Copy, Default)]
struct Place {
    conversation: Option<Conversation>,
    seq: Option<u64>,
    id: Option<MessageId>,
}

impl Place {
    fn new(conversation: Conversation, seq: u64) -> Self {
        Self { conversation: Some(conversation), seq: Some(seq), id: None }
    }

    fn of(conversation: Conversation, seq: impl Into<Option<u64>>, id: MessageId) -> Self {
        Self { conversation: Some(conversation), seq: seq.into(), id: Some(id) }
    }
}

/// Judges a run.
#[must_use]
pub fn check(history: &History, expectations: &Expectations) -> Verdict {
    let index = Index::new(history.events());
    let mut verdict = Verdict { counts: index.counts(), ..Verdict::default() };
    log::check(&index, expectations, &mut verdict);
    order::check(&index, expectations, &mut verdict);
    session::check(&index, expectations, &mut verdict);
    liveness::check_liveness(&index, expectations, &mut verdict);
    liveness::check_non_vacuity(&index, expectations, &mut verdict);
    verdict
}
