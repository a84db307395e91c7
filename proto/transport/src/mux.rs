//! Many streams on one ordered, reliable byte stream: QMux version 1 (draft-ietf-quic-qmux, with
//! records), which is QUIC's streams, datagrams and closes without its packets. What is promised of
//! streams is therefore the same; what one lost packet delays is not.
//!
//! [`State`] is all that is known, without IO; [`Driver`] moves bytes between it and the socket, in a
//! task of the caller's; the handles here change it.

mod driver;
mod halves;
mod incoming;
mod outgoing;
mod state;
mod stream;
mod wire;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use crate::connection::Stats;
use crate::error::{ClosedStream, ConnectionError, ReadError, SendDatagramError, WriteError};
use crate::stream::{Chunk, Written};

pub use driver::Driver;
use state::{Close, State};

/// What bounds a multiplexed connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes that the peer may send on all streams before they are read.
    pub receive_window: u64,
    /// The same for one stream.
    pub stream_receive_window: u64,
    /// Streams that the peer may have open at first ([`crate::Connection::set_streams_max`]).
    pub streams_max: u32,
    /// Bytes that are written and wait for the socket, on all streams; one stream may take half.
    pub send_buffer: usize,
    /// Bytes of a datagram, at the most; 0: none are taken.
    pub datagram_max: usize,
    /// Bytes of datagrams that wait to be read, and to be sent.
    pub datagrams_in: usize,
    /// See there.
    pub datagrams_out: usize,
    /// After how long a silence of the peer the connection is given up.
    pub idle_timeout: Duration,
    /// After how long a silence the peer is asked whether it is there; `None`: never.
    pub keep_alive: Option<Duration>,
    /// What was sent is followed by such a question if nothing came for so long; `None`: never.
    pub answer_within: Option<Duration>,
}

/// Who dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This side did.
    Client,
    /// The peer did.
    Server,
}

impl Side {
    /// The lowest bit of the numbers of its streams (RFC 9000 §2.1).
    fn bit(self) -> u64 {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The peer allows more streams.
    allowed: Notify,
    /// It is over.
    closed: Notify,
    remote: SocketAddr,
}

/// A handle. The connection is closed when the last one is dropped.
#[derive(Debug)]
pub(crate) struct Mux(Arc<Shared>);

impl Clone for Mux {
    fn clone(&self) -> Self {
        self.lock().handles += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        let is_last = {
            let mut state = self.lock();
            state.handles -= 1;
            state.handles == 0
        };
        if is_last {
            self.close(0, b"");
        }
    }
}

/// The frames that a server may send before it has heard anything: what [`start`] would begin with.
pub(crate) fn introduction(side: Side, settings: &Settings) -> Bytes {
    let mut state = State::new(side, settings.clone());
    let mut out = BytesMut::new();
    state.say(&mut out, tokio::time::Instant::now());
    out.freeze()
}

/// Begins a connection on a byte stream; the [`Driver`] is to be run. `is_introduced`: what
/// [`introduction`] gives was sent.
pub(crate) fn start<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    side: Side,
    settings: Settings,
    remote: SocketAddr,
    is_introduced: bool,
) -> (Mux, Driver<T>) {
    let mut state = State::new(side, settings);
    state.is_introduced = is_introduced;
    state.handles = 1;
    // The first answer is also the first round trip that is known.
    state.pings.is_due = side == Side::Client;
    let (allowed, closed) = (Notify::new(), Notify::new());
    let shared = Arc::new(Shared { state: Mutex::new(state), allowed, closed, remote });
    (Mux(Arc::clone(&shared)), Driver::new(shared, io))
}

impl Mux {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    pub(crate) async fn open(&self) -> Result<(SendHalf, RecvHalf), ConnectionError> {
        loop {
            let allowed = self.0.allowed.notified();
            let opened = self.lock().open();
            if let Poll::Ready(opened) = opened {
                return opened.map(|id| self.halves(id));
            }
            allowed.await;
        }
    }

    pub(crate) async fn accept(&self) -> Result<(SendHalf, RecvHalf), ConnectionError> {
        poll_fn(|cx| self.lock().accept(cx)).await.map(|id| self.halves(id))
    }

    fn halves(&self, id: u64) -> (SendHalf, RecvHalf) {
        (SendHalf { mux: self.clone(), id }, RecvHalf { mux: self.clone(), id, is_at_end: false })
    }

    pub(crate) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        poll_fn(|cx| {
            let mut state = self.lock();
            if let Some(datagram) = state.datagrams_in.pop() {
                return Poll::Ready(Ok(datagram));
            }
            if let Some(why) = &state.closed {
                return Poll::Ready(Err(why.clone()));
            }
            state.hearer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    pub(crate) fn send_datagram(&self, datagram: Bytes) -> Result<(), SendDatagramError> {
        let mut state = self.lock();
        if state.closed.is_some() || state.datagram_max().is_none_or(|max| datagram.len() > max) {
            return Err(SendDatagramError);
        }
        let bytes_max = state.settings.datagrams_out;
        state.datagrams_out.push(datagram, bytes_max);
        state.wake_driver();
        Ok(())
    }

    pub(crate) fn max_datagram_size(&self) -> Option<usize> {
        self.lock().datagram_max()
    }

    pub(crate) fn set_streams_max(&self, streams: u32) {
        let mut state = self.lock();
        state.settings.streams_max = streams;
        state.wake_driver();
    }

    pub(crate) fn close(&self, code: u32, reason: &[u8]) {
        let close = Close { by_application: true, code: code.into(), reason: reason.to_vec() };
        self.lock().end(ConnectionError::LocallyClosed, Some(close));
        self.0.told_of_end();
    }

    pub(crate) async fn closed(&self) -> ConnectionError {
        loop {
            let closed = self.0.closed.notified();
            if let Some(why) = self.close_reason() {
                return why;
            }
            closed.await;
        }
    }

    pub(crate) fn close_reason(&self) -> Option<ConnectionError> {
        self.lock().closed.clone()
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().stats
    }
}

impl Shared {
    fn told_of_end(&self) {
        self.closed.notify_waiters();
        self.allowed.notify_waiters();
    }
}

impl State {
    /// Bytes of a datagram that both sides take.
    fn datagram_max(&self) -> Option<usize> {
        let theirs = usize::try_from(self.peer?.max_datagram_frame).unwrap_or(usize::MAX);
        let own = outgoing::RECORD_BYTES / 2;
        theirs.min(own).checked_sub(wire::DATAGRAM_HEADER_BYTES).filter(|max| *max > 0)
    }
}

#[derive(Debug)]
pub(crate) struct SendHalf {
    mux: Mux,
    id: u64,
}

#[derive(Debug)]
pub(crate) struct RecvHalf {
    mux: Mux,
    id: u64,
    /// The end, or the peer's reset, was read.
    is_at_end: bool,
}

impl SendHalf {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn poll_write(
        &self,
        chunks: &mut [Bytes],
        cx: &mut Context<'_>,
    ) -> Poll<Result<Written, WriteError>> {
        self.mux.lock().write(self.id, chunks, cx)
    }

    pub(crate) fn finish(&self) -> Result<(), ClosedStream> {
        self.mux.lock().finish(self.id)
    }

    pub(crate) fn reset(&self, code: u32) -> Result<(), ClosedStream> {
        self.mux.lock().reset_by_writer(self.id, code)
    }

    pub(crate) fn set_priority(&self, priority: i32) -> Result<(), ClosedStream> {
        self.mux.lock().set_priority(self.id, priority)
    }

    pub(crate) fn stopped(
        &self,
    ) -> impl Future<Output = Result<Option<u64>, WriteError>> + Send + Sync + use<> {
        let (mux, id) = (self.mux.clone(), self.id);
        async move { poll_fn(|cx| mux.lock().stopped(id, cx)).await }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.mux.lock().drop_writer(self.id);
    }
}

impl RecvHalf {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn poll_read(
        &mut self,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, ReadError>> {
        if self.is_at_end {
            return Poll::Ready(Ok(None));
        }
        let read = self.mux.lock().read(self.id, max, cx);
        self.is_at_end = matches!(read, Poll::Ready(Ok(None)));
        read
    }

    pub(crate) fn stop(&self, code: u32) -> Result<(), ClosedStream> {
        self.mux.lock().stop(self.id, code)
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.mux.lock().drop_reader(self.id);
    }
}

#[cfg(test)]
mod tests;
