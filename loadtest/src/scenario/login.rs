//! One person's visits: what it takes, in bytes and round trips, to come back to many
//! conversations of which some have changed; how soon the first missed message is there, with and
//! without early data; and how long the first page of the list takes.

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
use super::visit::{Found, Line, Pair};
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
/// Conversations on the screen, which a visit with early data attaches to at once.
const ON_SCREEN_MAX: usize = 8;
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
    let mut tally = Tally::default();
    let before = meter.cpu();
    let until = Instant::now() + Duration::from_secs_f64(options.seconds());
    progress.stage("visits");
    while figures.visits < 3 || Instant::now() < until {
        home.change().await?;
        let kind = Kind::of(figures.visits);
        let visited = match kind {
            Kind::Early => home.visit_early().await?,
            Kind::Full | Kind::Resumed => home.visit(kind, &connect, &resume).await?,
        };
        tally.count(kind, &visited);
        figures.visits += 1;
        home.judge(&visited.found, &mut report);
        tokio::time::sleep(VISIT_GAP).await;
    }
    progress.stage("reading the list");
    home.read_lists(&list, &mut report).await?;
    let rtt = options.link.as_ref().map(|link| link.up.delay + link.down.delay);
    let cost = Cost { before, after: meter.cpu() };
    tally.tell(rtt.unwrap_or_default(), &mut figures);
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

/// What visits took, each kind apart.
#[derive(Default)]
struct Tally {
    full_bytes: Vec<f64>,
    resumed_bytes: Vec<f64>,
    handshake_bytes: Vec<f64>,
    missed_bytes: Vec<f64>,
    waited_us: Vec<f64>,
    full_first_us: Vec<f64>,
    early_first_us: Vec<f64>,
    early: u64,
}

impl Tally {
    fn count(&mut self, kind: Kind, visited: &Visited) {
        let first_us = visited.first.as_secs_f64() * 1e6;
        self.missed_bytes.push(visited.found.bytes as f64);
        if kind == Kind::Early {
            self.early += u64::from(visited.is_accepted.is_some());
            self.early_first_us.extend((visited.is_accepted == Some(true)).then_some(first_us));
            return;
        }
        if kind == Kind::Full {
            self.full_first_us.push(first_us);
            self.full_bytes.push(visited.bytes);
        } else {
            self.resumed_bytes.push(visited.bytes);
        }
        self.handshake_bytes.push(visited.handshake_bytes);
        self.waited_us.push(visited.waited.as_secs_f64() * 1e6);
    }

    fn tell(mut self, rtt: Duration, figures: &mut Visit) {
        let rtt_us = rtt.as_secs_f64() * 1e6;
        figures.round_trips = (rtt_us > 0.0).then(|| median(&mut self.waited_us) / rtt_us);
        figures.wire_bytes_full = median(&mut self.full_bytes);
        figures.wire_bytes_resumed = median(&mut self.resumed_bytes);
        figures.wire_bytes_handshake = median(&mut self.handshake_bytes);
        figures.missed_bytes = median(&mut self.missed_bytes);
        figures.first_missed_full_ms = median(&mut self.full_first_us) / 1e3;
        figures.early_visits = self.early;
        figures.early_accepted = self.early_first_us.len() as u64;
        figures.first_missed_ms =
            (figures.early_accepted > 0).then(|| median(&mut self.early_first_us) / 1e3);
    }
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
    /// The same with early data.
    early: quinn::ClientConfig,
    token: String,
    /// All conversations, and what was seen of them.
    pairs: HashMap<ConversationId, Pair>,
    writers: Vec<(Connection, Control, Pair)>,
    texts: Arc<Bodies>,
    missed: usize,
    /// When something happened last, as far as the person knows: Unix milliseconds.
    seen_ms: u64,
}

/// How a visit begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With a full handshake.
    Full,
    /// With a TLS session of the visit before.
    Resumed,
    /// With that, and what it says first leaves before the handshake is done.
    Early,
}

impl Kind {
    fn of(visit: u64) -> Self {
        match visit % 3 {
            0 => Self::Full,
            1 => Self::Resumed,
            _ => Self::Early,
        }
    }
}

/// One visit.
struct Visited {
    found: Found,
    /// From the first packet's leaving to the first missed message.
    first: Duration,
    /// Whether the server took the early data, if there was any.
    is_accepted: Option<bool>,
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
            early: dial::early_config(target, ALPN)?,
            token: tokens[0].clone(),
            pairs: pairs.into_iter().collect(),
            writers,
            texts,
            missed: options.missed,
            seen_ms: 0,
        };
        home.look_around(home.config.clone()).await?;
        // The first visit with early data needs a ticket of one before it.
        home.look_around(home.early.clone()).await?;
        Ok(home)
    }

    /// Learns when something happened last.
    async fn look_around(&mut self, config: quinn::ClientConfig) -> anyhow::Result<()> {
        let connection = self.connect(config).await?;
        let control = dial::hello(&connection, self.token.clone()).await?;
        let lines = list(&connection, 0, 1).await?;
        self.seen_ms = lines.first().map_or(0, |(_, line)| line.last_activity_ms);
        drop(control);
        connection.close(0u32.into(), b"");
        Ok(())
    }

    async fn connect(&self, config: quinn::ClientConfig) -> anyhow::Result<Connection> {
        let connecting = self.dial(config)?;
        Ok(tokio::time::timeout(dial::TIMEOUT, connecting)
            .await
            .context("no handshake in time")??)
    }

    fn dial(&self, config: quinn::ClientConfig) -> anyhow::Result<quinn::Connecting> {
        let Target { address, server_name, .. } = &self.target;
        Ok(self.endpoint.connect_with(config, *address, server_name)?)
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
        kind: Kind,
        connect: &Series,
        resume: &Series,
    ) -> anyhow::Result<Visited> {
        let ns = |since: Instant| u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // One without tickets of its own pays the full handshake.
        let config = match kind {
            Kind::Full => dial::client_config(&self.target, ALPN, false)?,
            Kind::Resumed | Kind::Early => self.config.clone(),
        };
        let began = Instant::now();
        let connection = self.connect(config).await?;
        let handshake_bytes = udp_bytes(&connection);
        let connected = Instant::now();
        // First round trip.
        let hello = dial::hello(&connection, self.token.clone());
        let (control, lines) = tokio::join!(hello, list(&connection, self.seen_ms + 1, PAGE));
        let (control, lines) = (control?, lines?);
        connect.record(ns(began));
        let found = self.read_changed(&connection, &lines, Vec::new()).await?;
        resume.record(ns(began));
        let waited = connected.elapsed();
        let first = found.first.context("nothing was missed")?.duration_since(began);
        tokio::time::sleep(SETTLE).await;
        let bytes = udp_bytes(&connection);
        drop(control);
        connection.close(0u32.into(), b"");
        Ok(Visited { found, first, is_accepted: None, waited, bytes, handshake_bytes })
    }

    /// The same with early data: with the first packets leave Hello and the Attach of what is on the
    /// screen; the list tells the rest.
    async fn visit_early(&mut self) -> anyhow::Result<Visited> {
        let config = self.early.clone();
        let began = Instant::now();
        let (connection, handshake) = match self.dial(config)?.into_0rtt() {
            Ok((connection, accepted)) => (connection, Some(accepted)),
            Err(connecting) => {
                let connected = tokio::time::timeout(dial::TIMEOUT, connecting).await;
                (connected.context("no handshake in time")??, None)
            }
        };
        let on_screen = self.writers.iter().take(ON_SCREEN_MAX);
        let on_screen: Vec<_> = on_screen
            .filter_map(|(_, _, writer)| self.pairs.get(&writer.conversation).copied())
            .collect();
        let attached = concurrently(ON_SCREEN_MAX, on_screen, |mut pair| {
            let connection = connection.clone();
            async move {
                let mut line = pair.attach(&connection).await?;
                let found = pair.catch_up(&mut line).await?;
                anyhow::Ok((pair, line, found))
            }
        });
        let hello = dial::hello(&connection, self.token.clone());
        let (control, attached) = tokio::join!(hello, attached);
        let (control, attached) = (control?, attached?);
        let is_accepted = match handshake {
            Some(handshake) => Some(handshake.await),
            None => None,
        };
        let lines = list(&connection, self.seen_ms + 1, PAGE).await?;
        let found = self.read_changed(&connection, &lines, attached).await?;
        let first = found.first.context("nothing was missed")?.duration_since(began);
        let waited = began.elapsed();
        tokio::time::sleep(SETTLE).await;
        let bytes = udp_bytes(&connection);
        drop(control);
        connection.close(0u32.into(), b"");
        Ok(Visited { found, first, is_accepted, waited, bytes, handshake_bytes: 0.0 })
    }

    /// Reads what was missed in the conversations of these lines, but for those that are `read`
    /// already, and says so.
    async fn read_changed(
        &mut self,
        connection: &Connection,
        lines: &[(Frame, wire::Summary)],
        read: Vec<(Pair, Line, Found)>,
    ) -> anyhow::Result<Found> {
        let expected = self.writers.len();
        ensure!(lines.len() == expected, "{} lines changed of {expected}", lines.len());
        let mut found = Found::default();
        let mut attached = Vec::with_capacity(lines.len());
        let mut at_hand = HashMap::new();
        for (pair, line, missed) in read {
            found.add(missed);
            at_hand.insert(pair.conversation, (pair, line));
        }
        for (frame, line) in lines {
            let id = ConversationId::from_slice(&line.conversation).map_err(anyhow::Error::msg)?;
            ensure!(line.unread > 0, "nothing unread in {id}");
            self.seen_ms = self.seen_ms.max(line.last_activity_ms);
            let (pair, stream) = match at_hand.remove(&id) {
                Some(at_hand) => at_hand,
                None => {
                    let pair = self.pairs.get(&id).copied().context("an unknown conversation")?;
                    // None of these waits for another.
                    (pair, pair.attach(connection).await?)
                }
            };
            attached.push((pair, stream, frame.seq));
        }
        for (mut pair, mut stream, head) in attached {
            found.add(pair.read_to(&mut stream, head).await?);
            let own = wire::MemberReceipt { delivered: head, read: head, ..Default::default() };
            let receipts = wire::Receipts { members: vec![own], ..Default::default() };
            stream.send.write_chunk(frame::encode(&frame::bare(What::Receipts(receipts)))).await?;
            stream.send.finish()?;
            self.pairs.insert(pair.conversation, pair);
        }
        Ok(found)
    }

    fn judge(&self, found: &Found, report: &mut Report) {
        let wanted = (self.writers.len() * self.missed) as u64;
        report.verdict.lost += wanted.saturating_sub(found.entries);
        report.verdict.duplicated += found.duplicated + found.entries.saturating_sub(wanted);
        report.verdict.gaps += found.gaps;
    }

    /// The first page of the whole list, again and again.
    async fn read_lists(&self, series: &Series, report: &mut Report) -> anyhow::Result<()> {
        let connection = self.connect(self.config.clone()).await?;
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
