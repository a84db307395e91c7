//! All that one side knows of a multiplexed connection, behind its lock: pure but for wakers. What
//! handles do is in `halves.rs`, what comes in `incoming.rs`, what leaves in `outgoing.rs`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::stream::{SendPhase, Stream};
use super::wire::{Parameters, Violation};
use super::{Settings, Side};
use crate::connection::Stats;
use crate::error::ConnectionError;

/// What is to be said of a stream, once there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Reset(u64),
    Stop(u64, u64),
    Credit(u64),
}

/// The last frame.
#[derive(Debug)]
pub(super) struct Close {
    pub(super) by_application: bool,
    pub(super) code: u64,
    pub(super) reason: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) side: Side,
    pub(super) settings: Settings,
    /// What the peer allows, once it has said so.
    pub(super) peer: Option<Parameters>,
    pub(super) is_introduced: bool,
    pub(super) streams: FxHashMap<u64, Stream>,
    /// Streams of ours, and how many there may be.
    pub(super) opened: u64,
    pub(super) opened_max: u64,
    /// Streams of the peer's, those of them that are over, and how many it was told that it may open.
    pub(super) accepted: u64,
    pub(super) accepted_over: u64,
    pub(super) accepted_told: u64,
    /// Of the peer's streams, those that nobody has taken yet.
    pub(super) arriving: VecDeque<u64>,
    /// Bytes on all streams: received, read, and told that they may come.
    pub(super) received: u64,
    pub(super) consumed: u64,
    pub(super) told: u64,
    /// Bytes on all streams: sent, and taken by the peer.
    pub(super) sent: u64,
    pub(super) credit: u64,
    /// Room that what waits to be sent takes.
    pub(super) room: usize,
    /// Streams with something to send: by priority, then in turn.
    pub(super) ready: BTreeMap<(Reverse<i32>, u64), u64>,
    pub(super) turns: u64,
    pub(super) controls: VecDeque<Control>,
    pub(super) datagrams_in: Datagrams,
    pub(super) datagrams_out: Datagrams,
    pub(super) pings: Pings,
    pub(super) closed: Option<ConnectionError>,
    pub(super) close: Option<Close>,
    /// Handles of the application.
    pub(super) handles: usize,
    pub(super) driver: Option<Waker>,
    pub(super) acceptor: Option<Waker>,
    pub(super) hearer: Option<Waker>,
    pub(super) stats: Stats,
    /// What is sent from now on has had no answer since.
    pub(super) unanswered_since: Option<Instant>,
}

/// Questions whether the peer is there.
#[derive(Debug, Default)]
pub(super) struct Pings {
    pub(super) number: u64,
    /// One is to be sent.
    pub(super) is_due: bool,
    /// The last one has no answer yet.
    pub(super) asked: Option<Instant>,
    /// The peer's, to be answered.
    pub(super) answer: Option<u64>,
}

/// Datagrams that wait. The oldest make room.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    waiting: VecDeque<Bytes>,
    bytes: usize,
}

impl Datagrams {
    pub(super) fn push(&mut self, datagram: Bytes, bytes_max: usize) {
        if datagram.len() + super::stream::CHUNK_OVERHEAD > bytes_max {
            return;
        }
        self.bytes += datagram.len() + super::stream::CHUNK_OVERHEAD;
        self.waiting.push_back(datagram);
        while self.bytes > bytes_max && self.pop().is_some() {}
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let first = self.waiting.pop_front()?;
        self.bytes -= first.len() + super::stream::CHUNK_OVERHEAD;
        Some(first)
    }

    pub(super) fn next_len(&self) -> Option<usize> {
        self.waiting.front().map(Bytes::len)
    }
}

impl State {
    pub(super) fn new(side: Side, settings: Settings) -> Self {
        Self {
            side,
            peer: None,
            is_introduced: false,
            streams: FxHashMap::default(),
            opened: 0,
            opened_max: 0,
            accepted: 0,
            accepted_over: 0,
            accepted_told: settings.streams_max.into(),
            arriving: VecDeque::new(),
            received: 0,
            consumed: 0,
            told: settings.receive_window,
            sent: 0,
            credit: 0,
            room: 0,
            ready: BTreeMap::new(),
            turns: 0,
            controls: VecDeque::new(),
            datagrams_in: Datagrams::default(),
            datagrams_out: Datagrams::default(),
            pings: Pings::default(),
            closed: None,
            close: None,
            handles: 0,
            driver: None,
            acceptor: None,
            hearer: None,
            stats: Stats::default(),
            unanswered_since: None,
            settings,
        }
    }

    /// What this side allows at the beginning.
    pub(super) fn parameters(&self) -> Parameters {
        let Settings { receive_window, stream_receive_window, .. } = self.settings;
        let idle = self.settings.idle_timeout.as_millis();
        Parameters {
            idle_timeout_ms: u64::try_from(idle).unwrap_or(u64::MAX),
            max_data: receive_window,
            max_stream_data_local: stream_receive_window,
            max_stream_data_remote: stream_receive_window,
            max_streams: self.settings.streams_max.into(),
            max_datagram_frame: self.settings.datagram_max as u64,
        }
    }

    /// After how long a silence the connection is over: what the stricter side says.
    pub(super) fn idle_timeout(&self) -> Duration {
        let theirs = self.peer.map_or(0, |peer| peer.idle_timeout_ms);
        let own = self.settings.idle_timeout;
        if theirs == 0 { own } else { own.min(Duration::from_millis(theirs)) }
    }

    /// Whether a stream's number is one that this side gives.
    pub(super) fn is_own(&self, id: u64) -> bool {
        id & 1 == self.side.bit()
    }

    /// There is something to send.
    pub(super) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// The connection is over: for all who wait, and for the peer if `close` is to be said.
    pub(super) fn end(&mut self, why: ConnectionError, close: Option<Close>) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(why);
        self.close = close;
        for stream in self.streams.values_mut() {
            stream.sending.clear();
            stream.sending.turn = None;
            stream.sending.wake();
            stream.receiving.wake();
        }
        self.room = 0;
        self.ready.clear();
        self.controls.clear();
        self.datagrams_out = Datagrams::default();
        for waker in [self.acceptor.take(), self.hearer.take()].into_iter().flatten() {
            waker.wake();
        }
        self.wake_driver();
    }

    /// The peer did what it may not.
    pub(super) fn violated(&mut self, Violation(code, text): Violation) {
        let close = Close { by_application: false, code, reason: text.into() };
        self.end(ConnectionError::Transport(text.to_owned()), Some(close));
    }

    /// Bytes were read, or are not wanted: the peer may send as many more.
    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed += bytes;
        if self.is_credit_due() {
            self.wake_driver();
        }
    }

    pub(super) fn is_credit_due(&self) -> bool {
        let window = self.settings.receive_window;
        self.consumed + window - self.told >= window / 2
    }

    pub(super) fn are_streams_due(&self) -> bool {
        self.accepted_over + u64::from(self.settings.streams_max) > self.accepted_told
    }

    /// Puts a stream in line if it has something to send, or takes it out.
    pub(super) fn line_up(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let sending = &mut stream.sending;
        match (sending.is_ready(), sending.turn) {
            (true, None) => {
                self.turns += 1;
                sending.turn = Some(self.turns);
                self.ready.insert((Reverse(sending.priority), self.turns), id);
                self.wake_driver();
            }
            (false, Some(turn)) => {
                self.ready.remove(&(Reverse(sending.priority), turn));
                sending.turn = None;
            }
            _ => {}
        }
    }

    /// Gives a sending half up.
    pub(super) fn reset(&mut self, id: u64, code: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        self.room -= stream.sending.clear();
        stream.sending.phase = SendPhase::Resetting(code);
        self.line_up(id);
        self.controls.push_back(Control::Reset(id));
        self.wake_driver();
    }

    /// Forgets a stream that is over, which lets the peer open another.
    pub(super) fn settle(&mut self, id: u64) {
        if self.streams.get(&id).is_none_or(|stream| !stream.is_over()) {
            return;
        }
        self.streams.remove(&id);
        if !self.is_own(id) {
            self.accepted_over += 1;
            if self.are_streams_due() {
                self.wake_driver();
            }
        }
    }
}
