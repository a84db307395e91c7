//! Several gateways, one service. The database orders, so a gateway is nothing but sessions, caches and speed; what they tell
//! each other here makes it fast, and the journal in the database makes it sure (docs/decisions/0018):
//!
//! * [`registry`]: which gateways live, by heartbeats in the database;
//! * [`link`]: a connection to each; [`peer`]: what waits for it; [`routes`]: who is signed in there;
//! * [`journal`]: what all of them have committed, read once a second, for whatever did not come.
//!
//! A gateway that is alone has no peers, and goes the same ways.

pub(crate) mod identity;
mod journal;
mod link;
mod peer;
mod registry;
mod routes;
mod wire;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::{Mutex, RwLock};
use petrel_core::change::Audience;
use petrel_core::conversation::Conversation;
use petrel_core::entry::{Entry, EntryKind};
use petrel_core::id::{ConversationId, NodeId, RightsVersion, UserId};
use petrel_core::store::{NodeRecord, Receipt};
use petrel_proto::wire::{NodePreview, NodeReceipts, NodeTyping};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Config;
use crate::conversation_table::Cell;
use crate::fanout::Origin;
use crate::gateway::Gateway;
use crate::{clock, metrics};
pub(crate) use peer::Peer;
pub(crate) use registry::NodeView;
pub(crate) use routes::PeerSet;
use routes::{PeerNumber, Routes};

/// Peers at once, at the most.
const PEERS_MAX: usize = 1_000;
/// Members up to whom each is looked up for each entry.
const LOOKED_UP_MAX: usize = 64;
/// In larger conversations the peers with members are found again after so many seconds.
const INTEREST_S: u32 = 1;
/// Heartbeats that are older are told of as late, and no client is sent to a gateway whose last one is.
const LATE_BEAT: Duration = Duration::from_secs(5);
/// Conversations in doubt, at the most.
const DOUBTFUL_MAX: usize = 4_096;
/// How long a node that dials is waited for in the list of nodes.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Conversations that are loaded at once for peers' entries; further ones are left to the journal.
const LOADS_MAX: usize = 64;
/// How long loading a conversation for a peer's entry may take; what comes to nothing is told by the journal.
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// This gateway among others.
#[derive(Debug)]
pub(crate) struct Cluster {
    own: NodeRecord,
    /// Where it listens for others, once it does.
    address: OnceLock<String>,
    is_draining: AtomicBool,
    service: String,
    /// Whether there may be others at all.
    is_on: bool,
    /// Who is signed in elsewhere.
    pub(crate) routes: Routes,
    peers: RwLock<Peers>,
    links: AtomicUsize,
    view: registry::View,
    /// Conversations that are being loaded because of peers' entries.
    loads: Arc<Semaphore>,
    /// Conversations of which it is not known what became of a change here.
    doubtful: Mutex<Vec<ConversationId>>,
    /// Somebody wants the list of nodes to be read now.
    hurry: Notify,
    /// Cancelled when nobody is signed in here any more.
    closing: CancellationToken,
}

#[derive(Debug, Default)]
struct Peers {
    by_node: FxHashMap<NodeId, Arc<Peer>>,
    by_number: FxHashMap<PeerNumber, Arc<Peer>>,
    /// Numbers are not given again.
    next_number: u32,
}

/// Where members of a large conversation are, as of some second.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    read_s: u32,
    peers: PeerSet,
}

impl Cluster {
    /// As the settings say; the node is new with each start.
    pub(crate) fn new(config: &Config, node: NodeId) -> Self {
        let cluster = &config.cluster;
        let own = NodeRecord {
            id: node,
            name: cluster.name.clone().unwrap_or_default(),
            address: String::new(),
            clients: config.gateway.advertise.clone().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            is_draining: false,
        };
        Self {
            own,
            address: OnceLock::new(),
            is_draining: AtomicBool::new(false),
            service: config.auth.audience.clone(),
            is_on: cluster.listen.is_some(),
            routes: Routes::default(),
            peers: RwLock::default(),
            links: AtomicUsize::new(0),
            view: registry::View::default(),
            loads: Arc::new(Semaphore::new(LOADS_MAX)),
            doubtful: Mutex::default(),
            hurry: Notify::new(),
            closing: CancellationToken::new(),
        }
    }

    /// A name for this run of the gateway.
    pub(crate) fn new_node() -> NodeId {
        NodeId::from(Uuid::now_v7())
    }

    /// What this node says of itself.
    pub(crate) fn own(&self) -> NodeRecord {
        NodeRecord {
            address: self.address.get().cloned().unwrap_or_default(),
            is_draining: self.is_draining.load(Ordering::Relaxed),
            ..self.own.clone()
        }
    }

    fn service(&self) -> &str {
        &self.service
    }

    /// Whether there may be other gateways.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether it tells others that it sends its clients away.
    pub(crate) fn set_draining(&self, is_draining: bool) {
        self.is_draining.store(is_draining, Ordering::Relaxed);
        self.hurry.notify_one();
    }

    /// The nodes as the store told of them last, and how their links are.
    pub(crate) fn view(&self) -> Vec<NodeView> {
        self.view.nodes(|node| self.peer(node).is_some_and(|peer| peer.is_up()))
    }

    /// Whether there are other gateways to which clients can go.
    pub(crate) fn has_others(&self) -> bool {
        self.view().iter().any(|view| self.is_for_clients(view))
    }

    /// What does not work as it should: heartbeats to the database, links to gateways that live.
    fn degraded(&self) -> Vec<&'static str> {
        let mut degraded = Vec::new();
        if self.is_on {
            if self.view.age().is_none_or(|age| age > LATE_BEAT) {
                degraded.push("cluster heartbeats");
            }
            let peers = self.peers.read().by_node.len();
            if self.links.load(Ordering::Relaxed) < peers {
                degraded.push("cluster links");
            }
        }
        degraded
    }

    /// Where clients reach other gateways themselves, as far as they say.
    pub(crate) fn alternatives(&self) -> Vec<String> {
        let others = self.view().into_iter().filter(|view| self.is_for_clients(view));
        others.map(|view| view.node.clients).filter(|at| !at.is_empty()).collect()
    }

    fn is_for_clients(&self, view: &NodeView) -> bool {
        view.node.id != self.own.id
            && !view.has_left
            && !view.node.is_draining
            && view.silent < LATE_BEAT
    }

    /// Whether what was stored elsewhere comes over a link: then a hole is likely to close by itself.
    pub(crate) fn is_linked(&self) -> bool {
        self.links.load(Ordering::Relaxed) > 0
    }

    fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().by_node.get(&node).cloned()
    }

    fn each_peer(&self, peers: &PeerSet, mut tell: impl FnMut(&Peer)) {
        let known = self.peers.read();
        for number in peers {
            if let Some(peer) = known.by_number.get(number) {
                tell(peer);
            }
        }
    }

    /// Has the list of nodes read until this node is on it, for some time.
    async fn look_for(&self, node: NodeId) {
        let looking = async {
            while self.peer(node).is_none() {
                self.hurry.notify_one();
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        tokio::time::timeout(LOOK_TIMEOUT, looking).await.ok();
    }

    /// Peers at which somebody is signed in who may see this.
    fn peers_of(&self, readers: impl Iterator<Item = UserId>) -> PeerSet {
        let mut peers = PeerSet::new();
        for user in readers {
            self.routes.add_peers_of(user, &mut peers);
        }
        peers
    }

    fn peers_of_conversation(
        &self,
        cell: &Cell,
        conversation: &Conversation<Origin>,
        kind: u16,
    ) -> PeerSet {
        // Whoever comes in with an event is to hear of it, and his gateway may have had no member before.
        let is_event = kind == EntryKind::Group.number();
        if is_event || conversation.members().nth(LOOKED_UP_MAX).is_none() {
            return self.peers_of(conversation.members());
        }
        let now_s = clock::coarse_s();
        let mut interest = cell.interest().lock();
        if now_s >= interest.read_s.saturating_add(INTEREST_S) {
            *interest = Interest { read_s: now_s, peers: self.peers_of(conversation.members()) };
        }
        interest.peers.clone()
    }

    /// It is not known what became of a change here: these conversations are looked at until the store answers.
    pub(crate) fn doubt(&self, conversations: impl Iterator<Item = ConversationId>) {
        if self.is_on {
            let mut doubtful = self.doubtful.lock();
            let room = DOUBTFUL_MAX.saturating_sub(doubtful.len());
            doubtful.extend(conversations.take(room));
        }
    }

    /// A user's sessions here have changed.
    pub(crate) fn note(&self, user: UserId) {
        for peer in self.peers.read().by_node.values() {
            peer.note(user);
        }
    }
}

/// Counts a link for as long as it stands.
struct Standing<'a>(&'a Cluster, &'a Peer);

impl<'a> Standing<'a> {
    fn new(cluster: &'a Cluster, peer: &'a Peer) -> Self {
        peer.set_up(true);
        cluster.links.fetch_add(1, Ordering::Relaxed);
        Self(cluster, peer)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.1.set_up(false);
        self.0.links.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Joins the cluster, if there may be one: from then on this gateway is told of what others commit. To be called before
/// anybody can sign in.
///
/// # Errors
/// The settings name files or an address that cannot be used; the store does not answer.
pub(crate) async fn join(gateway: &Arc<Gateway>) -> Result<()> {
    let settings = &gateway.config.cluster;
    let (Some(listen), Some(name)) = (settings.listen, &settings.name) else { return Ok(()) };
    let (Some(ca), Some(certificate), Some(key)) =
        (&settings.ca, &settings.certificate, &settings.key)
    else {
        return Ok(());
    };
    let identity = identity::Identity::read(ca, certificate, key, name)?;
    let endpoint = link::open(listen, &identity)?;
    let listens = endpoint.local_addr().context("the socket of cluster.listen has no address")?;
    let address = settings.advertise.clone().unwrap_or_else(|| listens.to_string());
    // Set once, as this is called once.
    gateway.cluster.address.set(address).ok();
    let refused = "the list of gateways in the database cannot be read";
    registry::beat(gateway, &endpoint).await.context(refused)?;
    let marks = journal::begin(gateway).await.context(refused)?;
    let (tasks, gateway) = (&gateway.tasks, || Arc::clone(gateway));
    tasks.spawn(link::accept(gateway(), endpoint.clone()));
    tasks.spawn(registry::run(gateway(), endpoint));
    tasks.spawn(journal::run(gateway(), marks));
    tasks.spawn(journal::trim(gateway()));
    Ok(())
}

/// Leaves it: nobody is signed in any more.
pub(crate) async fn leave(gateway: &Gateway) {
    if gateway.cluster.is_on {
        gateway.cluster.closing.cancel();
        registry::leave(gateway).await;
    }
}

impl Gateway {
    /// A peer is gone, and with it everybody who was signed in there.
    fn forget_users_of(&self, peer: &Peer) {
        for user in self.cluster.routes.sweep(peer.number, None, &peer.users) {
            self.presence.note(user);
        }
    }

    /// What works less well than it should, while chat goes on.
    pub(crate) fn degraded(&self) -> Vec<&'static str> {
        let mut degraded = self.cluster.degraded();
        if self.sessions.marks().is_some_and(|marks| marks.waiting().1 > LATE_BEAT) {
            degraded.push("redis");
        }
        degraded
    }

    /// Whether a user is there, at any gateway.
    pub(crate) fn is_there(&self, user: UserId) -> bool {
        self.sessions.attendance(user).attentive > 0 || self.cluster.routes.is_attentive(user)
    }

    /// Gives an entry that was committed here to the gateways of its readers. The conversation is locked.
    pub(crate) fn forward(&self, cell: &Cell, conversation: &Conversation<Origin>, entry: &Entry) {
        if !self.cluster.is_linked() {
            return;
        }
        let mut peers = self.cluster.peers_of_conversation(cell, conversation, entry.kind);
        for leaver in conversation.leavers(entry.placed.seq) {
            self.cluster.routes.add_peers_of(leaver, &mut peers);
        }
        self.forward_to(&peers, entry);
    }

    /// The same for an entry of a user's own log, which is not in memory here.
    pub(crate) fn forward_to_user(&self, user: UserId, entry: &Entry) {
        if self.cluster.is_linked() {
            self.forward_to(&self.cluster.peers_of(std::iter::once(user)), entry);
        }
    }

    fn forward_to(&self, peers: &PeerSet, entry: &Entry) {
        if peers.is_empty() {
            return;
        }
        let frame = wire::entry(entry);
        self.cluster.each_peer(peers, |peer| peer.send_entry(entry.conversation, frame.clone()));
    }

    /// Shows a preview at the gateways of its readers.
    pub(crate) fn forward_preview(
        &self,
        conversation: &Conversation<Origin>,
        sender: UserId,
        shown: &bytes::Bytes,
    ) {
        if self.cluster.is_linked() {
            let peers = self.cluster.peers_of(conversation.members());
            let of = (conversation.id(), conversation.rights_version());
            let frame = wire::preview(of, sender, shown);
            self.cluster.each_peer(&peers, |peer| peer.send_ephemeral(frame.clone()));
        }
    }

    /// Tells the gateways of a conversation's members of receipts that moved here.
    pub(crate) fn forward_receipts(
        &self,
        conversation: ConversationId,
        members: &[UserId],
        moved: &[(UserId, Receipt)],
    ) {
        if self.cluster.is_linked() {
            let peers = self.cluster.peers_of(members.iter().copied());
            if !peers.is_empty() {
                let frame = wire::receipts(conversation, moved);
                self.cluster.each_peer(&peers, |peer| peer.send_ephemeral(frame.clone()));
            }
        }
    }

    /// Tells the gateways of these users that somebody types; `false` if they are at none.
    pub(crate) fn forward_typing(
        &self,
        conversation: &Conversation<Origin>,
        (user, stopped, shown): (UserId, bool, Audience),
        told: impl Iterator<Item = UserId>,
    ) -> bool {
        if !self.cluster.is_linked() {
            return false;
        }
        let peers = self.cluster.peers_of(told);
        let of = (conversation.id(), conversation.rights_version());
        let frame = wire::typing(of, user, stopped, shown);
        self.cluster.each_peer(&peers, |peer| peer.send_ephemeral(frame.clone()));
        !peers.is_empty()
    }

    /// An entry that a peer has committed, some reader of which is here as far as the peer knows. A conversation that
    /// is not in memory is loaded apart, so that nothing behind the entry waits for the store.
    fn hear_entry(self: &Arc<Self>, entry: Entry) {
        if let Some(cell) = self.conversations.cached(entry.conversation) {
            metrics::cluster::entry_received("handed_out");
            return self.offer_from_peer(&cell, entry);
        }
        let Ok(place) = Arc::clone(&self.cluster.loads).try_acquire_owned() else {
            return metrics::cluster::entry_received("failed");
        };
        let gateway = Arc::clone(self);
        self.tasks.spawn(async move {
            let _place = place;
            let loading = gateway.conversation(entry.conversation);
            match tokio::time::timeout(LOAD_TIMEOUT, loading).await {
                Ok(Ok(Some(cell))) => {
                    metrics::cluster::entry_received("loaded");
                    gateway.hear_loaded(&cell, entry);
                }
                Ok(Ok(None)) => {}
                Ok(Err(_)) | Err(_) => metrics::cluster::entry_received("failed"),
            }
        });
    }

    fn hear_loaded(self: &Arc<Self>, cell: &Arc<Cell>, entry: Entry) {
        let seq = entry.placed.seq;
        let is_next = cell.with(|c| c.next() == seq.next() && c.take_unseen(seq));
        if is_next == Some(true) {
            // It was the last one when the log was loaded.
            cell.with(|conversation| self.hand_out_first(cell, conversation, entry));
        } else {
            self.offer_from_peer(cell, entry);
        }
    }

    fn hear_preview(&self, said: &NodePreview) {
        if let Some(id) = ConversationId::from_slice(&said.conversation)
            && let Some(cell) = self.conversations.cached(id)
        {
            self.show_preview(&cell, RightsVersion(said.rights_version), &said.frame);
        }
    }

    fn hear_receipts(&self, said: &NodeReceipts) {
        if let Some((id, moved)) = wire::read_receipts(said)
            && let Some(cell) = self.conversations.cached(id)
        {
            self.receipts.hear(&cell, moved);
        }
    }

    fn hear_peers_typing(&self, said: &NodeTyping) {
        if let Some(id) = ConversationId::from_slice(&said.conversation)
            && let Some(user) = UserId::from_slice(&said.user)
            && let Some(shown) = Audience::from_number(u64::from(said.shown))
            && let Some(cell) = self.conversations.cached(id)
        {
            let is_known =
                |c: &mut Conversation<Origin>| c.rights_version().0 >= said.rights_version;
            if cell.with(is_known) == Some(true) {
                self.show_typing(&cell, user, said.stopped, shown);
            }
        }
    }
}
