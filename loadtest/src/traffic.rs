//! Drives one load: phases of paced arrivals, drains between them, and what
//! the server cost meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::oneshot;

use crate::admin;
use crate::arrival::{Arrival, Arrivals, sleep_until};
use crate::body::{Bodies, Body};
use crate::layout::{Lane, Layout};
use crate::ledger::{AllSeries, Clock, Id, Ledger};
use crate::process;
use crate::progress::Progress;
use crate::report::ServerCost;
use crate::server::Server;

/// How long answers are waited for after the last message of a phase.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a drain looks.
const DRAIN_TICK: Duration = Duration::from_millis(5);

/// Sends messages; must return at once, whatever the server does.
pub trait Outbound: Send + Sync + 'static {
    /// Hands a message over; its id, or the name of what went wrong.
    ///
    /// # Errors
    /// A short label for the report's `errors`; nothing was sent then.
    fn send(&self, lane: Lane, body: &Body) -> Result<Id, String>;

    /// UDP payload of all connections in both directions so far, in bytes.
    fn udp_bytes(&self) -> u64;
}

/// Something that can be driven at a rate and measured.
#[allow(async_fn_in_trait, reason = "driven in place, never spawned")]
pub trait Load {
    /// Sends at `rate` for `seconds`.
    ///
    /// # Errors
    /// When the pacing thread could not run.
    async fn phase(&mut self, rate: f64, seconds: f64, measured: bool) -> anyhow::Result<Phase>;

    /// Waits until every message has its answers; false if some have not by then.
    async fn drain(&self, at_most: Duration) -> bool;

    /// Records what is still under way as at least `waited_ns` late; how many messages (or
    /// deliveries) that were.
    fn record_unanswered(&self, waited_ns: u64) -> u64;

    /// The series.
    fn series(&self) -> &AllSeries;

    /// How many errors there were so far.
    fn errors_total(&self) -> u64;

    /// UDP payload of all connections in both directions so far, in bytes.
    fn udp_bytes(&self) -> u64;

    /// Deliveries that one message has to come to, on average.
    fn deliveries_per_message(&self) -> f64 {
        1.0
    }
}

/// One load over one set of connections.
pub struct Traffic<O> {
    /// What was sent and what became of it.
    pub ledger: Arc<Ledger>,
    /// Who talks to whom.
    pub layout: Arc<Layout>,
    /// What is said.
    pub bodies: Arc<Bodies>,
    /// The run's clock.
    pub clock: Clock,
    /// Who sends.
    pub outbound: Arc<O>,
    /// Whether each lane has a conversation of its own in the ledger.
    lanes_apart: bool,
    /// The first conversation is not measured.
    first_beside: bool,
    /// Changes with each phase.
    seed: u64,
    stop: Arc<AtomicBool>,
}

impl<O> std::fmt::Debug for Traffic<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traffic").finish_non_exhaustive()
    }
}

/// What one phase did.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// Messages that were due.
    pub due: u64,
    /// How long the phase took, in seconds.
    pub seconds: f64,
    /// Acks that came meanwhile.
    pub acked: u64,
    /// Deliveries that came meanwhile.
    pub delivered: u64,
}

impl Phase {
    /// Messages that were due, a second.
    pub fn offered_per_s(&self) -> f64 {
        self.due as f64 / self.seconds
    }

    /// Acks a second.
    pub fn achieved_per_s(&self) -> f64 {
        self.acked as f64 / self.seconds
    }

    /// Deliveries a second.
    pub fn delivered_per_s(&self) -> f64 {
        self.delivered as f64 / self.seconds
    }
}

impl<O: Outbound> Traffic<O> {
    /// A load that has sent nothing yet.
    pub fn new(
        ledger: Arc<Ledger>,
        layout: Arc<Layout>,
        bodies: Arc<Bodies>,
        clock: Clock,
        outbound: Arc<O>,
        seed: u64,
    ) -> Self {
        Self {
            ledger,
            layout,
            bodies,
            clock,
            outbound,
            lanes_apart: false,
            first_beside: false,
            seed,
            stop: Arc::default(),
        }
    }

    /// Books each lane as a conversation of its own, its sender as member 0: for
    /// servers that know no order between a conversation's two directions.
    pub fn lanes_apart(&mut self) {
        self.lanes_apart = true;
    }

    /// Leaves the first conversation out of what is measured.
    pub fn first_beside(&mut self) {
        self.first_beside = true;
    }

    /// One message in each conversation, so that what the first one costs is
    /// not measured. Waits for the answers.
    ///
    /// # Errors
    /// When some never come.
    pub async fn prime(&mut self, progress: &Progress) -> anyhow::Result<()> {
        progress.stage("first messages");
        let gap_ns = 1_000_000_000 / PRIMES_PER_S;
        let bodies = self.bodies.count();
        let arrivals = (0..self.layout.conversations()).map(move |index| Arrival {
            at_ns: index as u64 * gap_ns,
            lane: index * 2,
            body: index % bodies,
        });
        self.pace(arrivals, false).await?;
        self.drain(ANSWER_TIMEOUT * 3).await;
        let left = self.ledger.outstanding();
        anyhow::ensure!(
            left == 0,
            "{left} of {} first messages have no answer; errors: {:?}",
            self.layout.conversations(),
            self.ledger.errors()
        );
        Ok(())
    }

    async fn one_phase(
        &mut self,
        rate: f64,
        seconds: f64,
        measured: bool,
    ) -> anyhow::Result<Phase> {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let end = Duration::from_secs_f64(seconds);
        let end_ns = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        let arrivals = Arrivals::new(self.seed, rate, self.layout.lanes(), self.bodies.count())
            .take_while(move |arrival| arrival.at_ns < end_ns);
        let before = self.ledger.totals();
        let started = Instant::now();
        let due = self.pace(arrivals, measured).await?;
        tokio::time::sleep_until((started + end).into()).await;
        let after = self.ledger.totals();
        Ok(Phase {
            due,
            seconds: started.elapsed().as_secs_f64(),
            acked: after.acked - before.acked,
            delivered: after.delivered - before.delivered,
        })
    }

    /// Runs a thread of its own, because timers of the runtime are good to a
    /// millisecond only and its tasks may be late under load. A message that
    /// is late is sent at once, in order; its latency counts from when it was due.
    async fn pace(
        &self,
        arrivals: impl Iterator<Item = Arrival> + Send + 'static,
        measured: bool,
    ) -> anyhow::Result<u64> {
        let (done, finished) = oneshot::channel();
        let ledger = Arc::clone(&self.ledger);
        let layout = Arc::clone(&self.layout);
        let bodies = Arc::clone(&self.bodies);
        let outbound = Arc::clone(&self.outbound);
        let stop = Arc::clone(&self.stop);
        let (clock, lanes_apart) = (self.clock, self.lanes_apart);
        let first_beside = self.first_beside;
        let start_ns = clock.now();
        std::thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
            let mut due = 0;
            for arrival in arrivals {
                if stop.load(Ordering::Relaxed) || !ledger.has_room() {
                    break;
                }
                let intended_ns = start_ns + arrival.at_ns;
                sleep_until(clock.instant(intended_ns));
                due += 1;
                let (lane, body) = (layout.lane(arrival.lane), bodies.get(arrival.body));
                if measured {
                    let late = clock.now().saturating_sub(intended_ns);
                    ledger.series().slip.record(late);
                }
                match outbound.send(lane, body) {
                    Ok(id) => {
                        let booked = if lanes_apart { apart(lane) } else { lane };
                        let counts = measured && !(first_beside && lane.conversation == 0);
                        ledger.sent(booked, id, intended_ns, body.hash, counts);
                    }
                    Err(label) => ledger.error(&label),
                }
            }
            // The run may have been given up.
            done.send(due).ok();
        })?;
        finished.await.context("the arrivals' thread ended")
    }
}

impl<O: Outbound> Load for Traffic<O> {
    async fn phase(&mut self, rate: f64, seconds: f64, measured: bool) -> anyhow::Result<Phase> {
        self.one_phase(rate, seconds, measured).await
    }

    async fn drain(&self, at_most: Duration) -> bool {
        until(at_most, || self.ledger.outstanding() == 0).await
    }

    fn record_unanswered(&self, waited_ns: u64) -> u64 {
        self.ledger.record_unanswered(self.clock.now(), waited_ns)
    }

    fn series(&self) -> &AllSeries {
        self.ledger.series()
    }

    fn errors_total(&self) -> u64 {
        self.ledger.errors_total()
    }

    fn udp_bytes(&self) -> u64 {
        self.outbound.udp_bytes()
    }
}

/// Looks until something is so; false if it is not by then.
pub async fn until(at_most: Duration, is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + at_most;
    while !is_so() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(DRAIN_TICK).await;
    }
    true
}

impl<O> Drop for Traffic<O> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn apart(lane: Lane) -> Lane {
    Lane { conversation: lane.conversation * 2 + lane.member, member: 0 }
}

/// First messages a second.
const PRIMES_PER_S: u64 = 2_000;

/// Counters of the server and the harness at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    server_cpu_s: Option<f64>,
    postgres_cpu_s: Option<f64>,
    own_cpu_s: Option<f64>,
    udp_rx_bytes: Option<f64>,
    udp_tx_bytes: Option<f64>,
    client_udp_bytes: u64,
}

impl Snapshot {
    /// Takes over the bytes on the wire of another one.
    pub fn take_wire(&mut self, other: &Self) {
        self.udp_rx_bytes = other.udp_rx_bytes;
        self.udp_tx_bytes = other.udp_tx_bytes;
        self.client_udp_bytes = other.client_udp_bytes;
    }
}

/// What a server is asked for its costs by.
#[derive(Clone, Debug)]
pub struct Meter {
    pid: Option<u32>,
    admin: Option<std::net::SocketAddr>,
    postgres_port: Option<u16>,
}

impl Meter {
    /// For this server, and a local PostgreSQL if `storage` is one.
    pub fn new(server: &Server, storage: Option<&str>) -> Self {
        Self {
            pid: server.pid,
            admin: server.admin,
            postgres_port: storage.and_then(local_postgres_port),
        }
    }

    /// The CPU counters; cheap.
    pub fn cpu(&self) -> Snapshot {
        Snapshot {
            server_cpu_s: self.pid.and_then(process::cpu_seconds),
            postgres_cpu_s: self.postgres_port.and_then(process::postgres_cpu_seconds),
            own_cpu_s: process::cpu_seconds(std::process::id()),
            ..Snapshot::default()
        }
    }

    /// The server's RSS.
    pub fn rss_bytes(&self) -> Option<u64> {
        self.pid.and_then(process::rss_bytes)
    }

    /// Adds the bytes on the wire. Asks the admin port, which costs the server
    /// CPU time: to be called outside of what [`Meter::cpu`] brackets.
    pub async fn add_wire(&self, snapshot: &mut Snapshot, client_udp_bytes: u64) {
        snapshot.client_udp_bytes = client_udp_bytes;
        let Some(admin) = self.admin else { return };
        let text = tokio::task::spawn_blocking(move || admin::get(admin, "/metrics")).await;
        if let Ok(Ok(text)) = text {
            snapshot.udp_rx_bytes = admin::metric(&text, "petrel_quic_udp_received_bytes", "");
            snapshot.udp_tx_bytes = admin::metric(&text, "petrel_quic_udp_sent_bytes", "");
        }
    }
}

/// What happened between two snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// At the beginning.
    pub before: Snapshot,
    /// At the end.
    pub after: Snapshot,
}

impl Cost {
    /// The server's part, per `units` (messages or handshakes).
    pub fn server(&self, units: u64, rss_bytes: Option<u64>) -> ServerCost {
        let per_100k = |cpu: Option<f64>| Some(rounded(cpu? / units.max(1) as f64 * 1e5, 1e3));
        let cpu_s = difference(self.before.server_cpu_s, self.after.server_cpu_s);
        let postgres_cpu_s = difference(self.before.postgres_cpu_s, self.after.postgres_cpu_s);
        ServerCost {
            cpu_s: cpu_s.map(|s| rounded(s, 1e3)),
            cpu_s_per_100k: per_100k(cpu_s),
            rss_bytes,
            rss_bytes_per_connection: None,
            udp_rx_bytes: whole(difference(self.before.udp_rx_bytes, self.after.udp_rx_bytes)),
            udp_tx_bytes: whole(difference(self.before.udp_tx_bytes, self.after.udp_tx_bytes)),
            postgres_cpu_s: postgres_cpu_s.map(|s| rounded(s, 1e3)),
            postgres_cpu_s_per_100k: per_100k(postgres_cpu_s),
        }
    }

    /// The harness's own CPU seconds.
    pub fn own_cpu_s(&self) -> Option<f64> {
        difference(self.before.own_cpu_s, self.after.own_cpu_s).map(|s| rounded(s, 1e3))
    }

    /// UDP payload on both links: as the server counted it, else as the clients did.
    pub fn wire_bytes(&self) -> f64 {
        let rx = difference(self.before.udp_rx_bytes, self.after.udp_rx_bytes);
        let tx = difference(self.before.udp_tx_bytes, self.after.udp_tx_bytes);
        match (rx, tx) {
            (Some(rx), Some(tx)) if rx + tx > 0.0 => rx + tx,
            _ => self.after.client_udp_bytes.saturating_sub(self.before.client_udp_bytes) as f64,
        }
    }
}

fn difference(before: Option<f64>, after: Option<f64>) -> Option<f64> {
    Some((after? - before?).max(0.0))
}

/// To one part in `parts`.
pub fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a non-negative count of bytes"
)]
fn whole(value: Option<f64>) -> Option<u64> {
    value.map(|value| value as u64)
}

/// The port of a PostgreSQL on this machine.
fn local_postgres_port(url: &str) -> Option<u16> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let host = place.split(['/', '?']).next().unwrap_or_default();
    let from_query = place
        .split_once('?')
        .and_then(|(_, query)| query.split('&').find_map(|pair| pair.strip_prefix("port=")));
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
        _ => (host, None),
    };
    let local = ["", "localhost", "127.0.0.1", "[::1]"].contains(&name) || name.starts_with("%2F");
    local.then(|| port.or_else(|| from_query.and_then(|port| port.parse().ok())).unwrap_or(5432))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_postgres_is_known_by_its_url() {
        for (url, want) in [
            ("postgres://a:b@127.0.0.1:5433/x", Some(5433)),
            ("postgres://localhost/x", Some(5432)),
            ("postgresql:///x?host=/tmp&port=5999", Some(5999)),
            ("postgres://a@%2Ftmp%2Fpg:5434/x", Some(5434)),
            ("postgres://db.example/x", None),
            ("sqlite:/tmp/x", None),
        ] {
            assert_eq!(local_postgres_port(url), want, "{url}");
        }
    }
}
