//! What a client knows, behind its one lock. Nothing here waits or does IO.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use petrel_proto::wire::OwnReceipt;
use petrel_transport::Connection;
use tokio::sync::mpsc;

use crate::conversation::{Conversation, Waiter};
use crate::cursor::CursorTrail;
use crate::echo::Echo;
use crate::event::Event;
use crate::id::{ConversationId, MessageClock, MessageId};
use crate::outbox::Queued;
use crate::outbox_file::{Contents, Stored};
use crate::presence::Watched;
use crate::receipt::Along;
use crate::typing::Typing;

/// Conversation streams of ours, until the server names its limit.
const STREAMS_DEFAULT: usize = 64;

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counters {
    pub(crate) sign_ins: u64,
    pub(crate) resends: u64,
    pub(crate) duplicates: u64,
    pub(crate) fills: u64,
    pub(crate) early_accepted: u64,
    pub(crate) early_rejected: u64,
}

/// Held by whatever was opened in a first flight; its receiver hears when all of that is gone.
pub(crate) type EarlyStream = mpsc::Sender<Infallible>;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) connection: Option<Connection>,
    /// Nobody has answered on it yet: what is said there is early data, or was. Each of its streams holds
    /// one of these.
    pub(crate) early: Option<EarlyStream>,
    /// Features that both sides had last.
    pub(crate) features: Vec<String>,
    /// The echo on it, if the server speaks it.
    pub(crate) echo: Option<Arc<Echo>>,
    /// Whether probes are sent on it and answered.
    pub(crate) probes: bool,
    /// It is there, but nothing comes; the application was told.
    pub(crate) silent: bool,
    /// Another one is being tried beside it.
    pub(crate) is_dialed_beside: bool,
    /// What the application was told when it was signed in.
    pub(crate) online: Option<Event>,
    /// Conversation streams that the server lets us open.
    pub(crate) streams_max: usize,
    /// Those of ours that are open.
    pub(crate) streams_open: usize,
    pub(crate) conversations: HashMap<ConversationId, Conversation>,
    pub(crate) outbox_len: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) durable_upto: u64,
    clock: MessageClock,
    pub(crate) clock_offset_ms: i64,
    pub(crate) wakes: BinaryHeap<Reverse<(Instant, ConversationId)>>,
    pub(crate) generation: u64,
    pub(crate) counters: Counters,
    pub(crate) stopped: bool,
    pub(crate) typing: Typing,
    pub(crate) watched: Watched,
    pub(crate) along: Along,
}

/// Unix milliseconds of this device.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl State {
    pub(crate) fn new(contents: Contents) -> Self {
        let now = Instant::now();
        let mut state = Self {
            connection: None,
            early: None,
            features: Vec::new(),
            echo: None,
            probes: false,
            silent: false,
            is_dialed_beside: false,
            online: None,
            streams_max: STREAMS_DEFAULT,
            streams_open: 0,
            conversations: HashMap::new(),
            outbox_len: 0,
            outbox_bytes: 0,
            durable_upto: 0,
            clock: MessageClock::default(),
            clock_offset_ms: 0,
            wakes: BinaryHeap::new(),
            generation: 0,
            counters: Counters::default(),
            stopped: false,
            typing: Typing::default(),
            watched: Watched::default(),
            along: Along::default(),
        };
        for (id, trail) in contents.cursors {
            let conversation = Conversation::new(id, trail, now);
            state.conversations.insert(id, conversation);
        }
        for message in contents.messages {
            state.outbox_len += 1;
            state.outbox_bytes += message.content.bytes();
            let conversation =
                state.conversations.entry(message.conversation).or_insert_with(|| {
                    Conversation::new(message.conversation, CursorTrail::default(), now)
                });
            conversation.peer = message.peer.or(conversation.peer);
            conversation.outbox.push(stored_again(message));
        }
        state
    }

    /// A message id of now, by the server's clock if ours is far from it.
    pub(crate) fn next_id(&mut self) -> MessageId {
        const TRUSTED_MS: u64 = 60_000;
        let mut now_ms = unix_ms();
        if self.clock_offset_ms.unsigned_abs() > TRUSTED_MS {
            now_ms = now_ms.saturating_add_signed(self.clock_offset_ms);
        }
        self.clock.next(now_ms, rand::random())
    }

    /// Plans a look at a conversation. Says whether it is the earliest of all.
    pub(crate) fn plan(&mut self, at: Instant, id: ConversationId) -> bool {
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return false;
        };
        if conversation.planned.is_some_and(|earlier| earlier <= at) {
            return false;
        }
        conversation.planned = Some(at);
        let earliest = self.wakes.peek().is_none_or(|first| at < first.0.0);
        self.wakes.push(Reverse((at, id)));
        earliest
    }

    /// Receipts of other conversations than `writing`, to share the packet of a message that is written
    /// there now.
    pub(crate) fn take_along(&mut self, writing: ConversationId, now: Instant) -> Vec<OwnReceipt> {
        let mut taken = Vec::new();
        for id in self.along.passengers(now) {
            if let Some(conversation) = self.conversations.get_mut(&id).filter(|_| id != writing)
                && let Some((delivered, read)) = conversation.receipts.take(now, true)
            {
                // Should that stream break, the next sign-in says them again.
                conversation.receipts.unconfirmed();
                taken.push(OwnReceipt { conversation: id.to_bytes(), delivered, read });
            }
        }
        taken
    }

    /// Own receipts that may not have arrived, for the next sign-in, those of the conversations
    /// used last first; what they say counts as said.
    pub(crate) fn take_receipts(&mut self, max: usize) -> Vec<(ConversationId, u64, u64)> {
        let mut in_doubt: Vec<_> = self
            .conversations
            .values_mut()
            .filter(|conversation| conversation.receipts.is_in_doubt())
            .collect();
        in_doubt.sort_unstable_by_key(|conversation| Reverse(conversation.used));
        in_doubt
            .into_iter()
            .take(max)
            .map(|conversation| {
                let (delivered, read) = conversation.receipts.current();
                (conversation.id, delivered, read)
            })
            .collect()
    }
}

impl State {
    /// These went out with a Hello, which the server has answered with Welcome or not.
    pub(crate) fn receipts_said(&mut self, said: &[(ConversationId, u64, u64)], taken: bool) {
        let now = Instant::now();
        for (id, delivered, read) in said {
            match self.conversations.get_mut(id) {
                Some(conversation) if taken => {
                    conversation.receipts.prove(*delivered, *read, now);
                }
                Some(conversation) => {
                    conversation.receipts.unsaid(now);
                    self.plan(now, *id);
                }
                None => {}
            }
        }
    }
}

fn stored_again(message: Stored) -> Queued<Waiter> {
    let mut queued = Queued::new(message.id, message.content);
    // It may have been sent before the restart.
    queued.tried = true;
    queued
}

impl State {
    pub(crate) fn leave_connection(&mut self) {
        let now = Instant::now();
        self.connection = None;
        self.early = None;
        self.echo = None;
        self.probes = false;
        self.silent = false;
        self.online = None;
        self.typing.connection_gone();
        for conversation in self.conversations.values_mut() {
            conversation.disconnected(now);
        }
    }
}

/// Finishes the stream that was used least recently and waits for nothing, so that
/// the server gives credit for another.
pub(crate) fn make_room(state: &mut State, except: ConversationId) {
    let idle = state
        .conversations
        .values_mut()
        .filter(|c| c.id != except && c.outbox.is_empty())
        .filter(|c| c.stream.as_ref().is_some_and(|s| s.attached))
        .min_by_key(|c| c.used);
    if let Some(conversation) = idle {
        conversation.leave_stream();
    }
}
