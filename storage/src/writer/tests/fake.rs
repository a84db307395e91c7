//! A scripted store and a recorder, and a bench that puts a writer between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::vec;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use petrel_core::entry::{EntryKind, Placed};
use petrel_core::error::Rejection;
use petrel_core::id::{ClientMessageId, ContentDigest, ConversationId, RightsVersion, Seq, UserId};
use petrel_core::store::{Append, AppendOutcome, Appender, StoreError};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::budget::{Budget, Share};
use crate::writer::{Commits, Pending, Settled, WriterOptions, Writers};

/// What the store is told to do; it numbers all conversations together.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) delays: VecDeque<Duration>,
    pub(super) transient_errors: usize,
    /// From this call on, so many calls commit and their replies are lost.
    pub(super) lost_replies_from: Option<(usize, usize)>,
    pub(super) poison: BTreeSet<u8>,
    pub(super) conflicts: BTreeSet<u8>,
    /// How often a message is stale yet.
    pub(super) stale: BTreeMap<u8, usize>,
    pub(super) answers_too_little: bool,
    stored: BTreeMap<u8, Placed>,
    calls: Vec<Vec<u8>>,
    admitted_by: BTreeMap<u8, Option<RightsVersion>>,
    appenders: BTreeSet<usize>,
}

impl Script {
    pub(super) fn stored_before(&mut self, id: u8, seq: u64) {
        self.stored.insert(id, placed(seq));
    }

    fn append(&mut self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        if self.transient_errors > 0 {
            self.transient_errors -= 1;
            return Err(StoreError::Transient("scripted".to_owned()));
        }
        if batch.iter().any(|append| self.poison.contains(&id_of(append))) {
            return Err(StoreError::Permanent("scripted".to_owned()));
        }
        let mut caught = BTreeSet::new();
        let mut outcomes = Vec::new();
        for append in batch {
            outcomes.push(self.one(append, &mut caught));
        }
        if self.answers_too_little {
            outcomes.pop();
        }
        if let Some((from, calls)) = &mut self.lost_replies_from
            && self.calls.len() > *from
            && *calls > 0
        {
            *calls -= 1;
            return Err(StoreError::Transient("the reply is lost".to_owned()));
        }
        Ok(outcomes)
    }

    fn one(
        &mut self,
        append: &Append,
        caught: &mut BTreeSet<(ConversationId, UserId)>,
    ) -> AppendOutcome {
        let id = id_of(append);
        self.admitted_by.insert(id, append.admitted_by);
        if let Some(placed) = self.stored.get(&id) {
            return AppendOutcome::Duplicate(*placed);
        }
        if self.conflicts.contains(&id) {
            return AppendOutcome::IdConflict;
        }
        let stale = self.stale.entry(id).or_default();
        let line = (append.conversation, append.sender);
        if *stale > 0 || append.admitted_by.is_none() || caught.contains(&line) {
            *stale = stale.saturating_sub(1);
            caught.insert(line);
            return AppendOutcome::Stale;
        }
        let placed = placed(self.stored.len() as u64 + 1);
        self.stored.insert(id, placed);
        AppendOutcome::New(placed)
    }
}

fn id_of(append: &Append) -> u8 {
    append.id.0[0]
}

fn placed(seq: u64) -> Placed {
    Placed { seq: Seq(seq), count: seq, time_ms: 0, rights_version: RightsVersion(1) }
}

#[derive(Debug)]
struct FakeAppender {
    number: usize,
    script: Arc<Mutex<Script>>,
    called: watch::Sender<usize>,
}

#[async_trait]
impl Appender for FakeAppender {
    async fn append(&mut self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        let delay = {
            let mut script = self.script.lock();
            script.calls.push(batch.iter().map(id_of).collect());
            script.appenders.insert(self.number);
            script.delays.pop_front()
        };
        self.called.send_modify(|calls| *calls += 1);
        tokio::time::sleep(delay.unwrap_or(Duration::from_millis(1))).await;
        self.script.lock().append(batch)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    Preview(u8),
    /// Id, seq, whether it is new.
    Stored(u8, u64, bool),
    Refused(u8, Rejection),
}

struct Recorder {
    events: watch::Sender<Vec<Event>>,
    verdicts: Mutex<BTreeMap<u8, Result<RightsVersion, Rejection>>>,
    judged: Mutex<Vec<Vec<u8>>>,
    in_use: Mutex<Vec<usize>>,
    budget: Budget,
    panics: AtomicBool,
    judging: Mutex<Option<Duration>>,
}

#[async_trait]
impl Commits<u8> for Recorder {
    fn preview(&self, append: &Append, tag: &u8) {
        assert_eq!(id_of(append), *tag);
        self.events.send_modify(|events| events.push(Event::Preview(*tag)));
    }

    fn settled(&self, settled: vec::Drain<'_, Settled<u8>>) {
        assert!(!self.panics.load(Ordering::Relaxed), "scripted panic");
        self.in_use.lock().push(self.budget.in_use());
        let events = settled.map(|settled| match settled.outcome {
            Ok(stored) => Event::Stored(settled.tag, stored.placed.seq.0, stored.new),
            Err(rejection) => Event::Refused(settled.tag, rejection),
        });
        self.events.send_modify(|all| all.extend(events));
    }

    async fn judge_again(&self, stale: &[Pending<u8>]) -> Vec<Result<RightsVersion, Rejection>> {
        self.judged.lock().push(stale.iter().map(|pending| pending.tag).collect());
        let time = *self.judging.lock();
        tokio::time::sleep(time.unwrap_or_default()).await;
        let verdicts = self.verdicts.lock();
        let verdict = |pending: &Pending<u8>| verdicts.get(&pending.tag).cloned();
        stale.iter().map(|pending| verdict(pending).unwrap_or(Ok(RightsVersion(2)))).collect()
    }
}

/// A message by its number; its body is `bytes` long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    pub(super) id: u8,
    pub(super) sender: u8,
    pub(super) conversation: u8,
    pub(super) bytes: usize,
}

impl Message {
    pub(super) fn of(id: u8) -> Self {
        Self { id, sender: 1, conversation: 1, bytes: 1 }
    }

    fn append(self) -> Append {
        let body = Bytes::from(vec![0; self.bytes]);
        Append {
            conversation: ConversationId([self.conversation; 16]),
            admitted_by: Some(RightsVersion(1)),
            sender: UserId([self.sender; 16]),
            id: ClientMessageId([self.id; 16]),
            kind: EntryKind::Text,
            encoding: 0,
            digest: ContentDigest::of(EntryKind::Text, 0, &body),
            target: None,
            revision: None,
            mentions: Vec::new(),
            body,
        }
    }
}

/// Writers between a scripted store and a recorder.
pub(super) struct Bench {
    pub(super) budget: Budget,
    pub(super) writers: Writers<u8>,
    script: Arc<Mutex<Script>>,
    recorder: Arc<Recorder>,
    called: watch::Sender<usize>,
    session: Share,
    conversation: Share,
}

impl Bench {
    pub(super) fn new(options: WriterOptions) -> Self {
        Self::with_room(4096, options)
    }

    pub(super) fn with_room(units: usize, options: WriterOptions) -> Self {
        let budget = Budget::new(units, Duration::from_secs(2));
        let recorder = Arc::new(Recorder {
            events: watch::Sender::new(Vec::new()),
            verdicts: Mutex::default(),
            judged: Mutex::default(),
            in_use: Mutex::default(),
            budget: budget.clone(),
            panics: AtomicBool::new(false),
            judging: Mutex::default(),
        });
        let script = Arc::new(Mutex::new(Script::default()));
        let called = watch::Sender::new(0);
        let mut number = 0;
        let appender = || -> Box<dyn Appender> {
            number += 1;
            Box::new(FakeAppender { number, script: Arc::clone(&script), called: called.clone() })
        };
        let tracker = TaskTracker::new();
        let writers = Writers::start(appender, &recorder, &budget, &options, &tracker);
        Self {
            session: budget.session_share(),
            conversation: budget.conversation_share(),
            budget,
            writers,
            script,
            recorder,
            called,
        }
    }

    pub(super) fn store<R>(&self, change: impl FnOnce(&mut Script) -> R) -> R {
        change(&mut self.script.lock())
    }

    pub(super) fn verdict(&self, id: u8, verdict: Result<RightsVersion, Rejection>) {
        self.recorder.verdicts.lock().insert(id, verdict);
    }

    pub(super) fn panic_when_settled(&self) {
        self.recorder.panics.store(true, Ordering::Relaxed);
    }

    pub(super) fn judging_takes(&self, time: Duration) {
        *self.recorder.judging.lock() = Some(time);
    }

    /// From a session of its own to a conversation of its own share; the refusal if there is no room.
    pub(super) async fn send_apart(&self, id: u8) -> Option<Rejection> {
        let (session, conversation) =
            (self.budget.session_share(), self.budget.conversation_share());
        match self.budget.permit(&session, &conversation, 1).await {
            Ok(permit) => {
                let pending = Pending::new(Message::of(id).append(), id, permit);
                self.writers.submit(pending).unwrap();
                None
            }
            Err(rejection) => Some(rejection),
        }
    }

    pub(super) async fn pending(&self, message: Message) -> Pending<u8> {
        let permit = self.budget.permit(&self.session, &self.conversation, message.bytes);
        Pending::new(message.append(), message.id, permit.await.unwrap())
    }

    pub(super) async fn send(&self, message: Message) {
        let pending = self.pending(message).await;
        self.writers.submit(pending).unwrap();
    }

    pub(super) async fn submit(&self, id: u8) {
        self.send(Message::of(id)).await;
    }

    pub(super) async fn look_up(&self, id: u8, refusal: Rejection) {
        let permit = self.budget.permit(&self.session, &self.conversation, 1);
        let permit = permit.await.unwrap();
        let pending = Pending::look_up(Message::of(id).append(), refusal, id, permit);
        self.writers.submit(pending).unwrap();
    }

    /// Waits until so many are answered; all events until then.
    pub(super) async fn settled(&self, answers: usize) -> Vec<Event> {
        let mut events = self.recorder.events.subscribe();
        let answered = |events: &Vec<Event>| {
            let previews = events.iter().filter(|event| matches!(event, Event::Preview(_)));
            events.len() - previews.count() >= answers
        };
        let wait = events.wait_for(answered);
        let wait = tokio::time::timeout(Duration::from_secs(600), wait);
        wait.await.expect("not all were answered").unwrap();
        let mut answers = self.events();
        answers.retain(|event| !matches!(event, Event::Preview(_)));
        let previews = self.events().into_iter();
        answers.extend(previews.filter(|event| matches!(event, Event::Preview(_))));
        answers
    }

    pub(super) async fn store_was_called(&self, calls: usize) {
        let mut called = self.called.subscribe();
        called.wait_for(|called| *called >= calls).await.unwrap();
    }

    /// So much (paused) time later.
    pub(super) async fn after(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Once nobody has anything left to do.
    pub(super) async fn quiet(&self) {
        self.after(Duration::from_millis(1)).await;
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.recorder.events.borrow().clone()
    }

    pub(super) fn calls(&self) -> Vec<Vec<u8>> {
        self.script.lock().calls.clone()
    }

    pub(super) fn judged(&self) -> Vec<Vec<u8>> {
        self.recorder.judged.lock().clone()
    }

    pub(super) fn in_use_when_settled(&self) -> Vec<usize> {
        self.recorder.in_use.lock().clone()
    }

    pub(super) fn admitted_by(&self, id: u8) -> Option<RightsVersion> {
        self.script.lock().admitted_by[&id]
    }

    pub(super) fn appenders_used(&self) -> usize {
        self.script.lock().appenders.len()
    }
}
