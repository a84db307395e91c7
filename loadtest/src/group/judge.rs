//! What was sent to groups, and what each member saw of it.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use rustc_hash::FxHashMap;

use super::scan::{Scanned, what};
use super::text::{Numbering, Texts};
use crate::dial::Stored;
use crate::latency::Series;
use crate::ledger::AllSeries;
use crate::verdict::{Filling, SeqView, Verdict};

/// Messages of one run, at the most.
pub const MESSAGES_MAX: u32 = 8_000_000;
/// Messages whose lines are made at once.
const PART: u32 = 65_536;
/// Findings told in words, at the most; all are counted.
const FINDINGS_MAX: usize = 20;
/// Deliveries that never came and are entered as late ones, at the most.
const UNANSWERED_MAX: u64 = 10_000_000;

/// What became of one message.
#[derive(Debug, Default)]
struct Line {
    /// Nanoseconds of the run's clock, twice; plus one if it is measured.
    intended: AtomicU64,
    /// Where it stands; 0: not known yet.
    seq: AtomicU64,
    /// When its id was made: Unix milliseconds.
    made_ms: AtomicU64,
    /// Who sent it.
    seat: AtomicU32,
    acked: AtomicBool,
    refused: AtomicBool,
}

/// What one member has seen of its group.
#[derive(Debug, Default)]
pub struct Watch {
    /// Which seat.
    pub seat: u32,
    seqs: SeqView,
    /// By the number on its stream: which messages it sent.
    sent: Vec<u32>,
}

/// What a chunk of one member's stream came to, entered all at once.
#[derive(Debug, Default)]
pub struct Chunk {
    late_ns: Vec<u64>,
    delivered: u64,
    verdict: Verdict,
}

/// The judge of a run.
#[derive(Debug)]
pub struct Judge {
    /// What is said.
    pub texts: Texts,
    /// How messages are numbered.
    pub numbering: Numbering,
    series: AllSeries,
    members: u32,
    lines: Vec<OnceLock<Box<[Line]>>>,
    next: AtomicU32,
    acked: AtomicU64,
    refused: AtomicU64,
    delivered: AtomicU64,
    wrong: parking_lot::Mutex<(Verdict, Vec<String>, BTreeMap<String, u64>)>,
}

impl Judge {
    /// Of groups with so many members each; the seats of one group follow each other.
    pub fn new(texts: Texts, members: usize) -> Self {
        Self {
            texts,
            numbering: Numbering::random(),
            series: AllSeries::default(),
            members: u32::try_from(members).unwrap_or(u32::MAX),
            lines: (0..MESSAGES_MAX / PART).map(|_| OnceLock::new()).collect(),
            next: AtomicU32::new(0),
            acked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            wrong: parking_lot::Mutex::default(),
        }
    }

    /// The series.
    pub fn series(&self) -> &AllSeries {
        &self.series
    }

    /// Acks and deliveries so far.
    pub fn totals(&self) -> (u64, u64) {
        (self.acked.load(Ordering::Acquire), self.delivered.load(Ordering::Acquire))
    }

    /// Messages sent so far.
    pub fn sent(&self) -> u32 {
        self.next.load(Ordering::Acquire)
    }

    /// Whether another message may be sent ([`MESSAGES_MAX`]).
    pub fn has_room(&self) -> bool {
        self.sent() < MESSAGES_MAX - 1
    }

    /// Acks and deliveries that are still to come.
    pub fn outstanding(&self) -> u64 {
        let sent = u64::from(self.sent()) - self.refused.load(Ordering::Acquire);
        let (acked, delivered) = self.totals();
        let wanted = sent * u64::from(self.members - 1);
        sent.saturating_sub(acked) + wanted.saturating_sub(delivered)
    }

    /// Counts an error.
    pub fn error(&self, code: &str) {
        *self.wrong.lock().2.entry(code.to_owned()).or_default() += 1;
    }

    /// Errors by code so far.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.wrong.lock().2.clone()
    }

    /// What was found, in words: the first few.
    pub fn findings(&self) -> Vec<String> {
        self.wrong.lock().1.clone()
    }

    fn find(&self, finding: String) {
        let mut wrong = self.wrong.lock();
        if wrong.1.len() < FINDINGS_MAX {
            wrong.1.push(finding);
        }
    }

    fn line(&self, message: u32) -> Option<&Line> {
        let part = self.lines.get((message / PART) as usize)?;
        let lines = part.get_or_init(|| (0..PART).map(|_| Line::default()).collect());
        lines.get((message % PART) as usize)
    }

    /// Enters a message that is about to be sent from a seat; its number. To be called by one thread.
    pub fn send(&self, seat: u32, intended_ns: u64, measured: bool) -> u32 {
        let message = self.next.load(Ordering::Relaxed);
        if let Some(line) = self.line(message) {
            line.seat.store(seat, Ordering::Relaxed);
            line.intended.store(intended_ns << 1 | u64::from(measured), Ordering::Release);
        }
        self.next.store(message + 1, Ordering::Release);
        message
    }

    /// When a message's id was made, which it keeps whenever it is sent: the first time, now.
    pub fn made_ms(&self, message: u32, now_ms: u64) -> u64 {
        let Some(line) = self.line(message) else { return now_ms };
        let first = line.made_ms.compare_exchange(0, now_ms, Ordering::AcqRel, Ordering::Acquire);
        first.map_or_else(|made_ms| made_ms, |_| now_ms)
    }

    /// A message will never be stored: it could not be sent, or was refused for good.
    pub fn give_up(&self, message: u32) {
        if let Some(line) = self.line(message)
            && !line.refused.swap(true, Ordering::AcqRel)
        {
            self.refused.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Takes a frame that came to a member at this time of the run's clock.
    pub fn hear(&self, watch: &mut Watch, frame: &Scanned<'_>, now_ns: u64, chunk: &mut Chunk) {
        match frame.what {
            what::PUSH => self.push(watch, frame, now_ns, chunk),
            what::ACK => self.ack(watch, frame, now_ns, chunk),
            _ => {}
        }
    }

    fn push(&self, watch: &mut Watch, frame: &Scanned<'_>, now_ns: u64, chunk: &mut Chunk) {
        let ours = self.numbering.number(frame.id).filter(|message| *message < self.sent());
        let Some((message, line)) = ours.and_then(|m| Some((m, self.line(m)?))) else {
            // What the service says of the group, or somebody else.
            watch.seqs.enter(frame.seq);
            return;
        };
        if line.seat.load(Ordering::Relaxed) == watch.seat {
            // One's own: read from the store with others, beside its Ack.
            watch.seqs.place(frame.seq);
            return;
        }
        match watch.seqs.enter(frame.seq) {
            Filling::Again => {
                chunk.verdict.duplicated += 1;
                return;
            }
            Filling::Late => chunk.verdict.reordered += 1,
            Filling::InOrder => {}
        }
        chunk.verdict.reordered += u64::from(!is_placed(line, frame.seq));
        chunk.verdict.altered += u64::from(!self.texts.is(message, frame.encoding, frame.body));
        chunk.delivered += 1;
        let intended = line.intended.load(Ordering::Acquire);
        if intended & 1 == 1 {
            chunk.late_ns.push(now_ns.saturating_sub(intended >> 1));
        }
    }

    fn ack(&self, watch: &mut Watch, frame: &Scanned<'_>, now_ns: u64, chunk: &mut Chunk) {
        let message = watch.message(frame.number);
        let Some(line) = message.and_then(|message| self.line(message)) else {
            return self.error("ack_of_nothing");
        };
        watch.seqs.place(frame.seq);
        if line.acked.swap(true, Ordering::AcqRel) {
            chunk.verdict.duplicated += 1;
            return;
        }
        chunk.verdict.reordered += u64::from(!is_placed(line, frame.seq));
        let intended = line.intended.load(Ordering::Acquire);
        if intended & 1 == 1 {
            self.series.ack.record(now_ns.saturating_sub(intended >> 1));
        }
        self.acked.fetch_add(1, Ordering::AcqRel);
    }

    /// Enters what a chunk came to, and empties it.
    pub fn enter(&self, chunk: &mut Chunk) {
        if chunk.delivered > 0 {
            self.series.delivery.record_all(&chunk.late_ns);
            chunk.late_ns.clear();
            self.delivered.fetch_add(std::mem::take(&mut chunk.delivered), Ordering::AcqRel);
        }
        if !chunk.verdict.is_clean() {
            self.wrong.lock().0 += std::mem::take(&mut chunk.verdict);
        }
    }

    /// Messages by their place, of each group, as far as they are known to be stored.
    fn places(&self) -> FxHashMap<(u32, u64), u32> {
        (0..self.sent())
            .filter_map(|message| {
                let line = self.line(message)?;
                let seq = line.seq.load(Ordering::Acquire);
                let group = line.seat.load(Ordering::Relaxed) / self.members;
                (seq > 0).then_some(((group, seq), message))
            })
            .collect()
    }

    fn heads(places: &FxHashMap<(u32, u64), u32>) -> FxHashMap<u32, u64> {
        let mut heads: FxHashMap<u32, u64> = FxHashMap::default();
        for (group, seq) in places.keys() {
            let head = heads.entry(*group).or_default();
            *head = (*head).max(*seq);
        }
        heads
    }

    /// Enters acks and deliveries that have not come as at least `waited_ns` late; how many
    /// they are. What comes of those messages later is no sample any more.
    pub fn record_unanswered<'a>(
        &self,
        watches: impl Iterator<Item = parking_lot::MutexGuard<'a, Watch>>,
        now_ns: u64,
        waited_ns: u64,
    ) -> u64 {
        if self.outstanding() == 0 {
            return 0;
        }
        let places = self.places();
        let heads = Self::heads(&places);
        let mut unanswered = 0;
        let mut missed: Vec<u32> = Vec::new();
        let enter = |message: u32, series: &Series| {
            let Some(line) = self.line(message) else { return 0 };
            let intended = line.intended.load(Ordering::Acquire);
            if intended & 1 == 0 {
                return 0;
            }
            series.record(now_ns.saturating_sub(intended >> 1).max(waited_ns));
            1
        };
        for message in 0..self.sent() {
            let Some(line) = self.line(message) else { break };
            if !line.acked.load(Ordering::Acquire) && !line.refused.load(Ordering::Acquire) {
                unanswered += enter(message, &self.series.ack);
                missed.push(message);
            }
        }
        for watch in watches {
            let group = watch.seat / self.members;
            for (from, to) in watch.seqs.missing_up_to(heads.get(&group).copied().unwrap_or(0)) {
                for seq in from..=to {
                    let Some(message) = places.get(&(group, seq)) else { continue };
                    if unanswered < UNANSWERED_MAX {
                        unanswered += enter(*message, &self.series.delivery);
                        missed.push(*message);
                    }
                }
            }
        }
        for line in missed.iter().filter_map(|message| self.line(*message)) {
            line.intended.fetch_and(!1, Ordering::AcqRel);
        }
        unanswered
    }

    /// Ends the online part: what is still under way is lost. To be called once.
    pub fn close<'a>(&self, watches: impl Iterator<Item = parking_lot::MutexGuard<'a, Watch>>) {
        let mut verdict = Verdict::default();
        let mut last: FxHashMap<u32, u64> = FxHashMap::default();
        for message in 0..self.sent() {
            let Some(line) = self.line(message) else { break };
            let (seat, seq) = (line.seat.load(Ordering::Relaxed), line.seq.load(Ordering::Acquire));
            let is_acked = line.acked.load(Ordering::Acquire);
            if !is_acked && !line.refused.load(Ordering::Acquire) {
                verdict.lost += 1;
                self.find(format!("message {message} of seat {seat} has no answer"));
            }
            if seq > 0 && last.insert(seat, seq).is_some_and(|before| before > seq) {
                verdict.reordered += 1;
                self.find(format!("message {message} of seat {seat} overtook an earlier one"));
            }
        }
        let heads = Self::heads(&self.places());
        for watch in watches {
            let group = watch.seat / self.members;
            for (from, to) in watch.seqs.missing_up_to(heads.get(&group).copied().unwrap_or(0)) {
                verdict.lost += to - from + 1;
                verdict.gaps += to - from + 1;
                self.find(format!("seat {} never saw {from} to {to}", watch.seat));
            }
        }
        self.wrong.lock().0 += verdict;
    }

    /// The lowest place of a message of this run in a group; `None` if there is none.
    pub fn lowest_seq(&self, group: u32) -> Option<u64> {
        self.places().keys().filter(|(of, _)| *of == group).map(|(_, seq)| *seq).min()
    }

    /// Judges a group's history, as a fresh client read it from the lowest place on.
    pub fn judge_history(&self, group: u32, stored: &[Stored]) {
        let mut verdict = Verdict::default();
        let mut found: FxHashMap<u32, u64> = FxHashMap::default();
        for pair in stored.windows(2) {
            verdict.gaps += pair[1].seq.saturating_sub(pair[0].seq + 1);
            verdict.duplicated += u64::from(pair[1].seq <= pair[0].seq);
        }
        for entry in stored {
            let Some(message) = self.numbering.number(&entry.id) else { continue };
            let Some(line) = self.line(message) else { continue };
            verdict.duplicated += u64::from(found.insert(message, entry.seq).is_some());
            verdict.altered += u64::from(entry.hash != self.texts.of(message).hash);
            let seq = line.seq.load(Ordering::Acquire);
            verdict.reordered += u64::from(seq != 0 && seq != entry.seq);
        }
        for ((of, seq), message) in self.places() {
            if of == group && !found.contains_key(&message) {
                verdict.lost += 1;
                self.find(format!("message {message}, seen at {seq}, is not in the history"));
            }
        }
        if !verdict.is_clean() {
            self.find(format!("the history of group {group}: {verdict:?}"));
        }
        self.wrong.lock().0 += verdict;
    }

    /// What went wrong so far.
    pub fn verdict(&self) -> Verdict {
        self.wrong.lock().0
    }
}

/// Whether a message stands where others saw it; the first one says where.
fn is_placed(line: &Line, seq: u64) -> bool {
    match line.seq.load(Ordering::Acquire) {
        0 => {
            let first = line.seq.compare_exchange(0, seq, Ordering::AcqRel, Ordering::Acquire);
            first.map_or_else(|known| known == seq, |_| true)
        }
        known => known == seq,
    }
}

impl Watch {
    /// Of a seat.
    pub fn new(seat: u32) -> Self {
        Self { seat, ..Self::default() }
    }

    /// Everything up to here is known, or not to be seen by this member.
    pub fn starts_after(&mut self, seq: u64) {
        self.seqs.start_after(seq);
    }

    /// Notes a message that is sent on this seat's stream; its number there.
    pub fn sends(&mut self, message: u32) -> u64 {
        self.sent.push(message);
        self.sent.len() as u64
    }

    /// The message with this number on the stream.
    pub fn message(&self, number: u64) -> Option<u32> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.sent.get(index).copied()
    }

    /// How many messages were sent on the stream.
    pub fn sent(&self) -> u64 {
        self.sent.len() as u64
    }
}
