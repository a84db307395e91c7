//! A client's state behind its lock, and what is to be done about it. Tasks bring what came from the
//! network and take what is to be written; nothing here waits.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use petrel_proto::code::Code;
use petrel_proto::version::FEATURE_PROBE;
use petrel_transport::Connection;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attention;
use crate::conversation::{Context, Conversation, Effects, Stream};
use crate::cursor::CursorTrail;
use crate::dictionary::Fetched;
use crate::echo::Echo;
use crate::error::{ClientError, SendError};
use crate::event::{Event, OfflineReason};
use crate::event_queue::{EventQueue, Handled};
use crate::id::{ConversationId, UserId};
use crate::incoming::{Attach, Incoming};
use crate::options::ClientOptions;
use crate::outbox_file::OutboxFile;
use crate::state::{State, make_room, unix_ms};
use crate::stream;

/// Requests at once (the protocol's limit).
const REQUESTS_MAX: usize = 8;
/// Conversations' streams of a first flight, at the most: a server allows 16 before it knows who it is, and
/// one of them is for Hello.
const EARLY_STREAMS_MAX: usize = 15;
/// How far a client has come.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Connecting,
    Online,
    /// It has given up, or was closed.
    Stopped(ClientError),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: ClientOptions,
    /// The user's own log.
    pub(crate) own_log: ConversationId,
    pub(crate) state: Mutex<State>,
    pub(crate) events: EventQueue,
    pub(crate) file: Option<OutboxFile>,
    pub(crate) phase: watch::Sender<Phase>,
    /// Streams whose writing side is at work.
    pub(crate) writers: watch::Sender<usize>,
    /// A wake-up was planned that is earlier than all others.
    pub(crate) timer: Notify,
    /// A new token is needed.
    pub(crate) refresh: Notify,
    /// Whether the user looks.
    pub(crate) attention: attention::State,
    /// Other users are watched than the server was told.
    pub(crate) watch: Notify,
    /// Something waits for an answer where nothing did.
    pub(crate) busy: Notify,
    /// The device's network is another one.
    pub(crate) moved: Notify,
    /// Probes that were sent.
    pub(crate) probes_sent: AtomicU64,
    /// Dial now.
    pub(crate) dial_now: Notify,
    /// The network changed under a connection that cannot follow.
    pub(crate) redial: Notify,
    /// Where a server that goes away has said to go.
    pub(crate) alternatives: Mutex<Vec<String>>,
    pub(crate) outbox_empty: Notify,
    pub(crate) requests: Semaphore,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    pub(crate) runtime: tokio::runtime::Handle,
    /// The dictionaries that the server has; those of the first version until it says so.
    pub(crate) dictionaries: Mutex<Arc<[u32]>>,
    /// Dictionaries that this client does not ship.
    pub(crate) fetched: Fetched,
    /// The client's own endpoint, once there is one.
    pub(crate) endpoint: Mutex<Option<quinn::Endpoint>>,
}

impl Shared {
    pub(crate) fn context(&self) -> Context {
        Context {
            me: self.options.identity.user,
            now: Instant::now(),
            random: rand::random(),
            fill_max: self.options.fill_max,
        }
    }

    /// The conversation's state, made if there is room for it.
    pub(crate) fn conversation<'a>(
        &self,
        state: &'a mut State,
        id: ConversationId,
        peer: Option<UserId>,
    ) -> Result<&'a mut Conversation, SendError> {
        if state.stopped {
            return Err(SendError::Closed);
        }
        if !state.conversations.contains_key(&id)
            && state.conversations.len() >= self.options.conversations_max
        {
            return Err(SendError::TooManyConversations);
        }
        let conversation = state
            .conversations
            .entry(id)
            .or_insert_with(|| Conversation::new(id, CursorTrail::default(), Instant::now()));
        // Nobody is the other one of his own pair: that is a reference from the other side.
        if let Some(peer) = peer.filter(|peer| *peer != self.options.identity.user) {
            conversation.peer = Some(peer);
        }
        conversation.is_own_log = id == self.own_log;
        Ok(conversation)
    }

    /// Runs a rule on a conversation and does what it asks for.
    pub(crate) fn with(
        self: &Arc<Self>,
        id: ConversationId,
        rule: impl FnOnce(&mut Conversation, &Context, &mut Effects),
    ) {
        let cx = self.context();
        let mut state = self.state.lock();
        let mut fx = Effects::default();
        if let Some(conversation) = state.conversations.get_mut(&id) {
            rule(conversation, &cx, &mut fx);
            self.carry_out(&mut state, id, &cx, fx);
        }
        drop(state);
        self.settle();
    }

    /// Does what a rule asked for. Called under the lock, so that events keep their order.
    pub(crate) fn carry_out(
        self: &Arc<Self>,
        state: &mut State,
        id: ConversationId,
        cx: &Context,
        fx: Effects,
    ) {
        let stopped = state.typing.ended_by(&fx.events);
        self.events.push_all(fx.events);
        self.events.push_all(stopped);
        for (message, bytes) in fx.removed {
            state.outbox_len -= 1;
            state.outbox_bytes -= bytes;
            if let Some(file) = &self.file {
                file.remove(message);
            }
            if state.outbox_len == 0 {
                self.outbox_empty.notify_waiters();
            }
        }
        state.counters.duplicates += fx.duplicates;
        if fx.refresh {
            self.refresh.notify_one();
        }
        if let Some(at) = fx.wake
            && state.plan(at, id)
        {
            self.timer.notify_one();
        }
        if let Some((fill, from, to)) = fx.fill {
            state.counters.fills += 1;
            let fill = crate::request::fill(Arc::clone(self), id, fill, from, to);
            self.tasks.spawn_on(fill, &self.runtime);
        }
        self.ensure_stream(state, id, cx.now);
    }

    /// Hands events on. Not under the lock.
    pub(crate) fn settle(self: &Arc<Self>) {
        self.events.settle(|handled| self.handled(handled));
    }

    /// Opens a stream for a conversation that needs one, or tells its writer.
    pub(crate) fn ensure_stream(
        self: &Arc<Self>,
        state: &mut State,
        id: ConversationId,
        now: Instant,
    ) {
        let Some(conversation) = state.conversations.get_mut(&id) else {
            return;
        };
        if let Some(stream) = &conversation.stream {
            if conversation.outbox.is_ready(now, state.durable_upto) {
                stream.writer.notify_one();
            }
            return;
        }
        let Some(connection) = &state.connection else {
            return;
        };
        if !conversation.wants_stream(now, state.durable_upto) {
            return;
        }
        if state.early.is_some() && state.streams_open >= EARLY_STREAMS_MAX {
            return;
        }
        state.generation += 1;
        let stream = Stream {
            generation: state.generation,
            writer: Arc::new(Notify::new()),
            attach_due: true,
            attached: false,
            progress: false,
        };
        conversation.used = now;
        conversation.outbox.start_stream(None);
        let task = stream::open(
            Arc::clone(self),
            connection.clone(),
            id,
            stream.generation,
            Arc::clone(&stream.writer),
            state.early.clone(),
        );
        conversation.stream = Some(stream);
        state.streams_open += 1;
        if state.streams_open > state.streams_max {
            make_room(state, id);
        }
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// The server opened a stream for this conversation. The answer is the stream's
    /// generation and, if it is to be written on, its writer.
    pub(crate) fn accept(
        self: &Arc<Self>,
        connection: &Connection,
        attach: &Attach,
    ) -> Result<(u64, Option<Arc<Notify>>), Code> {
        let cx = self.context();
        let mut state = self.state.lock();
        state.generation += 1;
        let generation = state.generation;
        let id = attach.conversation;
        // On one that was left, news is read; nothing is said there.
        let is_left = state.connection.as_ref().is_none_or(|now| !now.is_same(connection));
        let known = state.conversations.contains_key(&id);
        let conversation =
            self.conversation(&mut state, id, attach.peer).map_err(|_| Code::TooManyStreams)?;
        let mut fx = Effects::default();
        let mut writer = None;
        if !known && attach.after > 0 {
            conversation.arrivals.restart_unproved(attach.after);
            fx.events.push(if conversation.is_own_log {
                Event::OwnMissed
            } else {
                Event::Gap {
                    conversation: id,
                    from: 1,
                    to: attach.after,
                    reason: crate::event::GapReason::Skipped,
                }
            });
        }
        if is_left {
            tracing::debug!(conversation = %id, "a stream of a connection that was left");
        } else if attach.after > conversation.arrivals.position() {
            // Our copy ends earlier: our own Attach, with our cursor, takes over.
            if conversation.stream.is_none() {
                conversation.attach_anew();
            }
        } else if conversation.stream.is_none() {
            let notify = Arc::new(Notify::new());
            conversation.stream = Some(Stream {
                generation,
                writer: Arc::clone(&notify),
                attach_due: false,
                attached: true,
                progress: true,
            });
            conversation.outbox.start_stream(None);
            conversation.used = cx.now;
            notify.notify_one();
            writer = Some(notify);
        }
        self.carry_out(&mut state, id, &cx, fx);
        drop(state);
        self.settle();
        Ok((generation, writer))
    }

    /// Applies what came on a stream.
    pub(crate) fn apply(
        self: &Arc<Self>,
        id: ConversationId,
        generation: u64,
        batch: impl Iterator<Item = Incoming>,
    ) {
        self.with(id, |conversation, cx, fx| {
            for incoming in batch {
                conversation.apply(generation, incoming, cx, fx);
            }
        });
    }

    /// The application has dealt with these entries: cursors and receipts move.
    pub(crate) fn handled(self: &Arc<Self>, handled: &[Handled]) {
        if handled.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for entry in handled {
            let Some(conversation) = state.conversations.get_mut(&entry.conversation) else {
                continue;
            };
            if !conversation.handle(entry.at) {
                continue;
            }
            if let Some(file) = &self.file {
                file.keep_cursors(entry.conversation, conversation.handled_trail());
            }
            let due =
                if self.options.delivered_receipts && entry.sender != self.options.identity.user {
                    let delay = self.receipts_delay();
                    let delay = state.along.board(entry.conversation, now, delay);
                    conversation.receipts.delivered(entry.at.seq, now, delay)
                } else {
                    None
                };
            if let Some(at) = due
                && state.plan(at, entry.conversation)
            {
                self.timer.notify_one();
            }
        }
    }

    /// The echo on the connection that there is now, if the server speaks it.
    pub(crate) fn echo(&self) -> Option<Arc<Echo>> {
        self.state.lock().echo.clone()
    }

    /// Whether a message or a request waits for an answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.requests.available_permits() < REQUESTS_MAX || self.state.lock().outbox_len > 0
    }

    /// When the next planned look is due.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let state = self.state.lock();
        let look = state.wakes.peek().map(|first| first.0.0);
        look.into_iter().chain(state.typing.next_end()).min()
    }

    /// Looks at the conversations whose time has come.
    pub(crate) fn fire(self: &Arc<Self>) {
        let cx = self.context();
        let mut state = self.state.lock();
        let stopped = state.typing.expire(cx.now);
        self.events.push_all(stopped);
        while let Some(Reverse((at, id))) = state.wakes.peek().copied() {
            if at > cx.now {
                break;
            }
            state.wakes.pop();
            let mut fx = Effects::default();
            if let Some(conversation) = state.conversations.get_mut(&id)
                && conversation.planned == Some(at)
            {
                conversation.planned = None;
                conversation.look_again(&cx, &mut fx);
                if let Some(stream) = &conversation.stream {
                    stream.writer.notify_one();
                }
                self.carry_out(&mut state, id, &cx, fx);
            }
        }
        drop(state);
        self.settle();
    }

    /// Signed in on a connection: everything goes on there.
    pub(crate) fn connected(
        self: &Arc<Self>,
        connection: Connection,
        streams_max: u32,
        server_time_ms: u64,
        features: &[String],
        event: impl FnOnce(i64) -> Event,
    ) {
        let mut state = self.state.lock();
        let mut early_echo = None;
        if state.early.take().is_some() {
            early_echo = state.echo.take();
        } else {
            state.leave_connection();
        }
        state.typing.connected(features);
        state.along.connected(features);
        state.probes = features.iter().any(|feature| feature == FEATURE_PROBE);
        // Streams that began early go on with the echo that they have, if there is one still.
        state.echo = Echo::of(&connection, features).map(|new| early_echo.unwrap_or(new));
        state.features = features.to_vec();
        state.connection = Some(connection);
        state.streams_max = usize::try_from(streams_max).unwrap_or(usize::MAX).max(1);
        state.counters.sign_ins += 1;
        let offset = i128::from(server_time_ms) - i128::from(unix_ms());
        state.clock_offset_ms = i64::try_from(offset).unwrap_or(0);
        let event = event(state.clock_offset_ms);
        state.online = Some(event.clone());
        self.events.push_all([event]);
        self.open_streams(&mut state);
        drop(state);
        self.watch_again();
        self.phase.send_replace(Phase::Online);
        self.settle();
    }

    /// Not signed in any more.
    pub(crate) fn disconnected(self: &Arc<Self>, event: Event, phase: Phase) {
        let mut state = self.state.lock();
        state.leave_connection();
        state.stopped = matches!(phase, Phase::Stopped(_));
        self.events.push_all([event]);
        drop(state);
        self.phase.send_replace(phase);
        self.settle();
    }

    /// Nothing has come for long; or something came again.
    pub(crate) fn fell_silent(self: &Arc<Self>, is_silent: bool) {
        let mut state = self.state.lock();
        state.silent = is_silent;
        let event = if is_silent {
            let why = OfflineReason::Lost("the server is silent".to_owned());
            Some(Event::Offline { why, retry_in: Some(Duration::ZERO) })
        } else {
            state.online.clone()
        };
        self.events.push_all(event);
        drop(state);
        self.settle();
    }

    /// There is a new token: what waited for one goes on.
    pub(crate) fn token_renewed(self: &Arc<Self>) {
        self.each_goes_on(Conversation::token_renewed);
    }

    /// Does this with each conversation, which then has its stream if it wants one.
    pub(crate) fn each_goes_on(self: &Arc<Self>, mut with: impl FnMut(&mut Conversation)) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let all: Vec<_> = state.conversations.keys().copied().collect();
        for id in all {
            if let Some(conversation) = state.conversations.get_mut(&id) {
                with(conversation);
            }
            self.ensure_stream(&mut state, id, now);
        }
    }

    /// Finishes all streams, with what is still to be said, and waits until it has arrived.
    pub(crate) async fn writers_done(&self) {
        {
            let mut state = self.state.lock();
            state.stopped = true;
            for conversation in state.conversations.values_mut() {
                conversation.say_last_words();
            }
        }
        let mut writers = self.writers.subscribe();
        // An error would mean that the sender is gone, which is `self`.
        drop(writers.wait_for(|writers| *writers == 0).await);
    }
}

pub(crate) fn new_requests() -> Semaphore {
    Semaphore::new(REQUESTS_MAX)
}
