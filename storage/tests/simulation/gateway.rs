//! A small gateway around the real budget and the real writers: cached rights,
//! send numbers, attach with splice, pushes, and the journal that catches what
//! was committed elsewhere.

mod hub;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use petrel_core::conversation::Refused;
use petrel_core::entry::{Cursor, Entry, EntryKind};
use petrel_core::error::Rejection;
use petrel_core::id::{ClientMessageId, ContentDigest, ConversationId, RightsVersion, UserId};
use petrel_core::store::Append;
use petrel_storage::budget::{Budget, Share};
use petrel_storage::writer::{Pending, WriterOptions, Writers};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::store::{Rights, SimStore};
use crate::world::World;

/// How often a gateway looks for what others committed.
const JOURNAL_EVERY: Duration = Duration::from_millis(150);
/// A stream that takes long on its way does so for the most this long.
pub(crate) const LATE_MS: std::ops::Range<u64> = 100..1_500;
/// Messages between a client and its gateway, each way.
const PIPE: usize = 4096;

/// From a client, on one stream.
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) number: u64,
    pub(crate) id: ClientMessageId,
    pub(crate) body: Bytes,
    pub(crate) resend: bool,
}

/// To a client, on one stream.
#[derive(Debug)]
pub(crate) enum Told {
    Reset {
        to: u64,
    },
    Entry(Entry),
    /// Of a message whose entry went out before.
    Ack {
        id: ClientMessageId,
        seq: u64,
    },
    Refused {
        number: u64,
        id: ClientMessageId,
        rejection: Rejection,
    },
}

/// A client's end of a stream. Dropping it is leaving: the gateway knows at once,
/// unless the client left as one does whose network is gone.
pub(crate) struct ClientEnd {
    pub(crate) send: mpsc::Sender<Send>,
    pub(crate) told: mpsc::Receiver<Told>,
    stream: Arc<Stream>,
    lingers: bool,
}

impl ClientEnd {
    /// Leaves, and the gateway learns of it after this time only. What is on its way still arrives.
    pub(crate) fn vanish(mut self, world: &World, noticed_after: Duration) {
        self.lingers = true;
        let stream = Arc::clone(&self.stream);
        world.count(|counters| counters.lingering += 1);
        world.tasks.spawn(async move {
            sleep(noticed_after).await;
            stream.state.lock().gone = true;
        });
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        if !self.lingers {
            self.stream.state.lock().gone = true;
        }
    }
}

/// One device's stream of one conversation, on the gateway's side.
#[derive(Debug)]
pub(crate) struct Stream {
    conversation: ConversationId,
    user: UserId,
    share: Share,
    state: Mutex<StreamState>,
}

#[derive(Debug, Default)]
struct StreamState {
    gone: bool,
    out: Option<mpsc::Sender<Told>>,
    /// The number that is admitted next.
    expected: u64,
    /// How often each number was submitted.
    submissions: BTreeMap<u64, u64>,
    /// Once spliced: the seq that is handed out next.
    next: Option<u64>,
    early: BTreeMap<u64, Entry>,
}

impl StreamState {
    fn tell(&self, told: Told) {
        if let Some(out) = &self.out
            && !self.gone
        {
            out.try_send(told).ok();
        }
    }

    fn offer(&mut self, entry: Entry) {
        self.early.insert(entry.placed.seq.0, entry);
        let Some(mut next) = self.next else { return };
        self.early = self.early.split_off(&next);
        while let Some(entry) = self.early.remove(&next) {
            self.tell(Told::Entry(entry));
            next += 1;
        }
        self.next = Some(next);
    }
}

/// Which submission an answer belongs to.
#[derive(Debug)]
pub(crate) struct Tag {
    stream: Arc<Stream>,
    number: u64,
    submission: u64,
}

struct Local {
    rights: Option<Rights>,
    share: Share,
    streams: Vec<Arc<Stream>>,
    refused: Refused,
}

struct Hub {
    world: Arc<World>,
    store: Arc<SimStore>,
    lives: Arc<AtomicBool>,
    conversations: Mutex<BTreeMap<ConversationId, Local>>,
}

pub(crate) struct Gateway {
    hub: Arc<Hub>,
    budget: Budget,
    writers: Mutex<Option<Writers<Tag>>>,
    tasks: TaskTracker,
    dead: CancellationToken,
}

impl Gateway {
    pub(crate) fn start(
        world: &Arc<World>,
        store: &Arc<SimStore>,
        ids: &[ConversationId],
    ) -> Arc<Self> {
        let units = 16 << world.below(4);
        let budget = Budget::new(units, Duration::from_millis(200));
        let local = |id: &ConversationId| {
            let share = budget.conversation_share();
            (*id, Local { rights: None, share, streams: Vec::new(), refused: Refused::default() })
        };
        let lives = Arc::new(AtomicBool::new(true));
        let hub = Arc::new(Hub {
            world: Arc::clone(world),
            store: Arc::clone(store),
            lives: Arc::clone(&lives),
            conversations: Mutex::new(ids.iter().map(local).collect()),
        });
        let options = WriterOptions {
            writers: 1 + world.index(2),
            preview_after: Duration::from_millis([0, 20, 50][world.index(3)]),
            batch_messages_max: 1 + world.index(8),
            retry_min: Duration::from_millis(5),
            retry_max: Duration::from_millis(200),
            seed: world.below(u64::MAX),
            ..WriterOptions::default()
        };
        let tasks = TaskTracker::new();
        let appender = || store.appender(&lives);
        let writers = Writers::start(appender, &hub, &budget, &options, &tasks);
        let gateway = Arc::new(Self {
            hub,
            budget,
            writers: Mutex::new(Some(writers)),
            tasks,
            dead: CancellationToken::new(),
        });
        gateway.spawn(Arc::clone(&gateway.hub).read_journal());
        gateway
    }

    /// Everything of it ends where it stands.
    pub(crate) fn kill(&self) {
        self.hub.lives.store(false, Ordering::Relaxed);
        self.dead.cancel();
        drop(self.writers.lock().take());
        for local in self.hub.conversations.lock().values_mut() {
            for stream in local.streams.drain(..) {
                stream.state.lock().out = None;
            }
        }
    }

    /// Units that are taken although nothing is under way any more.
    pub(crate) fn room_in_use(&self) -> usize {
        self.budget.in_use()
    }

    fn spawn(&self, task: impl Future<Output = ()> + std::marker::Send + 'static) {
        let dead = self.dead.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = dead.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// A client attaches: subscribe first, then read, then splice.
    pub(crate) fn open(
        self: &Arc<Self>,
        user: UserId,
        conversation: ConversationId,
        cursors: Vec<Cursor>,
    ) -> ClientEnd {
        let (send, sends) = mpsc::channel(PIPE);
        let (out, told) = mpsc::channel(PIPE);
        let stream = Arc::new(Stream {
            conversation,
            user,
            share: self.budget.session_share(),
            state: Mutex::new(StreamState { out: Some(out), ..StreamState::default() }),
        });
        if let Some(local) = self.hub.conversations.lock().get_mut(&conversation) {
            local.streams.retain(|stream| !stream.state.lock().gone);
            local.streams.push(Arc::clone(&stream));
        }
        self.spawn(Arc::clone(&self.hub).splice(Arc::clone(&stream), cursors));
        self.spawn(Arc::clone(self).serve(Arc::clone(&stream), sends));
        ClientEnd { send, told, stream, lingers: false }
    }

    async fn serve(self: Arc<Self>, stream: Arc<Stream>, mut sends: mpsc::Receiver<Send>) {
        while let Some(send) = sends.recv().await {
            sleep(self.hub.world.ms(0..2)).await;
            if self.hub.world.fault(40) {
                sleep(self.hub.world.ms(LATE_MS)).await;
            }
            let (number, id) = (send.number, send.id);
            if let Err(rejection) = self.admit(&stream, send).await {
                let mut state = stream.state.lock();
                if !rejection.is_retryable() {
                    state.expected = number + 1;
                    self.hub.world.history.lock().turned_away.insert(id);
                }
                if matches!(rejection, Rejection::Overloaded { .. }) {
                    self.hub.world.count(|counters| counters.overloads += 1);
                }
                state.tell(Told::Refused { number, id, rejection });
            }
        }
    }

    async fn admit(&self, stream: &Arc<Stream>, send: Send) -> Result<(), Rejection> {
        let in_turn = |state: &StreamState| match state.expected {
            _ if state.gone => Err(Rejection::Unavailable),
            expected if expected == send.number => Ok(()),
            expected => Err(Rejection::Predecessor { expected }),
        };
        in_turn(&stream.state.lock())?;
        let mut verdict = judge(self.hub.rights(stream.conversation).await);
        if verdict.is_err() && send.resend {
            // A refusal of a resend has to be true now, not of some time ago.
            verdict = judge(self.hub.load_rights(stream.conversation).await);
        }
        if let (Err(rejection), false) = (&verdict, send.resend) {
            return Err(rejection.clone());
        }
        let digest = ContentDigest::of(EntryKind::Text, 0, &send.body);
        let mut append = Append {
            conversation: stream.conversation,
            admitted_by: verdict.as_ref().ok().copied(),
            sender: stream.user,
            id: send.id,
            kind: EntryKind::Text,
            encoding: 0,
            digest,
            target: None,
            revision: None,
            mentions: Vec::new(),
            body: send.body,
        };
        let share = self.hub.share(stream.conversation);
        let permit = self.budget.permit(&stream.share, &share, append.body.len()).await?;
        if let Some(refusal) = self.hub.refused_before(&append) {
            if !send.resend {
                return Err(refusal);
            }
            append.admitted_by = None;
            verdict = Err(refusal);
        }
        let mut state = stream.state.lock();
        in_turn(&state)?;
        let submission = state.submissions.entry(send.number).or_default();
        *submission += 1;
        let tag = Tag { stream: Arc::clone(stream), number: send.number, submission: *submission };
        let pending = match verdict {
            Ok(_) => Pending::new(append, tag, permit),
            Err(rejection) => Pending::look_up(append, rejection, tag, permit),
        };
        state.expected = send.number + 1;
        drop(state);
        match &*self.writers.lock() {
            Some(writers) => writers
                .submit(pending)
                .map_err(|refused| refused.outcome.err().unwrap_or(Rejection::GoingAway)),
            None => Err(Rejection::GoingAway),
        }
    }
}

fn judge(rights: Rights) -> Result<RightsVersion, Rejection> {
    match rights.barred {
        true => Err(Rejection::Blocked),
        false => Ok(rights.version),
    }
}
