//! Chat among a few honest people, first alone, then beside many hostile connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::chat::{Chat, judge_histories};
use super::one_to_one::{ring, tenth, texts};
use super::{measure, people};
use crate::environment;
use crate::hostile::{Crowd, Figures};
use crate::ledger::{Clock, Ledger};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::Report;
use crate::traffic::{Meter, Traffic, rounded};

/// How often it is looked whether all of the crowd are there.
const LOOK: Duration = Duration::from_millis(50);

/// Runs it.
///
/// # Errors
/// When there can be no report: no server, no sign-in, the crowd cannot do what it means to.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let layout = Arc::new(ring(options)?);
    let bodies = Arc::new(texts(options)?);
    let everybody = layout.users() + options.hostile;
    let (server, identities) = people::gather(options, everybody, progress).await?;
    let (honest, hostile) = identities.split_at(layout.users());
    let meter = Meter::new(&server, options.storage.as_deref());
    let ledger = Arc::new(Ledger::new(layout.conversations()));
    let clock = Clock::start();
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, server.admin);
    report.connections = everybody;
    report.body_bytes_per_message = Some(tenth(bodies.mean_bytes()));
    report.compressed_body_bytes_per_message = Some(tenth(bodies.mean_encoded_bytes()));
    let chat =
        Chat::start(&server.front(), honest, &layout, &ledger, (clock, options), progress).await?;
    let chat = Arc::new(chat);
    let mut traffic = Traffic::new(
        Arc::clone(&ledger),
        Arc::clone(&layout),
        bodies,
        clock,
        Arc::clone(&chat),
        options.seed,
    );
    traffic.prime(progress).await?;
    measure(&mut traffic, &meter, options, options.rate(), progress, &mut report).await?;
    let (calm, before_bytes) = (report.delivery_ms, meter.rss_bytes());
    let calm_valid = report.slip_ms;

    progress.stage("letting the hostile loose");
    let peer = honest.first().map(|person| person.user);
    let peer = peer.ok_or_else(|| anyhow::anyhow!("nobody is honest"))?;
    let crowd = Crowd::let_loose(server.target.address, hostile.to_vec(), peer, true);
    while !crowd.is_ready() {
        tokio::time::sleep(LOOK).await;
    }
    measure(&mut traffic, &meter, options, options.rate(), progress, &mut report).await?;
    let after_bytes = meter.rss_bytes();
    let counts = crowd.counts();
    let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    let gained = before_bytes
        .zip(after_bytes)
        .map(|(before, after)| (after as f64 - before as f64) / options.hostile.max(1) as f64);
    report.hostile = Some(Figures {
        connections: options.hostile,
        rss_bytes_per_hostile: gained.map(|bytes| rounded(bytes, 1.0)),
        calm_delivery_ms: calm,
        calm_slip_ms: calm_valid,
        p99_ratio: (calm.p99 > 0.0).then(|| rounded(report.delivery_ms.p99 / calm.p99, 100.0)),
        half_handshakes: count(&counts.half_handshakes),
        streams_reset: count(&counts.streams_reset),
        closed: count(&counts.closed),
    });
    tokio::task::spawn_blocking(move || crowd.end()).await??;

    drop(traffic);
    ledger.verdict();
    chat.add_stats(&mut report);
    if let Some(chat) = Arc::into_inner(chat) {
        progress.stage("closing");
        chat.close().await?;
    }
    report.histories_judged =
        judge_histories(&server.target, honest, &layout, &ledger, progress).await?;
    report.link = server.link_counts();
    report.verdict = ledger.verdict();
    report.errors = ledger.errors();
    report.findings = ledger.findings();
    tokio::task::spawn_blocking(move || server.stop()).await??;
    report.judge();
    Ok(report)
}
