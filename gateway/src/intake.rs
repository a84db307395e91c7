//! What the streams of one connection may hold and do together, so that their number does not multiply
//! what a peer can make us keep or how busy it can keep us.
//!
//! Over a rate, reading pauses: QUIC's flow control then holds the peer up, and nothing is lost. What no
//! honest client does at all ends the connection.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use petrel_core::rate::{Bucket, Rate};
use petrel_proto::code::Code;
use petrel_transport::Connection;
use quinn::VarInt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock;
use crate::endpoint::RECEIVE_WINDOW;
use crate::gateway::Gateway;
use crate::metrics::{self, Excess};
use crate::stream::Cost;

/// KiB of incomplete frames (those above [`crate::stream::SMALL_FRAME_BYTES`]) that are held at once for
/// one connection. Two large ones: who sends in several conversations at once has one begun wherever his
/// credit ran out, and with room for one alone the next would be refused until that is done.
pub(crate) const LARGE_FRAMES_KIB: usize = 128;
/// Pieces of streams behind a hole that are held at once for one connection. Each is about a packet, or
/// begins where one was lost: no honest client has so many under way within its window.
const PIECES_MAX: usize = 256;
/// The receive window follows what is held behind holes in such steps.
const WINDOW_STEP: usize = 8 * 1024;
/// Streams that end without a word, of one connection: in a second, and at once.
const SILENT_STREAMS: (u32, u32) = (10, 100);

/// The shares and rates of a connection.
#[derive(Debug)]
pub(crate) struct Intake {
    gateway: Arc<Gateway>,
    connection: Connection,
    large_frames: Semaphore,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    frames: Bucket,
    streams: Bucket,
    silent_streams: Bucket,
    /// Behind holes.
    held: Cost,
}

impl Intake {
    /// Nothing is used.
    pub(crate) fn new(gateway: Arc<Gateway>, connection: Connection) -> Self {
        let large_frames = Semaphore::new(LARGE_FRAMES_KIB);
        Self { gateway, connection, large_frames, used: Mutex::default() }
    }

    /// Room for an incomplete frame of so many bytes, if there is any.
    pub(crate) fn room(&self, frame_bytes: usize) -> Option<SemaphorePermit<'_>> {
        let units = u32::try_from(frame_bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.large_frames.try_acquire_many(units).ok()
    }

    /// Takes one frame from the connection's rate; over it, the time until the next is free.
    pub(crate) fn take_frame(&self) -> Option<Duration> {
        let rate = self.gateway.rates.frames;
        self.take(Excess::Frames, rate, |used| &mut used.frames)
    }

    /// The same for a stream that the peer opened.
    pub(crate) fn take_stream(&self) -> Option<Duration> {
        let rate = self.gateway.rates.streams;
        self.take(Excess::Streams, rate, |used| &mut used.streams)
    }

    /// A stream has ended without a word. Who does that all the time is done with.
    pub(crate) fn stream_was_silent(&self) {
        let rate = Rate::new(SILENT_STREAMS.0, SILENT_STREAMS.1);
        let is_over = self.connection.close_reason().is_none()
            && self.take(Excess::SilentStreams, rate, |used| &mut used.silent_streams).is_some();
        if is_over {
            self.end();
        }
    }

    /// What a stream holds behind a hole has changed. The connection's window is smaller by what all of
    /// them hold, so that both together are bounded by it.
    ///
    /// # Errors
    /// It is in more pieces than any honest client's. The connection is over.
    pub(crate) fn holds(&self, before: Cost, now: Cost) -> Result<(), ()> {
        let mut used = self.used.lock();
        let steps = used.held.bytes / WINDOW_STEP;
        used.held.bytes = (used.held.bytes + now.bytes).saturating_sub(before.bytes);
        used.held.pieces = (used.held.pieces + now.pieces).saturating_sub(before.pieces);
        let (held, steps_now) = (used.held, used.held.bytes / WINDOW_STEP);
        if steps_now != steps {
            let held_bytes = (steps_now * WINDOW_STEP) as u64;
            let window = RECEIVE_WINDOW.saturating_sub(held_bytes);
            // What is no QUIC has no holes.
            if let Some(quic) = self.connection.quic() {
                quic.set_receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX));
            }
        }
        drop(used);
        if held.pieces > PIECES_MAX && now.pieces > before.pieces {
            metrics::excess(Excess::Fragments);
            self.end();
            return Err(());
        }
        Ok(())
    }

    fn end(&self) {
        let code = Code::RateLimited;
        self.connection.close(code.number(), code.label().as_bytes());
    }

    fn take(
        &self,
        what: Excess,
        rate: Rate,
        bucket: impl FnOnce(&mut Used) -> &mut Bucket,
    ) -> Option<Duration> {
        let taken = bucket(&mut self.used.lock()).take(rate, clock::monotonic_ns());
        let wait = taken.err()?;
        metrics::excess(what);
        Some(Duration::from_nanos(wait))
    }
}
