//! The way from the outbox's file back to the client.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use crate::event::Event;
use crate::outbox_file::FileWatcher;
use crate::shared::Shared;

/// Tells the client what its file says, as long as there is a client.
#[derive(Default)]
pub(crate) struct FileLink {
    pub(crate) client: OnceLock<Weak<Shared>>,
    /// The application was told that the file cannot be written.
    told: AtomicBool,
}

impl FileWatcher for Arc<FileLink> {
    fn durable(&self, upto: u64) {
        let Some(shared) = self.client.get().and_then(Weak::upgrade) else {
            return;
        };
        self.told.store(false, Ordering::Relaxed);
        let now = Instant::now();
        let mut state = shared.state.lock();
        state.durable_upto = upto;
        let waiting: Vec<_> = state
            .conversations
            .values()
            .filter(|c| c.outbox.is_ready(now, upto))
            .map(|c| c.id)
            .collect();
        for id in waiting {
            shared.ensure_stream(&mut state, id, now);
        }
    }

    fn failed(&self, why: String) {
        let Some(shared) = self.client.get().and_then(Weak::upgrade) else {
            return;
        };
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(%why, "the outbox's file cannot be written");
        shared.events.push_all([Event::OutboxUnavailable { why }]);
        shared.settle();
    }
}
