//! One signed-in device: its identity, its queue, its shares and rates.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use petrel_core::change::Audience;
use petrel_core::id::{ConversationId, DeviceId, UserId};
use petrel_core::rate::{Bucket, Rate};
use petrel_core::store::Receipt;
use petrel_proto::echo::Inboxes;
use petrel_storage::budget::Share;
use petrel_transport::Connection;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::attention::Attention;
use crate::auth::Identity;
use crate::conduct::{Conduct, Counters};
use crate::conversation_table::Cell;
use crate::early::HeldReceipts;
use crate::gateway::Gateway;
use crate::intake::Intake;
use crate::metrics::Excess;
use crate::presence::Watch;
use crate::send_queue::SendQueue;
use crate::{clock, metrics};

/// A session. Ends with its connection.
#[derive(Debug)]
pub(crate) struct Session {
    id: Uuid,
    user: UserId,
    device: DeviceId,
    connection: Connection,
    queue: SendQueue,
    share: Share,
    wants_previews: bool,
    wants_receipts: bool,
    wants_typing: bool,
    takes_probes: bool,
    probes_answered: AtomicU32,
    /// Whether its client was heard from another address since its writer looked.
    moved: AtomicBool,
    /// If both sides know of the background.
    attention: Option<Attention>,
    /// To whom the user shows that he is there, and when that was read: the second, then the audience's number;
    /// 0 if it is not known.
    presence_shown: AtomicU64,
    /// Where copies of its streams' bytes go, if both sides have the echo.
    echo: Option<Arc<Inboxes>>,
    sends: Mutex<Bucket>,
    requests: Mutex<Bucket>,
    watch: Watch,
    held: HeldReceipts,
    requests_under_way: Semaphore,
    intake: Arc<Intake>,
    conduct: Mutex<Conduct>,
    token_issued_ms: AtomicU64,
    token_expires_ms: AtomicU64,
    refresh_asked: AtomicBool,
}

/// For so long it is not read again to whom a user shows that he is there.
const SHOWN_FRESH_S: u32 = 60;
/// Requests at once on one connection.
pub(crate) const REQUESTS_AT_ONCE: u32 = 8;

impl Session {
    /// A session of a verified identity; `is_early`: the handshake of its connection is not done.
    pub(crate) fn new(
        identity: &Identity,
        is_early: bool,
        connection: Connection,
        queue: SendQueue,
        share: Share,
        intake: Arc<Intake>,
        features: &[&str],
    ) -> Self {
        use petrel_proto::version::{
            FEATURE_BACKGROUND, FEATURE_ECHO, FEATURE_PREVIEW, FEATURE_PROBE, FEATURE_RECEIPTS,
            FEATURE_TYPING,
        };
        Self {
            id: Uuid::now_v7(),
            user: identity.user(),
            device: identity.device(),
            connection,
            queue,
            share,
            wants_previews: features.contains(&FEATURE_PREVIEW),
            wants_receipts: features.contains(&FEATURE_RECEIPTS),
            wants_typing: features.contains(&FEATURE_TYPING),
            takes_probes: features.contains(&FEATURE_PROBE),
            probes_answered: AtomicU32::new(0),
            moved: AtomicBool::new(false),
            attention: features.contains(&FEATURE_BACKGROUND).then(Attention::default),
            presence_shown: AtomicU64::new(0),
            echo: features.contains(&FEATURE_ECHO).then(Arc::default),
            sends: Mutex::default(),
            requests: Mutex::default(),
            watch: Watch::default(),
            held: HeldReceipts::new(is_early),
            intake,
            conduct: Mutex::default(),
            requests_under_way: Semaphore::new(REQUESTS_AT_ONCE as usize),
            token_issued_ms: AtomicU64::new(clock::unix_ms()),
            token_expires_ms: AtomicU64::new(identity.expires_ms()),
            refresh_asked: AtomicBool::new(false),
        }
    }

    /// Names the session in logs and in Welcome.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// Whose it is.
    pub(crate) fn user(&self) -> UserId {
        self.user
    }

    /// The device that is signed in.
    pub(crate) fn device(&self) -> DeviceId {
        self.device
    }

    /// Its connection.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What waits to be written to it.
    pub(crate) fn queue(&self) -> &SendQueue {
        &self.queue
    }

    /// Its share of the channel to storage.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// Whether it asked for previews.
    pub(crate) fn wants_previews(&self) -> bool {
        self.wants_previews
    }

    /// Whether it asked for others' receipts.
    pub(crate) fn wants_receipts(&self) -> bool {
        self.wants_receipts
    }

    /// Whether it says and hears who types.
    pub(crate) fn wants_typing(&self) -> bool {
        self.wants_typing
    }

    /// Whether it answers probes.
    pub(crate) fn takes_probes(&self) -> bool {
        self.takes_probes
    }

    /// It has answered one.
    pub(crate) fn probe_answered(&self) {
        self.probes_answered.fetch_add(1, Ordering::Relaxed);
    }

    /// How many it has answered.
    pub(crate) fn probes_answered(&self) -> u32 {
        self.probes_answered.load(Ordering::Relaxed)
    }

    /// Its client is heard from another address: what was sent to the old one may be lost.
    pub(crate) fn moved(&self) {
        self.moved.store(true, Ordering::Release);
        self.queue.nudge();
    }

    /// Whether that happened since the last call.
    pub(crate) fn take_moved(&self) -> bool {
        self.moved.swap(false, Ordering::Acquire)
    }

    /// Whether its user looks at it, as far as is known.
    pub(crate) fn is_attentive(&self) -> bool {
        !self.queue.is_background()
    }

    /// What its client says of that, if both sides know of the background.
    pub(crate) fn attention(&self) -> Option<&Attention> {
        self.attention.as_ref()
    }

    /// To whom the user shows that he is there, if that was read not long ago.
    pub(crate) fn presence_shown(&self, now_s: u32) -> Option<Audience> {
        let known = self.presence_shown.load(Ordering::Relaxed);
        let is_fresh = (known >> 8) + u64::from(SHOWN_FRESH_S) >= u64::from(now_s);
        Audience::from_number(known & 0xff).filter(|_| is_fresh)
    }

    /// Notes what was read of that at second `now_s`.
    pub(crate) fn set_presence_shown(&self, shown: Audience, now_s: u32) {
        let known = u64::from(now_s) << 8 | u64::from(shown.number());
        self.presence_shown.store(known, Ordering::Relaxed);
    }

    /// It has changed.
    pub(crate) fn forget_presence_shown(&self) {
        self.presence_shown.store(0, Ordering::Relaxed);
    }

    /// Whom it watches.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Whether the handshake of its connection is not done, as far as it knows: what it says may be a
    /// replay, and nobody is told of it.
    pub(crate) fn is_early(&self) -> bool {
        self.held.holds()
    }

    /// Raises its user's receipt, once the handshake is done.
    pub(crate) fn raise(&self, gateway: &Gateway, cell: &Arc<Cell>, receipt: Receipt) {
        if self.held.put(cell.id(), receipt) {
            metrics::early(metrics::Early::Waited);
        } else {
            gateway.receipts.raise(cell, self.user, receipt);
        }
    }

    /// The handshake is done: gives out the receipts that waited for it.
    pub(crate) fn release_receipts(&self) -> Vec<(ConversationId, Receipt)> {
        self.held.release()
    }

    /// Where copies of its streams' bytes go, if both sides have the echo.
    pub(crate) fn echo_inboxes(&self) -> Option<&Arc<Inboxes>> {
        self.echo.as_ref()
    }

    /// What the streams of its connection may hold and do together.
    pub(crate) fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// Looks at how its connection behaves; says what is beyond its rate.
    pub(crate) fn look_at_conduct(&self, now_s: u32) -> Option<Excess> {
        self.conduct.lock().look(Counters::of(&self.connection), now_s)
    }

    /// Bounds the requests under way.
    pub(crate) fn requests_under_way(&self) -> &Semaphore {
        &self.requests_under_way
    }

    /// Takes one send from its rate.
    ///
    /// # Errors
    /// Milliseconds until the next is free.
    pub(crate) fn take_send(&self, rate: Rate) -> Result<(), u64> {
        take(&self.sends, rate)
    }

    /// Takes one request from its rate.
    ///
    /// # Errors
    /// Milliseconds until the next is free.
    pub(crate) fn take_request(&self, rate: Rate) -> Result<(), u64> {
        take(&self.requests, rate)
    }

    /// When the token ends: Unix milliseconds.
    pub(crate) fn token_expires_ms(&self) -> u64 {
        self.token_expires_ms.load(Ordering::Relaxed)
    }

    /// Takes over a newer token of the same user and device. `false` if it is another's.
    pub(crate) fn refresh(&self, identity: &Identity) -> bool {
        if identity.user() != self.user || identity.device() != self.device {
            return false;
        }
        self.token_issued_ms.store(clock::unix_ms(), Ordering::Relaxed);
        self.token_expires_ms.fetch_max(identity.expires_ms(), Ordering::Relaxed);
        self.refresh_asked.store(false, Ordering::Relaxed);
        self.queue.suspend(false);
        true
    }

    /// Whether it is time to ask for a new token: once per token, from 80 % of its life on,
    /// later by up to 5 % so that sessions that began together do not ask together.
    pub(crate) fn refresh_is_due(&self, now_ms: u64) -> bool {
        let issued = self.token_issued_ms.load(Ordering::Relaxed);
        let life = self.token_expires_ms().saturating_sub(issued);
        let jitter = u64::from(self.id.as_bytes()[15]) * life / (20 * 256);
        let due = issued + life / 5 * 4 + jitter;
        now_ms >= due && !self.refresh_asked.swap(true, Ordering::Relaxed)
    }
}

fn take(bucket: &Mutex<Bucket>, rate: Rate) -> Result<(), u64> {
    bucket.lock().take(rate, clock::monotonic_ns()).map_err(|ns| ns.div_ceil(1_000_000))
}
