//! Another gateway, as this one speaks to it: what waits for it, in lanes, and what it has to be told of the
//! session table. Nothing here waits: what finds no room is left out, and the journal makes up for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::store::NodeRecord;
use rustc_hash::FxHashSet;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::routes::PeerNumber;
use crate::metrics;

/// Streams for entries. Those of one conversation share one; a lost packet holds up one of them alone.
const ENTRY_LANES: usize = 8;
/// All lanes: before those of entries comes the one for what may be lost (previews, receipts, typing).
pub(super) const LANES: usize = 1 + ENTRY_LANES;
/// Frames that wait in one lane, at the most.
const LANE_FRAMES_MAX: usize = 4_096;
/// Bytes that wait for one peer, in all lanes.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Users whose sessions changed since the peer was told, at the most; beyond it everybody is told of again.
const CHANGED_MAX: usize = 65_536;

/// The peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(super) node: NodeRecord,
    pub(super) number: PeerNumber,
    lanes: Vec<mpsc::Sender<Bytes>>,
    bytes: AtomicUsize,
    is_up: AtomicBool,
    changed: Mutex<Changed>,
    pub(super) roster: Notify,
    /// Cancelled when it is known to be gone.
    pub(super) gone: CancellationToken,
    /// How many users of it are known.
    pub(super) users: AtomicUsize,
    /// The newest of its rosters: older ones count no more.
    pub(super) newest_roster: AtomicU32,
    /// The connection on which it is listened to; a newer one ends it.
    listening: Mutex<CancellationToken>,
}

/// Room of a peer's queues, given back when this is dropped.
pub(super) struct Room<'a>(pub(super) &'a Peer, pub(super) usize);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.released(self.1);
    }
}

/// Whose sessions the peer has to be told of.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) users: FxHashSet<UserId>,
    pub(super) everybody: bool,
}

/// The far ends of a peer's lanes: they outlive its connections.
pub(super) type Receivers = Vec<mpsc::Receiver<Bytes>>;

impl Peer {
    pub(super) fn new(node: NodeRecord, number: PeerNumber) -> (Arc<Self>, Receivers) {
        let (lanes, receivers) = (0..LANES).map(|_| mpsc::channel(LANE_FRAMES_MAX)).unzip();
        let peer = Arc::new(Self {
            node,
            number,
            lanes,
            bytes: AtomicUsize::new(0),
            is_up: AtomicBool::new(false),
            changed: Mutex::default(),
            roster: Notify::new(),
            gone: CancellationToken::new(),
            users: AtomicUsize::new(0),
            newest_roster: AtomicU32::new(0),
            listening: Mutex::default(),
        });
        (peer, receivers)
    }

    /// Whether the link to it stands.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    pub(super) fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Release);
        if is_up {
            self.changed.lock().everybody = true;
            self.roster.notify_one();
        }
    }

    /// Begins to listen to it on another connection; cancelled when that is replaced.
    pub(super) fn listen(&self) -> CancellationToken {
        let new = CancellationToken::new();
        std::mem::replace(&mut *self.listening.lock(), new.clone()).cancel();
        new
    }

    /// Sends an entry of this conversation.
    pub(super) fn send_entry(&self, conversation: ConversationId, frame: Bytes) {
        let lane = 1 + usize::from(conversation.as_bytes()[1]) % ENTRY_LANES;
        let fate = self.put(lane, frame);
        metrics::cluster::entry_sent(fate);
    }

    /// Sends what may be lost.
    pub(super) fn send_ephemeral(&self, frame: Bytes) {
        self.put(0, frame);
    }

    fn put(&self, lane: usize, frame: Bytes) -> bool {
        if !self.is_up() {
            return false;
        }
        let bytes = frame.len();
        let has_room = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= BYTES_MAX;
        let is_taken =
            has_room && self.lanes.get(lane).is_some_and(|sender| sender.try_send(frame).is_ok());
        if !is_taken {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            metrics::cluster::overflowed();
        }
        is_taken
    }

    /// What was taken out of a lane has been written, or will not be.
    pub(super) fn released(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A user's sessions here have changed.
    pub(super) fn note(&self, user: UserId) {
        if !self.is_up() {
            return;
        }
        let mut changed = self.changed.lock();
        if changed.everybody {
            return;
        }
        changed.users.insert(user);
        if changed.users.len() > CHANGED_MAX {
            *changed = Changed { everybody: true, ..Changed::default() };
        }
        drop(changed);
        self.roster.notify_one();
    }

    /// Takes what the peer has to be told.
    pub(super) fn take_changed(&self) -> Changed {
        std::mem::take(&mut *self.changed.lock())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use petrel_core::id::NodeId;

    fn peer() -> (Arc<Peer>, Receivers) {
        let node = NodeRecord {
            id: NodeId([1; 16]),
            name: "a".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            clients: String::new(),
            version: "1".to_owned(),
            is_draining: false,
        };
        Peer::new(node, PeerNumber(0))
    }

    #[test]
    fn nothing_waits_for_a_peer_whose_link_is_down() {
        let (peer, mut lanes) = peer();
        peer.send_entry(ConversationId([1; 16]), Bytes::from_static(b"x"));
        peer.note(UserId([1; 16]));
        assert!(lanes.iter_mut().all(|lane| lane.try_recv().is_err()));
        assert_eq!(peer.waiting_bytes(), 0);
        peer.set_up(true);
        let changed = peer.take_changed();
        assert!(changed.everybody && changed.users.is_empty(), "all are told of with a new link");
    }

    #[test]
    fn what_finds_no_room_is_left_out_by_frames_and_by_bytes() {
        let (peer, mut lanes) = peer();
        peer.set_up(true);
        for _ in 0..LANE_FRAMES_MAX + 10 {
            peer.send_ephemeral(Bytes::from_static(b"xy"));
        }
        assert_eq!(peer.waiting_bytes(), 2 * LANE_FRAMES_MAX);
        let taken = std::iter::from_fn(|| lanes.first_mut()?.try_recv().ok()).count();
        peer.released(2 * taken);
        assert_eq!((taken, peer.waiting_bytes()), (LANE_FRAMES_MAX, 0));
        let large = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..20 {
            peer.send_entry(ConversationId([0; 16]), large.clone());
        }
        assert_eq!(peer.waiting_bytes(), 16 << 20);
    }

    #[test]
    fn a_conversation_keeps_its_lane_and_too_many_changes_become_everybody() {
        let (peer, mut lanes) = peer();
        peer.set_up(true);
        peer.take_changed();
        for n in 0..3 {
            peer.send_entry(ConversationId([7; 16]), Bytes::copy_from_slice(&[n]));
        }
        let busy: Vec<_> =
            lanes.iter_mut().filter_map(|lane| Some((lane.try_recv().ok()?, lane.len()))).collect();
        assert_eq!(busy, [(Bytes::from_static(&[0]), 2)]);
        for n in 0..=CHANGED_MAX as u128 {
            peer.note(UserId(n.to_be_bytes()));
        }
        assert!(peer.take_changed().everybody);
        peer.note(UserId([1; 16]));
        assert_eq!(peer.take_changed().users.len(), 1);
    }
}
