//! A network that is dark for a while, in mid-chat, or a gateway that is killed and started again: how
//! soon the chat goes on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::sleep_until;

use super::chat::{Chat, judge_histories};
use super::one_to_one::{ring, texts};
use super::{fill_series, people};
use crate::environment;
use crate::latency::Series;
use crate::ledger::{Clock, Ledger};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Blackout, Report};
use crate::server::Server;
use crate::traffic::{ANSWER_TIMEOUT, Load, Traffic, rounded};

/// Chat before each blackout, in seconds.
const CALM_S: f64 = 3.0;
/// So long the first deliveries are waited for, in seconds.
const AFTER_S: f64 = 5.0;

/// Runs it.
///
/// # Errors
/// When there can be no report: no server, no sign-in, no first message.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let layout = Arc::new(ring(options)?);
    let (mut server, identities) = people::gather(options, layout.users(), progress).await?;
    let ledger = Arc::new(Ledger::new(layout.conversations()));
    let clock = Clock::start();
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, server.admin);
    report.connections = layout.users();
    let chat =
        Chat::start(&server.front(), &identities, &layout, &ledger, (clock, options), progress)
            .await?;
    let chat = Arc::new(chat);
    let mut traffic = Traffic::new(
        Arc::clone(&ledger),
        Arc::clone(&layout),
        Arc::new(texts(options)?),
        clock,
        Arc::clone(&chat),
        options.seed,
    );
    traffic.prime(progress).await?;
    traffic.series().reset();
    let (back, mut figures) = (Series::default(), Blackout::default());
    for round in 1..=options.rounds {
        let away = Duration::from_secs_f64(options.dark);
        let length = CALM_S + options.dark + AFTER_S;
        let watch = Round { options, clock, chat: &chat };
        let passing = async {
            tokio::try_join!(watch.pass(server, away), traffic.phase(options.rate(), length, true),)
        };
        let ((served, since_ns), phase) = progress
            .during(format!("blackout {round}"), Duration::from_secs_f64(length), passing)
            .await?;
        server = served;
        report.messages += phase.due;
        let firsts = chat.firsts_ns();
        for first_ns in firsts.iter().flatten() {
            back.record(first_ns - since_ns);
        }
        figures.unheard += firsts.iter().filter(|first| first.is_none()).count() as u64;
        let first_ns = firsts.into_iter().flatten().min();
        let first_ms = first_ns.map_or(AFTER_S * 1e3, |ns| (ns - since_ns) as f64 / 1e6);
        figures.first_ms.push(rounded(first_ms, 1e3));
        chat.note_firsts(None);
        traffic.drain(ANSWER_TIMEOUT).await;
    }
    let waited = u64::try_from(ANSWER_TIMEOUT.as_nanos()).unwrap_or(u64::MAX);
    traffic.record_unanswered(waited);
    fill_series(&mut report, &traffic);
    (figures.rounds, figures.dark_s) = (options.rounds, options.dark);
    figures.back_ms = back.quantiles();
    report.draw("back_ms", &back);
    report.blackout = Some(figures);
    drop(traffic);
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

/// One blackout.
struct Round<'a> {
    options: &'a Options,
    clock: Clock,
    chat: &'a Chat,
}

impl Round<'_> {
    /// Calm, the dark, and the time after it; says when it was over.
    async fn pass(&self, mut server: Server, away: Duration) -> anyhow::Result<(Server, u64)> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let dark_ns = self.clock.now() + nanos(Duration::from_secs_f64(CALM_S));
        sleep_until(self.clock.instant(dark_ns).into()).await;
        let back_ns = if self.options.restart {
            server.kill()?;
            sleep_until(self.clock.instant(dark_ns + nanos(away)).into()).await;
            let options = self.options.clone();
            server = tokio::task::spawn_blocking(move || {
                server.start_again(&options)?;
                anyhow::Ok(server)
            })
            .await??;
            self.clock.now()
        } else {
            let back_ns = self.clock.now() + nanos(away);
            server.link().context("no link")?.black_out(away);
            sleep_until(self.clock.instant(back_ns).into()).await;
            back_ns
        };
        self.chat.note_firsts(Some(back_ns));
        if self.options.told {
            self.chat.network_changed();
        }
        let after_ns = back_ns + nanos(Duration::from_secs_f64(AFTER_S));
        sleep_until(self.clock.instant(after_ns).into()).await;
        Ok((server, back_ns))
    }
}
