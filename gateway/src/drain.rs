//! Draining: readiness is taken back, and clients are told to go elsewhere, so many a second, while everything goes on.
//! A client moves without a gap: it keeps this session until it is signed in at the other gateway.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::translate;

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
        translate::go_away((0, GOES_WITHIN_MS), others)
    }
}

/// Who is here while the gateway drains, and when he is to be told.
#[derive(Debug)]
struct Guests<T> {
    /// By an address that is not followed; the Weak keeps it from being given again.
    due: FxHashMap<usize, (Weak<T>, Instant)>,
    has_begun: bool,
}

impl<T> Default for Guests<T> {
    fn default() -> Self {
        Self { due: FxHashMap::default(), has_begun: false }
    }
}

impl<T> Guests<T> {
    /// Those of `all` who are to be told now, at most so many. Who comes after the beginning has perhaps been told, and
    /// knows no other way: he is left alone for a while, as is who was told.
    fn due(&mut self, all: Vec<Arc<T>>, now: Instant, most: usize) -> Vec<Arc<T>> {
        self.due.retain(|_, (guest, _)| guest.strong_count() > 0);
        let newcomers_due = if self.has_begun { now + AGAIN } else { now };
        self.has_begun = true;
        let mut told = Vec::new();
        for guest in all {
            let entry = self.due.entry(Arc::as_ptr(&guest).addr());
            let (_, due) = entry.or_insert_with(|| (Arc::downgrade(&guest), newcomers_due));
            if *due <= now && told.len() < most {
                *due = now + AGAIN;
                told.push(guest);
            }
        }
        told
    }
}

/// Sends clients away while the gateway drains.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let draining = async {
        loop {
            gateway.drain.begun.notified().await;
            let mut guests = Guests::default();
            let mut owed = 0.0;
            while let Some(progress) = gateway.drain.progress() {
                let each_round = f64::from(progress.rate_per_s) * ROUND.as_secs_f64();
                // What a quiet time leaves unused is not made up for.
                owed = (owed + each_round).min(each_round.max(1.0));
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a small positive number"
                )]
                let due = guests.due(gateway.sessions.all(), Instant::now(), owed as usize);
                owed -= due.len() as f64;
                for session in &due {
                    session.queue().put_control(gateway.go_away());
                }
                if let Some(at) = gateway.drain.under_way.lock().as_mut() {
                    at.told += due.len();
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
    // All are told in the first half of the time.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number, which saturates"
    )]
    let rate = (sessions as f64 / (within.as_secs_f64() / 2.0)).ceil().max(100.0) as u32;
    gateway.begin_to_drain(rate);
    let gone = async {
        while !gateway.sessions.is_empty() {
            tokio::time::sleep(ROUND / 2).await;
        }
    };
    tokio::time::timeout(within, gone).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_here_are_told_at_the_pace_and_who_comes_later_after_a_while() {
        let start = Instant::now();
        let mut guests = Guests::default();
        let mut all: Vec<_> = (0..5).map(Arc::new).collect();
        let told = |due: Vec<Arc<i32>>| due.iter().map(|guest| **guest).collect::<Vec<_>>();
        assert_eq!(told(guests.due(all.clone(), start, 2)), [0, 1]);
        all.remove(0);
        // One comes back: he knows no other way.
        all.push(Arc::new(10));
        assert_eq!(told(guests.due(all.clone(), start + ROUND, 2)), [2, 3]);
        assert_eq!(told(guests.due(all.clone(), start + 2 * ROUND, 2)), [4]);
        assert!(guests.due(all.clone(), start + AGAIN - ROUND, 9).is_empty());
        assert_eq!(told(guests.due(all.clone(), start + AGAIN, 9)), [1]);
        assert_eq!(told(guests.due(all, start + AGAIN + ROUND, 9)), [2, 3, 10]);
    }
}
