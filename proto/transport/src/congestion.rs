//! Congestion control for chat over bad networks: CUBIC (RFC 9438), which does not shrink below what a new
//! connection may begin with, and is not deaf in a silence.
//!
//! Chat seldom fills a window, so CUBIC never lets it grow again (RFC 9438, section 5.8), and each loss makes it
//! smaller: on a lossy link it is down to two packets sooner or later, and after a tunnel at once (RFC 9002, section
//! 7.6). Then three messages under way block the fourth, and the probes too that would find out that the network is
//! back. So a window has a floor: the ten packets with which any new connection begins (RFC 9002, section 7.2), such as
//! the client would dial instead. And while nothing is acknowledged, one packet more may leave twice a second, which
//! is no load to any path; QUIC's own tries, which no window bounds, come ever more rarely. (quinn counts a packet that
//! has nothing but acknowledgements as sent, too: who has said nothing else for eleven seconds may begin with 32 packets, as
//! many servers do with everybody.)

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};

/// Packets of the first window, and of the smallest.
const FLOOR_PACKETS: u64 = 10;
/// In a silence one packet more may leave after each of these, ...
const EXTRA_INTERVAL: Duration = Duration::from_millis(500);
/// ... up to so many.
const EXTRA_PACKETS_MAX: u64 = 22;

/// The congestion control of both sides.
pub fn congestion_control() -> Arc<dyn ControllerFactory + Send + Sync> {
    Arc::new(Factory)
}

struct Factory;

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let mut config = CubicConfig::default();
        config.initial_window(FLOOR_PACKETS * u64::from(mtu));
        let inner = Arc::new(config).build(now, mtu);
        Box::new(Floored { inner, mtu: mtu.into(), unanswered_since: None })
    }
}

struct Floored {
    inner: Box<dyn Controller>,
    mtu: u64,
    /// When something was acknowledged last or, if nothing was under way then, sent since.
    unanswered_since: Option<Instant>,
}

impl Floored {
    fn window_at(&self, now: Instant) -> u64 {
        let silent =
            self.unanswered_since.map_or(Duration::ZERO, |s| now.saturating_duration_since(s));
        let intervals = silent.as_millis() / EXTRA_INTERVAL.as_millis();
        let extra = u64::try_from(intervals).unwrap_or(u64::MAX).min(EXTRA_PACKETS_MAX);
        self.inner.window().max(FLOOR_PACKETS * self.mtu) + extra * self.mtu
    }
}

impl Controller for Floored {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.unanswered_since.get_or_insert(now);
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &quinn_proto::RttEstimator,
    ) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.unanswered_since = (in_flight > 0).then_some(now);
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.window_at(Instant::now())
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.inner.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), ..*self })
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
    use super::*;

    #[test]
    fn losses_do_not_shrink_it_below_a_new_connections() {
        let start = Instant::now();
        let mut controller = Arc::new(Factory).build(start, 1_200);
        assert_eq!((controller.window(), controller.initial_window()), (12_000, 12_000));
        for second in 1..20 {
            let now = start + Duration::from_secs(second);
            controller.on_congestion_event(now, now, true, 1_200);
        }
        assert_eq!(controller.window(), 12_000);
        assert_eq!(controller.clone_box().window(), 12_000);
    }

    #[test]
    fn in_a_silence_a_packet_more_may_leave_now_and_then() {
        let start = Instant::now();
        let inner = Arc::new(CubicConfig::default()).build(start, 1_200);
        let mut controller = Floored { inner, mtu: 1_200, unanswered_since: None };
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(controller.window_at(at(60_000)), 12_000, "nothing is under way");
        controller.on_sent(start, 500, 1);
        controller.on_sent(at(150), 500, 2);
        let packets =
            [0, 499, 500, 1_000, 11_000, 60_000].map(|ms| controller.window_at(at(ms)) / 1_200);
        assert_eq!(packets, [10, 10, 11, 12, 32, 32]);
        controller.on_end_acks(at(60_000), 500, true, Some(1));
        assert_eq!(controller.window_at(at(60_100)), 12_000);
        assert_eq!(controller.window_at(at(60_600)), 13_200, "the other one is not answered");
        controller.on_end_acks(at(60_600), 0, true, Some(2));
        assert_eq!(controller.window_at(at(90_000)), 12_000);
    }
}
