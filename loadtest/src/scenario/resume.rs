//! A storm of reconnects beside chat: how long until everybody has what he missed, and what the
//! others notice of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::{JoinError, JoinHandle};

use super::chat::{Chat, judge_histories};
use super::one_to_one::{tenth, texts};
use super::storm::{Crowd, Outcome, SPEAKERS};
use super::{fill_series, people};
use crate::environment;
use crate::latency::Series;
use crate::layout::Layout;
use crate::ledger::{Clock, Ledger};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Report, Storm};
use crate::traffic::{ANSWER_TIMEOUT, Cost, Load, Meter, Traffic, rounded};

/// Users who chat beside the storm.
const CHATTING: usize = 200;
/// Conversations of each.
const CONVERSATIONS: usize = 4;
/// How long one stretch of the chat is while the storm lasts, in seconds.
const STRETCH_S: f64 = 0.5;
/// Errors of sessions that are told in words.
const ERRORS_TOLD: usize = 10;

/// Runs it.
///
/// # Errors
/// When there can be no report: no server, too few connections before the storm.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let all = options.users() + SPEAKERS + CHATTING;
    let (server, mut identities) = people::gather(options, all, progress).await?;
    let meter = Meter::new(&server, options.storage.as_deref());
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, server.admin);
    report.connections = all;
    let bodies = Arc::new(texts(options)?);
    report.body_bytes_per_message = Some(tenth(bodies.mean_bytes()));
    report.compressed_body_bytes_per_message = Some(tenth(bodies.mean_encoded_bytes()));
    // The chat has a thread to itself, so that what it measures is the gateway.
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.client_threads)
        .enable_all()
        .build()?;
    let people = identities.split_off(options.users() + SPEAKERS);
    let crowd = {
        let (target, texts) = (server.front(), Arc::clone(&bodies));
        let (missed, progress) = (options.missed, progress.clone());
        apart(&elsewhere, async move || {
            Crowd::gather(target, identities, texts, missed, progress).await
        })
        .await??
    };

    let layout = Arc::new(Layout::ring(CHATTING, CONVERSATIONS).map_err(anyhow::Error::msg)?);
    let ledger = Arc::new(Ledger::new(layout.conversations()));
    let clock = Clock::start();
    let chat =
        Chat::start(&server.front(), &people, &layout, &ledger, (clock, options), progress).await?;
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
    let weather = Weather { options, meter: &meter, elsewhere: &elsewhere, progress };
    let crowd = weather.pass(crowd, &mut traffic, &mut report).await?;
    report.link = server.link_counts();
    drop(traffic);
    ledger.verdict();
    chat.add_stats(&mut report);
    if let Some(chat) = Arc::into_inner(chat) {
        progress.stage("closing");
        chat.close().await?;
    }
    drop(crowd);
    report.histories_judged =
        judge_histories(&server.target, &people, &layout, &ledger, progress).await?;
    report.verdict += ledger.verdict();
    for (code, count) in ledger.errors() {
        *report.errors.entry(code).or_default() += count;
    }
    report.findings.extend(ledger.findings());
    tokio::task::spawn_blocking(move || server.stop()).await??;
    elsewhere.shutdown_background();
    report.judge();
    Ok(report)
}

/// What is needed for the storm and the time before it.
struct Weather<'a> {
    options: &'a Options,
    meter: &'a Meter,
    elsewhere: &'a Runtime,
    progress: &'a Progress,
}

impl Weather<'_> {
    /// Calm, then the loss of all connections, then the storm: the chat goes on all the while.
    async fn pass(
        &self,
        mut crowd: Crowd,
        traffic: &mut Traffic<Chat>,
        report: &mut Report,
    ) -> anyhow::Result<Crowd> {
        let (options, progress) = (self.options, self.progress);
        let (rate, seconds) = (options.rate(), options.seconds());
        progress
            .during("warm-up", Duration::from_secs_f64(options.warmup), async {
                traffic.phase(rate, options.warmup, false).await
            })
            .await?;
        traffic.series().reset();
        let calm = Duration::from_secs_f64(seconds);
        progress.during("calm", calm, traffic.phase(rate, seconds, true)).await?;
        let calm_delivery_ms = traffic.series().delivery.quantiles();
        progress.stage("losing connections");
        let (quiet, told) = (Progress::default(), crowd.sessions());
        let losing = apart(self.elsewhere, async move || {
            crowd.lose(&quiet).await?;
            anyhow::Ok(crowd)
        });
        let mut crowd = chat_until(losing, traffic, rate, false).await?.0??;

        traffic.drain(ANSWER_TIMEOUT).await;
        traffic.series().reset();
        progress.stage("storm");
        let (connect, resume) = (Arc::new(Series::default()), Arc::new(Series::default()));
        let (at_once, series) =
            (options.concurrency(), (Arc::clone(&connect), Arc::clone(&resume)));
        let before = self.meter.cpu();
        let storm = apart(self.elsewhere, async move || {
            let outcome = crowd.storm(at_once, series.0, series.1).await?;
            anyhow::Ok((crowd, outcome))
        });
        let (ended, chatted) = chat_until(storm, traffic, rate, true).await?;
        let cost = Cost { before, after: self.meter.cpu() };
        let (crowd, outcome) = ended??;
        traffic.drain(ANSWER_TIMEOUT).await;
        let waited = u64::try_from(ANSWER_TIMEOUT.as_nanos()).unwrap_or(u64::MAX);
        traffic.record_unanswered(waited);
        fill_series(report, traffic);
        chatted.fill(report);
        report.connect_ms = connect.quantiles();
        report.resume_ms = resume.quantiles();
        report.draw("connect_ms", &connect);
        report.draw("resume_ms", &resume);
        self.tell(report, &cost, &outcome, told);
        if let Some(storm) = report.storm.as_mut() {
            storm.calm_delivery_ms = calm_delivery_ms;
        }
        Ok(crowd)
    }

    fn tell(&self, report: &mut Report, cost: &Cost, outcome: &Outcome, sessions: usize) {
        report.server = cost.server(sessions as u64, self.meter.rss_bytes());
        let per_session = report.server.cpu_s_per_100k.map(|s| rounded(s * 10.0, 10.0));
        report.client.cpu_s = cost.own_cpu_s();
        report.storm = Some(Storm {
            sessions,
            storm_s: rounded(outcome.took.as_secs_f64(), 1e3),
            missed: outcome.missed,
            tries_again: outcome.tries_again,
            server_us_per_session: per_session,
            ..Storm::default()
        });
        report.verdict.lost += outcome.lost;
        report.verdict.duplicated += outcome.found.duplicated;
        report.verdict.gaps += outcome.found.gaps;
        if !outcome.errors.is_empty() {
            report.errors.insert("not_back".to_owned(), outcome.errors.len() as u64);
            report.findings.extend(outcome.errors.iter().take(ERRORS_TOLD).cloned());
        }
    }
}

/// Does `work` in another runtime, whose threads serve the connections that it makes.
fn apart<T: Send + 'static>(
    elsewhere: &Runtime,
    work: impl AsyncFnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let handle = elsewhere.handle().clone();
    tokio::task::spawn_blocking(move || handle.block_on(work()))
}

/// What the chat came to meanwhile.
#[derive(Default)]
struct Chatted {
    due: u64,
    acked: u64,
    delivered: u64,
    seconds: f64,
}

impl Chatted {
    fn fill(&self, report: &mut Report) {
        let per_s = |count: u64| count as f64 / self.seconds.max(1e-9);
        report.messages = self.due;
        report.offered_per_s = per_s(self.due);
        report.achieved_per_s = per_s(self.acked);
        report.delivered_per_s = per_s(self.delivered);
    }
}

/// Chats until a task elsewhere has ended.
async fn chat_until<T>(
    task: JoinHandle<T>,
    traffic: &mut Traffic<Chat>,
    rate: f64,
    measured: bool,
) -> anyhow::Result<(Result<T, JoinError>, Chatted)> {
    let mut chatted = Chatted::default();
    while !task.is_finished() {
        let phase = traffic.phase(rate, STRETCH_S, measured).await?;
        chatted.due += phase.due;
        chatted.acked += phase.acked;
        chatted.delivered += phase.delivered;
        chatted.seconds += phase.seconds;
    }
    Ok((task.await, chatted))
}
