//! Which gateways live: each says so to the database once a second, and reads who else does. While the database does
//! not answer, those who were known stay known; their links tell whether they live.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use petrel_core::id::NodeId;
use petrel_core::store::{NodeLine, NodeRecord};
use tokio::time::Instant;

use super::peer::{Peer, Receivers};
use super::routes::PeerNumber;
use super::{Cluster, PEERS_MAX, link};
use crate::gateway::Gateway;
use crate::metrics;

/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(1);
/// Who wants the list sooner waits for the last reading to be so old.
const BEAT_MIN: Duration = Duration::from_millis(100);
/// Who was silent for so long is gone: its sessions are nowhere.
const GONE: Duration = Duration::from_secs(10);
/// The last word to the database when the gateway stops.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the database said last.
#[derive(Debug, Default)]
pub(super) struct View(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    lines: Vec<NodeLine>,
    at: Option<Instant>,
}

/// A node as it looks from here.
#[derive(Clone, Debug)]
pub(crate) struct NodeView {
    pub(crate) node: NodeRecord,
    /// Since its last heartbeat.
    pub(crate) silent: Duration,
    pub(crate) age: Duration,
    pub(crate) has_left: bool,
    /// Whether there is a link to it.
    pub(crate) is_linked: bool,
}

impl View {
    fn set(&self, lines: Vec<NodeLine>) {
        *self.0.lock() = Seen { lines, at: Some(Instant::now()) };
    }

    /// All nodes of which the database told.
    pub(super) fn nodes(&self, is_linked: impl Fn(NodeId) -> bool) -> Vec<NodeView> {
        let seen = self.0.lock();
        let since = seen.at.map_or(Duration::ZERO, |at| at.elapsed());
        let view = |line: &NodeLine| NodeView {
            node: line.node.clone(),
            silent: line.silent + since,
            age: line.age + since,
            has_left: line.has_left,
            is_linked: is_linked(line.node.id),
        };
        seen.lines.iter().map(view).collect()
    }

    /// For how long the database has not answered a heartbeat; `None`: it never has.
    pub(super) fn age(&self) -> Option<Duration> {
        self.0.lock().at.map(|at| at.elapsed())
    }

    /// Nodes but this one whose journal is to be read: also of those that are gone, as long as the database tells of
    /// them.
    pub(super) fn journals(&self, own: NodeId) -> Vec<NodeId> {
        let seen = self.0.lock();
        seen.lines.iter().map(|line| line.node.id).filter(|node| *node != own).collect()
    }
}

/// Which of these nodes are to have links: those that live, and of two runs of one gateway the newer. Whose link stands
/// lives, whatever the database has heard: it may itself have been away.
fn living(
    lines: &[NodeLine],
    own: &NodeRecord,
    is_linked: impl Fn(NodeId) -> bool,
) -> Vec<NodeRecord> {
    let lives = |line: &&NodeLine| {
        let is_replaced = lines.iter().any(|other| {
            other.node.name == line.node.name
                && other.node.id != line.node.id
                && other.age < line.age
        });
        line.node.id != own.id
            && line.node.name != own.name
            && !line.has_left
            && (line.silent < GONE || is_linked(line.node.id))
            && !is_replaced
    };
    lines.iter().filter(lives).map(|line| line.node.clone()).collect()
}

/// A peer, and the far ends of its lanes.
type NewPeer = (Arc<Peer>, Receivers);

impl Cluster {
    /// Takes over who lives. Gives back peers that are new, and those that are gone.
    fn take_over(&self, living: &[NodeRecord]) -> (Vec<NewPeer>, Vec<Arc<Peer>>) {
        let mut peers = self.peers.write();
        let is_gone = |peer: &&Arc<Peer>| !living.iter().any(|node| node.id == peer.node.id);
        let gone: Vec<_> = peers.by_node.values().filter(is_gone).cloned().collect();
        for peer in &gone {
            peers.by_node.remove(&peer.node.id);
            peers.by_number.remove(&peer.number);
        }
        let mut new = Vec::new();
        for node in living {
            if peers.by_node.contains_key(&node.id) || peers.by_node.len() >= PEERS_MAX {
                continue;
            }
            let number = PeerNumber(peers.next_number);
            peers.next_number += 1;
            let (peer, receivers) = Peer::new(node.clone(), number);
            peers.by_number.insert(number, Arc::clone(&peer));
            peers.by_node.insert(node.id, Arc::clone(&peer));
            new.push((peer, receivers));
        }
        (new, gone)
    }

    fn show(&self) {
        let peers = self.peers.read();
        let links = self.links.load(std::sync::atomic::Ordering::Relaxed);
        let waiting = peers.by_node.values().map(|peer| peer.waiting_bytes()).sum();
        metrics::cluster::show(1 + peers.by_node.len(), links, self.routes.len(), waiting);
    }
}

/// Reads who lives, and links them.
///
/// # Errors
/// The store does not answer.
pub(super) async fn beat(
    gateway: &Arc<Gateway>,
    endpoint: &quinn::Endpoint,
) -> Result<(), petrel_core::store::StoreError> {
    let (cluster, store) = (&gateway.cluster, &gateway.store);
    let Some(journal) = store.journal() else { return Ok(()) };
    let own = cluster.own();
    let lines = journal.beat(&own).await?;
    let is_linked = |node| cluster.peer(node).is_some_and(|peer| peer.is_up());
    let (new, gone) = cluster.take_over(&living(&lines, &own, is_linked));
    cluster.view.set(lines);
    for (peer, receivers) in new {
        tracing::info!(peer = peer.node.name, at = peer.node.address, "another gateway");
        let linking = link::keep(Arc::clone(gateway), endpoint.clone(), peer, receivers);
        gateway.tasks.spawn(linking);
    }
    for peer in gone {
        tracing::info!(peer = peer.node.name, "a gateway is gone");
        peer.gone.cancel();
        gateway.forget_users_of(&peer);
    }
    Ok(())
}

/// Says that this gateway lives until it stops, and then that it goes.
pub(super) async fn run(gateway: Arc<Gateway>, endpoint: quinn::Endpoint) {
    let beating = async {
        loop {
            let hurried = async {
                tokio::time::sleep(BEAT_MIN).await;
                gateway.cluster.hurry.notified().await;
            };
            tokio::time::timeout(BEAT, hurried).await.ok();
            if let Err(error) = beat(&gateway, &endpoint).await {
                metrics::cluster::beat_failed();
                tracing::debug!(%error, "no heartbeat");
            }
            gateway.cluster.show();
        }
    };
    gateway.cluster.closing.run_until_cancelled(beating).await;
}

/// Says that this gateway goes; the last it does.
pub(super) async fn leave(gateway: &Gateway) {
    if let Some(journal) = gateway.store.journal() {
        let leaving = journal.leave(gateway.cluster.own().id);
        if tokio::time::timeout(LEAVE_TIMEOUT, leaving).await.is_err() {
            tracing::debug!("the store was not told of the stop");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: u8, name: &str, silent_s: u64, age_s: u64, has_left: bool) -> NodeLine {
        NodeLine {
            node: NodeRecord {
                id: NodeId([n; 16]),
                name: name.to_owned(),
                address: format!("127.0.0.1:{n}"),
                clients: String::new(),
                version: "1".to_owned(),
                is_draining: false,
            },
            silent: Duration::from_secs(silent_s),
            age: Duration::from_secs(age_s),
            has_left,
        }
    }

    #[test]
    fn who_is_silent_has_left_or_runs_anew_is_linked_no_more() {
        let lines = [
            line(1, "own", 0, 100, false),
            line(2, "b", 1, 100, false),
            line(3, "c", 11, 100, false),
            line(4, "d", 1, 100, true),
            line(5, "e", 2, 100, false),
            line(6, "e", 0, 1, false),
            line(7, "own", 3, 200, false),
            line(8, "f", 30, 100, false),
        ];
        let names: Vec<_> = living(&lines, &lines[0].node, |node| node.0[0] == 8)
            .into_iter()
            .map(|n| (n.name, n.id.0[0]))
            .collect();
        assert_eq!(names, [("b".to_owned(), 2), ("e".to_owned(), 6), ("f".to_owned(), 8)]);
    }
}
