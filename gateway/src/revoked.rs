//! Devices that were signed out for good while tokens of theirs may still be good. The store is
//! asked for them at the start and then again and again, also for what other gateways revoked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use petrel_core::error::Rejection;
use petrel_core::id::DeviceId;
use petrel_core::store::StoreError;
use petrel_proto::code::Code;
use rustc_hash::FxHashMap;

use crate::attach::unavailable;
use crate::gateway::Gateway;
use crate::{clock, metrics};

/// Between two questions to the store.
const INTERVAL: Duration = Duration::from_secs(1);
/// Devices of one page.
const PAGE_DEVICES: usize = 1_000;
/// How much later than the time that it says a revocation may be seen, at the most: by clocks
/// that differ, and commits that take their time.
const LATE_MS: u64 = 30_000;
/// Devices that are remembered, at the most; beyond it each sign-in asks the store.
const DEVICES_MAX: usize = 1_000_000;

/// The devices.
#[derive(Debug)]
pub(crate) struct RevokedDevices {
    devices: Mutex<FxHashMap<DeviceId, u64>>,
    asked_ms: AtomicU64,
    is_whole: AtomicBool,
    kept_ms: u64,
}

impl RevokedDevices {
    /// None yet. They are kept for the life of a token.
    pub(crate) fn new(token_life_ms: u64) -> Self {
        let kept_ms = token_life_ms + LATE_MS;
        Self {
            devices: Mutex::default(),
            asked_ms: AtomicU64::new(clock::unix_ms().saturating_sub(kept_ms)),
            is_whole: AtomicBool::new(true),
            kept_ms,
        }
    }

    /// Gives back those that are new.
    fn add(&self, found: &[(DeviceId, u64)]) -> Vec<DeviceId> {
        let mut devices = self.devices.lock();
        let mut new = Vec::new();
        for &(device, at_ms) in found {
            if devices.contains_key(&device) {
                continue;
            }
            if devices.len() >= DEVICES_MAX {
                self.is_whole.store(false, Ordering::Relaxed);
            } else {
                devices.insert(device, at_ms);
            }
            new.push(device);
        }
        new
    }

    fn forget_old(&self, now_ms: u64) {
        let mut devices = self.devices.lock();
        let before = now_ms.saturating_sub(self.kept_ms);
        devices.retain(|_, at_ms| *at_ms >= before);
    }
}

impl Gateway {
    /// Refuses a device that was signed out for good, whatever its token says.
    ///
    /// # Errors
    /// [`Rejection::Revoked`]; [`Rejection::Unavailable`] if the store had to be asked and does not answer.
    pub(crate) async fn check_device(&self, device: DeviceId) -> Result<(), Rejection> {
        if self.revoked.devices.lock().contains_key(&device) {
            return Err(Rejection::Revoked);
        }
        if self.revoked.is_whole.load(Ordering::Relaxed) {
            return Ok(());
        }
        let found = self.store.device(device).await.map_err(|error| unavailable(&error))?;
        if found.is_some_and(|record| !record.revoked) { Ok(()) } else { Err(Rejection::Revoked) }
    }

    /// Learns of devices that were revoked since it last asked, and ends their sessions.
    ///
    /// # Errors
    /// The store does not answer; then what was revoked is learned later.
    pub(crate) async fn learn_revoked(&self) -> Result<(), StoreError> {
        let asks_at_ms = clock::unix_ms();
        let mut since_ms = self.revoked.asked_ms.load(Ordering::Relaxed);
        loop {
            let found = self.store.revoked_since(since_ms, PAGE_DEVICES).await?;
            self.end_sessions(&self.revoked.add(&found));
            match found.last() {
                // The next page begins with what this one ends with, unless that is all of it.
                Some((_, last_ms)) if found.len() == PAGE_DEVICES => {
                    since_ms = (*last_ms).max(since_ms + 1);
                }
                _ => break,
            }
        }
        self.revoked.asked_ms.fetch_max(asks_at_ms.saturating_sub(LATE_MS), Ordering::Relaxed);
        Ok(())
    }

    fn end_sessions(&self, devices: &[DeviceId]) {
        if devices.is_empty() {
            return;
        }
        for session in self.sessions.all() {
            if devices.contains(&session.device()) {
                session.queue().end(Code::Revoked);
                metrics::get().sessions_revoked.increment(1);
            }
        }
    }
}

/// Asks the store until the gateway stops.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let asking = async {
        loop {
            interval.tick().await;
            if let Err(error) = gateway.learn_revoked().await {
                tracing::debug!(%error, "revoked devices cannot be read");
            }
            gateway.revoked.forget_old(clock::unix_ms());
        }
    };
    gateway.stopping.run_until_cancelled(asking).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_new_once_and_forgotten_when_its_tokens_have_ended() {
        let revoked = RevokedDevices::new(60_000);
        let device = DeviceId([1; 16]);
        assert_eq!(revoked.add(&[(device, 1_000), (device, 1_000)]), [device]);
        assert!(revoked.add(&[(device, 1_000)]).is_empty());
        revoked.forget_old(1_000 + 60_000 + LATE_MS);
        assert!(revoked.add(&[(device, 1_000)]).is_empty());
        revoked.forget_old(1_001 + 60_000 + LATE_MS);
        assert_eq!(revoked.add(&[(device, 1_000)]), [device]);
    }
}
