//! The client's handle.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use petrel_transport::{Connection, Kind as TransportKind};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attention;
use crate::body;
use crate::conversation::Waiter;
use crate::cursor::Cursor;
use crate::dialer::any_port;
use crate::draft::Draft;
use crate::error::{ClientError, SendError, SendOutcomeError};
use crate::event::{Acked, ConversationRef, Event, Observer};
use crate::event_queue::{EventQueue, Handled};
use crate::file_link::FileLink;
use crate::id::{ConversationId, MessageId, UserId};
use crate::options::{ClientOptions, OutboxPlace};
use crate::outbox::Queued;
use crate::outbox_file::{Contents, OutboxFile, Stored};
use crate::session;
use crate::shared::{self, Phase, Shared};
use crate::state::{Counters, State};
use crate::stats::Stats;

/// How long closing waits for what was written to arrive.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// A signed-in device that stays signed in. A clone is another handle on the same
/// client; when the last one is dropped the connection is closed.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("user", &self.user()).finish_non_exhaustive()
    }
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

/// The events of one client, in order. When they are not taken, the server is not read on.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
    last: Option<Handled>,
}

impl Events {
    /// The next event; `None` once the client is closed and everything was taken. Asking for
    /// the next one says that the last one was dealt with: cursors and delivered receipts move
    /// then. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.dealt_with();
        let event = self.shared.events.next().await?;
        self.last = Handled::of(&event);
        Some(event)
    }

    /// The next event if it is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.dealt_with();
        let event = self.shared.events.try_next()?;
        self.last = Handled::of(&event);
        Some(event)
    }

    fn dealt_with(&mut self) {
        if let Some(last) = self.last.take() {
            self.shared.handled(&[last]);
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.events.unwanted();
    }
}

impl Client {
    /// Starts a client, which dials at once and stays online until it is closed. Has to be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] if an option or the outbox's file is not usable.
    pub async fn start(options: ClientOptions) -> Result<(Self, Events), ClientError> {
        let client = Self::begin(options, None).await?;
        let events = Events { shared: Arc::clone(&client.handle.shared), last: None };
        Ok((client, events))
    }

    /// The same, with events handed to `observer` on the tasks that cause them.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub async fn start_with_observer(
        options: ClientOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ClientError> {
        Self::begin(options, Some(observer)).await
    }

    async fn begin(
        options: ClientOptions,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Self, ClientError> {
        let link = Arc::new(FileLink::default());
        let mut contents = Contents::default();
        let mut file = None;
        if let OutboxPlace::File(path) = &options.outbox {
            let (path, device) = (path.clone(), options.identity.device);
            let opened = tokio::task::spawn_blocking(move || OutboxFile::open(&path, device));
            let (db, found) = opened.await.map_err(|_| ClientError::Closed)??;
            contents = found;
            file = Some(OutboxFile::start(db, Arc::clone(&link))?);
        }
        let own_log = ConversationId::of_user(options.identity.user);
        let shared = Arc::new(Shared {
            own_log,
            state: Mutex::new(State::new(contents)),
            events: EventQueue::new(options.events_max, observer),
            file,
            phase: watch::Sender::new(Phase::Connecting),
            writers: watch::Sender::new(0),
            timer: Notify::new(),
            refresh: Notify::new(),
            attention: attention::State::new(options.attention),
            watch: Notify::new(),
            busy: Notify::new(),
            moved: Notify::new(),
            probes_sent: AtomicU64::new(0),
            dial_now: Notify::new(),
            redial: Notify::new(),
            alternatives: Mutex::default(),
            outbox_empty: Notify::new(),
            requests: shared::new_requests(),
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
            runtime: tokio::runtime::Handle::current(),
            dictionaries: Mutex::new(body::first_dictionaries().into()),
            fetched: crate::dictionary::Fetched::default(),
            endpoint: Mutex::new(None),
            options,
        });
        // The link is fresh: nobody else has set it.
        drop(link.client.set(Arc::downgrade(&shared)));
        shared.tasks.spawn(session::run(Arc::clone(&shared)));
        Ok(Self { handle: Arc::new(Handle { shared }) })
    }

    /// Waits until it is signed in.
    ///
    /// # Errors
    /// [`ClientError::Closed`] or [`ClientError::Refused`] when it has given up.
    pub async fn online(&self) -> Result<(), ClientError> {
        self.shared().online().await
    }

    /// Whose client this is.
    pub fn user(&self) -> UserId {
        self.shared().options.identity.user
    }

    /// The conversation with another user.
    pub fn pair(&self, peer: UserId) -> ConversationRef {
        ConversationRef { id: ConversationId::of_pair(self.user(), peer), peer: Some(peer) }
    }

    /// Puts a message into the outbox and returns at once. What becomes of it comes as
    /// [`Event::Acked`] or [`Event::Refused`].
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send(
        &self,
        conversation: &ConversationRef,
        kind: u16,
        body: impl Into<Bytes>,
    ) -> Result<MessageId, SendError> {
        self.put(conversation, Draft::new(kind, body), None)
    }

    /// The same for a draft: a reply, a message with mentions, an edit, a recall, a reaction.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send_draft(
        &self,
        conversation: &ConversationRef,
        draft: Draft,
    ) -> Result<MessageId, SendError> {
        self.put(conversation, draft, None)
    }

    /// Sends a draft and waits as [`Client::send_and_wait`] does.
    ///
    /// # Errors
    /// [`SendOutcomeError`]. Of a change: `Conflict` if the target has another revision by now or
    /// was recalled, `TooLate`, `Forbidden`, `NotFound`.
    pub async fn send_draft_and_wait(
        &self,
        conversation: &ConversationRef,
        draft: Draft,
    ) -> Result<Acked, SendOutcomeError> {
        let (waiter, outcome) = oneshot::channel();
        self.put(conversation, draft, Some(waiter))?;
        outcome.await.unwrap_or(Err(SendOutcomeError::Closed))
    }

    /// Sends a message and waits for its place, however long that takes. Events have to be taken
    /// meanwhile: an answer behind too many of them is not read.
    ///
    /// # Errors
    /// [`SendOutcomeError`].
    pub async fn send_and_wait(
        &self,
        conversation: &ConversationRef,
        kind: u16,
        body: impl Into<Bytes>,
    ) -> Result<Acked, SendOutcomeError> {
        self.send_draft_and_wait(conversation, Draft::new(kind, body)).await
    }

    fn put(
        &self,
        to: &ConversationRef,
        draft: Draft,
        waiter: Option<Waiter>,
    ) -> Result<MessageId, SendError> {
        let (plain, mut content) = draft.check()?;
        let shared = self.shared();
        (content.encoding, content.body) = if shared.options.compress && content.may_be_compressed()
        {
            let known = Arc::clone(&shared.dictionaries.lock());
            body::encode(plain, &known)
        } else {
            (0, plain)
        };
        let mut state = shared.state.lock();
        if state.outbox_len >= shared.options.outbox_messages_max
            || state.outbox_bytes + content.bytes() > shared.options.outbox_bytes_max
        {
            return Err(SendError::OutboxFull);
        }
        let id = state.next_id();
        let conversation = shared.conversation(&mut state, to.id, to.peer)?;
        let bytes = content.bytes();
        let mut message = Queued::new(id, content);
        message.waiter = waiter;
        if let Some(file) = &shared.file {
            message.durable_at = file.put(Stored {
                conversation: to.id,
                peer: conversation.peer,
                id,
                content: message.content.clone(),
            });
        }
        conversation.outbox.push(message);
        if state.outbox_len == 0 {
            shared.busy.notify_one();
        }
        state.outbox_len += 1;
        state.outbox_bytes += bytes;
        shared.ensure_stream(&mut state, to.id, Instant::now());
        Ok(id)
    }

    /// Shows a conversation live: everything after `from` (`None`: after what this client
    /// handed out last, or from the start), then everything new, across reconnects.
    ///
    /// # Errors
    /// [`SendError::TooManyConversations`] or [`SendError::Closed`].
    pub fn attach(
        &self,
        conversation: &ConversationRef,
        from: Option<Cursor>,
    ) -> Result<(), SendError> {
        let shared = self.shared();
        let mut state = shared.state.lock();
        let known = shared.conversation(&mut state, conversation.id, conversation.peer)?;
        if let Some(from) = from {
            known.restart(from);
        }
        known.show();
        shared.ensure_stream(&mut state, conversation.id, Instant::now());
        Ok(())
    }

    /// Shows it no longer live; its cursor is kept. The server may still push what is new.
    pub fn detach(&self, conversation: ConversationId) {
        self.shared().with(conversation, |conversation, _, _| {
            conversation.live = false;
            if conversation.outbox.is_empty() {
                conversation.leave_stream();
            }
        });
    }

    /// Everything up to `seq` was on the screen, of a conversation that is attached.
    pub fn read_up_to(&self, conversation: ConversationId, seq: u64) {
        let delay = {
            let usual = self.shared().options.receipts_delay;
            self.shared().state.lock().along.board(conversation, Instant::now(), usual)
        };
        self.shared().with(conversation, |conversation, cx, fx| {
            if let Some(at) = conversation.receipts.read(seq, cx.now, delay) {
                fx.wake_at(at);
            }
        });
    }

    /// The newest cursor that is handed out and dealt with, for applications that keep their own.
    pub fn cursor(&self, conversation: ConversationId) -> Option<Cursor> {
        let state = self.shared().state.lock();
        state.conversations.get(&conversation)?.handled
    }

    /// The device's network changed, or is back: the connection moves to a new socket (if the
    /// endpoint is the client's own) and is probed at once; without an answer within two round trips and 300 ms
    /// another one is tried beside it, and who answers first is kept. A client that waits to dial dials at once.
    /// On TCP, which cannot move, it dials anew, and tries QUIC too.
    pub fn network_changed(&self) {
        let shared = self.shared();
        let own = shared.endpoint.lock().clone();
        if let Some(endpoint) = own
            && let Ok(local) = endpoint.local_addr()
        {
            let moved = std::net::UdpSocket::bind(any_port(local.is_ipv6()))
                .and_then(|socket| endpoint.rebind(socket));
            if let Err(error) = moved {
                tracing::warn!(%error, "no new socket after a change of networks");
            }
        }
        let is_dialing = !matches!(*shared.phase.borrow(), Phase::Online)
            || shared.state.lock().is_dialed_beside;
        if is_dialing {
            shared.dial_now.notify_one();
        } else if self.transport() == Some(TransportKind::Tcp) {
            shared.redial.notify_one();
        }
        shared.moved.notify_one();
    }

    /// What carries the connection, while there is one.
    pub fn transport(&self) -> Option<TransportKind> {
        self.shared().state.lock().connection.as_ref().map(Connection::kind)
    }

    /// Where the connection goes, while there is one: which of the server's addresses.
    pub fn server(&self) -> Option<SocketAddr> {
        self.shared().state.lock().connection.as_ref().map(Connection::remote_address)
    }

    /// How it is doing. Takes the connection's lock: sample it, don't call it per message.
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let state = shared.state.lock();
        let Counters { sign_ins, resends, duplicates, fills, early_accepted, early_rejected } =
            state.counters;
        let mut stats = Stats {
            online: state.connection.is_some() && !state.silent && state.early.is_none(),
            probes_sent: shared.probes_sent.load(Ordering::Relaxed),
            early_accepted,
            early_rejected,
            reconnects: sign_ins.saturating_sub(1),
            resends,
            duplicates,
            fills,
            outbox_len: state.outbox_len,
            outbox_bytes: state.outbox_bytes,
            conversations: state.conversations.len(),
            streams: state.streams_open,
            ..Stats::default()
        };
        let connection = state.connection.clone();
        if let Some(echo) = &state.echo {
            let echoed = echo.counters();
            (stats.echoes_sent, stats.echoes_won) = (echoed.sent, echoed.won);
            stats.echoes_rescued = echoed.rescues;
        }
        drop(state);
        if let Some(connection) = connection {
            let measured = connection.stats();
            let rtt_us = measured.rtt.as_micros();
            stats.rtt_us = u64::try_from(rtt_us).unwrap_or(u64::MAX);
            stats.lost_packets = measured.lost_packets;
            stats.sent_packets = measured.sent_packets;
            stats.udp_rx_bytes = measured.received_bytes;
            stats.udp_tx_bytes = measured.sent_bytes;
        }
        stats
    }

    /// Waits until the outbox is empty.
    ///
    /// # Errors
    /// [`ClientError`] when the client has given up or was closed.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let shared = self.shared();
        let mut phase = shared.phase.subscribe();
        loop {
            let emptied = shared.outbox_empty.notified();
            if shared.state.lock().outbox_len == 0 {
                return Ok(());
            }
            tokio::select! {
                () = emptied => {}
                stopped = phase.wait_for(|phase| matches!(phase, Phase::Stopped(_))) => {
                    return match stopped.as_deref() {
                        Ok(Phase::Stopped(why)) => Err(why.clone()),
                        _ => Err(ClientError::Closed),
                    };
                }
            }
        }
    }

    /// Says what is still to be said (receipts), closes the connection and waits until
    /// all tasks have ended and the outbox's file is closed.
    pub async fn close(self) {
        let shared = Arc::clone(self.shared());
        let closing = shared.writers_done();
        drop(tokio::time::timeout(CLOSE_TIMEOUT, closing).await);
        shared.cancel.cancel();
        shared.tasks.close();
        shared.tasks.wait().await;
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(file) = &shared.file {
                file.close();
            }
        });
        if closed.await.is_err() {
            tracing::error!("closing the outbox's file panicked");
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}
