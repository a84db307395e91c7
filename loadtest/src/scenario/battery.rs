//! What idle sessions cost: as many in the background as in the foreground, each kind behind a link of its
//! own that counts their packets. With a rate, messages come to all of them in turn afterwards.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use petrel_client::{
    Attention, Client, ClientOptions, ConversationId, ConversationRef, Event, Identity, Observer,
    UserId, kind,
};
use rustc_hash::FxHashMap;

use super::one_to_one::texts;
use super::people::{self, concurrently, dialers};
use crate::battery::{Battery, Hourly, SPAN_S_MIN, Trickle};
use crate::body::{self, Bodies};
use crate::dial::{self, Target};
use crate::environment;
use crate::layout::Lane;
use crate::ledger::{Clock, Ledger, Seen};
use crate::link::{Link, Profile};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::Report;
use crate::server::Server;
use crate::traffic::until;

/// The network, unless another one is asked for.
const LINK: &str = "clean";
/// Sessions that one sender writes to: each is a stream of his.
const SESSIONS_OF_SENDER: usize = 32;
/// Clients that dial at once.
const DIALS: usize = 32;
/// Nothing is counted until the last sign-in and its acknowledgements are over.
const SETTLE: Duration = Duration::from_secs(5);
/// Messages come for so long before they are counted, so that some are held at the end as at the beginning.
const TRICKLE_BEFORE: Duration = Duration::from_secs(60);
/// How long everything may take to arrive once all have come back.
const DRAIN: Duration = Duration::from_secs(60);

/// Sessions of one kind, with their link.
struct Side {
    link: Link,
    ledger: Arc<Ledger>,
    clients: Vec<Client>,
}

/// Writes down what a client hears. A conversation has the number of its session.
struct Ears {
    clock: Clock,
    user: UserId,
    /// Of which conversations, where they are booked, and as which of their members.
    lanes: FxHashMap<ConversationId, (Arc<Ledger>, Lane)>,
    /// Where errors are booked.
    ledger: Arc<Ledger>,
}

impl Observer for Ears {
    fn event(&self, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Entry(entry) if entry.sender != self.user => {
                if let Some((ledger, lane)) = self.lanes.get(&entry.conversation) {
                    let hash = entry.body.map(|plain| body::hash(&plain)).unwrap_or_default();
                    ledger.entered(*lane, Seen { id: entry.id.0, seq: entry.seq, hash }, now);
                }
            }
            Event::Acked(acked) => {
                if let Some((ledger, lane)) = self.lanes.get(&acked.conversation) {
                    ledger.acked(*lane, acked.id.0, acked.seq, now);
                }
            }
            Event::Refused(refused) => self.ledger.error(refused.code.label()),
            Event::Offline { .. } => self.ledger.error("offline"),
            Event::Gap { .. } => self.ledger.error("gap"),
            Event::Reset { .. } => self.ledger.error("reset"),
            _ => {}
        }
    }
}

/// Runs it.
///
/// # Errors
/// When there can be no report: no server, no sign-in.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let sessions = options.users();
    let writes = options.rate() > 0.0;
    let senders = if writes { (2 * sessions).div_ceil(SESSIONS_OF_SENDER) } else { 0 };
    let (server, identities) = people::gather(options, 2 * sessions + senders, progress).await?;
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, server.admin);
    report.connections = identities.len();
    let clock = Clock::start();
    let (resting, writing) = identities.split_at(2 * sessions);
    let (of_background, of_foreground) = resting.split_at(sessions);
    let begin =
        |people, attention| Side::start(&server, people, writing, attention, clock, options);
    progress.stage("signing in");
    let sides = [
        begin(of_background, Attention::Background).await?,
        begin(of_foreground, Attention::Foreground).await?,
    ];
    let settle = SETTLE + Duration::from_secs_f64(options.warmup);
    progress.during("settling", settle, tokio::time::sleep(settle)).await;

    let span = Duration::from_secs_f64(options.seconds());
    let idle = count(&sides, progress.during("idle", span, tokio::time::sleep(span))).await;
    let mut battery = Battery { sessions, measured_s: span.as_secs_f64(), ..Battery::default() };
    (battery.background.idle, battery.foreground.idle) = (idle[0], idle[1]);
    let mut senders_left = None;
    if writes {
        let senders = Senders::start(&server, (resting, writing), &sides, clock, options).await?;
        let before = senders.write(TRICKLE_BEFORE, false);
        progress.during("messages", TRICKLE_BEFORE, before).await?;
        let writing = progress.during("messages", span, senders.write(span, true));
        let (all, written) = counted(&sides, writing).await;
        let per_hour = written? as f64 / (2 * sessions) as f64 / span.as_secs_f64() * 3_600.0;
        progress.stage("waiting for answers");
        come_back(&sides).await;
        let both = [&mut battery.background, &mut battery.foreground];
        for ((side, all), told) in sides.iter().zip(all).zip(both) {
            let delivery_ms = side.ledger.series().delivery.quantiles();
            told.trickle = Some(Trickle::new(all, &told.idle, per_hour, delivery_ms));
        }
        senders_left = Some(senders);
    }
    report.battery = Some(battery);
    if options.seconds() < SPAN_S_MIN {
        let why =
            format!("{} s were measured; at least {SPAN_S_MIN} are needed", options.seconds());
        report.invalid_because.push(why);
    }
    progress.stage("closing");
    for side in sides {
        side.close(&mut report).await;
    }
    // Last, as their leaving is written down with the errors of a side.
    if let Some(senders) = senders_left {
        senders.close().await;
    }
    if !report.errors.is_empty() {
        report.invalid_because.push(format!("errors: {:?}", report.errors));
    }
    tokio::task::spawn_blocking(move || server.stop()).await??;
    report.judge();
    Ok(report)
}

/// What the links count while something is done, per session and hour.
async fn count(sides: &[Side; 2], work: impl Future<Output = ()>) -> [Hourly; 2] {
    counted(sides, work).await.0
}

async fn counted<T>(sides: &[Side; 2], work: impl Future<Output = T>) -> ([Hourly; 2], T) {
    let look = || sides.each_ref().map(|side| side.link.counts());
    let (before, began) = (look(), Instant::now());
    let done = work.await;
    let (after, span_s) = (look(), began.elapsed().as_secs_f64());
    let of = |n: usize| Hourly::between(&before[n], &after[n], sides[n].clients.len(), span_s);
    ([of(0), of(1)], done)
}

/// Everybody looks: what was held comes.
async fn come_back(sides: &[Side; 2]) {
    for client in sides.iter().flat_map(|side| &side.clients) {
        client.set_attention(Attention::Foreground);
    }
    // What is missing then counts as lost.
    until(DRAIN, || sides.iter().all(|side| side.ledger.outstanding() == 0)).await;
}

/// Which of the writers writes to this session of all.
fn sender_of(session: usize) -> usize {
    session / SESSIONS_OF_SENDER
}

impl Side {
    async fn start(
        server: &Server,
        people: &[Identity],
        writing: &[Identity],
        attention: Attention,
        clock: Clock,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let profile = match &options.link {
            Some(profile) => profile.clone(),
            None => Profile::parse(LINK).map_err(anyhow::Error::msg)?,
        };
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let link = Link::start(&profile, listen, server.target.address, options.seed)?;
        let front = Target { address: link.address(), apart: true, ..server.target.clone() };
        let ledger = Arc::new(Ledger::new(people.len()));
        // Those in the foreground come behind those in the background.
        let first = if attention == Attention::Background { 0 } else { people.len() };
        let dialers = dialers(&front, people.len(), options.transport)?;
        let everybody = people.iter().zip(dialers).enumerate();
        let clients = concurrently(DIALS, everybody, |(session, (identity, dialer))| {
            let mut lanes = FxHashMap::default();
            if let Some(sender) = writing.get(sender_of(first + session)) {
                let id = ConversationId::of_pair(identity.user, sender.user);
                let lane = Lane { conversation: session, member: 1 };
                lanes.insert(id, (Arc::clone(&ledger), lane));
            }
            let ears = Ears { clock, user: identity.user, lanes, ledger: Arc::clone(&ledger) };
            let mut options = ClientOptions::new(dialer, identity.clone());
            options.attention = attention;
            client(options, ears)
        })
        .await?;
        Ok(Self { link, ledger, clients })
    }

    async fn close(self, report: &mut Report) {
        report.verdict += self.ledger.verdict();
        for (code, count) in self.ledger.errors() {
            *report.errors.entry(code).or_default() += count;
        }
        report.findings.extend(self.ledger.findings());
        for client in self.clients {
            report.client.reconnects += client.stats().reconnects;
            client.close().await;
        }
    }
}

async fn client(mut options: ClientOptions, ears: Ears) -> anyhow::Result<Client> {
    options.agent = "petrel-loadtest".to_owned();
    let client = Client::start_with_observer(options, Arc::new(ears)).await?;
    let online = tokio::time::timeout(dial::TIMEOUT, client.online());
    online.await.context("not signed in in time")??;
    Ok(client)
}

/// Those who write to all sessions in turn. They reach the server without a link.
struct Senders {
    clients: Vec<Client>,
    /// By session, in the order in which they have their turn: who writes where, and where it is booked.
    turns: Vec<(usize, ConversationRef, Arc<Ledger>, Lane)>,
    bodies: Bodies,
    clock: Clock,
    every: Duration,
}

impl Senders {
    async fn start(
        server: &Server,
        (resting, writing): (&[Identity], &[Identity]),
        sides: &[Side; 2],
        clock: Clock,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let mut lanes: Vec<FxHashMap<_, _>> =
            writing.iter().map(|_| FxHashMap::default()).collect();
        let mut turns = Vec::with_capacity(resting.len());
        for (session, identity) in resting.iter().enumerate() {
            let each = resting.len() / 2;
            let (ledger, number) = (&sides[session / each].ledger, sender_of(session));
            let lane = Lane { conversation: session % each, member: 0 };
            let id = ConversationId::of_pair(identity.user, writing[number].user);
            lanes[number].insert(id, (Arc::clone(ledger), lane));
            let peer = Some(identity.user);
            turns.push((number, ConversationRef { id, peer }, Arc::clone(ledger), lane));
        }
        // One of each kind after the other.
        turns.sort_by_key(|(.., lane)| lane.conversation);
        let dialer = &dialers(&server.target, 1, options.transport)?[0];
        let everybody = writing.iter().zip(lanes);
        let clients = concurrently(DIALS, everybody, |(identity, lanes)| {
            let ledger = Arc::clone(&sides[0].ledger);
            let options = ClientOptions::new(dialer.clone(), identity.clone());
            client(options, Ears { clock, user: identity.user, lanes, ledger })
        })
        .await?;
        let every = Duration::from_secs_f64(1.0 / options.rate());
        Ok(Self { clients, turns, bodies: texts(options)?, clock, every })
    }

    /// Writes to one session after the other for so long; how many messages.
    async fn write(&self, lasting: Duration, measured: bool) -> anyhow::Result<u64> {
        let end = Instant::now() + lasting;
        let mut tick = tokio::time::interval(self.every);
        let mut written = 0;
        loop {
            let due = tick.tick().await.into_std();
            if due >= end {
                return Ok(written);
            }
            let turn = usize::try_from(written)?;
            let (sender, to, ledger, lane) = &self.turns[turn % self.turns.len()];
            let body = self.bodies.get(turn % self.bodies.count());
            let id = self.clients[*sender].send(to, kind::TEXT, body.text.clone())?;
            ledger.sent(*lane, id.0, self.clock.of(due), body.hash, measured);
            written += 1;
        }
    }

    async fn close(self) {
        for client in self.clients {
            client.close().await;
        }
    }
}
