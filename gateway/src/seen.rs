//! When devices were last signed in: noted in memory, written once in a while. What is not
//! written when a gateway dies is lost.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use petrel_core::id::DeviceId;
use rustc_hash::FxHashMap;

use crate::clock;
use crate::gateway::Gateway;

/// Between two writes.
const INTERVAL: Duration = Duration::from_secs(10);
/// Devices that wait to be written, at the most; beyond it they are not noted until the next write.
const WAITING_MAX: usize = 65_536;
/// Devices that one statement writes, at the most.
const WRITTEN_AT_ONCE: usize = 1_000;

/// Devices that were seen, and when (Unix milliseconds).
#[derive(Debug, Default)]
pub(crate) struct Seen {
    waiting: Mutex<FxHashMap<DeviceId, u64>>,
}

impl Seen {
    /// Notes that a device is signed in now.
    pub(crate) fn note(&self, device: DeviceId) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < WAITING_MAX || waiting.contains_key(&device) {
            waiting.insert(device, clock::unix_ms());
        }
    }
}

/// Writes until the gateway stops; what waits then is still written.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    loop {
        let wait = gateway.stopping.run_until_cancelled(tokio::time::sleep(INTERVAL)).await;
        write(&gateway).await;
        if wait.is_none() {
            return;
        }
    }
}

/// Writes what waits.
pub(crate) async fn write(gateway: &Gateway) {
    let waiting = std::mem::take(&mut *gateway.seen.waiting.lock());
    let waiting: Vec<_> = waiting.into_iter().collect();
    for part in waiting.chunks(WRITTEN_AT_ONCE) {
        if let Err(error) = gateway.store.devices_seen(part).await {
            tracing::warn!(%error, devices = part.len(), "when devices were seen cannot be written");
        }
    }
}
