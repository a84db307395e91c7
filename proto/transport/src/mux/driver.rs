//! The task of a connection: moves bytes between its state and the socket, and watches the time.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Shared;
use super::state::{Close, State};
use crate::error::ConnectionError;

/// Bytes that are read from the socket at once.
const READ_BYTES: usize = 8 * 1024;
/// Reads between two chances for other tasks.
const READS_AT_ONCE: usize = 16;
/// How long the last frames, and the peer's hanging up after them, may take. A socket that is closed
/// while the peer still sends would throw away what the peer has not read yet.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The task of a connection. It ends soon after the connection has.
#[derive(Debug)]
pub struct Driver<T> {
    shared: Arc<Shared>,
    io: T,
    /// The beginning of a record that is not whole.
    inbox: BytesMut,
    /// A record that is being written.
    outbox: BytesMut,
    is_flushed: bool,
    clock: Clock,
}

/// When what happened last, and what is due.
#[derive(Debug)]
struct Clock {
    sleep: Pin<Box<Sleep>>,
    heard: Instant,
    asked: Instant,
    /// Since when the socket takes nothing.
    stuck: Option<Instant>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub(super) fn new(shared: Arc<Shared>, io: T) -> Self {
        let now = Instant::now();
        let sleep = Box::pin(tokio::time::sleep_until(now));
        let clock = Clock { sleep, heard: now, asked: now, stuck: None };
        let (inbox, outbox) = (BytesMut::new(), BytesMut::new());
        Self { shared, io, inbox, outbox, is_flushed: true, clock }
    }

    /// Runs until the connection is over and the peer knows it, or cannot be told.
    pub async fn run(self) {
        self.run_until(std::future::pending()).await;
    }

    /// The same; closes the connection with a number and a reason when `stop` says so.
    pub async fn run_until(mut self, stop: impl Future<Output = (u32, &'static str)>) {
        {
            let mut stop = pin!(stop);
            poll_fn(|cx| {
                if let Poll::Ready((code, reason)) = stop.as_mut().poll(cx) {
                    let (code, reason) = (code.into(), reason.into());
                    let close = Close { by_application: true, code, reason };
                    self.shared.state.lock().end(ConnectionError::LocallyClosed, Some(close));
                }
                self.poll_open(cx)
            })
            .await;
        }
        // Boxed: an idle connection is not to keep room for its end.
        Box::pin(async move {
            let closing = poll_fn(|cx| self.poll_close(cx));
            // Whoever does not hang up is hung up on.
            tokio::time::timeout(CLOSE_TIMEOUT, closing).await.ok();
        })
        .await;
    }

    /// Ready once the connection is over.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.state.lock().driver = Some(cx.waker().clone());
        self.poll_time(cx);
        let moved = match self.poll_read(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => match self.poll_write(cx) {
                Poll::Ready(Err(error)) => Err(error),
                Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
            },
        };
        let mut state = self.shared.state.lock();
        if let Err(error) = moved {
            state.end(lost(&error), None);
        }
        let is_over = state.closed.is_some();
        drop(state);
        if is_over {
            self.shared.told_of_end();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Reads what there is; never ready with `Ok`.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..READS_AT_ONCE {
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if self.hear(read.filled()) {
                // What may follow the end is nobody's business.
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes bytes of the peer; `true`: the connection is over.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        let now = Instant::now();
        self.clock.heard = now;
        let mut state = self.shared.state.lock();
        state.stats.received += 1;
        state.stats.received_bytes += bytes.len() as u64;
        state.unanswered_since = None;
        let allowed = state.opened_max;
        if self.inbox.is_empty() {
            let used = state.hear(bytes, now);
            self.inbox.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            self.inbox.extend_from_slice(bytes);
            let used = state.hear(&self.inbox, now);
            self.inbox.advance(used);
            if self.inbox.is_empty() {
                self.inbox = BytesMut::new();
            }
        }
        let (is_over, has_more) = (state.closed.is_some(), state.opened_max > allowed);
        drop(state);
        if has_more {
            self.shared.allowed.notify_waiters();
        }
        is_over
    }

    /// Writes what is to be said; ready once all of it has left.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.outbox.is_empty() {
                let written = Pin::new(&mut self.io).poll_write(cx, &self.outbox);
                if written.is_pending() {
                    self.clock.stuck.get_or_insert_with(Instant::now);
                }
                let written = ready!(written)?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.clock.stuck = None;
                self.is_flushed = false;
                self.outbox.advance(written);
            }
            if !self.is_flushed {
                // Until the socket has taken this record there is no next one: what is more urgent
                // by then goes before.
                let flushed = Pin::new(&mut self.io).poll_flush(cx);
                if flushed.is_pending() {
                    self.clock.stuck.get_or_insert_with(Instant::now);
                }
                ready!(flushed)?;
                self.clock.stuck = None;
                self.is_flushed = true;
            }
            self.outbox = BytesMut::new();
            if !self.shared.state.lock().say(&mut self.outbox, Instant::now()) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Asks a silent peer, and gives up one that does not answer.
    fn poll_time(&mut self, cx: &mut Context<'_>) {
        loop {
            let now = Instant::now();
            let mut state = self.shared.state.lock();
            let Some(next) = self.clock.look(&mut state, now) else {
                return state.end(ConnectionError::TimedOut, None);
            };
            drop(state);
            let sleep = &mut self.clock.sleep;
            // A later time is looked at when the earlier one has come.
            if sleep.deadline() > next || sleep.is_elapsed() {
                sleep.as_mut().reset(next);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// Says the last words, hangs up, and waits until the peer has too.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        loop {
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Clock {
    /// Does what is due; says when to look again. `None`: the peer was silent for too long.
    fn look(&mut self, state: &mut State, now: Instant) -> Option<Instant> {
        let idle = state.idle_timeout();
        let silent_until = self.stuck.map_or(self.heard, |stuck| stuck.min(self.heard)) + idle;
        if now >= silent_until {
            return None;
        }
        let mut next = silent_until;
        let is_asking = state.pings.is_due || state.pings.asked.is_some();
        let answer_within = state.settings.answer_within.filter(|_| !is_asking);
        let overdue =
            answer_within.zip(state.unanswered_since).map(|(within, since)| since + within);
        let keep_alive = state.settings.keep_alive;
        let quiet = keep_alive.map(|every| self.heard.max(self.asked) + every);
        for due in [overdue, quiet].into_iter().flatten() {
            if now < due {
                next = next.min(due);
                continue;
            }
            self.asked = now;
            state.pings.is_due = true;
            next = next.min(now + keep_alive.unwrap_or(idle));
        }
        Some(next)
    }
}

/// A way that ended without a word.
fn lost(error: &io::Error) -> ConnectionError {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => ConnectionError::Reset,
        io::ErrorKind::TimedOut => ConnectionError::TimedOut,
        _ => ConnectionError::Transport(error.to_string()),
    }
}
