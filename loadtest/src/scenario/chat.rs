//! Users of the client SDK: one client each, its events written into the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use petrel_client::{
    Client, ClientOptions, ConversationId, ConversationRef, Event, Identity, Observer, UserId, kind,
};
use rustc_hash::FxHashMap;

use super::people::{concurrently, dialers};
use crate::body::{self, Body};
use crate::dial::{self, Connector, Target};
use crate::layout::{Lane, Layout};
use crate::ledger::{Clock, HistoryEntry, Id, Ledger, Seen};
use crate::options::{Options, Scenario};
use crate::progress::Progress;
use crate::report::Report;
use crate::traffic::Outbound;

/// Clients that dial at once.
const DIALS: usize = 32;
/// How long all clients may take to attach their conversations.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(30);
/// Conversations whose history is judged, at the most; all if there are no more.
const HISTORIES_MAX: usize = 2_000;
/// Connections that read histories at once.
const READERS: usize = 8;
/// How often one page is asked for while the server says "later".
const PAGE_TRIES: usize = 50;

/// What the observers of all clients share.
#[derive(Debug)]
struct Shared {
    ledger: Arc<Ledger>,
    clock: Clock,
    /// Which conversation of the layout an id is, and who its first member is.
    conversations: FxHashMap<ConversationId, (usize, UserId)>,
    attached: AtomicUsize,
    closing: std::sync::atomic::AtomicBool,
    /// Connections are meant to break.
    may_break: bool,
    back: Back,
}

/// When each user had the first delivery after a moment.
#[derive(Debug)]
struct Back {
    /// The moment, in nanoseconds; the highest number: there is none.
    since_ns: AtomicU64,
    first_ns: Vec<AtomicU64>,
}

impl Back {
    fn of(users: usize) -> Self {
        let never = || AtomicU64::new(u64::MAX);
        Self { since_ns: never(), first_ns: (0..users).map(|_| never()).collect() }
    }

    fn delivered(&self, user: usize, now_ns: u64) {
        if now_ns >= self.since_ns.load(Ordering::Relaxed)
            && let Some(first_ns) = self.first_ns.get(user)
        {
            first_ns.fetch_min(now_ns, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct Ears {
    shared: Arc<Shared>,
    user: UserId,
    number: usize,
}

impl Ears {
    fn lane(&self, conversation: &ConversationId) -> Option<Lane> {
        let (index, first) = self.shared.conversations.get(conversation)?;
        Some(Lane { conversation: *index, member: usize::from(self.user != *first) })
    }
}

impl Observer for Ears {
    fn event(&self, event: Event) {
        let shared = &self.shared;
        let ledger = &shared.ledger;
        match event {
            // One's own entries are known from their acks.
            Event::Entry(entry) if entry.sender == self.user => {}
            Event::Entry(entry) => {
                let now = shared.clock.now();
                shared.back.delivered(self.number, now);
                if let Some(lane) = self.lane(&entry.conversation) {
                    let seen = Seen {
                        id: entry.id.0,
                        seq: entry.seq,
                        hash: entry.body.map(|plain| body::hash(&plain)).unwrap_or_default(),
                    };
                    ledger.entered(lane, seen, now);
                }
            }
            Event::Acked(acked) => {
                let now = shared.clock.now();
                if let Some(lane) = self.lane(&acked.conversation) {
                    ledger.acked(lane, acked.id.0, acked.seq, now);
                }
            }
            Event::Preview(preview) => {
                let now = shared.clock.now();
                if let Some(lane) = self.lane(&preview.conversation) {
                    ledger.previewed(lane, preview.id.0, now);
                }
            }
            Event::Refused(refused) => {
                if let Some(lane) = self.lane(&refused.conversation) {
                    ledger.refused(lane.conversation, &refused.id.0, refused.code.label());
                }
            }
            Event::Attached { .. } => {
                shared.attached.fetch_add(1, Ordering::Relaxed);
            }
            Event::AttachRefused { code, .. } => ledger.error(&format!("attach_{code}")),
            Event::Offline { .. }
                if !shared.may_break && !shared.closing.load(Ordering::Relaxed) =>
            {
                ledger.error("offline");
            }
            Event::Reset { .. } => ledger.error("reset"),
            Event::Gap { .. } => ledger.error("gap"),
            _ => {}
        }
    }
}

/// All clients of a run.
#[derive(Debug)]
pub(super) struct Chat {
    clients: Vec<Client>,
    /// By lane: which client sends, and where to.
    lanes: Vec<(usize, ConversationRef)>,
    shared: Arc<Shared>,
}

impl Outbound for Chat {
    fn send(&self, lane: Lane, body: &Body) -> Result<Id, String> {
        let (client, conversation) = self.sender(lane);
        client
            .send(conversation, kind::TEXT, body.text.clone())
            .map(|id| id.0)
            .map_err(|error| format!("send: {error}"))
    }

    fn udp_bytes(&self) -> u64 {
        self.clients
            .iter()
            .map(|client| {
                let stats = client.stats();
                stats.udp_rx_bytes + stats.udp_tx_bytes
            })
            .sum()
    }
}

impl Chat {
    /// Who sends on a lane, and where to.
    pub(super) fn sender(&self, lane: Lane) -> (&Client, &ConversationRef) {
        let (client, conversation) = &self.lanes[lane.conversation * 2 + lane.member];
        (&self.clients[*client], conversation)
    }

    /// Signs everyone in and attaches every conversation on both sides.
    pub(super) async fn start(
        target: &Target,
        identities: &[Identity],
        layout: &Layout,
        ledger: &Arc<Ledger>,
        (clock, asked): (Clock, &Options),
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let users: Vec<UserId> = identities.iter().map(|identity| identity.user).collect();
        let conversations = (0..layout.conversations())
            .map(|index| {
                let [a, b] = layout.members(index).map(|user| users[user]);
                (ConversationId::of_pair(a, b), (index, a))
            })
            .collect();
        let shared = Arc::new(Shared {
            ledger: Arc::clone(ledger),
            clock,
            conversations,
            attached: AtomicUsize::new(0),
            closing: false.into(),
            may_break: asked.scenario == Scenario::Blackout,
            back: Back::of(users.len()),
        });
        let dialers = dialers(target, users.len(), asked.transport)?;
        progress.steps("signing in", users.len());
        let clients = concurrently(DIALS, identities.iter().enumerate(), |(number, identity)| {
            let dialer = dialers[number % dialers.len()].clone();
            let mut options = ClientOptions::new(dialer, identity.clone());
            options.agent = "petrel-loadtest".to_owned();
            options.echo = !asked.no_echo;
            options.delivered_receipts = !asked.no_receipts;
            let ears = Arc::new(Ears { shared: Arc::clone(&shared), user: identity.user, number });
            let progress = progress.clone();
            async move {
                let client = Client::start_with_observer(options, ears).await?;
                tokio::time::timeout(dial::TIMEOUT, client.online())
                    .await
                    .context("not signed in in time")??;
                progress.step();
                Ok(client)
            }
        })
        .await?;
        let lanes = (0..layout.lanes())
            .map(|index| {
                let lane = layout.lane(index);
                let members = layout.members(lane.conversation);
                let (own, peer) = (members[lane.member], members[1 - lane.member]);
                (own, clients[own].pair(users[peer]))
            })
            .collect();
        let chat = Self { clients, lanes, shared };
        chat.attach(progress).await?;
        Ok(chat)
    }

    async fn attach(&self, progress: &Progress) -> anyhow::Result<()> {
        progress.stage("attaching conversations");
        for (client, conversation) in &self.lanes {
            self.clients[*client].attach(conversation, None)?;
        }
        let deadline = Instant::now() + ATTACH_TIMEOUT;
        loop {
            let attached = self.shared.attached.load(Ordering::Relaxed);
            if attached >= self.lanes.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{attached} of {} streams attached in {ATTACH_TIMEOUT:?}; errors: {:?}",
                    self.lanes.len(),
                    self.shared.ledger.errors()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tells every client that its network has changed.
    pub(super) fn network_changed(&self) {
        for client in &self.clients {
            client.network_changed();
        }
    }

    /// From this moment on each user's first delivery is noted; `None`: no more.
    pub(super) fn note_firsts(&self, since_ns: Option<u64>) {
        let back = &self.shared.back;
        back.since_ns.store(u64::MAX, Ordering::Relaxed);
        for first_ns in &back.first_ns {
            first_ns.store(u64::MAX, Ordering::Relaxed);
        }
        back.since_ns.store(since_ns.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When each user had his first delivery since then, if he had.
    pub(super) fn firsts_ns(&self) -> Vec<Option<u64>> {
        let read = |at: &AtomicU64| Some(at.load(Ordering::Relaxed)).filter(|ns| *ns != u64::MAX);
        self.shared.back.first_ns.iter().map(read).collect()
    }

    /// Adds what the clients mended on their own, so that it does not stay hidden.
    pub(super) fn add_stats(&self, report: &mut Report) {
        for client in &self.clients {
            let stats = client.stats();
            report.client.reconnects += stats.reconnects;
            report.client.resends += stats.resends;
            report.client.duplicates_dropped += stats.duplicates;
            report.client.gaps_filled += stats.fills;
            report.client.packets_lost += stats.lost_packets;
            report.client.packets_sent += stats.sent_packets;
            report.client.probes_sent += stats.probes_sent;
            report.client.echoes_sent += stats.echoes_sent;
            report.client.echoes_rescued += stats.echoes_rescued;
            report.client.echoes_won += stats.echoes_won;
        }
    }

    /// Closes all clients.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.shared.closing.store(true, Ordering::Relaxed);
        concurrently(DIALS, self.clients, |client| async move {
            client.close().await;
            Ok(())
        })
        .await?;
        Ok(())
    }
}

/// Reads histories over connections of their own and has them judged. Returns how many.
pub(super) async fn judge_histories(
    target: &Target,
    identities: &[Identity],
    layout: &Layout,
    ledger: &Arc<Ledger>,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let step = layout.conversations().div_ceil(HISTORIES_MAX);
    let mut by_reader: FxHashMap<usize, Vec<usize>> = FxHashMap::default();
    for conversation in (0..layout.conversations()).step_by(step) {
        let [reader, _] = layout.members(conversation);
        by_reader.entry(reader).or_default().push(conversation);
    }
    progress.steps("judging histories", by_reader.len());
    let connector = Connector::new(target, by_reader.len(), false)?;
    let users: Arc<[UserId]> = identities.iter().map(|identity| identity.user).collect();
    let judged = concurrently(READERS, by_reader, |(reader, conversations)| {
        let (connector, users) = (connector.clone(), Arc::clone(&users));
        let (ledger, progress) = (Arc::clone(ledger), progress.clone());
        let identity = identities[reader].clone();
        let pairs: Vec<(usize, [usize; 2])> =
            conversations.into_iter().map(|index| (index, layout.members(index))).collect();
        async move {
            let connection = connector.connect(reader).await?;
            let token = dial::login(&connection, &identity).await?;
            let control = dial::hello(&connection, token).await?;
            let count = pairs.len() as u64;
            for (index, members) in pairs {
                let members = members.map(|user| users[user]);
                let id = ConversationId::of_pair(members[0], members[1]);
                let from = ledger.lowest_seq(index).unwrap_or(1);
                let stored = patiently(&connection, &id.0, from).await?;
                let entries: Vec<HistoryEntry> = stored
                    .into_iter()
                    .map(|entry| HistoryEntry {
                        seen: Seen { id: entry.id, seq: entry.seq, hash: entry.hash },
                        member: members.iter().position(|member| member.0 == entry.sender),
                    })
                    .collect();
                ledger.judge_history(index, &entries);
            }
            drop(control);
            connection.close(0u32.into(), b"");
            progress.step();
            Ok(count)
        }
    })
    .await?;
    connector.wait_idle().await;
    Ok(judged.iter().sum())
}

/// Reads a history, waiting where the server limits the pace of requests.
async fn patiently(
    connection: &quinn::Connection,
    conversation: &Id,
    from: u64,
) -> anyhow::Result<Vec<dial::Stored>> {
    let mut tries = 0;
    dial::history(connection, conversation, from, |refused| {
        tries += 1;
        tries < PAGE_TRIES && refused.label == petrel_proto::code::Code::RateLimited.label()
    })
    .await
}
