//! Full handshakes with sign-in by token: how many a second, and what each costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::people;
use crate::dial::{self, Connector};
use crate::environment;
use crate::latency::Series;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::Report;
use crate::traffic::{Cost, Meter, rounded};

/// Devices whose tokens are used in turn, for each sign-in under way: enough
/// that a device's last session is gone before its next one comes.
const DEVICES_PER_SIGN_IN: usize = 8;

struct Load {
    connector: Connector,
    tokens: Vec<String>,
    next: AtomicUsize,
    done: AtomicU64,
    measuring: AtomicBool,
    stopped: AtomicBool,
    latency: Series,
    ledger: Ledger,
}

/// Runs it.
///
/// # Errors
/// When there can be no report: no server, no tokens.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let users = options.users().max(options.concurrency() * DEVICES_PER_SIGN_IN);
    let (server, identities) = people::gather(options, users, progress).await?;
    let meter = Meter::new(&server, options.storage.as_deref());
    // No tickets are kept: each handshake is a full one.
    let connector = Connector::new(&server.target, options.concurrency(), false)?;
    let tokens = people::tokens(&connector, &identities, progress).await?;
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, server.admin);
    report.connections = options.concurrency();
    let load = Arc::new(Load {
        connector,
        tokens,
        next: AtomicUsize::new(0),
        done: AtomicU64::new(0),
        measuring: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
        latency: Series::default(),
        ledger: Ledger::new(0),
    });
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..options.concurrency() {
        let load = Arc::clone(&load);
        workers.spawn(async move { load.sign_in_again_and_again(worker).await });
    }
    let warmup = Duration::from_secs_f64(options.warmup);
    progress.during("warm-up", warmup, tokio::time::sleep(warmup)).await;
    let (before, done_before, started) = (meter.cpu(), load.done(), Instant::now());
    load.measuring.store(true, Ordering::Relaxed);
    let seconds = Duration::from_secs_f64(options.seconds());
    progress.during("measuring", seconds, tokio::time::sleep(seconds)).await;
    let (after, elapsed) = (meter.cpu(), started.elapsed().as_secs_f64());
    let done = load.done() - done_before;
    load.stopped.store(true, Ordering::Relaxed);
    while workers.join_next().await.is_some() {}
    let cost = Cost { before, after };
    let rate = done as f64 / elapsed;
    report.handshakes_per_s = Some(rounded(rate, 10.0));
    report.offered_per_s = rate;
    report.achieved_per_s = rate;
    report.connect_ms = load.latency.quantiles();
    report.draw("connect_ms", &load.latency);
    report.server = cost.server(done, meter.rss_bytes());
    report.server_us_per_handshake = report.server.cpu_s_per_100k.map(|s| rounded(s * 10.0, 10.0));
    report.client.cpu_s = cost.own_cpu_s();
    report.errors = load.ledger.errors();
    load.connector.wait_idle().await;
    tokio::task::spawn_blocking(move || server.stop()).await??;
    if done == 0 {
        report.invalid_because.push("no sign-in was completed".to_owned());
    }
    report.judge();
    Ok(report)
}

impl Load {
    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    async fn sign_in_again_and_again(&self, worker: usize) {
        while !self.stopped.load(Ordering::Relaxed) {
            let device = self.next.fetch_add(1, Ordering::Relaxed) % self.tokens.len();
            let started = Instant::now();
            match self.sign_in(worker, device).await {
                Ok(()) => {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    if self.measuring.load(Ordering::Relaxed) {
                        let ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        self.latency.record(ns);
                    }
                }
                Err(error) => {
                    let label = error
                        .downcast_ref::<dial::Refused>()
                        .map_or("no_connection", |refused| refused.label);
                    self.ledger.error(label);
                }
            }
        }
    }

    async fn sign_in(&self, worker: usize, device: usize) -> anyhow::Result<()> {
        let connection = self.connector.connect(worker).await?;
        let control = dial::hello(&connection, self.tokens[device].clone()).await?;
        connection.close(0u32.into(), b"");
        drop(control);
        Ok(())
    }
}
