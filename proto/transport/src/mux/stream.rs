//! One stream of a multiplexed connection: plain data.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

/// What a chunk that waits costs beside its bytes.
pub(super) const CHUNK_OVERHEAD: usize = 64;

/// A stream, until both directions have ended and nobody holds a half whose end it does not know.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
}

/// How far a sending half is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendPhase {
    Open,
    /// Finished; not all of it has been sent.
    Finishing,
    /// Given up with this number; that has not been sent.
    Resetting(u64),
    /// The last of it was sent.
    Ended,
}

#[derive(Debug)]
pub(super) struct Sending {
    pub(super) phase: SendPhase,
    /// What was written and not sent.
    pub(super) chunks: VecDeque<Bytes>,
    pub(super) waiting: u64,
    /// What of the connection's room they take.
    pub(super) room: usize,
    /// Bytes that were sent.
    pub(super) sent: u64,
    /// Bytes that the peer takes, from the stream's beginning.
    pub(super) credit: u64,
    pub(super) priority: i32,
    /// Its place among those that have something to send.
    pub(super) turn: Option<u64>,
    /// The peer reads no more, it said so with this number.
    pub(super) stopped: Option<u64>,
    /// Somebody holds the half.
    pub(super) is_held: bool,
    pub(super) writer: Option<Waker>,
    pub(super) watcher: Option<Waker>,
}

/// How far a receiving half is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceivePhase {
    Open,
    /// The peer has finished; what came is to be read.
    Finished,
    /// The peer gave it up; nobody was told yet.
    Reset(u64),
    /// Nobody reads it; the peer has not ended it.
    Stopped,
    Ended,
}

#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) phase: ReceivePhase,
    /// What came and was not read. Copied, as a part of what was read from the socket would keep
    /// the whole of it in memory.
    pub(super) data: BytesMut,
    pub(super) received: u64,
    /// Bytes that were read.
    pub(super) consumed: u64,
    /// Bytes that the peer may send, from the stream's beginning, as it was told.
    pub(super) told: u64,
    /// The peer is to be told a new one.
    pub(super) is_credit_due: bool,
    pub(super) reader: Option<Waker>,
}

impl Stream {
    pub(super) fn new(credit: u64, window: u64) -> Self {
        Self {
            sending: Sending {
                phase: SendPhase::Open,
                chunks: VecDeque::new(),
                waiting: 0,
                room: 0,
                sent: 0,
                credit,
                priority: 0,
                turn: None,
                stopped: None,
                is_held: true,
                writer: None,
                watcher: None,
            },
            receiving: Receiving {
                phase: ReceivePhase::Open,
                data: BytesMut::new(),
                received: 0,
                consumed: 0,
                told: window,
                is_credit_due: false,
                reader: None,
            },
        }
    }

    /// Whether nothing of it is left to remember.
    pub(super) fn is_over(&self) -> bool {
        let Self { sending, receiving } = self;
        // A writer is told that his stream was stopped, however the other direction is.
        let is_known = sending.stopped.is_none() || !sending.is_held;
        sending.phase == SendPhase::Ended && is_known && receiving.phase == ReceivePhase::Ended
    }
}

impl Sending {
    /// Whether there is something that could be sent but for the connection's credit.
    pub(super) fn is_ready(&self) -> bool {
        match self.phase {
            SendPhase::Open => self.waiting > 0 && self.credit > self.sent,
            SendPhase::Finishing => self.waiting == 0 || self.credit > self.sent,
            SendPhase::Resetting(_) | SendPhase::Ended => false,
        }
    }

    /// Forgets what waits; says how much room that took.
    pub(super) fn clear(&mut self) -> usize {
        self.chunks = VecDeque::new();
        self.waiting = 0;
        std::mem::take(&mut self.room)
    }

    pub(super) fn wake(&mut self) {
        for waker in [self.writer.take(), self.watcher.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Receiving {
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    /// What the peer may be told that it may send, if that is worth a frame.
    pub(super) fn new_credit(&self, window: u64) -> Option<u64> {
        let credit = self.consumed + window;
        (self.phase == ReceivePhase::Open && credit - self.told >= window / 2).then_some(credit)
    }
}
