//! What the first conversation does beside the others: long pages of history, or bursts of messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use petrel_client::PageRequest;
use tokio::task::JoinSet;

use super::chat::Chat;
use crate::body::{self, Body};
use crate::layout::Lane;
use crate::ledger::{Clock, Ledger};
use crate::options::Beside;
use crate::progress::Progress;
use crate::report::BesideFigures;
use crate::traffic::{Outbound as _, until};

/// Bytes of history that are read each time.
const HISTORY_BYTES: usize = 5_000_000;
/// Bytes of a message of it, which no dictionary makes shorter.
const ENTRY_BYTES: usize = 12_000;
/// Entries of a page: what its bound on bytes allows comes.
const PAGE_ENTRIES: u32 = 200;
/// Messages of a burst.
const BURST: usize = 1_000;
/// Between two bursts.
const PAUSE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// It goes on until it is stopped.
#[derive(Debug)]
pub(super) struct Busy {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<BesideFigures>>,
}

impl Busy {
    /// Prepares and begins.
    pub(super) async fn start(
        what: Beside,
        chat: &Arc<Chat>,
        ledger: &Arc<Ledger>,
        clock: Clock,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let mut tasks = JoinSet::new();
        match what {
            Beside::Nothing => {}
            Beside::History => {
                progress.stage("writing a history");
                write_history(chat, ledger, clock).await?;
                for member in 0..2 {
                    let (chat, stop) = (Arc::clone(chat), Arc::clone(&stop));
                    tasks.spawn(async move { read(&chat, member, &stop).await });
                }
            }
            Beside::Burst => {
                let (chat, ledger) = (Arc::clone(chat), Arc::clone(ledger));
                let stop = Arc::clone(&stop);
                tasks.spawn(async move { burst(&chat, &ledger, clock, &stop).await });
            }
        }
        Ok(Self { stop, tasks })
    }

    /// Ends it; what was done.
    pub(super) async fn stop(mut self) -> anyhow::Result<BesideFigures> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BesideFigures::default();
        while let Some(done) = self.tasks.join_next().await {
            let done = done.context("a busy conversation")??;
            all.bytes_read += done.bytes_read;
            all.messages += done.messages;
        }
        Ok(all)
    }
}

fn lane(member: usize) -> Lane {
    Lane { conversation: 0, member }
}

/// Sends one message of the first conversation, which is judged like all, but not measured.
fn send(chat: &Chat, ledger: &Ledger, clock: Clock, body: &Body) -> anyhow::Result<()> {
    let id = chat.send(lane(0), body).map_err(anyhow::Error::msg)?;
    ledger.sent(lane(0), id, clock.now(), body.hash, false);
    Ok(())
}

async fn write_history(chat: &Chat, ledger: &Ledger, clock: Clock) -> anyhow::Result<()> {
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for n in 0..HISTORY_BYTES.div_ceil(ENTRY_BYTES) {
        let text: Bytes = (0..ENTRY_BYTES)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random.to_le_bytes()[3]
            })
            .collect();
        let body = Body { hash: body::hash(&text), text };
        send(chat, ledger, clock, &body)?;
        // A few under way, as the outbox is bounded.
        if n % 16 == 15 {
            let all = until(PATIENCE, || ledger.outstanding() == 0).await;
            anyhow::ensure!(all, "the history was not written in {PATIENCE:?}");
        }
    }
    until(PATIENCE, || ledger.outstanding() == 0).await;
    Ok(())
}

async fn read(chat: &Chat, member: usize, stop: &AtomicBool) -> anyhow::Result<BesideFigures> {
    let (client, conversation) = chat.sender(lane(member));
    let mut done = BesideFigures::default();
    let mut from = 1;
    while !stop.load(Ordering::Relaxed) {
        let page = client
            .history(PageRequest {
                conversation: conversation.id,
                from,
                to: 0,
                limit: PAGE_ENTRIES,
                newest: false,
            })
            .await?;
        let bytes = page.entries.iter().filter_map(|entry| entry.body.as_ref().ok());
        done.bytes_read += bytes.map(|body| body.len() as u64).sum::<u64>();
        let last = page.entries.last().map_or(page.head, |entry| entry.seq);
        from = if last >= page.head { 1 } else { last + 1 };
    }
    Ok(done)
}

async fn burst(
    chat: &Chat,
    ledger: &Ledger,
    clock: Clock,
    stop: &AtomicBool,
) -> anyhow::Result<BesideFigures> {
    let mut done = BesideFigures::default();
    while !stop.load(Ordering::Relaxed) {
        for n in 0..BURST {
            let text = Bytes::from(format!("message {n} of a burst, as long as one of people is"));
            let body = Body { hash: body::hash(&text), text };
            send(chat, ledger, clock, &body)?;
            done.messages += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(done)
}
