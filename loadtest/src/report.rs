//! The report: JSON of schema 1, one summary line, goals, exit status.

mod part;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use crate::battery::Battery;
use crate::goal::{Goal, Outcome};
use crate::latency::{Quantiles, Second, Series, Spectrum};
use crate::link::Counts;
use crate::verdict::Verdict;

pub use part::{BesideFigures, Blackout, GroupFigures, Storm, Visit};

/// The JSON's schema number.
pub const SCHEMA: u32 = 1;

/// Exit statuses.
pub mod exit {
    /// Valid, and every goal holds.
    pub const OK: u8 = 0;
    /// Something else went wrong: no report.
    pub const FAILED: u8 = 1;
    /// Bad arguments.
    pub const ARGUMENTS: u8 = 2;
    /// A goal is missed.
    pub const GOAL_MISSED: u8 = 3;
    /// The run is not valid.
    pub const INVALID: u8 = 4;
}

/// What the server cost while the clock ran.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServerCost {
    /// CPU seconds of the gateway alone.
    pub cpu_s: Option<f64>,
    /// The same per 100,000 messages (or handshakes, in `connect`).
    pub cpu_s_per_100k: Option<f64>,
    /// RSS at the end.
    pub rss_bytes: Option<u64>,
    /// RSS gained per connection (`idle`).
    pub rss_bytes_per_connection: Option<f64>,
    /// UDP payload that the gateway received.
    pub udp_rx_bytes: Option<u64>,
    /// UDP payload that the gateway sent.
    pub udp_tx_bytes: Option<u64>,
    /// CPU seconds of a local PostgreSQL, beside.
    pub postgres_cpu_s: Option<f64>,
    /// The same per 100,000 messages.
    pub postgres_cpu_s_per_100k: Option<f64>,
}

/// What the harness itself cost.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClientCost {
    /// CPU seconds.
    pub cpu_s: Option<f64>,
    /// Sign-ins after a client's first.
    pub reconnects: u64,
    /// Messages sent again.
    pub resends: u64,
    /// Entries that a client got twice and handed out once.
    pub duplicates_dropped: u64,
    /// Holes that a client filled from history.
    pub gaps_filled: u64,
    /// Packets lost on the way to the server.
    pub packets_lost: u64,
    /// Packets sent to the server.
    pub packets_sent: u64,
    /// Probes sent to the server while it was silent.
    pub probes_sent: u64,
    /// Datagrams with copies that were sent to the server.
    pub echoes_sent: u64,
    /// Copies in them that were sent because nothing was heard of what went before.
    pub echoes_rescued: u64,
    /// Copies that came before their original.
    pub echoes_won: u64,
}

/// One step of `--find-max`.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// What was offered.
    pub offered_per_s: f64,
    /// What was acknowledged.
    pub achieved_per_s: f64,
    /// What was delivered.
    pub delivered_per_s: f64,
    /// Ack latency.
    pub ack_ms: Quantiles,
    /// Delivery latency.
    pub delivery_ms: Quantiles,
    /// 99th percentile of intended to actual send.
    pub slip_p99_ms: f64,
    /// Without ack or delivery when the wait was over.
    pub unanswered: u64,
    /// CPU seconds of the gateway per 100,000 messages.
    pub cpu_s_per_100k: Option<f64>,
    /// Whether the step held.
    pub held: bool,
}

/// Everything a run found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The scenario's name.
    pub scenario: String,
    /// False if the generator slipped or the verdict is red.
    pub valid: bool,
    /// Why it is not valid.
    pub invalid_because: Vec<String>,
    /// Messages (or handshakes) a second that were meant to be sent.
    pub offered_per_s: f64,
    /// Those acknowledged, a second.
    pub achieved_per_s: f64,
    /// Those delivered, a second (`group`: each to each member).
    pub delivered_per_s: f64,
    /// How many messages were meant to be sent while the clock ran.
    pub messages: u64,
    /// Intended to actual send.
    pub slip_ms: Quantiles,
    /// Intended send to ack.
    pub ack_ms: Quantiles,
    /// Intended send to entry at the other member.
    pub delivery_ms: Quantiles,
    /// Intended send to preview or entry.
    pub first_sight_ms: Quantiles,
    /// Start of a connection to the end of its sign-in (`connect`, `idle`, `resume`, `login`).
    pub connect_ms: Quantiles,
    /// `resume`: from the moment when all came back to the last message that one had missed;
    /// `login`: start of a connection to the last message that was missed.
    pub resume_ms: Quantiles,
    /// `login`: request to the end of the first page of the list.
    pub list_ms: Quantiles,
    /// The whole curve of each series that has samples, by its name above.
    pub spectrum: BTreeMap<String, Spectrum>,
    /// The same second by second.
    pub per_second: BTreeMap<String, Vec<Second>>,
    /// See [`Verdict`].
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was found wrong, in words: the first few.
    pub findings: Vec<String>,
    /// Conversations whose history was read and judged at the end.
    pub histories_judged: u64,
    /// By code.
    pub errors: BTreeMap<String, u64>,
    /// `--find-max`: the highest rate that held.
    pub max_sustainable_per_s: Option<f64>,
    /// `--find-max`: each step.
    pub steps: Vec<StepReport>,
    /// Connections of the load.
    pub connections: usize,
    /// `connect`, `idle`: sign-ins a second.
    pub handshakes_per_s: Option<f64>,
    /// `connect`, `idle`: CPU of the server per sign-in, in microseconds.
    pub server_us_per_handshake: Option<f64>,
    /// What the server cost.
    pub server: ServerCost,
    /// What the harness cost.
    pub client: ClientCost,
    /// What the emulated link did, all users together.
    pub link: Option<Counts>,
    /// UDP payload on both links, per message.
    pub wire_bytes_per_message: Option<f64>,
    /// Mean body as people wrote it.
    pub body_bytes_per_message: Option<f64>,
    /// Mean body as it travels.
    pub compressed_body_bytes_per_message: Option<f64>,
    /// Wire minus the compressed body once.
    pub overhead_bytes_per_message: Option<f64>,
    /// `compare-relay`: the gateway's CPU as a multiple of the relay's.
    pub ratio: Option<crate::compare::Ratio>,
    /// `group`: what it was, and costs of a delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupFigures>,
    /// `start`: when chat starts, with UDP and without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts: Option<crate::scenario::start::Starts>,
    /// `resume`: how the storm went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
    /// `blackout`: how the chat went on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blackout: Option<Blackout>,
    /// `--beside`: what the first conversation did meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<BesideFigures>,
    /// `login`: what a visit takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visit: Option<Visit>,
    /// `hostile`: what the hostile did, and to what effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostile: Option<crate::hostile::Figures>,
    /// `battery`: what idle sessions cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery: Option<Battery>,
    /// Where and how it ran.
    pub environment: Value,
}

impl Report {
    /// An empty report of a scenario.
    pub fn new(scenario: &str) -> Self {
        Self { schema: SCHEMA, scenario: scenario.to_owned(), ..Self::default() }
    }

    /// Takes a series' curve and seconds, under the name of its quantiles.
    pub fn draw(&mut self, name: &str, series: &Series) {
        self.spectrum.insert(name.to_owned(), series.spectrum());
        self.per_second.insert(name.to_owned(), series.seconds());
    }

    /// Decides whether the figures may be believed.
    ///
    /// The generator slipped if the 99th percentile of slip is above 2 ms and
    /// above a fifth of the delivery's: what was measured then was the harness.
    pub fn judge(&mut self) {
        let bound = slip_bound(self.delivery_ms.p99);
        if self.slip_ms.p99 > bound {
            self.invalid_because.push(format!(
                "the generator slipped: p99 {:.3} ms, at most {bound:.3} ms",
                self.slip_ms.p99
            ));
        }
        if !self.verdict.is_clean() {
            self.invalid_because.push(format!("red verdict: {:?}", self.verdict));
        }
        self.valid = self.invalid_because.is_empty();
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let mut line =
            format!("{}: {}", self.scenario, if self.valid { "valid" } else { "INVALID" });
        if let Some(max) = self.max_sustainable_per_s {
            line += &format!(", max {max:.0}/s");
        }
        if let Some(ratio) = &self.ratio {
            line += &format!(
                ", gateway/relay {:.2} ({:.2} and {:.2} s/100k)",
                ratio.median, ratio.gateway_cpu_s_per_100k, ratio.relay_cpu_s_per_100k
            );
        }
        if let Some(rate) = self.handshakes_per_s {
            line += &format!(
                ", {rate:.0} sign-ins/s (p50 {:.2} p99 {:.2} ms)",
                self.connect_ms.p50, self.connect_ms.p99
            );
        }
        if let Some(bytes) = self.server.rss_bytes_per_connection {
            line += &format!(", {:.1} KB/connection", bytes / 1e3);
        }
        if let Some(group) = &self.group {
            line += &format!(
                ", {} x {} members, {:.0} deliveries/s",
                group.groups, group.members, self.delivered_per_s
            );
        }
        if let Some(starts) = &self.starts {
            line += &format!(
                ", QUIC p50 {:.1} ms, TCP {:.1} ms later",
                starts.quic_ms.p50, starts.later_ms
            );
        }
        if let Some(storm) = &self.storm {
            line += &format!(
                ", {} sessions back in {:.2} s ({} missed messages, {} tries again), calm p99 {:.2} ms",
                storm.sessions,
                storm.storm_s,
                storm.missed,
                storm.tries_again,
                storm.calm_delivery_ms.p99
            );
        }
        if let Some(hostile) = &self.hostile {
            line += &hostile.summary();
        }
        if let Some(visit) = &self.visit {
            let trips = visit.round_trips.map(|n| format!("{n:.2} round trips, "));
            let early = visit.first_missed_ms.map(|ms| format!("{ms:.2} ms early, "));
            let (trips, early) = (trips.unwrap_or_default(), early.unwrap_or_default());
            line += &format!(
                ", {trips}first missed after {early}{:.2} ms without, {:.0} B resumed and {:.0} B full, list p50 {:.2} p99 {:.2} ms",
                visit.first_missed_full_ms,
                visit.wire_bytes_resumed,
                visit.wire_bytes_full,
                self.list_ms.p50,
                self.list_ms.p99
            );
        }
        if let Some(battery) = &self.battery {
            line += &format!(", {}", battery.summary());
        }
        if self.delivery_ms.count > 0 {
            let (d, a, f) = (&self.delivery_ms, &self.ack_ms, &self.first_sight_ms);
            line += &format!(
                ", {:.0}/s of {:.0}/s, delivery p50 {:.2} p99 {:.2} p99.9 {:.2} ms, ack p99 {:.2}, sight p50 {:.2} p99 {:.2}, slip p99 {:.2}",
                self.achieved_per_s,
                self.offered_per_s,
                d.p50,
                d.p99,
                d.p999,
                a.p99,
                f.p50,
                f.p99,
                self.slip_ms.p99
            );
        }
        if let Some(cpu) = self.server.cpu_s_per_100k {
            line += &format!(", server {cpu:.2} CPU s/100k");
        }
        if let Some(wire) = self.wire_bytes_per_message {
            line += &format!(", {wire:.0} B/msg on the wire");
        }
        let v = &self.verdict;
        line += &format!(
            ", lost {} dup {} reordered {} gaps {} altered {}",
            v.lost, v.duplicated, v.reordered, v.gaps, v.altered
        );
        if !self.errors.is_empty() {
            line += &format!(", errors {:?}", self.errors);
        }
        for reason in &self.invalid_because {
            line += &format!("; {reason}");
        }
        line
    }

    /// The report as JSON.
    ///
    /// # Errors
    /// Never in practice: every part is plain data.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::to_value(self).context("the report as JSON")
    }

    /// Writes the JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| format!("--json {}", path.display()))
    }

    /// Judges the goals: the exit status, and a line for each that is not held.
    ///
    /// # Errors
    /// As [`Report::json`].
    pub fn conclude(&self, goals: &[Goal]) -> anyhow::Result<(u8, Vec<String>)> {
        let json = self.json()?;
        let missed: Vec<String> = goals
            .iter()
            .filter_map(|goal| match goal.judge(&json) {
                Outcome::Held(_) => None,
                Outcome::Missed(value) => Some(format!("goal missed: {goal} (it is {value})")),
                Outcome::Absent => {
                    Some(format!("goal missed: {goal} (the report has no such number)"))
                }
            })
            .collect();
        let status = if !self.valid {
            exit::INVALID
        } else if missed.is_empty() {
            exit::OK
        } else {
            exit::GOAL_MISSED
        };
        Ok((status, missed))
    }
}

/// The highest slip p99, in milliseconds, that a run with this delivery p99 may have.
pub fn slip_bound(delivery_p99_ms: f64) -> f64 {
    (delivery_p99_ms * 0.2).max(2.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    /// The interface that others read: names may be added, never renamed or removed.
    #[test]
    fn the_json_has_every_field_of_the_schema() {
        let json = Report::new("one-to-one").json().unwrap();
        for field in [
            "schema",
            "scenario",
            "valid",
            "offered_per_s",
            "achieved_per_s",
            "delivered_per_s",
            "slip_ms",
            "ack_ms",
            "delivery_ms",
            "first_sight_ms",
            "lost",
            "duplicated",
            "reordered",
            "gaps",
            "errors",
            "max_sustainable_per_s",
            "connections",
            "messages",
            "resume_ms",
            "list_ms",
            "server",
            "client",
            "wire_bytes_per_message",
            "spectrum",
            "per_second",
            "environment",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        for series in ["slip_ms", "ack_ms", "delivery_ms", "first_sight_ms"] {
            for part in ["count", "p50", "p90", "p99", "p999", "max"] {
                assert!(json[series].get(part).is_some(), "{series}.{part}");
            }
        }
        for part in [
            "cpu_s",
            "cpu_s_per_100k",
            "rss_bytes",
            "rss_bytes_per_connection",
            "udp_rx_bytes",
            "udp_tx_bytes",
        ] {
            assert!(json["server"].get(part).is_some(), "server.{part}");
        }
        assert!(json["client"].get("cpu_s").is_some());
        assert_eq!(json["schema"], 1);
    }

    #[test]
    fn the_exit_status_says_invalid_before_missed() {
        let goals: Vec<Goal> = vec!["lost==1".parse().unwrap()];
        let mut report = Report::new("one-to-one");
        report.judge();
        assert_eq!(report.conclude(&[]).unwrap().0, exit::OK);
        let (status, missed) = report.conclude(&goals).unwrap();
        assert_eq!((status, missed.len()), (exit::GOAL_MISSED, 1));
        report.verdict.lost = 2;
        report.judge();
        assert_eq!(report.conclude(&goals).unwrap().0, exit::INVALID);
        assert!(report.summary().contains("INVALID"));
    }

    #[test]
    fn a_slip_is_judged_by_what_it_could_hide() {
        for (slip, delivery, valid) in [
            (2.0, 0.0, true),
            (2.1, 5.0, false),
            (2.1, 10.0, false),
            (2.1, 11.0, true),
            (50.0, 200.0, false),
        ] {
            let mut report = Report::new("relay");
            report.slip_ms.p99 = slip;
            report.delivery_ms.p99 = delivery;
            report.judge();
            assert_eq!(report.valid, valid, "{slip} {delivery}");
        }
    }
}
