//! What sessions that say nothing cost a device: packets and bytes an hour, as a link counted them.

use serde::{Deserialize, Serialize};

use crate::latency::Quantiles;
use crate::link::{Counts, DirectionCounts};
use crate::traffic::rounded;

/// A shorter span says nothing: keep-alives come each 100 s.
pub const SPAN_S_MIN: f64 = 120.0;

/// Of one session in an hour, extrapolated from the measured span: UDP datagrams and their payload.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hourly {
    /// Packets from the client.
    pub packets_up: f64,
    /// Packets to the client.
    pub packets_down: f64,
    /// Their bytes, from the client.
    pub bytes_up: f64,
    /// Their bytes, to the client.
    pub bytes_down: f64,
}

/// Sessions of one kind.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Side {
    /// While nothing is said.
    pub idle: Hourly,
    /// While messages come to them now and then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trickle: Option<Trickle>,
}

/// Messages that come now and then.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Trickle {
    /// To one session in an hour.
    pub messages_per_hour: f64,
    /// All packets and bytes then.
    pub all: Hourly,
    /// Both ways, beyond those of idling, for one message.
    pub bytes_per_message: f64,
    /// The same in packets.
    pub packets_per_message: f64,
    /// From the intended send to the application.
    pub delivery_ms: Quantiles,
}

/// Sessions in the background, and as many in the foreground beside them.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Battery {
    /// How many of each.
    pub sessions: usize,
    /// For how long each part was measured, in seconds.
    pub measured_s: f64,
    /// Those in the background.
    pub background: Side,
    /// Those in the foreground.
    pub foreground: Side,
}

impl Hourly {
    /// Between two looks at the link of `sessions`, `span_s` apart.
    pub fn between(before: &Counts, after: &Counts, sessions: usize, span_s: f64) -> Self {
        let hourly = |of: fn(&DirectionCounts) -> u64, before, after| {
            let counted = of(after).saturating_sub(of(before)) as f64;
            rounded(counted / sessions.max(1) as f64 / span_s * 3_600.0, 10.0)
        };
        let (packets, bytes) = (|d: &DirectionCounts| d.packets, |d: &DirectionCounts| d.bytes);
        Self {
            packets_up: hourly(packets, &before.up, &after.up),
            packets_down: hourly(packets, &before.down, &after.down),
            bytes_up: hourly(bytes, &before.up, &after.up),
            bytes_down: hourly(bytes, &before.down, &after.down),
        }
    }
}

impl Trickle {
    /// Beside what idling costs.
    pub fn new(all: Hourly, idle: &Hourly, messages_per_hour: f64, delivery_ms: Quantiles) -> Self {
        let each = |all: f64, idle: f64| rounded((all - idle) / messages_per_hour, 10.0);
        Self {
            messages_per_hour: rounded(messages_per_hour, 10.0),
            all,
            bytes_per_message: each(all.bytes_up + all.bytes_down, idle.bytes_up + idle.bytes_down),
            packets_per_message: each(
                all.packets_up + all.packets_down,
                idle.packets_up + idle.packets_down,
            ),
            delivery_ms,
        }
    }
}

impl Battery {
    /// For people.
    pub fn summary(&self) -> String {
        let side = |name: &str, side: &Side| {
            let Hourly { packets_up, packets_down, bytes_up, bytes_down } = side.idle;
            let mut words = format!(
                "{name} {packets_up:.0} packets up and {packets_down:.0} down, {:.0} B an idle hour",
                bytes_up + bytes_down
            );
            if let Some(trickle) = &side.trickle {
                words += &format!(
                    " ({:.0} B and {:.1} packets a message at {:.0} an hour, delivery p50 {:.0} ms)",
                    trickle.bytes_per_message,
                    trickle.packets_per_message,
                    trickle.messages_per_hour,
                    trickle.delivery_ms.p50
                );
            }
            words
        };
        format!(
            "{} sessions of each kind for {:.0} s: {}, {}",
            self.sessions,
            self.measured_s,
            side("background", &self.background),
            side("foreground", &self.foreground)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_span_has_counted_is_extrapolated_to_an_hour_of_one_session() {
        let mut before = Counts::default();
        before.up.packets = 10;
        let mut after = before;
        (after.up.packets, after.up.bytes) = (30, 800);
        (after.down.packets, after.down.bytes) = (10, 500);
        let idle = Hourly::between(&before, &after, 10, 360.0);
        let expected =
            Hourly { packets_up: 20.0, packets_down: 10.0, bytes_up: 800.0, bytes_down: 500.0 };
        assert_eq!(idle, expected);
        let all = Hourly { packets_up: 50.0, bytes_down: 3_500.0, ..idle };
        let trickle = Trickle::new(all, &idle, 20.0, Quantiles::default());
        assert!((trickle.bytes_per_message - 150.0).abs() < 1e-9);
        assert!((trickle.packets_per_message - 1.5).abs() < 1e-9);
    }
}
