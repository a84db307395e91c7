//! What was sent, and what became of it: the only place where a run's latencies
//! and its verdict come from.
//!
//! Messages are matched by their ids, so that bodies stay chat text. Each
//! conversation has its own short lock; a message that is acknowledged and
//! delivered leaves nothing behind but one line of the conversation's log,
//! by which the history is judged at the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::latency::Series;
use crate::layout::Lane;
use crate::verdict::{Filling, SeqView, Verdict};

/// A message's id (`client_msg_id`).
pub type Id = [u8; 16];

/// Messages of one run, at the most: one log line (48 bytes) each is kept.
pub const MESSAGES_MAX: usize = 20_000_000;

/// Findings told in words, at the most; all are counted.
const FINDINGS_MAX: usize = 20;

/// The run's clock: nanoseconds since its origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.of(Instant::now())
    }

    /// Nanoseconds from the start to `instant`.
    pub fn of(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.0).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The instant that is so many nanoseconds after the start.
    pub fn instant(&self, ns: u64) -> Instant {
        self.0 + std::time::Duration::from_nanos(ns)
    }
}

/// The four latency series of a run.
#[derive(Debug, Default)]
pub struct AllSeries {
    /// Intended time to the call of send.
    pub slip: Series,
    /// Intended time to the acknowledgement at the sender.
    pub ack: Series,
    /// Intended time to the entry at the other member.
    pub delivery: Series,
    /// Intended time to the entry or its preview at the other member, whichever came first.
    pub first_sight: Series,
}

impl AllSeries {
    /// Empties all, between measured phases.
    pub fn reset(&self) {
        for series in [&self.slip, &self.ack, &self.delivery, &self.first_sight] {
            series.reset();
        }
    }
}

/// A message that is under way.
#[derive(Debug, Default)]
struct Flight {
    sent: Option<Sent>,
    acked: Option<(u64, u64)>,
    entered: Option<Entered>,
    sighted_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    intended_ns: u64,
    measured: bool,
    member: usize,
    line: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entered {
    seq: u64,
    at_ns: u64,
    hash: u64,
}

/// One sent message in its conversation's log, in the order of sending.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) id: Id,
    pub(crate) hash: u64,
    /// The place it was acknowledged at; 0 while it is not.
    pub(crate) seq: u64,
    pub(crate) fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Open,
    Refused,
    Lost,
}

#[derive(Debug, Default)]
pub(crate) struct Conversation {
    flights: FxHashMap<Id, Flight>,
    /// By the member that sent.
    pub(crate) log: [Vec<Line>; 2],
    /// By the member that saw.
    views: [SeqView; 2],
    pub(crate) verdict: Verdict,
}

/// Counters since the run began.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages delivered.
    pub delivered: u64,
}

/// An entry as it reached a member.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The entry's id.
    pub id: Id,
    /// Its place.
    pub seq: u64,
    /// [`crate::body::hash`] of its body.
    pub hash: u64,
}

/// The ledger of a run.
#[derive(Debug)]
pub struct Ledger {
    conversations: Vec<Mutex<Conversation>>,
    series: AllSeries,
    sent: AtomicUsize,
    acked: AtomicU64,
    delivered: AtomicU64,
    outstanding: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    findings: Mutex<Vec<String>>,
}

impl Ledger {
    /// A ledger of so many conversations.
    pub fn new(conversations: usize) -> Self {
        Self {
            conversations: (0..conversations).map(|_| Mutex::default()).collect(),
            series: AllSeries::default(),
            sent: AtomicUsize::new(0),
            acked: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            outstanding: AtomicU64::new(0),
            errors: Mutex::default(),
            findings: Mutex::default(),
        }
    }

    /// The series.
    pub fn series(&self) -> &AllSeries {
        &self.series
    }

    /// Messages without their ack or their delivery.
    pub fn outstanding(&self) -> u64 {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Acks and deliveries so far, of all messages.
    pub fn totals(&self) -> Totals {
        Totals {
            acked: self.acked.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
        }
    }

    /// Errors by code so far.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// How many errors there were so far.
    pub fn errors_total(&self) -> u64 {
        self.errors.lock().values().sum()
    }

    /// Counts an error that concerns no message of the table.
    pub fn error(&self, code: &str) {
        *self.errors.lock().entry(code.to_owned()).or_default() += 1;
    }

    /// Whether another message may be sent ([`MESSAGES_MAX`]).
    pub fn has_room(&self) -> bool {
        self.sent.load(Ordering::Relaxed) < MESSAGES_MAX
    }

    /// A message was handed over for sending. It may have been acknowledged
    /// or delivered already, as the sender learns the id only then.
    pub fn sent(&self, lane: Lane, id: Id, intended_ns: u64, hash: u64, measured: bool) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.outstanding.fetch_add(1, Ordering::AcqRel);
        let mut guard = self.conversations[lane.conversation].lock();
        let conversation = &mut *guard;
        let log = &mut conversation.log[lane.member];
        let sent = Sent { intended_ns, measured, member: lane.member, line: log.len() };
        log.push(Line { id, hash, seq: 0, fate: Fate::Open });
        let flight = conversation.flights.entry(id).or_default();
        flight.sent = Some(sent);
        if let Some(at_ns) = flight.sighted_ns {
            self.record_sight(&sent, at_ns);
        }
        if let Some((seq, at_ns)) = flight.acked {
            log[sent.line].seq = seq;
            self.record_ack(&sent, at_ns);
        }
        if let Some(entered) = flight.entered {
            self.record_delivery(&sent, entered.at_ns);
        }
        self.settle(conversation, &id);
    }

    /// A message was refused for good.
    pub fn refused(&self, conversation: usize, id: &Id, code: &str) {
        self.error(code);
        let mut conversation = self.conversations[conversation].lock();
        if let Some(sent) = conversation.flights.remove(id).and_then(|f| f.sent) {
            conversation.log[sent.member][sent.line].fate = Fate::Refused;
            drop(conversation);
            self.outstanding.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A member learnt that its message is stored.
    pub fn acked(&self, lane: Lane, id: Id, seq: u64, at_ns: u64) {
        let mut guard = self.conversations[lane.conversation].lock();
        let conversation = &mut *guard;
        let filling = conversation.views[lane.member].place(seq);
        if filling == Filling::Again {
            conversation.verdict.duplicated += 1;
            return;
        }
        let flight = conversation.flights.entry(id).or_default();
        if flight.acked.is_some() {
            // Acknowledged at two places: stored twice.
            conversation.verdict.duplicated += 1;
            return;
        }
        flight.acked = Some((seq, at_ns));
        if let Some(sent) = flight.sent {
            conversation.log[sent.member][sent.line].seq = seq;
            self.record_ack(&sent, at_ns);
        }
        self.settle(conversation, &id);
    }

    /// An entry of somebody else reached a member. `lane.member` is who saw it.
    pub fn entered(&self, lane: Lane, seen: Seen, at_ns: u64) {
        let mut guard = self.conversations[lane.conversation].lock();
        let conversation = &mut *guard;
        match conversation.views[lane.member].enter(seen.seq) {
            Filling::Again => {
                conversation.verdict.duplicated += 1;
                return;
            }
            Filling::Late => conversation.verdict.reordered += 1,
            Filling::InOrder => {}
        }
        let flight = conversation.flights.entry(seen.id).or_default();
        if flight.entered.is_some() {
            conversation.verdict.duplicated += 1;
            return;
        }
        flight.entered = Some(Entered { seq: seen.seq, at_ns, hash: seen.hash });
        let first = flight.sighted_ns.is_none();
        flight.sighted_ns.get_or_insert(at_ns);
        if let Some(sent) = flight.sent {
            if first {
                self.record_sight(&sent, at_ns);
            }
            self.record_delivery(&sent, at_ns);
        }
        self.settle(conversation, &seen.id);
    }

    /// A preview of somebody else's message reached a member.
    pub fn previewed(&self, lane: Lane, id: Id, at_ns: u64) {
        let mut conversation = self.conversations[lane.conversation].lock();
        // A preview that comes after its entry finds no flight, and adds none.
        let Some(flight) = conversation.flights.get_mut(&id) else {
            conversation
                .flights
                .insert(id, Flight { sighted_ns: Some(at_ns), ..Flight::default() });
            return;
        };
        if flight.sighted_ns.is_none() {
            flight.sighted_ns = Some(at_ns);
            if let Some(sent) = flight.sent {
                self.record_sight(&sent, at_ns);
            }
        }
    }

    /// Takes a message that is done out of the table, comparing what the two
    /// sides were told of it.
    fn settle(&self, conversation: &mut Conversation, id: &Id) {
        let Some(Flight {
            sent: Some(sent),
            acked: Some((acked_seq, _)),
            entered: Some(entered),
            ..
        }) = conversation.flights.get(id)
        else {
            return;
        };
        let line = &conversation.log[sent.member][sent.line];
        if entered.hash != line.hash {
            conversation.verdict.altered += 1;
        }
        if entered.seq != *acked_seq {
            conversation.verdict.reordered += 1;
        }
        conversation.flights.remove(id);
        self.outstanding.fetch_sub(1, Ordering::AcqRel);
    }

    fn record_ack(&self, sent: &Sent, at_ns: u64) {
        self.acked.fetch_add(1, Ordering::Relaxed);
        if sent.measured {
            self.series.ack.record(at_ns.saturating_sub(sent.intended_ns));
        }
    }

    fn record_delivery(&self, sent: &Sent, at_ns: u64) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        if sent.measured {
            self.series.delivery.record(at_ns.saturating_sub(sent.intended_ns));
        }
    }

    fn record_sight(&self, sent: &Sent, at_ns: u64) {
        if sent.measured {
            self.series.first_sight.record(at_ns.saturating_sub(sent.intended_ns));
        }
    }

    /// Records what is still under way as at least `waited_ns` late, without
    /// giving it up: no sample is left out because the answer never came.
    /// Returns how many measured messages that were.
    pub fn record_unanswered(&self, now_ns: u64, waited_ns: u64) -> u64 {
        let mut unanswered = 0;
        for conversation in &self.conversations {
            for flight in conversation.lock().flights.values_mut() {
                let Some(sent) = flight.sent.as_mut().filter(|sent| sent.measured) else {
                    continue;
                };
                let late = now_ns.saturating_sub(sent.intended_ns).max(waited_ns);
                if flight.acked.is_none() {
                    self.series.ack.record(late);
                }
                if flight.entered.is_none() {
                    self.series.delivery.record(late);
                }
                if flight.sighted_ns.is_none() {
                    self.series.first_sight.record(late);
                }
                // Counted once; what comes now is no sample any more.
                sent.measured = false;
                unanswered += 1;
            }
        }
        unanswered
    }

    /// Ends the online part: what is still under way is lost.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for (index, conversation) in self.conversations.iter().enumerate() {
            let mut conversation = conversation.lock();
            for finding in conversation.close() {
                self.find(format!("conversation {index}: {finding}"));
            }
            verdict += conversation.verdict;
        }
        verdict
    }

    /// The lowest place at which one of the conversation's messages was
    /// acknowledged; `None` if none was.
    pub fn lowest_seq(&self, conversation: usize) -> Option<u64> {
        let conversation = self.conversations[conversation].lock();
        let lines = conversation.log.iter().flatten();
        lines.map(|line| line.seq).filter(|seq| *seq > 0).min()
    }

    /// Judges one conversation's history, as a fresh client read it.
    pub fn judge_history(&self, conversation: usize, history: &[HistoryEntry]) {
        let found = {
            let mut conversation = self.conversations[conversation].lock();
            crate::verdict::judge_history(&mut conversation, history)
        };
        for finding in found {
            self.find(format!("conversation {conversation}: {finding}"));
        }
    }

    fn find(&self, finding: String) {
        let mut findings = self.findings.lock();
        if findings.len() < FINDINGS_MAX {
            findings.push(finding);
        }
    }

    /// What was found, in words: the first few.
    pub fn findings(&self) -> Vec<String> {
        self.findings.lock().clone()
    }
}

/// One entry of a history read at the end.
#[derive(Clone, Copy, Debug)]
pub struct HistoryEntry {
    /// What it is.
    pub seen: Seen,
    /// Which of the two members sent it; `None`: neither.
    pub member: Option<usize>,
}

impl Conversation {
    /// Idempotent: what was judged once is taken out.
    fn close(&mut self) -> Vec<String> {
        let mut findings = Vec::new();
        let flights = std::mem::take(&mut self.flights);
        for (id, flight) in flights {
            match flight.sent {
                Some(sent) => {
                    self.log[sent.member][sent.line].fate = Fate::Lost;
                    self.verdict.lost += 1;
                    findings.push(format!(
                        "number {} of member {} is without an answer (acked: {:?}, delivered: {})",
                        sent.line,
                        sent.member,
                        flight.acked.map(|(seq, _)| seq),
                        flight.entered.is_some()
                    ));
                }
                // An entry or an ack of a message that was done already, or refused.
                None if flight.entered.is_some() || flight.acked.is_some() => {
                    let ours = self.log.iter().flatten().any(|line| line.id == id);
                    self.verdict.duplicated += u64::from(ours);
                }
                None => {}
            }
        }
        for view in &mut self.views {
            self.verdict.gaps += view.take_holes();
        }
        findings
    }
}
