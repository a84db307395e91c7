//! One person's visits: what it takes, in bytes and round trips, to come back to many
//! conversations of which some have changed; and how long the first page of the list takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use petrel_client::{ConversationId, Identity};
use petrel_proto::frame;
use petrel_proto::version::ALPN;
use petrel_proto::wire::frame::What;
use petrel_proto::wire::{self, Frame};
use quinn::{Connection, Endpoint};

use super::one_to_one::texts;
use super::people::{self, concurrently};
use super::visit::{Found, Pair};
use crate::body::Bodies;
use crate::dial::{self, Connector, Control, Target};
use crate::environment;
use crate::latency::Series;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Report, Visit};
use crate::traffic::{Cost, Meter, rounded};

/// Peers who write at once, and first messages under way at once.
const AT_ONCE: usize = 8;
/// Conversations of one page of the list (the protocol's limit).
const PAGE: u32 = 100;
/// How often the first page of the list is read.
const LIST_READS: u32 = 300;
/// Between two of these: below the gateway's limit on the pace of requests.
const LIST_GAP: Duration = Duration::from_millis(25);
/// Between two visits.
const VISIT_GAP: Duration = Duration::from_millis(100);
/// What is on its way when the last message has come: acknowledgements, and a ticket.
const SETTLE: Duration = Duration::from_millis(60);

/// Runs it.
///
/// # Errors
/// When there can be no report: no server, no sign-in, a visit that fails.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let users = options.conversations() + 1;
    let (server, identities) = people::gather(options, users, progress).await?;
    let meter = Meter::new(&server, options.storage.as_deref());
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, server.admin);
    report.connections = options.changed + 1;
    let bodies = Arc::new(texts(options)?);
    let mut home = Home::furnish(&server.front(), &identities, options, bodies, progress).await?;
    let (connect, resume, list) = (Series::default(), Series::default(), Series::default());
    let mut figures = Visit {
        conversations: options.conversations(),
        changed: options.changed,
        missed: options.changed * options.missed,
        ..Visit::default()
    };
    let mut bytes: [Vec<f64>; 3] = Default::default();
    let mut waits = Vec::new();
    let before = meter.cpu();
    let until = Instant::now() + Duration::from_secs_f64(options.seconds());
    progress.stage("visits");
    while figures.visits < 2 || Instant::now() < until {
        home.change().await?;
        let resumed = figures.visits % 2 == 1;
        let visited = home.visit(resumed, &connect, &resume).await?;
        bytes[usize::from(resumed)].push(visited.bytes);
        bytes[2].push(visited.handshake_bytes);
        waits.push(visited.waited.as_secs_f64() * 1e6);
        figures.visits += 1;
        home.judge(&visited.found, &mut report);
        tokio::time::sleep(VISIT_GAP).await;
    }
    progress.stage("reading the list");
    home.read_lists(&list, &mut report).await?;
    if let Some(link) = &options.link {
        let rtt_us = (link.up.delay + link.down.delay).as_secs_f64() * 1e6;
        figures.round_trips = (rtt_us > 0.0).then(|| median(&mut waits) / rtt_us);
    }
    let cost = Cost { before, after: meter.cpu() };
    let [full, resumed, handshake] = bytes.map(|mut all| median(&mut all));
    figures.wire_bytes_full = full;
    figures.wire_bytes_resumed = resumed;
    figures.wire_bytes_handshake = handshake;
    report.visit = Some(figures);
    report.server = cost.server(1, meter.rss_bytes());
    report.server.cpu_s_per_100k = None;
    report.server.postgres_cpu_s_per_100k = None;
    report.client.cpu_s = cost.own_cpu_s();
    for (name, series) in [("connect_ms", &connect), ("resume_ms", &resume), ("list_ms", &list)] {
        report.draw(name, series);
    }
    report.connect_ms = connect.quantiles();
    report.resume_ms = resume.quantiles();
    report.list_ms = list.quantiles();
    report.link = server.link_counts();
    drop(home);
    tokio::task::spawn_blocking(move || server.stop()).await??;
    report.judge();
    Ok(report)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().map_or(0.0, |value| rounded(value, 1.0))
}

/// An account with many conversations, and those who write to it.
struct Home {
    target: Target,
    endpoint: Endpoint,
    /// The device that comes back keeps its tickets.
    config: quinn::ClientConfig,
    token: String,
    /// All conversations, and what was seen of them.
    pairs: HashMap<ConversationId, Pair>,
    writers: Vec<(Connection, Control, Pair)>,
    texts: Arc<Bodies>,
    missed: usize,
    /// When something happened last, as far as the person knows: Unix milliseconds.
    seen_ms: u64,
}

/// One visit.
struct Visited {
    found: Found,
    /// From the end of the handshake to the last missed message.
    waited: Duration,
    bytes: f64,
    handshake_bytes: f64,
}

impl Home {
    /// Makes the conversations, a message in each.
    async fn furnish(
        target: &Target,
        identities: &[Identity],
        options: &Options,
        texts: Arc<Bodies>,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let (own, peers) = identities.split_first().context("nobody")?;
        let connector = Connector::new(target, 1 + options.changed, true)?;
        let known = &identities[..=options.changed];
        let tokens = people::tokens(&connector, known, progress).await?;
        let connection = connector.connect(0).await?;
        let control = dial::hello(&connection, tokens[0].clone()).await?;
        progress.steps("making conversations", peers.len());
        let pairs = concurrently(AT_ONCE, peers.iter().enumerate(), |(number, peer)| {
            let mut pair = Pair::new(own.user, peer.user);
            let text = texts.get(number % texts.count()).text.clone();
            let (connection, progress) = (connection.clone(), progress.clone());
            async move {
                let said = pair.say(&connection, &[text]).await?;
                let mut line = pair.attach(&connection).await?;
                pair.read_to(&mut line, said).await?;
                line.send.finish()?;
                progress.step();
                Ok((pair.conversation, pair))
            }
        })
        .await?;
        drop(control);
        connection.close(0u32.into(), b"");
        let mut writers = Vec::with_capacity(options.changed);
        for (peer, token) in peers.iter().zip(&tokens[1..]) {
            let connection = connector.connect(writers.len()).await?;
            let control = dial::hello(&connection, token.clone()).await?;
            writers.push((connection, control, Pair::new(peer.user, own.user)));
        }
        let endpoint = dial::endpoints(target, 1)?.remove(0);
        let mut home = Self {
            target: target.clone(),
            endpoint,
            config: dial::client_config(target, ALPN, true)?,
            token: tokens[0].clone(),
            pairs: pairs.into_iter().collect(),
            writers,
            texts,
            missed: options.missed,
            seen_ms: 0,
        };
        home.look_around().await?;
        Ok(home)
    }

    /// Learns when something happened last.
    async fn look_around(&mut self) -> anyhow::Result<()> {
        let connection = self.connect(true).await?;
        let control = dial::hello(&connection, self.token.clone()).await?;
        let lines = list(&connection, 0, 1).await?;
        self.seen_ms = lines.first().map_or(0, |(_, line)| line.last_activity_ms);
        drop(control);
        connection.close(0u32.into(), b"");
        Ok(())
    }

    async fn connect(&self, resumed: bool) -> anyhow::Result<Connection> {
        // One without tickets of its own pays the full handshake.
        let config = match resumed {
            true => self.config.clone(),
            false => dial::client_config(&self.target, ALPN, false)?,
        };
        let connecting =
            self.endpoint.connect_with(config, self.target.address, &self.target.server_name)?;
        Ok(tokio::time::timeout(dial::TIMEOUT, connecting)
            .await
            .context("no handshake in time")??)
    }

    /// Something is said in some conversations while the person is away.
    async fn change(&self) -> anyhow::Result<()> {
        let writers = self.writers.iter().map(|(connection, _, pair)| (connection.clone(), *pair));
        concurrently(AT_ONCE, writers.enumerate(), |(number, (connection, pair))| {
            let pick = |n| self.texts.get((number * 7 + n) % self.texts.count()).text.clone();
            let said: Vec<Bytes> = (0..self.missed).map(pick).collect();
            async move { pair.say(&connection, &said).await }
        })
        .await?;
        Ok(())
    }

    /// Signs in, asks for the list of what has changed, and reads what was missed there. What does
    /// not depend on an answer leaves together.
    async fn visit(
        &mut self,
        resumed: bool,
        connect: &Series,
        resume: &Series,
    ) -> anyhow::Result<Visited> {
        let ns = |since: Instant| u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let began = Instant::now();
        let connection = self.connect(resumed).await?;
        let handshake_bytes = udp_bytes(&connection);
        let connected = Instant::now();
        // First round trip.
        let hello = dial::hello(&connection, self.token.clone());
        let (control, lines) = tokio::join!(hello, list(&connection, self.seen_ms + 1, PAGE));
        let (control, lines) = (control?, lines?);
        connect.record(ns(began));
        let expected = self.writers.len();
        ensure!(lines.len() == expected, "{} lines changed of {expected}", lines.len());
        let mut found = Found::default();
        let mut attached = Vec::with_capacity(lines.len());
        for (frame, line) in &lines {
            let id = ConversationId::from_slice(&line.conversation).map_err(anyhow::Error::msg)?;
            let pair = self.pairs.get(&id).copied().context("an unknown conversation")?;
            ensure!(line.unread > 0, "nothing unread in {id}");
            self.seen_ms = self.seen_ms.max(line.last_activity_ms);
            // Second round trip: none of these waits for another.
            attached.push((pair, pair.attach(&connection).await?, frame.seq));
        }
        for (mut pair, mut stream, head) in attached {
            let read = pair.read_to(&mut stream, head).await?;
            found.entries += read.entries;
            found.duplicated += read.duplicated;
            found.gaps += read.gaps;
            let own = wire::MemberReceipt { delivered: head, read: head, ..Default::default() };
            let receipts = wire::Receipts { members: vec![own], ..Default::default() };
            stream.send.write_chunk(frame::encode(&frame::bare(What::Receipts(receipts)))).await?;
            stream.send.finish()?;
            self.pairs.insert(pair.conversation, pair);
        }
        resume.record(ns(began));
        let waited = connected.elapsed();
        tokio::time::sleep(SETTLE).await;
        let bytes = udp_bytes(&connection);
        drop(control);
        connection.close(0u32.into(), b"");
        Ok(Visited { found, waited, bytes, handshake_bytes })
    }

    fn judge(&self, found: &Found, report: &mut Report) {
        let wanted = (self.writers.len() * self.missed) as u64;
        report.verdict.lost += wanted.saturating_sub(found.entries);
        report.verdict.duplicated += found.duplicated + found.entries.saturating_sub(wanted);
        report.verdict.gaps += found.gaps;
    }

    /// The first page of the whole list, again and again.
    async fn read_lists(&self, series: &Series, report: &mut Report) -> anyhow::Result<()> {
        let connection = self.connect(true).await?;
        let control = dial::hello(&connection, self.token.clone()).await?;
        let full = self.pairs.len().min(PAGE as usize);
        for _ in 0..LIST_READS {
            let began = Instant::now();
            let lines = list(&connection, 0, PAGE).await?;
            series.record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
            if lines.len() != full {
                report.findings.push(format!("a page of {} lines; {full} wanted", lines.len()));
                report.verdict.lost += 1;
            }
            tokio::time::sleep(LIST_GAP).await;
        }
        drop(control);
        connection.close(0u32.into(), b"");
        Ok(())
    }
}

fn udp_bytes(connection: &Connection) -> f64 {
    let stats = connection.stats();
    (stats.udp_rx.bytes + stats.udp_tx.bytes) as f64
}

/// One page of the list: what has changed since a time.
async fn list(
    connection: &Connection,
    since_ms: u64,
    limit: u32,
) -> anyhow::Result<Vec<(Frame, wire::Summary)>> {
    let what =
        What::ListConversations(wire::ListConversations { page: Bytes::new(), limit, since_ms });
    let answers = dial::request(connection, what).await?;
    let lines = answers.into_iter().filter_map(|(frame, what)| match what {
        What::Summary(summary) => Some((frame, summary)),
        _ => None,
    });
    Ok(lines.collect())
}
