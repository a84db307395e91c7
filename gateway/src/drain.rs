//! Draining: readiness is taken back, and clients are told to go elsewhere, so many a second, while everything goes on.
//! A client moves without a gap: it keeps this session until it is signed in at the other gateway.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, frame::What};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::session::Session;

/// Between two rounds.
const ROUND: Duration = Duration::from_millis(100);
/// Who was told so long ago and is still here is told again: his way elsewhere failed.
const AGAIN: Duration = Duration::from_secs(15);
/// A client goes after a time up to this, in milliseconds.
const GOES_WITHIN_MS: u32 = 500;
/// Other gateways that are named to a client.
const ALTERNATIVES_MAX: usize = 4;

/// Whether this gateway drains.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    under_way: Mutex<Option<UnderWay>>,
    begun: Notify,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    rate_per_s: u32,
    since: Instant,
    sessions: usize,
    told: usize,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Sessions that are told in a second.
    pub(crate) rate_per_s: u32,
    pub(crate) since: Duration,
    /// Sessions when it began.
    pub(crate) sessions: usize,
    /// Times that a session was told.
    pub(crate) told: usize,
}

impl Drain {
    /// Whether it is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.lock().is_some()
    }

    /// How far it is; `None`: it is not under way.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.under_way.lock().map(|at| Progress {
            rate_per_s: at.rate_per_s,
            since: at.since.elapsed(),
            sessions: at.sessions,
            told: at.told,
        })
    }
}

impl Gateway {
    /// Begins to drain, or goes on at another rate.
    pub(crate) fn begin_to_drain(&self, rate_per_s: u32) {
        {
            let mut under_way = self.drain.under_way.lock();
            match under_way.as_mut() {
                Some(at) => at.rate_per_s = rate_per_s,
                None => {
                    let sessions = self.sessions.all().len();
                    let since = Instant::now();
                    *under_way = Some(UnderWay { rate_per_s, since, sessions, told: 0 });
                }
            }
        }
        tracing::info!(rate_per_s, "draining");
        self.cluster.set_draining(true);
        self.drain.begun.notify_one();
    }

    /// Takes it back; `false` if it was not under way. Who has gone stays away.
    pub(crate) fn abort_drain(&self) -> bool {
        let was_under_way = self.drain.under_way.lock().take().is_some();
        if was_under_way {
            tracing::info!("not draining any more");
            self.cluster.set_draining(false);
        }
        was_under_way
    }

    /// The frame that sends a client away.
    fn go_away(&self) -> Bytes {
        let mut others: Vec<_> = self.cluster.alternatives();
        // Each client another order, so that they spread.
        while others.len() > ALTERNATIVES_MAX {
            others.swap_remove(rand::random_range(0..others.len()));
        }
        for at in (1..others.len()).rev() {
            others.swap(at, rand::random_range(0..=at));
        }
        encode(&bare(What::GoAway(wire::GoAway {
            reconnect_after_ms_min: 0,
            reconnect_after_ms_max: GOES_WITHIN_MS,
            alternatives: others,
        })))
    }
}

/// Sends clients away while the gateway drains.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let draining = async {
        loop {
            gateway.drain.begun.notified().await;
            // Whom to tell, and when he was told.
            let mut told: Vec<(std::sync::Weak<Session>, Instant)> = Vec::new();
            let mut owed = 0.0;
            while let Some(progress) = gateway.drain.progress() {
                let now = Instant::now();
                told.retain(|(session, at)| session.strong_count() > 0 && now < *at + AGAIN);
                let each_round = f64::from(progress.rate_per_s) * ROUND.as_secs_f64();
                // What a quiet time leaves unused is not made up for.
                owed = (owed + each_round).min(each_round.max(1.0));
                let due: Vec<_> = {
                    let known: rustc_hash::FxHashSet<_> =
                        told.iter().map(|(session, _)| session.as_ptr()).collect();
                    let is_due = |session: &Arc<Session>| !known.contains(&Arc::as_ptr(session));
                    #[allow(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a small positive number"
                    )]
                    gateway.sessions.all().into_iter().filter(is_due).take(owed as usize).collect()
                };
                owed -= due.len() as f64;
                for session in due {
                    session.queue().put_control(gateway.go_away());
                    told.push((Arc::downgrade(&session), now));
                    if let Some(at) = gateway.drain.under_way.lock().as_mut() {
                        at.told += 1;
                    }
                }
                tokio::time::sleep(ROUND).await;
            }
        }
    };
    gateway.stopping.run_until_cancelled(draining).await;
}

/// Sends everybody to the other gateways before a stop, if there are any, within this time. Whoever has not gone
/// by then loses his connection and comes back elsewhere by himself.
pub(crate) async fn before_stop(gateway: &Gateway, within: Duration) {
    if !gateway.cluster.has_others() {
        return;
    }
    let sessions = gateway.sessions.all().len();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number, which saturates"
    )]
    // Told in the first half of it.
    let rate = (sessions as f64 / (within.as_secs_f64() / 2.0)).ceil().max(100.0) as u32;
    gateway.begin_to_drain(rate);
    let gone = async {
        while !gateway.sessions.is_empty() {
            tokio::time::sleep(ROUND / 2).await;
        }
    };
    tokio::time::timeout(within, gone).await.ok();
}
