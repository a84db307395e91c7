//! The far end of the bounded channel: what has queued up while a commit was
//! under way is the next batch, and a message is answered after its commit.
//!
//! **Invariants:** one batch of a writer is under way at a time, and a
//! conversation has one writer while a message of it has no answer, so that one sender's messages to one
//! conversation keep the order in which they were submitted, whatever is tried
//! again, split or judged again. Nothing is answered but by a transaction that
//! committed, or by one that proves that nothing is stored. A permit is given
//! back only when its message was answered.

mod batch;
mod inbox;
pub(crate) mod metrics;
mod routes;
mod task;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use async_trait::async_trait;
use parking_lot::Mutex;
use petrel_core::entry::Placed;
use petrel_core::error::Rejection;
use petrel_core::id::RightsVersion;
use petrel_core::limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX};
use petrel_core::store::{Append, Appender};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::{Budget, CHANNEL, Permit};
pub use metrics::describe;
use routes::{Place, Routes};

/// A message on its way to a writer, with what its sender's side wants back: the tag.
#[derive(Debug)]
pub struct Pending<T> {
    /// The message.
    pub append: Append,
    /// Given back with the answer, untouched.
    pub tag: T,
    ticket: Ticket,
}

/// What the writer keeps beside a message.
#[derive(Debug)]
struct Ticket {
    /// Set: the message is looked up only, and refused with this if it is not stored.
    refusal: Option<Rejection>,
    permit: Permit,
    /// `None` until it is submitted.
    place: Option<Place>,
    permitted_at: Instant,
    previewed: bool,
    /// How often the message was judged again.
    rounds: u8,
}

impl<T> Pending<T> {
    /// A message that was admitted (`append.admitted_by` says by which rights).
    pub fn new(append: Append, tag: T, permit: Permit) -> Self {
        Self {
            append,
            tag,
            ticket: Ticket {
                refusal: None,
                permit,
                place: None,
                permitted_at: Instant::now(),
                previewed: false,
                rounds: 0,
            },
        }
    }

    /// A resend that admission refuses: the store is asked whether it is stored
    /// already; if not, it is refused with `refusal`. It is never stored anew
    /// and never previewed.
    pub fn look_up(append: Append, refusal: Rejection, tag: T, permit: Permit) -> Self {
        let mut pending = Self::new(append, tag, permit);
        pending.refuse_unless_stored(refusal);
        pending
    }

    fn refuse_unless_stored(&mut self, refusal: Rejection) {
        self.append.admitted_by = None;
        self.ticket.refusal = Some(refusal);
    }
}

/// What became of a message.
#[derive(Debug)]
pub struct Settled<T> {
    /// The message, as it was submitted (but for `admitted_by`).
    pub append: Append,
    /// The submitter's tag.
    pub tag: T,
    /// Where it is stored; or why it is not, and certainly is not.
    pub outcome: Result<Stored, Rejection>,
}

/// Where a message is stored. The transaction that says so has committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its place.
    pub placed: Placed,
    /// Whether this submission stored it (it has to be pushed), or an earlier one.
    pub new: bool,
}

/// The side that is told. Called on the writer's task: be quick, do not block.
#[async_trait]
pub trait Commits<T: Send + Sync + 'static>: Send + Sync + 'static {
    /// The commit that this message waits for is stalling: show it to live
    /// sessions, as a preview only. At most once a message.
    fn preview(&self, append: &Append, tag: &T);

    /// These messages are answered, in the order of their batch (the new ones
    /// of a conversation by rising seq). Their room is given back when this
    /// returns, whether or not the iterator was used up.
    ///
    /// After a retryable refusal ([`Rejection::is_retryable`]) whatever the
    /// same sender had submitted to the same conversation behind it is refused
    /// with the same rejection unless it is stored already. For that to keep
    /// the order of a device, the send number must be checked and the message
    /// submitted under one lock, which this call takes too when it resets the
    /// number that is expected. And a refusal is not to be told
    /// of a message that was submitted again since on the same stream, nor of
    /// one whose number is yet to come again (the number expected is not above
    /// it): the newer submission's answer counts.
    fn settled(&self, settled: vec::Drain<'_, Settled<T>>);

    /// The store found these to be admitted by other rights than now hold (or
    /// to follow such a one of the same sender). Load their conversations
    /// again and judge each: by which rights it is admitted, or why it is
    /// refused. One answer for each, in their order. A store that cannot be
    /// asked is [`Rejection::Unavailable`]. Bounded in time by the implementation.
    ///
    /// A message whose stream is gone should be refused as retryable: nobody
    /// waits for it, its sender asks again elsewhere, and what he is told there
    /// (a refusal for good, say) must not be overtaken by an old submission
    /// that rights which have changed twice let in after all.
    async fn judge_again(&self, stale: &[Pending<T>]) -> Vec<Result<RightsVersion, Rejection>>;
}

/// How the writers work.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// How many there are, at the most one for each commit that shall be under way at once; each takes
    /// conversations when those before it are busy. At least 1.
    pub writers: usize,
    /// Age of a commit under way from which on everything that waits is
    /// previewed. Zero: everything is, on arrival.
    pub preview_after: Duration,
    /// Messages of one batch, at the most.
    pub batch_messages_max: usize,
    /// Bytes of bodies of one batch, at the most; the first message always fits.
    pub batch_bytes_max: usize,
    /// Pause before a batch is tried again: doubles from here, with jitter, ...
    pub retry_min: Duration,
    /// ... up to here.
    pub retry_max: Duration,
    /// How often a message is judged again before it is refused as retryable.
    pub judge_rounds_max: u8,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            writers: 1,
            preview_after: Duration::from_millis(50),
            batch_messages_max: BATCH_MESSAGES_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
            retry_min: Duration::from_millis(10),
            retry_max: Duration::from_secs(1),
            judge_rounds_max: 16,
            seed: 0,
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DrainReport {
    /// Messages that were dropped without an answer when the deadline passed.
    /// Whether those of the last batch are stored is not known.
    pub unanswered: usize,
    /// Writers that had ended before they were asked to (a panic, or a store
    /// that broke its contract); what they held was dropped without an answer.
    pub failed: usize,
}

/// All writers of a gateway.
pub struct Writers<T> {
    inboxes: Vec<mpsc::Sender<Pending<T>>>,
    routes: Routes,
    tasks: Mutex<Vec<JoinHandle<Result<usize, task::Broken>>>>,
    under_way: Vec<task::CommitUnderWay>,
    budget: Budget,
    closing: CancellationToken,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl<T: Send + Sync + 'static> Writers<T> {
    /// Starts the writers as tasks of `tracker`, each with an appender of its
    /// own. `budget` is the one whose permits the messages will carry.
    pub fn start<C: Commits<T>>(
        mut appender: impl FnMut() -> Box<dyn Appender>,
        commits: &Arc<C>,
        budget: &Budget,
        options: &WriterOptions,
        tracker: &TaskTracker,
    ) -> Self {
        let (closing, stop, failed) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let metrics = metrics::Metrics::new();
        metrics.units_max.set(budget.capacity() as f64);
        let mut inboxes = Vec::new();
        let mut tasks = Vec::new();
        let mut under_way = Vec::new();
        for number in 0..options.writers.max(1) {
            // A permit is at least one unit, so the whole budget fits into each.
            let (sender, receiver) = mpsc::channel(budget.capacity());
            inboxes.push(sender);
            let commit = task::CommitUnderWay::default();
            under_way.push(commit.clone());
            let task = task::Task {
                number,
                appender: appender(),
                commits: Arc::clone(commits),
                budget: budget.clone(),
                options: options.clone(),
                metrics: metrics.clone(),
                stop: stop.clone(),
                under_way: commit,
            };
            let failed = task::FailureSignal::new(failed.clone());
            tasks.push(tracker.spawn(task.run(receiver, closing.clone(), failed)));
        }
        let tasks = Mutex::new(tasks);
        let routes = Routes::new(inboxes.len());
        Self { inboxes, routes, tasks, under_way, budget: budget.clone(), closing, stop, failed }
    }

    /// Hands a message to its conversation's writer. Never waits: its permit is its room.
    ///
    /// # Errors
    /// The message back, refused with [`Rejection::GoingAway`], once a drain has
    /// begun or the writer has ended.
    pub fn submit(&self, mut pending: Pending<T>) -> Result<(), Box<Settled<T>>> {
        let refused = |pending: Pending<T>, rejection| {
            Err(Box::new(Settled {
                append: pending.append,
                tag: pending.tag,
                outcome: Err(rejection),
            }))
        };
        if self.closing.is_cancelled() {
            return refused(pending, Rejection::GoingAway);
        }
        let place = self.routes.place(pending.append.conversation);
        let inbox = &self.inboxes[place.writer];
        pending.ticket.place = Some(place);
        match inbox.try_send(pending) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(pending)) => refused(pending, Rejection::GoingAway),
            // Only with a permit of another budget.
            Err(TrySendError::Full(pending)) => {
                refused(pending, Rejection::Overloaded { what: CHANNEL })
            }
        }
    }

    /// For how long the oldest commit that has not succeeded yet has been under way, all its
    /// tries together; zero if there is none.
    pub fn stalled(&self) -> Duration {
        self.under_way.iter().filter_map(task::CommitUnderWay::age).max().unwrap_or_default()
    }

    /// Ends once a writer has ended without having been asked to. The node
    /// should drain and exit then: what would go to that writer is refused.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Takes nothing more (the budget is closed too), stores and answers what
    /// there is, and gives up at the deadline. Call once.
    pub async fn drain(&self, deadline: Instant) -> DrainReport {
        self.closing.cancel();
        self.budget.close();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let mut report = DrainReport::default();
        for mut task in tasks {
            let ended = match timeout_at(deadline, &mut task).await {
                Ok(ended) => ended,
                Err(_) => {
                    self.stop.cancel();
                    task.await
                }
            };
            match ended {
                Ok(Ok(unanswered)) => report.unanswered += unanswered,
                Ok(Err(_)) | Err(_) => report.failed += 1,
            }
        }
        report
    }
}

impl<T> fmt::Debug for Writers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writers")
            .field("writers", &self.inboxes.len())
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl<T> Drop for Writers<T> {
    /// Writers that nobody drained stop at once; what they hold is dropped without an answer.
    fn drop(&mut self) {
        self.closing.cancel();
        self.stop.cancel();
    }
}
