//! What keeps entries from being handed out is read from the store: a hole, or rights that are newer than those
//! here. One repair of a conversation at a time.

use std::sync::Arc;
use std::time::Duration;

use petrel_core::error::Rejection;
use petrel_core::limits;
use petrel_core::store::{Page, Standing};

use crate::conversation_table::Cell;
use crate::gateway::Gateway;
use crate::metrics;

/// Between two tries while the store does not answer.
const REPAIR_RETRY: Duration = Duration::from_millis(200);
/// An entry before one that has come is on its way for so long, if another gateway stored it.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

impl Gateway {
    /// Takes over members and rights as they are in the store now. `false` if it did not answer.
    pub(crate) async fn reload(&self, cell: &Cell) -> bool {
        match self.store.conversation(cell.id()).await {
            Ok(Some(record)) => {
                cell.with(|c| c.refresh(record));
                true
            }
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(%error, "a conversation cannot be loaded again");
                false
            }
        }
    }

    /// Takes over where the store says that a log stands: rights that are newer than those here are
    /// loaded, entries that another gateway stored are read and handed out. A store
    /// that nobody else writes to has nothing new to tell.
    ///
    /// # Errors
    /// [`Rejection::Unavailable`] if newer rights cannot be loaded.
    pub(crate) async fn learn(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        standing: &Standing,
    ) -> Result<(), Rejection> {
        if !self.store.is_shared() {
            return Ok(());
        }
        let known = cell.with(|c| c.rights_version());
        if known < Some(standing.rights_version) && !self.reload(cell).await {
            return Err(Rejection::Unavailable);
        }
        let repair = cell.with(|c| c.learn_head(standing.head, standing.count));
        if repair == Some(true) {
            self.spawn_repair(Arc::clone(cell));
        }
        Ok(())
    }

    /// Reads what keeps entries from being handed out (one repair per conversation at a time).
    pub(super) fn spawn_repair(self: &Arc<Self>, cell: Arc<Cell>) {
        metrics::get().repairs.increment(1);
        let gateway = Arc::clone(self);
        self.tasks.spawn(async move {
            if gateway.closes_by_itself(&cell).await {
                return;
            }
            while !gateway.stopping.is_cancelled() {
                let progress = gateway.repair_round(&cell).await;
                let again = cell.with(|conversation| {
                    let (ready, again) = conversation.repaired();
                    gateway.hand_out(&cell, conversation, ready);
                    again
                });
                if again != Some(true) {
                    return;
                }
                if !progress {
                    tokio::time::sleep(REPAIR_RETRY).await;
                }
            }
        });
    }

    /// Whether what was missing has come over a link to another gateway, as it mostly does. As long as anything
    /// comes it is waited for.
    async fn closes_by_itself(self: &Arc<Self>, cell: &Arc<Cell>) -> bool {
        let mut before = None;
        while self.cluster.is_linked() {
            let stands = cell.with(|conversation| {
                let (ready, is_open) = conversation.repaired();
                self.hand_out(cell, conversation, ready);
                (is_open, conversation.next())
            });
            match stands {
                Some((true, next)) if before != Some(next) => before = Some(next),
                Some((true, _)) => return false,
                _ => return true,
            }
            tokio::time::sleep(ON_ITS_WAY).await;
        }
        false
    }

    async fn repair_round(self: &Arc<Self>, cell: &Arc<Cell>) -> bool {
        let before = cell.with(|c| c.rights_version());
        if !self.reload(cell).await {
            return false;
        }
        let Some((from, to)) = cell.with(|c| c.hole()).flatten() else {
            // The members were too old; if the store's are as well, it has to be asked again.
            return cell.with(|c| c.rights_version()) > before;
        };
        let page = Page {
            from,
            to,
            entries_max: limits::PAGE_ENTRIES_MAX,
            bytes_max: limits::PAGE_BYTES_MAX,
            newest: false,
        };
        match self.store.entries(cell.id(), None, page).await {
            Ok(entries) if entries.is_empty() => {
                if let Ok(Some(standing)) = self.store.standing(cell.id(), &[]).await {
                    cell.with(|c| c.unlearn_head(to, standing.head, standing.count));
                }
                false
            }
            Ok(entries) => {
                self.offer_read(cell, entries);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a hole in a conversation cannot be read");
                false
            }
        }
    }
}
