//! How fast connections are let in while people chat. A handshake with its sign-in takes the time of some ten messages; in a
//! storm of reconnects all cores would be busy with them, and every message would wait its turn at
//! each hop. Who comes in waits a few seconds longer instead; while nobody chats, nobody is held up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use petrel_core::rate::{Bucket, Rate};

use crate::{clock, metrics};

/// For so long after a message others are expected.
const CHAT_PAUSE_NS: u64 = 1_000_000_000;
/// Let in at once after a pause.
const BURST: u32 = 16;

/// The pace of this gateway, for QUIC and TCP together.
#[derive(Debug)]
pub(crate) struct Pace {
    beside_chat: Rate,
    used: Mutex<Bucket>,
    /// When a message came last.
    chatted_ns: AtomicU64,
}

impl Pace {
    /// So many a second for each core.
    pub(crate) fn new(per_core: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        Self {
            beside_chat: Rate::new(per_core.saturating_mul(cores), BURST),
            used: Mutex::default(),
            chatted_ns: AtomicU64::new(0),
        }
    }

    /// A message has come.
    pub(crate) fn chatted(&self) {
        self.chatted_ns.store(clock::monotonic_ns(), Ordering::Relaxed);
    }

    /// Waits for the turn of one connection.
    pub(crate) async fn turn(&self) {
        let mut has_waited = false;
        while let Err(wait) = self.take(clock::monotonic_ns()) {
            if !std::mem::replace(&mut has_waited, true) {
                metrics::get().paced.increment(1);
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn take(&self, now_ns: u64) -> Result<(), Duration> {
        let chatted_ns = self.chatted_ns.load(Ordering::Relaxed);
        if chatted_ns == 0 || now_ns.saturating_sub(chatted_ns) >= CHAT_PAUSE_NS {
            return Ok(());
        }
        self.used.lock().take(self.beside_chat, now_ns).map_err(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_chat_a_storm_is_let_in_at_the_pace_and_else_at_once() {
        let pace = Pace { beside_chat: Rate::new(100, BURST), ..Pace::new(1) };
        let start = 5_000_000_000;
        assert!((0..1_000).all(|_| pace.take(start).is_ok()), "nobody chats");
        pace.chatted_ns.store(start, Ordering::Relaxed);
        assert_eq!((0..100).filter(|_| pace.take(start).is_ok()).count(), 16);
        assert_eq!(pace.take(start), Err(Duration::from_millis(10)));
        let later = start + 500_000_000;
        assert_eq!((0..100).filter(|_| pace.take(later).is_ok()).count(), 16);
        assert!(
            (0..1_000).all(|_| pace.take(start + CHAT_PAUSE_NS).is_ok()),
            "they have fallen silent"
        );
    }
}
