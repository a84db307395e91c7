//! Clients that mean harm: for the scenario `hostile`, and for tests of the gateway's bounds.
//!
//! They are built on quinn's state machine alone, without its sockets, timers and tasks, so that they can
//! keep packets to themselves, send them from elsewhere, never retransmit and never wait.

mod attack;
mod bare;
mod crowd;
mod trust;

pub use attack::{Filling, LARGE_FRAME_BYTES};
pub use bare::{Bare, BareOptions};
pub use crowd::{Crowd, CrowdCounts};
pub use trust::NoVerification;

use serde::Serialize;

use crate::latency::Quantiles;

/// Hostile connections beside the chat; the report's latencies are those beside them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// How many.
    pub connections: usize,
    /// RSS gained for each.
    pub rss_bytes_per_hostile: Option<f64>,
    /// The chat's delivery before they came.
    pub calm_delivery_ms: Quantiles,
    /// How late the harness was then.
    pub calm_slip_ms: Quantiles,
    /// Delivery p99 beside them as a multiple of that before.
    pub p99_ratio: Option<f64>,
    /// Handshakes that were begun and left.
    pub half_handshakes: u64,
    /// Streams that were opened and reset.
    pub streams_reset: u64,
    /// Connections that the gateway ended.
    pub closed: u64,
}

impl Figures {
    /// For the line for people.
    pub fn summary(&self) -> String {
        format!(
            ", {} hostile at {:.0} KB each, {} closed, calm p99 {:.2} ms, ratio {:.2}",
            self.connections,
            self.rss_bytes_per_hostile.unwrap_or_default() / 1e3,
            self.closed,
            self.calm_delivery_ms.p99,
            self.p99_ratio.unwrap_or_default()
        )
    }
}
