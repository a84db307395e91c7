//! The workloads, one per file.

pub mod battery;
pub mod blackout;
pub mod connect;
pub mod group;
pub mod hostile;
pub mod idle;
pub mod login;
pub mod one_to_one;
pub mod relay;
pub mod resume;
pub mod start;

mod busy;
mod chat;
mod people;
mod storm;
mod visit;

use std::sync::mpsc;
use std::time::Duration;

use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Report, StepReport};
use crate::search::Search;
use crate::traffic::{ANSWER_TIMEOUT, Cost, Load, Meter, Phase};

/// Traffic before each step of a search, in seconds.
const STEP_WARMUP_S: f64 = 1.0;
/// How long the queues of an overloaded step may take to empty.
const STEP_DRAIN: Duration = Duration::from_secs(60);
/// What has to be achieved of what is offered.
const ACHIEVED_SHARE: f64 = 0.98;

/// One load at one rate: warm-up, the measured time, the answers.
async fn measure(
    traffic: &mut impl Load,
    meter: &Meter,
    options: &Options,
    rate: f64,
    progress: &Progress,
    report: &mut Report,
) -> anyhow::Result<()> {
    let warmup = Duration::from_secs_f64(options.warmup);
    let warming = traffic.phase(rate, options.warmup, false);
    progress.during("warm-up", warmup, warming).await?;
    traffic.series().reset();
    let mut wire = crate::traffic::Snapshot::default();
    meter.add_wire(&mut wire, traffic.udp_bytes()).await;
    let mut before = meter.cpu();
    before.take_wire(&wire);
    let seconds = Duration::from_secs_f64(options.seconds());
    let measuring = traffic.phase(rate, options.seconds(), true);
    let phase = progress.during("measuring", seconds, measuring).await?;
    let mut after = meter.cpu();
    meter.add_wire(&mut after, traffic.udp_bytes()).await;
    progress.stage("waiting for answers");
    traffic.drain(ANSWER_TIMEOUT).await;
    let waited = u64::try_from(ANSWER_TIMEOUT.as_nanos()).unwrap_or(u64::MAX);
    traffic.record_unanswered(waited);
    let cost = Cost { before, after };
    report.offered_per_s = phase.offered_per_s();
    report.achieved_per_s = phase.achieved_per_s();
    report.delivered_per_s = phase.delivered_per_s();
    fill_series(report, traffic);
    report.server = cost.server(phase.due, meter.rss_bytes());
    report.messages = phase.due;
    report.client.cpu_s = cost.own_cpu_s();
    let per_message = |bytes: f64| (bytes / phase.due.max(1) as f64 * 10.0).round() / 10.0;
    let wire = per_message(cost.wire_bytes());
    report.wire_bytes_per_message = Some(wire);
    report.overhead_bytes_per_message =
        report.compressed_body_bytes_per_message.map(|body| ((wire - body) * 10.0).round() / 10.0);
    Ok(())
}

fn fill_series(report: &mut Report, traffic: &impl Load) {
    let series = traffic.series();
    report.slip_ms = series.slip.quantiles();
    report.ack_ms = series.ack.quantiles();
    report.delivery_ms = series.delivery.quantiles();
    report.first_sight_ms = series.first_sight.quantiles();
    report.draw("slip_ms", &series.slip);
    report.draw("ack_ms", &series.ack);
    report.draw("delivery_ms", &series.delivery);
    report.draw("first_sight_ms", &series.first_sight);
}

/// The highest rate that holds. The search itself is plain code on a thread of
/// its own, which asks for one step after another.
async fn find_max(
    traffic: &mut impl Load,
    meter: &Meter,
    options: &Options,
    progress: &Progress,
    report: &mut Report,
) -> anyhow::Result<()> {
    let search = Search::from(options.rate());
    let (ask, mut asked) = tokio::sync::mpsc::channel::<f64>(1);
    let (answer, answers) = mpsc::sync_channel::<bool>(1);
    let searching = tokio::task::spawn_blocking(move || {
        search.run(|rate| {
            ask.blocking_send(rate).ok()?;
            answers.recv().ok()
        })
    });
    let mut best: Option<StepReport> = None;
    while let Some(rate) = asked.recv().await {
        let step = one_step(traffic, meter, options, rate, progress).await?;
        let held = step.held;
        if held && best.as_ref().is_none_or(|b| step.offered_per_s > b.offered_per_s) {
            fill_series(report, traffic);
            best = Some(step.clone());
        }
        report.steps.push(step);
        if !traffic.drain(STEP_DRAIN).await || answer.send(held).is_err() {
            break;
        }
    }
    drop(answer);
    drop(asked);
    let (max, _) = searching.await?;
    report.max_sustainable_per_s = Some(max.round());
    if let Some(best) = best {
        report.offered_per_s = best.offered_per_s;
        report.achieved_per_s = best.achieved_per_s;
        report.delivered_per_s = best.delivered_per_s;
        report.server.cpu_s_per_100k = best.cpu_s_per_100k;
    }
    report.server.rss_bytes = meter.rss_bytes();
    Ok(())
}

async fn one_step(
    traffic: &mut impl Load,
    meter: &Meter,
    options: &Options,
    rate: f64,
    progress: &Progress,
) -> anyhow::Result<StepReport> {
    let name = format!("{rate:.0}/s");
    let length = Duration::from_secs_f64(STEP_WARMUP_S + options.seconds());
    let errors = traffic.errors_total();
    let (phase, cost) = progress
        .during(name, length, async {
            traffic.phase(rate, STEP_WARMUP_S, false).await?;
            traffic.series().reset();
            let before = meter.cpu();
            let phase = traffic.phase(rate, options.seconds(), true).await?;
            let after = meter.cpu();
            anyhow::Ok((phase, Cost { before, after }))
        })
        .await?;
    traffic.drain(ANSWER_TIMEOUT).await;
    let waited = u64::try_from(ANSWER_TIMEOUT.as_nanos()).unwrap_or(u64::MAX);
    let unanswered = traffic.record_unanswered(waited);
    let series = traffic.series();
    let (ack_ms, delivery_ms) = (series.ack.quantiles(), series.delivery.quantiles());
    let slip = series.slip.quantiles().p99;
    let enough = keeps_up(&phase, traffic.deliveries_per_message());
    Ok(StepReport {
        offered_per_s: phase.offered_per_s(),
        achieved_per_s: phase.achieved_per_s(),
        delivered_per_s: phase.delivered_per_s(),
        delivery_ms,
        ack_ms,
        slip_p99_ms: slip,
        unanswered,
        cpu_s_per_100k: cost.server(phase.due, None).cpu_s_per_100k,
        held: unanswered == 0
            && traffic.errors_total() == errors
            && enough
            && delivery_ms.p99 <= options.p99_limit_ms
            && ack_ms.p99 <= 2.0 * options.p99_limit_ms
            && slip <= crate::report::slip_bound(delivery_ms.p99),
    })
}

/// Whether a phase was acknowledged and delivered as fast as it was sent.
fn keeps_up(phase: &Phase, deliveries_per_message: f64) -> bool {
    let enough = ACHIEVED_SHARE * phase.offered_per_s();
    phase.achieved_per_s() >= enough && phase.delivered_per_s() >= enough * deliveries_per_message
}
