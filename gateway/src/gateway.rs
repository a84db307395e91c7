//! What all of a gateway's tasks share.

use std::sync::{Arc, OnceLock};

use petrel_core::conversation::SendRules;
use petrel_core::error::Rejection;
use petrel_core::group::GroupLimits;
use petrel_core::id::{ConversationId, NodeId, UserId};
use petrel_core::limits;
use petrel_core::rate::Rate;
use petrel_core::store::Store;
use petrel_storage::budget::Budget;
use petrel_storage::writer::Writers;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attach::unavailable;
use crate::auth::Tokens;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::conversation_table::{Cell, ConversationTable};
use crate::dictionaries::Dictionaries;
use crate::doors::Doors;
use crate::drain::Drain;
use crate::fanout::Tag;
use crate::issuer::Issuer;
use crate::pace::Pace;
use crate::password::Passwords;
use crate::presence::Presence;
use crate::receipts::Receipts;
use crate::revoked::RevokedDevices;
use crate::seen::Seen;
use crate::session::Session;
use crate::session_table::SessionTable;
use crate::typing::Typing;

/// Rates that every session has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Sends.
    pub sends: Rate,
    /// Requests.
    pub requests: Rate,
    /// Frames of all kinds.
    pub frames: Rate,
    /// Streams that the client opens.
    pub streams: Rate,
    /// Datagrams of all kinds.
    pub datagrams: Rate,
}

impl Rates {
    /// As the settings say; what has none is so much above sends and requests that they are met first.
    fn new(message: &crate::config::Message) -> Self {
        let (sends_per_s, sends) = (message.sends_per_s.to_u32(), message.sends_burst.to_u32());
        let (requests_per_s, requests) =
            (message.requests_per_s.to_u32(), message.requests_burst.to_u32());
        let times = |factor: u32, a: u32, b: u32| a.saturating_add(b).saturating_mul(factor);
        Self {
            sends: Rate::new(sends_per_s, sends),
            requests: Rate::new(requests_per_s, requests),
            // A receipt for a message.
            frames: Rate::new(times(2, sends_per_s, requests_per_s), times(2, sends, requests)),
            // A conversation's stream may be opened for each message, when there are many of them.
            streams: Rate::new(times(4, requests_per_s, 0), times(4, requests, 200)),
            // Two copies of a message.
            datagrams: Rate::new(times(2, sends_per_s, 50), times(2, sends, 200)),
        }
    }
}

/// The shared state. Each part has its own owner and lock; this only holds them together.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The settings.
    pub config: Config,
    /// The store.
    pub store: Arc<dyn Store>,
    /// What bodies may be compressed with.
    pub dictionaries: Dictionaries,
    /// Room for messages on their way to the store.
    pub budget: Budget,
    /// Who is signed in.
    pub sessions: SessionTable,
    /// Conversations in memory.
    pub conversations: ConversationTable,
    /// Receipts on their way to the store and to other members.
    pub receipts: Receipts,
    /// The other gateways.
    pub cluster: Cluster,
    /// Whether clients are sent to them.
    pub drain: Drain,
    /// Who watches whom.
    pub presence: Presence,
    /// Who types, as far as that has to wait for the store.
    pub typing: Typing,
    /// Tokens.
    pub tokens: Tokens,
    /// The outside issuer whose tokens are believed, if there is one.
    pub issuer: Option<Issuer>,
    /// Hashes and verifies passwords.
    pub passwords: Passwords,
    /// Devices that were signed out for good.
    pub revoked: RevokedDevices,
    /// When devices were last signed in.
    pub seen: Seen,
    /// Who may come in, and how often.
    pub doors: Doors,
    /// How fast they come in while others chat.
    pub pace: Pace,
    /// Per session.
    pub rates: Rates,
    /// What is allowed of messages.
    pub send_rules: SendRules,
    /// What is allowed of groups.
    pub group_limits: GroupLimits,
    /// Bounds the pages that are read at once for catching up, and so their memory.
    pub catch_ups: Semaphore,
    /// Every task but the writers'.
    pub tasks: TaskTracker,
    /// Cancelled when the gateway begins to stop.
    pub stopping: CancellationToken,
    writers: OnceLock<Writers<Tag>>,
}

/// Pages of catch-ups that are read at once.
const CATCH_UPS_AT_ONCE: usize = 32;

impl Gateway {
    /// A gateway without its writers, which are set once by [`Self::set_writers`].
    pub(crate) fn new(
        config: Config,
        store: Arc<dyn Store>,
        dictionaries: Dictionaries,
        budget: Budget,
        (tokens, issuer): (Tokens, Option<Issuer>),
        passwords: Passwords,
        node: NodeId,
    ) -> Self {
        let m = &config.message;
        let rates = Rates::new(m);
        let send_rules = SendRules {
            strangers_max: m.stranger_messages_max.0,
            edit_window_ms: m.edit_window.0,
            recall_window_ms: m.recall_window.0,
        };
        let group_limits = GroupLimits {
            members_max: config.group.members_max.0,
            per_user_max: config.group.per_user_max.0,
        };
        Self {
            send_rules,
            group_limits,
            doors: Doors::new(&config),
            pace: Pace::new(config.gateway.connects_beside_chat.to_u32()),
            sessions: SessionTable::new(config.redis.url.is_some()),
            revoked: RevokedDevices::new(config.auth.token_life.0),
            store,
            dictionaries,
            budget,
            conversations: ConversationTable::default(),
            receipts: Receipts::default(),
            cluster: Cluster::new(&config, node),
            drain: Drain::default(),
            presence: Presence::default(),
            typing: Typing::default(),
            tokens,
            issuer,
            passwords,
            seen: Seen::default(),
            rates,
            catch_ups: Semaphore::new(CATCH_UPS_AT_ONCE),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            writers: OnceLock::new(),
            config,
        }
    }

    /// Sets the writers, which need the gateway to answer to.
    pub(crate) fn set_writers(&self, writers: Writers<Tag>) {
        // Called once, before any port opens.
        self.writers.set(writers).ok();
    }

    /// The writers.
    ///
    /// # Panics
    /// Before [`Self::set_writers`], which no task of the gateway runs before.
    pub(crate) fn writers(&self) -> &Writers<Tag> {
        self.writers.get().expect("set before any port opens")
    }

    /// Adds a session to those who are signed in; `false` if its user has too many.
    pub(crate) fn enter(&self, session: &Arc<Session>) -> bool {
        let is_in = self.sessions.insert(Arc::clone(session), limits::SESSIONS_PER_USER_MAX);
        if is_in {
            self.attendance_changed(session.user());
        }
        is_in
    }

    /// Takes a session out of those who are signed in, if it is one of them.
    pub(crate) fn leave(&self, session: &Arc<Session>) {
        self.presence.end(session);
        if self.sessions.remove(session) {
            self.attendance_changed(session.user());
            if session.is_attentive() {
                self.seen.note(session.device());
            }
        }
    }

    /// Whether its clients are to go elsewhere.
    pub(crate) fn is_going(&self) -> bool {
        self.stopping.is_cancelled() || self.drain.is_under_way()
    }

    /// Who of a user's devices is here, or looks, has changed.
    pub(crate) fn attendance_changed(&self, user: UserId) {
        self.presence.note(user);
        self.cluster.note(user);
    }

    /// A conversation, from memory or the store.
    ///
    /// # Errors
    /// [`Rejection::Unavailable`] if the store had to be asked and did not answer.
    pub(crate) async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<Arc<Cell>>, Rejection> {
        self.conversations
            .get(id, self.store.as_ref(), || self.budget.conversation_share())
            .await
            .map_err(|error| unavailable(&error))
    }
}
