//! Receipts are cumulative cursors: raised in memory, written to the store in
//! batches and passed on to the other members, once in an interval.

use std::sync::Arc;

use parking_lot::Mutex;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::store::Receipt;
use rustc_hash::FxHashMap;

use crate::conversation_table::Cell;
use crate::gateway::Gateway;
use crate::{clock, metrics, translate};

/// Receipts that wait, at the most; one more makes the oldest interval end at once.
const WAITING_MAX: usize = 65_536;
/// Receipts that one statement writes, at the most.
const WRITTEN_AT_ONCE: usize = 1_000;

type Waiting = FxHashMap<(ConversationId, UserId), (Receipt, Arc<Cell>)>;

/// Receipts that moved and are not passed on yet.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    waiting: Mutex<Waiting>,
    full: tokio::sync::Notify,
}

impl Receipts {
    /// Raises a member's receipt.
    pub(crate) fn raise(&self, cell: &Arc<Cell>, user: UserId, receipt: Receipt) {
        let Some(Some(raised)) = cell.with(|c| c.raise_receipt(user, receipt)) else { return };
        let mut waiting = self.waiting.lock();
        // Over the bound it is only in memory until it moves again; the client
        // tells it again after a reconnect.
        if waiting.len() < WAITING_MAX || waiting.contains_key(&(cell.id(), user)) {
            waiting.insert((cell.id(), user), (raised, Arc::clone(cell)));
        } else {
            metrics::get().receipts_overflows.increment(1);
        }
        if waiting.len() >= WAITING_MAX {
            self.full.notify_one();
        }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }
}

/// Passes receipts on until the gateway stops; what waits then is still written.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let interval = gateway.config.message.receipts_interval.duration();
    loop {
        let stopping = gateway
            .stopping
            .run_until_cancelled(async {
                let full = gateway.receipts.full.notified();
                // Either the interval is over or the bound is reached.
                tokio::time::timeout(interval, full).await.ok();
            })
            .await
            .is_none();
        flush(&gateway).await;
        if stopping {
            return;
        }
    }
}

async fn flush(gateway: &Gateway) {
    let waiting = std::mem::take(&mut *gateway.receipts.waiting.lock());
    if waiting.is_empty() {
        return;
    }
    let now_s = clock::coarse_s();
    let mut rows = Vec::with_capacity(waiting.len());
    for ((conversation, user), (receipt, cell)) in waiting {
        rows.push((conversation, user, receipt));
        let (others, peer) = cell
            .with(|c| {
                (c.members().filter(|m| *m != user).collect::<Vec<_>>(), c.peer_of(user).is_some())
            })
            .unwrap_or_default();
        let member = if peer {
            translate::peer_receipt(receipt)
        } else {
            translate::member_receipt(user, receipt)
        };
        let frame = translate::receipts(vec![member]);
        for other in others {
            gateway.sessions.for_each(other, |session| {
                if session.wants_receipts() {
                    let no_stream = None::<(_, fn(_) -> _)>;
                    session.queue().put_ephemeral(conversation, &frame, now_s, no_stream);
                }
            });
        }
    }
    for part in rows.chunks(WRITTEN_AT_ONCE) {
        if let Err(error) = gateway.store.raise_receipts(part).await {
            // They stay in memory; the clients tell them again when they come back.
            tracing::warn!(%error, receipts = part.len(), "receipts cannot be written");
            metrics::get().receipts_lost.increment(part.len() as u64);
        }
    }
}
