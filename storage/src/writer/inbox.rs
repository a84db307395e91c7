//! What waits for a writer: the channel's receiving end and, before it, the
//! messages already taken out of it. Previews are made here, since here is
//! known what waits.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use petrel_core::error::Rejection;
use petrel_core::id::{ClientMessageId, ContentDigest, ConversationId, UserId};
use petrel_core::limits::BATCH_MESSAGES_MAX;
use petrel_core::store::Append;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::metrics::Metrics;
use super::{Commits, Pending, Ticket};
use crate::budget::Budget;

/// Room of an empty queue that is kept, in messages.
const QUEUE_KEPT: usize = 4 * BATCH_MESSAGES_MAX;

/// The sends of one sender to one conversation, whose order is kept.
type Line = (ConversationId, UserId);

/// A message, of which older copies may come.
type Message = (Line, ClientMessageId, ContentDigest);

fn message(append: &Append) -> Message {
    (line(append), append.id, append.digest)
}

/// What was refused since the last batch, and so what must not be stored now.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Lines whose next message was refused for now: whatever stands behind must not be stored before it.
    lines: FxHashMap<Line, Rejection>,
    /// Messages that were refused for good. A copy that was admitted since, by rights that moved again, is not stored.
    ended: FxHashMap<Message, Rejection>,
}

impl Held {
    pub(super) fn refused(&mut self, append: &Append, rejection: &Rejection) {
        if rejection.is_retryable() {
            self.lines.insert(line(append), rejection.clone());
        } else {
            self.ended.insert(message(append), rejection.clone());
        }
    }

    /// Why this one must not be stored.
    pub(super) fn of(&self, append: &Append) -> Option<&Rejection> {
        self.ended.get(&message(append)).or_else(|| self.lines.get(&line(append)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.ended.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.ended.clear();
    }
}

fn line(append: &Append) -> Line {
    (append.conversation, append.sender)
}

pub(super) struct Inbox<T, C> {
    receiver: mpsc::Receiver<Pending<T>>,
    /// Bounded by the budget: each has its permit.
    queue: VecDeque<Pending<T>>,
    open: bool,
    commits: Arc<C>,
    budget: Budget,
    metrics: Metrics,
    preview_after: Duration,
    /// Fires when what is under way has become older than `preview_after`. Kept
    /// and set forward, which is cheaper than a new one each time.
    timer: Pin<Box<Sleep>>,
    stalling: bool,
    closing: CancellationToken,
    stop: CancellationToken,
}

/// How waiting ended.
pub(super) enum Waited<R> {
    Done(R),
    Stopped,
}

/// What is under way while the writer waits: shown with the rest.
pub(super) struct UnderWay<'a, T> {
    pub(super) appends: &'a [Append],
    pub(super) tags: &'a [T],
    pub(super) tickets: &'a mut [Ticket],
    /// Messages that are being judged again: of their conversations nothing is shown.
    pub(super) judged: &'a [Pending<T>],
}

impl<T: Send + Sync + 'static, C: Commits<T>> Inbox<T, C> {
    pub(super) fn new(
        receiver: mpsc::Receiver<Pending<T>>,
        commits: Arc<C>,
        (budget, metrics): (Budget, Metrics),
        preview_after: Duration,
        (closing, stop): (CancellationToken, CancellationToken),
    ) -> Self {
        Self {
            receiver,
            queue: VecDeque::new(),
            open: true,
            commits,
            budget,
            metrics,
            preview_after,
            timer: Box::pin(sleep(Duration::ZERO)),
            stalling: false,
            closing,
            stop,
        }
    }

    /// Waits until there is something, then takes in what there is, up to `max`
    /// messages. `false` when nothing is left and nothing more will come.
    pub(super) async fn fill(&mut self, max: usize) -> bool {
        if self.queue.is_empty() && self.queue.capacity() > QUEUE_KEPT {
            // A stall is over: its room is not kept for the next one.
            self.queue = VecDeque::new();
        }
        while self.queue.is_empty() && self.open {
            tokio::select! {
                biased;
                pending = self.receiver.recv() => match pending {
                    Some(pending) => self.queue.push_back(pending),
                    None => self.open = false,
                },
                () = self.closing.cancelled(), if !self.receiver.is_closed() => self.receiver.close(),
            }
        }
        if self.closing.is_cancelled() {
            self.receiver.close();
        }
        while self.queue.len() < max
            && let Ok(pending) = self.receiver.try_recv()
        {
            self.queue.push_back(pending);
        }
        !self.queue.is_empty()
    }

    /// Moves the next messages into an empty batch: at least one, then as many as the bounds allow.
    pub(super) fn take(&mut self, batch: &mut Batch<T>, messages_max: usize, bytes_max: usize) {
        let mut bytes = 0;
        while batch.len() < messages_max
            && let Some(next) = self.queue.front()
        {
            bytes += next.append.body.len();
            if bytes > bytes_max && batch.len() > 0 {
                break;
            }
            if let Some(pending) = self.queue.pop_front() {
                batch.push(pending);
            }
        }
    }

    /// Puts messages back, before everything else, in their order.
    pub(super) fn put_back(&mut self, messages: impl DoubleEndedIterator<Item = Pending<T>>) {
        for pending in messages.rev() {
            self.queue.push_front(pending);
        }
    }

    /// Something begins that may stall: its age counts from now.
    pub(super) fn begin(&mut self, mut under_way: UnderWay<'_, T>) {
        self.stalling = self.preview_after.is_zero();
        if self.stalling {
            self.preview_all(&mut under_way);
        } else {
            self.timer.as_mut().reset(Instant::now() + self.preview_after);
        }
    }

    /// Waits for `work`. When that has become too old, and until it ends,
    /// everything that waits is previewed, and so is what arrives.
    pub(super) async fn wait<F: Future>(
        &mut self,
        work: F,
        mut under_way: UnderWay<'_, T>,
    ) -> Waited<F::Output> {
        let mut work = pin!(work);
        let stop = self.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        loop {
            tokio::select! {
                biased;
                output = &mut work => return Waited::Done(output),
                () = &mut stopped => return Waited::Stopped,
                () = &mut self.timer, if !self.stalling => {
                    self.stalling = true;
                    self.preview_all(&mut under_way);
                }
                pending = self.receiver.recv(), if self.stalling && self.open => match pending {
                    Some(mut pending) => {
                        self.preview(&mut pending, under_way.judged);
                        self.queue.push_back(pending);
                        self.show_depth();
                    }
                    None => self.open = false,
                },
            }
        }
    }

    /// Whatever waits here of these lines and messages is looked up only from now on, and
    /// refused as they were if it is not stored.
    pub(super) fn hold(&mut self, held: &Held) {
        self.take_in_all();
        for pending in &mut self.queue {
            if pending.ticket.refusal.is_none()
                && let Some(rejection) = held.of(&pending.append)
            {
                pending.refuse_unless_stored(rejection.clone());
            }
        }
    }

    /// Takes nothing more, and drops what waits; how much that was.
    pub(super) fn abandon(&mut self) -> usize {
        self.receiver.close();
        self.take_in_all();
        let waiting = self.queue.len();
        self.queue.clear();
        waiting
    }

    /// Tells how full the channel is.
    pub(super) fn show_depth(&self) {
        self.metrics.units.set(self.budget.in_use() as f64);
    }

    fn take_in_all(&mut self) {
        while let Ok(pending) = self.receiver.try_recv() {
            self.queue.push_back(pending);
        }
    }

    fn preview_all(&mut self, under_way: &mut UnderWay<'_, T>) {
        let batch = under_way.appends.iter().zip(under_way.tags).zip(under_way.tickets.iter_mut());
        for ((append, tag), ticket) in batch {
            show(&*self.commits, &self.metrics.previews, append, tag, ticket);
        }
        self.take_in_all();
        self.show_depth();
        let mut queue = std::mem::take(&mut self.queue);
        for pending in &mut queue {
            self.preview(pending, under_way.judged);
        }
        self.queue = queue;
    }

    fn preview(&self, pending: &mut Pending<T>, judged: &[Pending<T>]) {
        let conversation = pending.append.conversation;
        if judged.iter().any(|stale| stale.append.conversation == conversation) {
            return;
        }
        show(
            &*self.commits,
            &self.metrics.previews,
            &pending.append,
            &pending.tag,
            &mut pending.ticket,
        );
    }
}

fn show<T: Send + Sync + 'static>(
    commits: &impl Commits<T>,
    previews: &metrics::Counter,
    append: &Append,
    tag: &T,
    ticket: &mut Ticket,
) {
    if ticket.previewed || ticket.refusal.is_some() {
        return;
    }
    ticket.previewed = true;
    previews.increment(1);
    commits.preview(append, tag);
}
