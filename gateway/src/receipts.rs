//! Receipts are cumulative cursors: raised in memory, written to the store in
//! batches and passed on to the other members, once in an interval.

use std::cell::LazyCell;
use std::sync::Arc;

use parking_lot::Mutex;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::store::Receipt;
use petrel_proto::wire;
use rustc_hash::FxHashMap;

use crate::conversation_table::Cell;
use crate::gateway::Gateway;
use crate::session::Session;
use crate::{clock, metrics, translate};

/// Receipts that wait, at the most; one more makes the oldest interval end at once.
const WAITING_MAX: usize = 65_536;
/// Receipts that one statement writes, at the most.
const WRITTEN_AT_ONCE: usize = 1_000;

pub(crate) type Moved = Vec<(UserId, Receipt)>;
type Waiting = FxHashMap<(ConversationId, UserId), (Receipt, Arc<Cell>)>;

/// Receipts that moved and are not passed on yet.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    waiting: Mutex<Waiting>,
    /// What another gateway has told of, and written: it is passed on alone.
    heard: Mutex<Waiting>,
    full: tokio::sync::Notify,
}

impl Receipts {
    /// Raises a member's receipt.
    pub(crate) fn raise(&self, cell: &Arc<Cell>, user: UserId, receipt: Receipt) {
        let Some(Some(raised)) = cell.with(|c| c.raise_receipt(user, receipt)) else { return };
        let mut waiting = self.waiting.lock();
        // Over the bound it is only in memory until it moves again; the client
        // tells it again after a reconnect.
        if waiting.len() < WAITING_MAX || waiting.contains_key(&(cell.id(), user)) {
            waiting.insert((cell.id(), user), (raised, Arc::clone(cell)));
        } else {
            metrics::get().receipts_overflows.increment(1);
        }
        if waiting.len() >= WAITING_MAX {
            self.full.notify_one();
        }
    }

    /// Another gateway tells of receipts that moved there.
    pub(crate) fn hear(&self, cell: &Arc<Cell>, moved: Moved) {
        for (user, receipt) in moved {
            let Some(Some(raised)) = cell.with(|c| c.raise_receipt(user, receipt)) else {
                continue;
            };
            let mut heard = self.heard.lock();
            if heard.len() < WAITING_MAX {
                heard.insert((cell.id(), user), (raised, Arc::clone(cell)));
            } else {
                metrics::get().receipts_overflows.increment(1);
            }
        }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }
}

/// Raises a user's own receipts of several conversations, of those that are in memory. A client that
/// has just got entries of one got them from here, and says its receipts again after a reconnect.
pub(crate) fn raise_cached(gateway: &Gateway, session: &Session, own: Vec<wire::OwnReceipt>) {
    for said in own {
        if let Some(id) = ConversationId::from_slice(&said.conversation)
            && let Ok(receipt) = translate::receipt(said.delivered, said.read)
            && let Some(cell) = gateway.conversations.cached(id)
            && cell.with(|c| c.is_member(session.user())).unwrap_or(false)
        {
            session.raise(gateway, &cell, receipt);
        }
    }
}

/// Passes receipts on until the gateway stops; what waits then is still written.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let interval = gateway.config.message.receipts_interval.duration();
    // Sessions that were given receipts to go with their next frames.
    let mut patient: Vec<Arc<Session>> = Vec::new();
    loop {
        let stopping = gateway
            .stopping
            .run_until_cancelled(async {
                let full = gateway.receipts.full.notified();
                // Either the interval is over or the bound is reached.
                tokio::time::timeout(interval, full).await.ok();
            })
            .await
            .is_none();
        // Those that got no other frame in a whole interval.
        patient.drain(..).for_each(|session| session.queue().hurry());
        flush(&gateway, &mut patient).await;
        if stopping {
            return;
        }
    }
}

async fn flush(gateway: &Gateway, patient: &mut Vec<Arc<Session>>) {
    let heard = std::mem::take(&mut *gateway.receipts.heard.lock());
    for (cell, moved) in by_conversation(heard) {
        pass_on(gateway, &cell, &moved, patient);
    }
    let waiting = std::mem::take(&mut *gateway.receipts.waiting.lock());
    if waiting.is_empty() {
        return;
    }
    let row = |((conversation, user), (receipt, _)): (&(_, _), &(Receipt, Arc<Cell>))| {
        (*conversation, *user, *receipt)
    };
    let rows: Vec<_> = waiting.iter().map(row).collect();
    for (cell, moved) in by_conversation(waiting) {
        let members = pass_on(gateway, &cell, &moved, patient);
        gateway.forward_receipts(cell.id(), &members, &moved);
    }
    for part in rows.chunks(WRITTEN_AT_ONCE) {
        if let Err(error) = gateway.store.raise_receipts(part).await {
            // They stay in memory; the clients tell them again when they come back.
            tracing::warn!(%error, receipts = part.len(), "receipts cannot be written");
            metrics::get().receipts_lost.increment(part.len() as u64);
        }
    }
}

fn by_conversation(waiting: Waiting) -> impl Iterator<Item = (Arc<Cell>, Moved)> {
    let mut found: FxHashMap<ConversationId, (Arc<Cell>, Moved)> = FxHashMap::default();
    for ((conversation, user), (receipt, cell)) in waiting {
        let (_, moved) = found.entry(conversation).or_insert((cell, Vec::new()));
        moved.push((user, receipt));
    }
    found.into_values()
}

/// Tells the members of one conversation of each other's receipts, in one frame for each, if there
/// are few enough of them; gives back who they are. A session that is busy gets them with its next frames: an own packet, and
/// its acknowledgement, would cost as much as a message.
fn pass_on(
    gateway: &Gateway,
    cell: &Cell,
    moved: &Moved,
    patient: &mut Vec<Arc<Session>>,
) -> Vec<UserId> {
    let told = cell.with(|c| {
        let members: Vec<_> = if c.shares_receipts() { c.members().collect() } else { Vec::new() };
        let is_pair = moved.first().is_some_and(|(user, _)| c.peer_of(*user).is_some());
        (members, is_pair)
    });
    let Some((members, is_pair)) = told else { return Vec::new() };
    let now_s = clock::coarse_s();
    let frame_for = |reader: Option<UserId>| {
        let others = moved.iter().filter(|(user, _)| Some(*user) != reader);
        let others = others.map(|(user, receipt)| {
            if is_pair {
                translate::peer_receipt(*receipt)
            } else {
                translate::member_receipt(*user, *receipt)
            }
        });
        translate::receipts(others.collect())
    };
    // Who has moved none himself shares the frame with all others like him.
    let shared = LazyCell::new(|| frame_for(None));
    for &member in &members {
        let frame = match moved.iter().any(|(user, _)| *user == member) {
            true if moved.len() == 1 => continue,
            true => frame_for(Some(member)),
            false => shared.clone(),
        };
        gateway.sessions.for_each(member, |session| {
            if session.wants_receipts() && session.queue().put_along(cell.id(), &frame, now_s) {
                patient.push(Arc::clone(session));
            }
        });
    }
    members
}
