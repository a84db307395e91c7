//! What a link did.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What became of the packets of one direction.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) packets: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) forwarded: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) queue_full: AtomicU64,
    pub(super) blacked_out: AtomicU64,
    pub(super) reordered: AtomicU64,
    pub(super) duplicated: AtomicU64,
    pub(super) corrupted: AtomicU64,
    /// The emulator itself could not hold or send it.
    pub(super) failed: AtomicU64,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One direction's packets, all links together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct DirectionCounts {
    /// Packets that came in.
    pub packets: u64,
    /// Their UDP payload.
    pub bytes: u64,
    /// Packets that went out, copies too.
    pub forwarded: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost at the bottleneck.
    pub queue_full: u64,
    /// Lost in a blackout.
    pub blacked_out: u64,
    /// Held back past later ones.
    pub reordered: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Damaged.
    pub corrupted: u64,
    /// What the emulator itself could not hold or send: its figures are worth nothing if there
    /// are many.
    pub failed: u64,
}

/// What all links did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Client addresses that were seen.
    pub links: u64,
    /// From clients to the server.
    pub up: DirectionCounts,
    /// From the server to clients.
    pub down: DirectionCounts,
    /// New ports that the server saw.
    pub rebinds: u64,
    /// New addresses that the server saw.
    pub switches: u64,
}

impl Counters {
    pub(super) fn read(&self) -> DirectionCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DirectionCounts {
            packets: of(&self.packets),
            bytes: of(&self.bytes),
            forwarded: of(&self.forwarded),
            lost: of(&self.lost),
            queue_full: of(&self.queue_full),
            blacked_out: of(&self.blacked_out),
            reordered: of(&self.reordered),
            duplicated: of(&self.duplicated),
            corrupted: of(&self.corrupted),
            failed: of(&self.failed),
        }
    }
}
