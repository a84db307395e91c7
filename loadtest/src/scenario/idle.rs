//! Memory of idle signed-in connections, and chat among a few of many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use petrel_client::Identity;
use quinn::Connection;

use super::chat::{Chat, judge_histories};
use super::one_to_one::{tenth, texts};
use super::{measure, people};
use crate::dial::{self, Connector, Control};
use crate::environment;
use crate::latency::Series;
use crate::layout::Layout;
use crate::ledger::{Clock, Ledger};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::Report;
use crate::server::Server;
use crate::traffic::{Cost, Meter, Traffic, rounded};

/// Users that warm the server before its memory is read for the first time.
const WARMING: usize = 100;
/// Users who chat, if there is a rate.
const CHATTING: usize = 200;
/// Sign-ins under way at once.
const SIGN_INS: usize = 32;
/// How long the first users may settle before the memory is read.
const WARMING_SETTLE: Duration = Duration::from_secs(5);

/// An idle user: the control stream stays open.
struct Idler {
    connection: Connection,
    _control: Control,
}

/// Runs it.
///
/// # Errors
/// When there can be no report: no server, too few connections.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let chats = options.rate() > 0.0;
    let chatting = if chats { CHATTING } else { 0 };
    let warming = WARMING.min(options.users() / 2);
    let (server, identities) =
        people::gather(options, options.users() + chatting, progress).await?;
    let meter = Meter::new(&server, options.storage.as_deref());
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, server.admin);
    report.connections = options.users() + chatting;
    let connector = Connector::new(&server.target, options.users(), true)?;
    let latency = Arc::new(Series::default());
    let (idle_people, chat_people) = identities.split_at(options.users());

    let tokens = people::tokens(&connector, idle_people, progress).await?;
    let mut people: Vec<(usize, String)> = tokens.into_iter().enumerate().collect();
    let rest = people.split_off(warming);
    let mut idlers = sign_in(&connector, people, &latency, progress).await?;
    let settling = tokio::time::sleep(WARMING_SETTLE);
    progress.during("settling", WARMING_SETTLE, settling).await;
    let before_bytes = meter.rss_bytes();
    let (cpu_before, started) = (meter.cpu(), Instant::now());
    let added = rest.len();
    idlers.extend(sign_in(&connector, rest, &latency, progress).await?);
    let (cpu_after, took) = (meter.cpu(), started.elapsed().as_secs_f64());
    let settle = Duration::from_secs_f64(options.seconds());
    progress.during("settling", settle, tokio::time::sleep(settle)).await;
    let after_bytes = meter.rss_bytes();

    let storm = Cost { before: cpu_before, after: cpu_after };
    report.handshakes_per_s = Some(rounded(added as f64 / took, 10.0));
    report.server = storm.server(added as u64, after_bytes);
    report.server_us_per_handshake = report.server.cpu_s_per_100k.map(|s| rounded(s * 10.0, 10.0));
    report.client.cpu_s = storm.own_cpu_s();
    report.connect_ms = latency.quantiles();
    report.draw("connect_ms", &latency);
    let gained = before_bytes
        .zip(after_bytes)
        .map(|(before, after)| (after as f64 - before as f64) / added.max(1) as f64);
    if chats {
        chat_among(&server, chat_people, &meter, options, progress, &mut report).await?;
        report.server.rss_bytes = after_bytes;
    }
    report.server.rss_bytes_per_connection = gained.map(|bytes| rounded(bytes, 1.0));

    let gone = idlers.iter().filter(|idler| idler.connection.close_reason().is_some()).count();
    if gone > 0 {
        report.invalid_because.push(format!("{gone} idle connections were lost"));
    }
    progress.stage("closing");
    for idler in &idlers {
        idler.connection.close(0u32.into(), b"");
    }
    connector.wait_idle().await;
    tokio::task::spawn_blocking(move || server.stop()).await??;
    report.judge();
    Ok(report)
}

async fn sign_in(
    connector: &Connector,
    people: Vec<(usize, String)>,
    latency: &Arc<Series>,
    progress: &Progress,
) -> anyhow::Result<Vec<Idler>> {
    progress.steps("signing in", people.len());
    people::concurrently(SIGN_INS, people, |(number, token)| {
        let (connector, progress) = (connector.clone(), progress.clone());
        let latency = Arc::clone(latency);
        async move {
            let started = Instant::now();
            let connection = connector.connect(number).await?;
            let control = dial::hello(&connection, token)
                .await
                .with_context(|| format!("signing in as user {number}"))?;
            latency.record(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
            progress.step();
            Ok(Idler { connection, _control: control })
        }
    })
    .await
}

/// `one-to-one` among a few, while all the others are idle.
async fn chat_among(
    server: &Server,
    people: &[Identity],
    meter: &Meter,
    options: &Options,
    progress: &Progress,
    report: &mut Report,
) -> anyhow::Result<()> {
    let layout = Layout::ring(people.len(), options.conversations()).map_err(anyhow::Error::msg)?;
    let layout = Arc::new(layout);
    let bodies = Arc::new(texts(options)?);
    report.body_bytes_per_message = Some(tenth(bodies.mean_bytes()));
    report.compressed_body_bytes_per_message = Some(tenth(bodies.mean_encoded_bytes()));
    let ledger = Arc::new(Ledger::new(layout.conversations()));
    let clock = Clock::start();
    let chat =
        Chat::start(&server.target, people, &layout, &ledger, (clock, options), progress).await?;
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
    let mut timed = options.clone();
    timed.seconds = Some(options.seconds().min(CHAT_SECONDS_MAX));
    measure(&mut traffic, meter, &timed, options.rate(), progress, report).await?;
    drop(traffic);
    ledger.verdict();
    chat.add_stats(report);
    if let Some(chat) = Arc::into_inner(chat) {
        chat.close().await?;
    }
    report.histories_judged =
        judge_histories(&server.target, people, &layout, &ledger, progress).await?;
    report.verdict = ledger.verdict();
    report.errors = ledger.errors();
    report.findings = ledger.findings();
    Ok(())
}

/// The chat takes as long as the settling, but no longer than this.
const CHAT_SECONDS_MAX: f64 = 30.0;
