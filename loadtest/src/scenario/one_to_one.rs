//! Chat between pairs: latency at a rate, or the highest rate that holds.

use std::sync::Arc;

use super::busy::Busy;
use super::chat::{Chat, judge_histories};
use super::{find_max, measure, people};
use crate::body::Bodies;
use crate::environment;
use crate::layout::Layout;
use crate::ledger::{Clock, Ledger};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::Report;
use crate::traffic::{Meter, Traffic};

/// Runs it.
///
/// # Errors
/// When there can be no report: no server, no sign-in, no first message.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let layout = Arc::new(ring(options)?);
    let bodies = Arc::new(texts(options)?);
    let (server, identities) = people::gather(options, layout.users(), progress).await?;
    let meter = Meter::new(&server, options.storage.as_deref());
    let ledger = Arc::new(Ledger::new(layout.conversations()));
    let clock = Clock::start();
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, server.admin);
    report.connections = layout.users();
    report.body_bytes_per_message = Some(tenth(bodies.mean_bytes()));
    report.compressed_body_bytes_per_message = Some(tenth(bodies.mean_encoded_bytes()));
    let chat =
        Chat::start(&server.front(), &identities, &layout, &ledger, (clock, options), progress)
            .await?;
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
    let mut busy = None;
    if options.find_max {
        find_max(&mut traffic, &meter, options, progress, &mut report).await?;
    } else {
        let rate = options.rate();
        if let Some(what) = options.beside {
            traffic.first_beside();
            busy = Some(Busy::start(what, &chat, &ledger, clock, progress).await?);
        }
        measure(&mut traffic, &meter, options, rate, progress, &mut report).await?;
    }
    drop(traffic);
    if let Some(busy) = busy {
        report.beside = Some(busy.stop().await?);
    }
    ledger.verdict();
    chat.add_stats(&mut report);
    if let Some(chat) = Arc::into_inner(chat) {
        progress.stage("closing");
        chat.close().await?;
    }
    report.histories_judged =
        judge_histories(&server.target, &identities, &layout, &ledger, progress).await?;
    report.link = server.link_counts();
    report.verdict = ledger.verdict();
    report.errors = ledger.errors();
    report.findings = ledger.findings();
    tokio::task::spawn_blocking(move || server.stop()).await??;
    report.judge();
    Ok(report)
}

pub(super) fn ring(options: &Options) -> anyhow::Result<Layout> {
    Layout::ring(options.users(), options.conversations()).map_err(anyhow::Error::msg)
}

pub(super) fn texts(options: &Options) -> anyhow::Result<Bodies> {
    match &options.bodies {
        Some(path) => Bodies::from_file(path),
        None => Ok(Bodies::generated(options.seed, options.body_min, options.body_max)),
    }
}

pub(super) fn tenth(value: f64) -> f64 {
    crate::traffic::rounded(value, 10.0)
}
