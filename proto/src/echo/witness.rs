//! The place from which [`Flights`] is written: QUIC tells the congestion controller, and nobody else,
//! which packets leave and which have come.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};

use super::Flights;

/// Makes the controllers: others', and a look at what they are told.
pub struct WitnessConfig(Arc<dyn ControllerFactory + Send + Sync>);

impl WitnessConfig {
    /// Around the controllers of this factory.
    pub fn new(inner: Arc<dyn ControllerFactory + Send + Sync>) -> Self {
        Self(inner)
    }
}

impl fmt::Debug for WitnessConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WitnessConfig").finish_non_exhaustive()
    }
}

impl ControllerFactory for WitnessConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Witness {
            inner: Arc::clone(&self.0).build(now, current_mtu),
            flights: Arc::new(Mutex::new(Flights::new(now))),
        })
    }
}

struct Witness {
    inner: Box<dyn Controller>,
    flights: Arc<Mutex<Flights>>,
}

/// What became of the packets of a connection's present path, by `quinn::Connection::congestion_state`;
/// `None` if its controllers are not those of [`WitnessConfig`].
pub fn flights(controller: Box<dyn Controller>) -> Option<Arc<Mutex<Flights>>> {
    controller.into_any().downcast::<Witness>().ok().map(|witness| witness.flights)
}

impl Controller for Witness {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.flights.lock().on_sent(now, bytes);
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.flights.lock().on_acked(sent, bytes, rtt.conservative());
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        // Without lost bytes it is a mark of the network (ECN): nothing is lost.
        if lost_bytes > 0 {
            self.flights.lock().on_lost();
        }
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    /// A path that only has a new port goes on with the same counts.
    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), flights: Arc::clone(&self.flights) })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use quinn_proto::congestion::CubicConfig;

    use super::*;

    #[test]
    fn it_sees_what_the_other_one_is_told() {
        let now = Instant::now();
        let cubic = Arc::new(CubicConfig::default());
        let mut controller =
            Arc::new(WitnessConfig::new(Arc::clone(&cubic) as _)).build(now, 1_200);
        let seen = flights(controller.clone_box()).unwrap();
        let before = controller.window();
        controller.on_sent(now, 300, 1);
        controller.on_congestion_event(now, now, false, 300);
        controller.on_congestion_event(now, now, false, 0);
        let counts = *seen.lock();
        assert_eq!((counts.sent(), counts.losses()), (1, 1), "a mark is no loss");
        assert!(controller.window() < before);
        assert!(flights(cubic.build(now, 1_200)).is_none());
    }
}
