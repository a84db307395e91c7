//! Who is there: sessions name users to watch, and are told when one comes or goes. One task looks
//! at what has changed, and asks the store whom each session may see.
//!
//! A watch is in the index once the store has said that the user shows himself. That is asked when the
//! session names users, and again from time to time; one session after the other, so that a storm
//! of them waits here and nowhere else. Changes are looked at a few times a second.

mod index;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::join;
use parking_lot::Mutex;
use petrel_core::error::Rejection;
use petrel_core::id::UserId;
use petrel_core::limits;
use petrel_core::store::StoreError;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::gateway::Gateway;
use crate::session::Session;
use crate::{clock, metrics, translate};
pub(crate) use index::WATCHES_MAX;
use index::{Index, Look, State};

/// Between two looks at what has changed.
const TICK: Duration = Duration::from_millis(250);
/// Sessions that wait for the store to say whom they may see, at the most; more are found by the
/// next look at all sessions.
pub(crate) const WAITING_MAX: usize = 65_536;
/// Users whose sessions changed, at the most; with more, everybody who is watched is looked at.
pub(crate) const CHANGED_MAX: usize = 65_536;
/// Sessions that are told between two chances for other tasks.
const TOLD_AT_ONCE: usize = 256;

/// What the gateway knows of presence.
#[derive(Debug)]
pub(crate) struct Presence {
    index: Index<Weak<Session>>,
    /// Users whose sessions changed, and when: monotonic milliseconds.
    changed: Mutex<Changed>,
    waiting: Mutex<VecDeque<Weak<Session>>>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Changed {
    users: FxHashMap<UserId, u64>,
    /// There were too many to tell them apart.
    all: bool,
}

/// Whom one session watches. Its lock comes before the index's.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Option<Box<Watching>>>);

#[derive(Debug, Default)]
struct Watching {
    /// Whom the client has named since the store was asked.
    wanted: Option<Vec<UserId>>,
    /// Whom it named before that.
    named: Vec<UserId>,
    /// Those of them who show themselves: they are in the index.
    shown: Vec<UserId>,
    /// It waits for the store.
    is_waiting: bool,
    /// Something could not be told.
    owes: bool,
    /// The session has ended.
    is_over: bool,
    asked_s: u32,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            index: Index::new(WATCHES_MAX),
            changed: Mutex::default(),
            waiting: Mutex::default(),
            more: Notify::new(),
        }
    }
}

impl Changed {
    fn put(&mut self, user: UserId, changed_ms: u64) {
        if self.users.len() < CHANGED_MAX || self.users.contains_key(&user) {
            let last_ms = self.users.entry(user).or_default();
            *last_ms = changed_ms.max(*last_ms);
        } else if !self.all {
            self.all = true;
            metrics::get().presence_overflows.increment(1);
        }
    }
}

impl Presence {
    /// A client names whom it watches, instead of those before.
    ///
    /// # Errors
    /// [`Rejection::Invalid`].
    pub(crate) fn watch(&self, session: &Arc<Session>, users: &[Bytes]) -> Result<(), Rejection> {
        if users.len() > limits::WATCHED_MAX {
            let problem = format!("{}; at most {}", users.len(), limits::WATCHED_MAX);
            return Err(Rejection::Invalid { field: "users", problem });
        }
        let mut users = translate::user_ids("users", users)?;
        users.sort_unstable();
        users.dedup();
        let mut watch = session.watch().0.lock();
        if users.is_empty() && watch.is_none() {
            return Ok(());
        }
        watch.get_or_insert_default().wanted = Some(users);
        drop(watch);
        self.look_up(session);
        Ok(())
    }

    /// Puts a session in line for the store, unless it is there.
    fn look_up(&self, session: &Arc<Session>) {
        let mut watch = session.watch().0.lock();
        let Some(watching) = watch.as_mut().filter(|w| !w.is_waiting && !w.is_over) else { return };
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX {
            return metrics::get().presence_overflows.increment(1);
        }
        waiting.push_back(Arc::downgrade(session));
        watching.is_waiting = true;
        drop((waiting, watch));
        self.more.notify_one();
    }

    /// Looks up again what a session may see, if it is time: what it named and the store was not asked
    /// about, and everything after `interval_s` seconds.
    pub(crate) fn refresh(&self, session: &Arc<Session>, now_s: u32, interval_s: u32) {
        if !session.is_attentive() {
            return;
        }
        let is_due = session.watch().0.lock().as_ref().is_some_and(|watching| {
            let is_old = !watching.named.is_empty() && now_s >= watching.asked_s + interval_s;
            !watching.is_waiting && (watching.wanted.is_some() || is_old)
        });
        if is_due {
            self.look_up(session);
        }
    }

    /// A session has come back from the background: it is told what it was not told there.
    pub(crate) fn came_back(&self, session: &Arc<Session>) {
        if session.watch().0.lock().as_ref().is_some_and(|watching| watching.owes) {
            self.look_up(session);
        }
    }

    /// A session has ended.
    pub(crate) fn end(&self, session: &Session) {
        let mut watch = session.watch().0.lock();
        let Some(watching) = watch.as_mut() else { return };
        watching.is_over = true;
        for user in std::mem::take(&mut watching.shown) {
            self.index.remove(user, session.id());
        }
    }

    /// A user's sessions have changed. Called after the change, without the table's lock.
    pub(crate) fn note(&self, user: UserId) {
        if !self.index.is_watched(user) {
            return;
        }
        self.changed.lock().put(user, now_ms());
    }

    /// Watches, sessions that wait for the store, users that have changed.
    pub(crate) fn depths(&self) -> (usize, usize, usize) {
        let changed = self.changed.lock().users.len();
        (self.index.len(), self.waiting.lock().len(), changed)
    }
}

/// Looks after presence until the gateway stops.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let both = join(tell_changes(&gateway), look_up_all(&gateway));
    gateway.stopping.run_until_cancelled(both).await;
}

async fn tell_changes(gateway: &Gateway) {
    let presence = &gateway.presence;
    loop {
        tokio::time::sleep(TICK).await;
        let Changed { users, all } = std::mem::take(&mut *presence.changed.lock());
        let mut early = Vec::new();
        for (user, changed_ms) in users {
            if gateway.tell_change(user, changed_ms).await {
                early.push((user, changed_ms));
            }
        }
        let mut shard = 0;
        while let Some(users) = all.then(|| presence.index.users_of_shard(shard)).flatten() {
            for user in users {
                if gateway.tell_change(user, now_ms()).await {
                    early.push((user, now_ms()));
                }
            }
            shard += 1;
        }
        let mut changed = presence.changed.lock();
        for (user, changed_ms) in early {
            changed.put(user, changed_ms);
        }
    }
}

async fn look_up_all(gateway: &Gateway) {
    let presence = &gateway.presence;
    loop {
        let more = presence.more.notified();
        let next = presence.waiting.lock().pop_front();
        match next {
            Some(session) => {
                if let Some(session) = session.upgrade() {
                    gateway.look_up_presence(&session).await;
                }
            }
            None => more.await,
        }
    }
}

impl Gateway {
    fn state_of(&self, user: UserId, seen_ms: u64) -> State {
        match self.is_there(user) {
            false => State { online: false, seen_ms },
            true => State { online: true, seen_ms: 0 },
        }
    }

    /// Tells a user's watchers if he has come or gone. `true` if it is too early to say.
    async fn tell_change(&self, user: UserId, changed_ms: u64) -> bool {
        let state = self.state_of(user, clock::unix_ms());
        let watchers = match self.presence.index.look(user, state, changed_ms, now_ms()) {
            Look::Same => return false,
            Look::Wait => return true,
            Look::Tell(watchers) => watchers,
        };
        let frame = translate::presence(user, state.online, state.seen_ms);
        for part in watchers.chunks(TOLD_AT_ONCE) {
            for session in part.iter().filter_map(Weak::upgrade) {
                // Under its lock, so that who comes back at this moment sees what he is owed.
                let mut watch = session.watch().0.lock();
                if !tell(&session, &frame, 1)
                    && let Some(watching) = watch.as_mut()
                {
                    watching.owes = true;
                }
            }
            tokio::task::yield_now().await;
        }
        false
    }

    /// Asks the store whom a session may see; tells it of those.
    async fn look_up_presence(&self, session: &Arc<Session>) {
        let Some(asked) = session.watch().begin() else { return };
        let answered = match asked.users.as_slice() {
            [] => Ok((Vec::new(), FxHashMap::default())),
            users => self.visible(session.user(), users).await,
        };
        let mut watch = session.watch().0.lock();
        let Some(watching) = watch.as_mut().filter(|w| !w.is_over) else { return };
        match answered {
            Ok((visible, seen)) if watching.wanted.is_none() => {
                let told = self.take_over(session, watching, &visible, &seen, asked.tells_all);
                let (count, frames) = told;
                let failed = count > 0 && !tell(session, &frames, count);
                watching.owes = failed || (watching.owes && !asked.tells_all);
            }
            // It has named others meanwhile, and is in line again.
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the store does not say whose presence is shown");
                // Found again by the next look at all sessions.
                watching.wanted.get_or_insert(asked.users);
            }
        }
    }

    async fn visible(
        &self,
        watcher: UserId,
        users: &[UserId],
    ) -> Result<(Vec<UserId>, FxHashMap<UserId, u64>), StoreError> {
        let mut visible = self.store.visible_presence(watcher, users).await?;
        visible.sort_unstable();
        let is_unknown =
            |user: &&UserId| !self.is_there(**user) && !self.presence.index.is_watched(**user);
        let unknown: Vec<_> = visible.iter().filter(is_unknown).copied().collect();
        let seen = match unknown.as_slice() {
            [] => Vec::new(),
            users => self.store.last_seen(users).await?,
        };
        Ok((visible, seen.into_iter().collect()))
    }

    /// Takes over who is shown; gives back how many are to be told, and the frames.
    fn take_over(
        &self,
        session: &Arc<Session>,
        watching: &mut Watching,
        visible: &[UserId],
        seen: &FxHashMap<UserId, u64>,
        tells_all: bool,
    ) -> (usize, Bytes) {
        let index = &self.presence.index;
        let (mut frames, mut count) = (BytesMut::new(), 0);
        let mut say = |user, state: State| {
            frames.extend_from_slice(&translate::presence(user, state.online, state.seen_ms));
            count += 1;
        };
        let before = std::mem::take(&mut watching.shown);
        for user in &before {
            if visible.binary_search(user).is_err() {
                index.remove(*user, session.id());
                // He shows himself no longer; of whom the client has dropped it needs no word.
                if watching.named.binary_search(user).is_ok() {
                    say(*user, State::default());
                }
            }
        }
        for user in visible {
            let seen_ms = seen.get(user).copied().unwrap_or(0);
            let watcher = (session.id(), Arc::downgrade(session));
            let look = || self.state_of(*user, seen_ms);
            let Some(state) = index.add(*user, watcher, now_ms(), look) else {
                metrics::get().presence_overflows.increment(1);
                continue;
            };
            watching.shown.push(*user);
            if tells_all || before.binary_search(user).is_err() {
                say(*user, state);
            }
        }
        (count, frames.freeze())
    }
}

/// What the store is to be asked for a session.
struct Asked {
    users: Vec<UserId>,
    /// The client waits for a word of each.
    tells_all: bool,
}

impl Watch {
    /// Takes over what the client has named. `None` if there is nobody to ask about.
    fn begin(&self) -> Option<Asked> {
        let mut watch = self.0.lock();
        let watching = watch.as_mut().filter(|w| !w.is_over)?;
        watching.is_waiting = false;
        watching.asked_s = clock::coarse_s();
        let tells_all = watching.wanted.is_some() || watching.owes;
        if let Some(wanted) = watching.wanted.take() {
            watching.named = wanted;
        }
        Some(Asked { users: watching.named.clone(), tells_all })
    }
}

/// Tells a session; `false` if it cannot be told now.
fn tell(session: &Session, frames: &Bytes, count: usize) -> bool {
    let is_expired = clock::unix_ms() >= session.token_expires_ms();
    let told = !is_expired && session.is_attentive() && session.queue().put_control(frames.clone());
    if told {
        metrics::get().presence_told.increment(count as u64);
    }
    told
}

fn now_ms() -> u64 {
    clock::monotonic_ns() / 1_000_000
}
