//! A store that bites as a real one does: a lock that is waited for in line, a
//! statement that sees what had committed when it began, transactions that go
//! on when nobody waits for them any more, replies that are lost, backups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use petrel_core::entry::{Cursor, Entry, Placed};
use petrel_core::id::{ContentDigest, ConversationId, RightsVersion, UserId};
use petrel_core::store::{Append, AppendOutcome, Appender, StoreError};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::statement::{Statement, cursor};
use crate::world::{Sabotage, World};

/// How long a gateway waits for the database before it closes the connection.
const DEADLINE: Duration = Duration::from_millis(250);

type Reply = Result<Vec<AppendOutcome>, StoreError>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) head: u64,
    pub(crate) rights_version: u64,
    pub(crate) blockers: BTreeSet<UserId>,
    /// Whether sends were barred, by rights version.
    pub(crate) barred: BTreeMap<u64, bool>,
    pub(crate) log: Vec<Logged>,
}

#[derive(Clone, Debug)]
pub(crate) struct Logged {
    /// Number of the commit that brought it: what a snapshot sees.
    pub(crate) commit: u64,
    pub(crate) entry: Entry,
    pub(crate) digest: ContentDigest,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) conversations: BTreeMap<ConversationId, Conversation>,
    pub(crate) commits: u64,
    /// Rises when a backup is restored: no transaction of before commits.
    epoch: u64,
    stalled_until: Option<Instant>,
    /// When the clock began.
    pub(crate) begun: Option<Instant>,
}

/// Rights as one statement sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights {
    pub(crate) version: RightsVersion,
    pub(crate) barred: bool,
}

/// What will happen to one transaction.
struct Plan {
    /// Of the store when the connection was made: a restored one is another server.
    epoch: u64,
    arrives_after: Duration,
    locked_for: Duration,
    flush: Duration,
    aborts: bool,
    reply_is_lost: bool,
}

pub(crate) struct SimStore {
    world: Arc<World>,
    state: Mutex<State>,
    backup: Mutex<Option<State>>,
    locks: BTreeMap<ConversationId, Arc<tokio::sync::Mutex<()>>>,
}

impl SimStore {
    pub(crate) fn new(world: &Arc<World>, conversations: &[ConversationId]) -> Arc<Self> {
        let fresh = Conversation {
            rights_version: 1,
            barred: BTreeMap::from([(1, false)]),
            ..Conversation::default()
        };
        let state = State {
            conversations: conversations.iter().map(|id| (*id, fresh.clone())).collect(),
            begun: Some(Instant::now()),
            ..State::default()
        };
        Arc::new(Self {
            world: Arc::clone(world),
            state: Mutex::new(state),
            backup: Mutex::default(),
            locks: conversations.iter().map(|id| (*id, Arc::default())).collect(),
        })
    }

    pub(crate) fn appender(self: &Arc<Self>, gateway_lives: &Arc<AtomicBool>) -> Box<dyn Appender> {
        Box::new(SimAppender {
            store: Arc::clone(self),
            gateway_lives: Arc::clone(gateway_lives),
            outcome_unknown: false,
        })
    }

    /// As they are in the end.
    pub(crate) fn conversations(&self) -> BTreeMap<ConversationId, Conversation> {
        self.state.lock().conversations.clone()
    }

    pub(crate) fn stall(&self, time: Duration) {
        self.state.lock().stalled_until = Some(Instant::now() + time);
    }

    pub(crate) fn back_up(&self) {
        *self.backup.lock() = Some(self.state.lock().clone());
    }

    /// Goes back to the backup, if there is one that is older.
    pub(crate) fn restore(&self) -> bool {
        let Some(backup) = self.backup.lock().take() else {
            return false;
        };
        let mut state = self.state.lock();
        let (commits, epoch) = (state.commits, state.epoch + 1);
        *state = State { commits, epoch, stalled_until: None, ..backup };
        true
    }

    async fn awake(&self) {
        loop {
            let until = self.state.lock().stalled_until;
            match until {
                Some(until) if until > Instant::now() => sleep_until(until).await,
                _ => return,
            }
        }
    }

    /// Rights as they are at one moment of the call.
    pub(crate) async fn rights(&self, id: ConversationId) -> Rights {
        sleep(self.world.ms(0..3)).await;
        self.awake().await;
        let rights = {
            let state = self.state.lock();
            let row = &state.conversations[&id];
            Rights { version: RightsVersion(row.rights_version), barred: !row.blockers.is_empty() }
        };
        sleep(self.world.ms(0..3)).await;
        rights
    }

    /// A page of the log from `from` on.
    pub(crate) async fn entries(&self, id: ConversationId, from: u64, max: usize) -> Vec<Entry> {
        sleep(self.world.ms(0..3)).await;
        self.awake().await;
        let page = {
            let state = self.state.lock();
            let log = state.conversations[&id].log.iter();
            let page = log.filter(|logged| logged.entry.placed.seq.0 >= from).take(max);
            page.map(|logged| logged.entry.clone()).collect()
        };
        sleep(self.world.ms(0..3)).await;
        page
    }

    /// The highest of the cursors that is true here.
    pub(crate) async fn match_cursor(&self, id: ConversationId, cursors: &[Cursor]) -> u64 {
        sleep(self.world.ms(0..3)).await;
        self.awake().await;
        let state = self.state.lock();
        let log = &state.conversations[&id].log;
        let is_true = |claimed: &&Cursor| {
            log.iter().any(|logged| {
                let placed = logged.entry.placed;
                cursor(placed.seq.0, logged.entry.id, placed.time_ms) == **claimed
            })
        };
        let matching = cursors.iter().filter(is_true).map(|cursor| cursor.seq.0);
        matching.max().unwrap_or(0)
    }

    /// Sets or lifts a block, in a transaction of its own.
    pub(crate) async fn set_block(&self, id: ConversationId, blocker: UserId, blocks: bool) {
        let _lock = Arc::clone(&self.locks[&id]).lock_owned().await;
        sleep(self.world.ms(0..4)).await;
        self.awake().await;
        let mut state = self.state.lock();
        state.commits += 1;
        let Some(row) = state.conversations.get_mut(&id) else {
            return;
        };
        let changed = match blocks {
            true => row.blockers.insert(blocker),
            false => row.blockers.remove(&blocker),
        };
        if changed {
            row.rights_version += 1;
            let barred = !row.blockers.is_empty();
            row.barred.insert(row.rights_version, barred);
        }
    }

    fn plan(&self) -> Plan {
        let world = &self.world;
        let slow = |per_mille, range| match world.fault(per_mille) {
            true => world.ms(range),
            false => world.ms(0..3),
        };
        Plan {
            epoch: self.state.lock().epoch,
            arrives_after: slow(30, 50..600),
            locked_for: slow(30, 20..500),
            flush: slow(60, 20..400),
            aborts: world.fault(40),
            reply_is_lost: world.fault(60),
        }
    }

    /// One call of the batch function, on the database's side: nobody can call it back.
    async fn transaction(
        self: Arc<Self>,
        batch: Vec<Append>,
        plan: Plan,
        looked_up: Option<Vec<Option<Placed>>>,
        gateway_lives: Arc<AtomicBool>,
        reply: oneshot::Sender<Reply>,
    ) {
        sleep(plan.arrives_after).await;
        self.awake().await;
        let begun_at = self.state.lock().commits;
        let mut ids: Vec<_> = batch.iter().map(|append| append.conversation).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut locks = Vec::new();
        for id in ids {
            let lock = &self.locks[&id];
            if lock.try_lock().is_err() {
                self.world.count(|counters| counters.lock_waits += 1);
            }
            locks.push(Arc::clone(lock).lock_owned().await);
        }
        sleep(plan.locked_for).await;
        if batch.iter().any(is_poison) {
            self.world.count(|counters| counters.poisoned += 1);
            let refusal = StoreError::Permanent("a value out of range".to_owned());
            reply.send(Err(refusal)).ok();
            return;
        }
        let (outcomes, writes) = {
            let state = self.state.lock();
            let snapshot = match self.world.sabotage {
                Sabotage::OneStatement => begun_at,
                _ => state.commits,
            };
            Statement::new(&state, snapshot, self.world.sabotage, looked_up).run(&batch)
        };
        let mut reply = Some(reply);
        if self.world.sabotage == Sabotage::AckBeforeCommit
            && let Some(reply) = reply.take()
        {
            reply.send(Ok(outcomes.clone())).ok();
        }
        sleep(plan.flush).await;
        self.awake().await;
        let committed = !plan.aborts && self.commit(plan.epoch, writes);
        drop(locks);
        if let Some(reply) = reply {
            self.reply(reply, outcomes, committed, plan.reply_is_lost, &gateway_lives);
        }
    }

    fn reply(
        &self,
        reply: oneshot::Sender<Reply>,
        outcomes: Vec<AppendOutcome>,
        committed: bool,
        is_lost: bool,
        gateway_lives: &AtomicBool,
    ) {
        let stored =
            outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::New(_))).count();
        let nobody_waits = reply.is_closed();
        self.world.count(|counters| {
            if nobody_waits && !gateway_lives.load(Ordering::Relaxed) {
                counters.died_before_push += u64::from(committed && stored > 0);
            } else if nobody_waits {
                counters.late_transactions += u64::from(committed);
            } else if is_lost || !committed {
                counters.committed_unknown += u64::from(committed);
                counters.aborted_unknown += u64::from(!committed);
            }
        });
        if !is_lost {
            let answer = match committed {
                true => Ok(outcomes),
                false => Err(StoreError::Transient("rolled back".to_owned())),
            };
            reply.send(answer).ok();
        }
    }

    fn commit(&self, epoch: u64, writes: Vec<Logged>) -> bool {
        let mut state = self.state.lock();
        if state.epoch != epoch {
            return false;
        }
        state.commits += 1;
        let commit = state.commits;
        for mut logged in writes {
            logged.commit = commit;
            let Some(row) = state.conversations.get_mut(&logged.entry.conversation) else {
                continue;
            };
            row.head = row.head.max(logged.entry.placed.seq.0);
            // The primary key: of the hidden lost race nothing is inserted.
            let hidden = self.world.sabotage == Sabotage::OneStatement
                && row.log.iter().any(|other| {
                    (other.entry.sender, other.entry.id) == (logged.entry.sender, logged.entry.id)
                });
            if !hidden {
                row.log.push(logged);
            }
        }
        true
    }

    /// What a look-up without locks sees.
    fn look_up(&self, batch: &[Append]) -> Vec<Option<Placed>> {
        let state = self.state.lock();
        let find = |append: &Append| {
            let log = &state.conversations[&append.conversation].log;
            let found = log.iter().find(|logged| {
                (logged.entry.sender, logged.entry.id) == (append.sender, append.id)
            });
            found.map(|logged| logged.entry.placed)
        };
        batch.iter().map(find).collect()
    }
}

/// A few messages that the database never takes.
fn is_poison(append: &Append) -> bool {
    append.id.0[0] < 2
}

/// A gateway's end of a connection to the store.
struct SimAppender {
    store: Arc<SimStore>,
    gateway_lives: Arc<AtomicBool>,
    outcome_unknown: bool,
}

impl std::fmt::Debug for SimAppender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimAppender")
    }
}

#[async_trait]
impl Appender for SimAppender {
    async fn append(&mut self, batch: &[Append]) -> Reply {
        if !self.gateway_lives.load(Ordering::Relaxed) {
            // A dead process asks nothing any more.
            std::future::pending::<()>().await;
        }
        let world = Arc::clone(&self.store.world);
        let mere = world.sabotage == Sabotage::MereLookUp && self.outcome_unknown;
        let looked_up = mere.then(|| self.store.look_up(batch));
        let (reply, answer) = oneshot::channel();
        world.tasks.spawn(Arc::clone(&self.store).transaction(
            batch.to_vec(),
            self.store.plan(),
            looked_up,
            Arc::clone(&self.gateway_lives),
            reply,
        ));
        let answer = match timeout(DEADLINE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Transient("the reply was lost".to_owned())),
            Err(_) => Err(StoreError::Transient("no answer in time".to_owned())),
        };
        self.outcome_unknown = answer.is_err();
        if let Ok(outcomes) = &answer {
            world.count(|counters| {
                for outcome in outcomes {
                    match outcome {
                        AppendOutcome::Duplicate(_) => counters.duplicates += 1,
                        AppendOutcome::Stale => counters.stale += 1,
                        AppendOutcome::New(_)
                        | AppendOutcome::IdConflict
                        | AppendOutcome::Conflict => {}
                    }
                }
            });
        }
        answer
    }
}
