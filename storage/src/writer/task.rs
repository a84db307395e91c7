//! One writer's task: take what has queued, commit it, answer, again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use petrel_core::error::Rejection;
use petrel_core::store::{Append, AppendOutcome, Appender, StoreError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::inbox::{Held, Inbox, UnderWay, Waited};
use super::metrics::Metrics;
use super::routes::Place;
use super::{Commits, Pending, Settled, Stored, Ticket, WriterOptions};
use crate::budget::{Budget, Permit};

/// The store broke its contract: it answered for another number of messages
/// than it was given, so that nobody can be answered any more.
#[derive(Debug)]
pub(super) struct Broken;

/// Fires when it is dropped, a panic included, unless it was disarmed before.
pub(super) struct FailureSignal {
    token: CancellationToken,
    armed: bool,
}

impl FailureSignal {
    pub(super) fn new(token: CancellationToken) -> Self {
        Self { token, armed: true }
    }

    fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for FailureSignal {
    fn drop(&mut self) {
        if self.armed {
            self.token.cancel();
        }
    }
}

pub(super) struct Task<C> {
    pub(super) number: usize,
    pub(super) appender: Box<dyn Appender>,
    pub(super) commits: Arc<C>,
    pub(super) budget: Budget,
    pub(super) options: WriterOptions,
    pub(super) metrics: Metrics,
    pub(super) stop: CancellationToken,
    pub(super) under_way: CommitUnderWay,
}

/// Since when a writer's commit has been under way; for whoever asks how the store is.
#[derive(Clone, Debug, Default)]
pub(super) struct CommitUnderWay(Arc<Mutex<Option<Instant>>>);

impl CommitUnderWay {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock() = since;
    }

    pub(super) fn age(&self) -> Option<Duration> {
        self.0.lock().map(|since| since.elapsed())
    }
}

/// What a message takes until it was answered.
type Room = (Permit, Option<Place>);

/// What the store said of a batch.
enum Answer {
    Outcomes(Vec<AppendOutcome>),
    Refused(String),
    Stopped,
}

/// The writer's state between batches.
struct Work<T, C> {
    inbox: Inbox<T, C>,
    batch: Batch<T>,
    settled: Vec<Settled<T>>,
    /// Of what stands in `settled`.
    rooms: Vec<Room>,
    stale: Vec<Pending<T>>,
    held: Held,
    /// So many messages at the head of the queue hold one that the database
    /// refuses; zero if none is known.
    suspects: usize,
    random: u64,
}

impl<C> Task<C> {
    /// Runs until the channel is closed and empty (0), or until it is told to
    /// stop: then the number of messages that were dropped without an answer.
    pub(super) async fn run<T>(
        mut self,
        receiver: mpsc::Receiver<Pending<T>>,
        closing: CancellationToken,
        mut failed: FailureSignal,
    ) -> Result<usize, Broken>
    where
        T: Send + Sync + 'static,
        C: Commits<T>,
    {
        let mut work = Work {
            inbox: Inbox::new(
                receiver,
                Arc::clone(&self.commits),
                (self.budget.clone(), self.metrics.clone()),
                self.options.preview_after,
                (closing, self.stop.clone()),
            ),
            batch: Batch::with_capacity(self.options.batch_messages_max),
            settled: Vec::with_capacity(self.options.batch_messages_max),
            rooms: Vec::with_capacity(self.options.batch_messages_max),
            stale: Vec::new(),
            held: Held::default(),
            suspects: 0,
            random: self.options.seed ^ ((self.number as u64) << 32),
        };
        while work.inbox.fill(self.options.batch_messages_max).await {
            let messages_max = match work.suspects {
                0 => self.options.batch_messages_max.max(1),
                suspects => suspects.div_ceil(2),
            };
            work.inbox.take(&mut work.batch, messages_max, self.options.batch_bytes_max);
            self.under_way.set(Some(Instant::now()));
            let answer = self.commit(&mut work).await;
            self.under_way.set(None);
            let stopped = match answer? {
                Answer::Outcomes(outcomes) => {
                    self.answer(&mut work, outcomes);
                    self.judge(&mut work).await
                }
                Answer::Refused(reason) => {
                    self.refused(&mut work, &reason);
                    false
                }
                Answer::Stopped => true,
            };
            if stopped {
                failed.disarm();
                return Ok(work.batch.len() + work.stale.len() + work.inbox.abandon());
            }
            work.held.clear();
        }
        failed.disarm();
        Ok(0)
    }

    /// Runs the same batch until the store says what became of it.
    async fn commit<T>(&mut self, work: &mut Work<T, C>) -> Result<Answer, Broken>
    where
        T: Send + Sync + 'static,
        C: Commits<T>,
    {
        let Work { inbox, batch, .. } = work;
        let Batch { appends, tags, tickets } = batch;
        let started = Instant::now();
        let mut pause = self.options.retry_min;
        let mut tries = 0_u64;
        inbox.begin(under_way(appends, tags, tickets));
        loop {
            let append = self.appender.append(appends);
            let problem = match inbox.wait(append, under_way(appends, tags, tickets)).await {
                Waited::Stopped => return Ok(Answer::Stopped),
                Waited::Done(Ok(outcomes)) if outcomes.len() == appends.len() => {
                    self.metrics.commit_seconds.record(started.elapsed());
                    self.metrics.batch_messages.record(appends.len() as f64);
                    if tries > 0 {
                        tracing::info!(writer = self.number, tries, stalled = ?started.elapsed(), "the store commits again");
                    }
                    return Ok(Answer::Outcomes(outcomes));
                }
                Waited::Done(Ok(outcomes)) => {
                    tracing::error!(
                        writer = self.number,
                        asked = appends.len(),
                        answered = outcomes.len(),
                        "the store answered for another number of messages; this writer ends"
                    );
                    return Err(Broken);
                }
                Waited::Done(Err(StoreError::Permanent(reason))) => {
                    return Ok(Answer::Refused(reason));
                }
                Waited::Done(Err(StoreError::Transient(problem))) => problem,
            };
            if tries == 0 {
                tracing::warn!(writer = self.number, %problem, "a commit failed; the same batch is tried until it is known what became of it");
            }
            tries += 1;
            self.metrics.transient_retries.increment(1);
            let jittered = jitter(pause, &mut work.random);
            pause = (pause * 2).min(self.options.retry_max);
            match inbox.wait(sleep(jittered), under_way(appends, tags, tickets)).await {
                Waited::Stopped => return Ok(Answer::Stopped),
                Waited::Done(()) => {}
            }
        }
    }

    /// The database refuses some message of the batch: with more than one in
    /// it, a half is tried next; alone, it is the one.
    fn refused<T>(&self, work: &mut Work<T, C>, reason: &str)
    where
        T: Send + Sync + 'static,
        C: Commits<T>,
    {
        if work.batch.len() > 1 {
            self.metrics.bisections.increment(1);
            work.suspects = work.batch.len();
            work.inbox.put_back(work.batch.drain());
            return;
        }
        work.suspects = 0;
        self.metrics.refused.increment(1);
        let Work { batch, settled, rooms, held, .. } = work;
        for pending in batch.drain() {
            tracing::error!(writer = self.number, conversation = %pending.append.conversation, id = %pending.append.id, reason, "the database refuses a message for good");
            let rejection =
                Rejection::Invalid { field: "body", problem: "the database refuses it".to_owned() };
            settle(settled, rooms, held, pending, Err(rejection));
        }
        self.tell(work);
    }

    /// A transaction committed: everybody is answered but those who are to be judged again.
    fn answer<T>(&self, work: &mut Work<T, C>, outcomes: Vec<AppendOutcome>)
    where
        T: Send + Sync + 'static,
        C: Commits<T>,
    {
        work.suspects = work.suspects.saturating_sub(outcomes.len());
        let now = Instant::now();
        let Work { batch, settled, rooms, stale, held, .. } = work;
        let (mut duplicates, mut stales, mut conflicts) = (0, 0, 0);
        for (mut pending, outcome) in batch.drain().zip(outcomes) {
            let outcome = match outcome {
                AppendOutcome::New(placed) => Ok(Stored { placed, new: true }),
                AppendOutcome::Duplicate(placed) => {
                    duplicates += 1;
                    Ok(Stored { placed, new: false })
                }
                AppendOutcome::IdConflict => {
                    conflicts += 1;
                    Err(Rejection::IdConflict)
                }
                AppendOutcome::Conflict => {
                    conflicts += 1;
                    Err(Rejection::Conflict { what: "the message" })
                }
                AppendOutcome::Stale => {
                    stales += 1;
                    // Not stored, so it may be refused at once if it has to be.
                    let refusal = pending.ticket.refusal.take();
                    match refusal.or_else(|| held.of(&pending.append).cloned()) {
                        Some(refusal) => Err(refusal),
                        None => {
                            stale.push(pending);
                            continue;
                        }
                    }
                }
            };
            self.metrics.permit_to_commit_seconds.record(now - pending.ticket.permitted_at);
            settle(settled, rooms, held, pending, outcome);
        }
        self.metrics.duplicates.increment(duplicates);
        self.metrics.stale.increment(stales);
        self.metrics.conflicts.increment(conflicts);
        self.tell(work);
    }

    /// Has the stale ones judged again; who is admitted goes to the head of the
    /// queue, in order. Whether the writer was stopped meanwhile.
    async fn judge<T>(&mut self, work: &mut Work<T, C>) -> bool
    where
        T: Send + Sync + 'static,
        C: Commits<T>,
    {
        if work.stale.is_empty() {
            return false;
        }
        let Work { inbox, stale, settled, rooms, held, .. } = work;
        let nothing = || UnderWay { appends: &[], tags: &[], tickets: &mut [], judged: stale };
        inbox.begin(nothing());
        let verdicts = match inbox.wait(self.commits.judge_again(stale), nothing()).await {
            Waited::Done(verdicts) => verdicts,
            Waited::Stopped => return true,
        };
        let mut verdicts = verdicts.into_iter();
        let mut again = Vec::new();
        for mut pending in stale.drain(..) {
            let verdict = verdicts.next().unwrap_or(Err(Rejection::Unavailable));
            let verdict = match held.of(&pending.append) {
                Some(rejection) => Err(rejection.clone()),
                None if pending.ticket.rounds >= self.options.judge_rounds_max => {
                    Err(Rejection::Unavailable)
                }
                None => verdict,
            };
            match verdict {
                Ok(version) => {
                    pending.append.admitted_by = Some(version);
                    pending.ticket.rounds += 1;
                    again.push(pending);
                }
                Err(rejection) => settle(settled, rooms, held, pending, Err(rejection)),
            }
        }
        self.tell(work);
        if work.suspects > 0 {
            work.suspects += again.len();
        }
        work.inbox.put_back(again.into_iter());
        false
    }

    /// Hands over what is settled, then gives the room back.
    fn tell<T>(&self, work: &mut Work<T, C>)
    where
        T: Send + Sync + 'static,
        C: Commits<T>,
    {
        if !work.settled.is_empty() {
            self.commits.settled(work.settled.drain(..));
        }
        if !work.held.is_empty() {
            // Only now: whoever submits from here on knows of the refusal.
            work.inbox.hold(&work.held);
        }
        work.rooms.clear();
        work.inbox.show_depth();
    }
}

fn under_way<'a, T>(
    appends: &'a [Append],
    tags: &'a [T],
    tickets: &'a mut [Ticket],
) -> UnderWay<'a, T> {
    UnderWay { appends, tags, tickets, judged: &[] }
}

fn settle<T>(
    settled: &mut Vec<Settled<T>>,
    rooms: &mut Vec<Room>,
    held: &mut Held,
    pending: Pending<T>,
    outcome: Result<Stored, Rejection>,
) {
    if let Err(rejection) = &outcome {
        held.refused(&pending.append, rejection);
    }
    rooms.push((pending.ticket.permit, pending.ticket.place));
    settled.push(Settled { append: pending.append, tag: pending.tag, outcome });
}

/// Half of the pause at the least, all of it at the most.
fn jitter(pause: Duration, random: &mut u64) -> Duration {
    // SplitMix64: enough for spreading retries, and repeatable.
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *random;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let part = (z >> 40) as f64 / (1_u64 << 24) as f64;
    pause.mul_f64(0.5 + part / 2.0)
}
