//! Copies who is signed in here to the directory in Redis.
//!
//! The session table is the truth and Redis a mirror of it: a change in the table only marks its user
//! ([`Marks::mark`]), and the task here reads the table when it writes. So a user who comes and
//! goes often costs one write in [`COALESCED_IN`], and Redis that is slow, flushed, restarted or absent
//! costs chat nothing. Rounds write everyone again under the next generation: fast when Redis may
//! have lost something, slowly all the time otherwise.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use petrel_core::id::UserId;
use petrel_core::store::NodeRecord;
use petrel_storage::redis::{
    BATCH_MAX, Directory, DirectoryError, Generation, Lease, Link, Presence,
};
use rustc_hash::FxHashMap;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::metrics;
use crate::session_table::{Attendance, SHARDS, SessionTable};

/// Users with a mark, at the most; one more, and everything is written again instead.
pub(crate) const MARKED_MAX: usize = 65_536;
/// Between two writes when there is something to write.
const WRITE_PAUSE: Duration = Duration::from_millis(50);
/// The same while everything is written again because Redis lost it.
const REBUILD_PAUSE: Duration = Duration::from_millis(10);
/// A user is written at the most once in this time, but for the first change after a quiet time.
const COALESCED_IN: Duration = Duration::from_secs(1);
/// The lease is renewed, and a loss noticed, at the least this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A slow round through everyone takes so long.
const ROUND: Duration = Duration::from_secs(5 * 60);
/// Waits between attempts to connect: from, to.
const RECONNECT_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// For the last word to Redis when the gateway stops.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// Whose entry may differ from the table.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    marked: Mutex<Marked>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Marked {
    /// With the time of the first mark.
    users: FxHashMap<UserId, Instant>,
    /// Everything, since when and why.
    everything: Option<(Instant, &'static str)>,
    /// What the task holds: how many, and since when.
    held: usize,
    held_since: Option<Instant>,
}

impl Marks {
    /// A user's sessions changed. Takes no time and no more room than [`MARKED_MAX`].
    pub(crate) fn mark(&self, user: UserId) {
        let now = Instant::now();
        let mut marked = self.marked.lock();
        if marked.everything.is_some() {
            return;
        }
        marked.users.entry(user).or_insert(now);
        if marked.users.len() > MARKED_MAX {
            marked.users = FxHashMap::default();
            marked.everything = Some((now, "overflow"));
            metrics::mirror_overflowed();
        }
        drop(marked);
        self.wake.notify_one();
    }

    /// Everything has to be written again.
    fn mark_everything(&self, reason: &'static str) {
        let mut marked = self.marked.lock();
        marked.users = FxHashMap::default();
        marked.everything.get_or_insert((Instant::now(), reason));
    }

    /// How many users wait, and for how long the first of them.
    pub(crate) fn waiting(&self) -> (usize, Duration) {
        let marked = self.marked.lock();
        let first = marked.users.values().min().copied();
        let since =
            [first, marked.everything.map(|(since, _)| since), marked.held_since].into_iter();
        let lag = since.flatten().min().map_or(Duration::ZERO, |since| since.elapsed());
        (marked.users.len() + marked.held, lag)
    }
}

/// A way through everyone, shard by shard.
#[derive(Debug)]
struct Round {
    next_shard: usize,
    users: Vec<UserId>,
    is_rebuild: bool,
    next_at: Instant,
}

/// What the task knows.
#[derive(Debug)]
struct Mirror<'a> {
    sessions: &'a SessionTable,
    marks: &'a Marks,
    /// Taken from the marks and not written yet.
    waiting: FxHashMap<UserId, Instant>,
    /// Written within [`COALESCED_IN`]: when, and what.
    written: FxHashMap<UserId, (Instant, Attendance)>,
    /// Users of a write whose answer did not come: the write may still arrive, late.
    in_doubt: Vec<UserId>,
    round: Round,
    rebuild_since: Option<Instant>,
    generation: Generation,
    lowest: Generation,
}

/// Keeps the mirror until the gateway has stopped.
pub(crate) async fn run(gateway: Arc<Gateway>, directory: Directory) {
    let Some(marks) = gateway.sessions.marks() else { return };
    let mut mirror = Mirror::new(&gateway.sessions, marks);
    let describing = async {
        loop {
            directory.describe(description(&gateway.cluster.own()));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = mirror.keep(&directory) => {}
        () = describing => {}
        () = stopped(&gateway) => {}
    }
    let leaving = async { directory.connect().await?.leave().await };
    // Otherwise the lease ends by itself.
    if let Ok(Err(error)) = tokio::time::timeout(LEAVE_TIMEOUT, leaving).await {
        tracing::debug!(%error, "the directory was not told of the stop");
    }
}

/// What others may read of a gateway in Redis.
fn description(node: &NodeRecord) -> String {
    let state = if node.is_draining { "draining" } else { "serving" };
    let NodeRecord { name, address, clients, version, .. } = node;
    json!({ "name": name, "address": address, "clients": clients, "version": version, "state": state })
        .to_string()
}

/// The gateway stops and nobody is signed in any more, or its time is over.
async fn stopped(gateway: &Gateway) {
    gateway.stopping.cancelled().await;
    let emptied = async {
        while !gateway.sessions.is_empty() {
            tokio::time::sleep(WRITE_PAUSE).await;
        }
        // For the last removals.
        tokio::time::sleep(2 * WRITE_PAUSE).await;
    };
    tokio::time::timeout(gateway.config.gateway.drain_timeout.duration(), emptied).await.ok();
}

impl<'a> Mirror<'a> {
    fn new(sessions: &'a SessionTable, marks: &'a Marks) -> Self {
        Self {
            sessions,
            marks,
            waiting: FxHashMap::default(),
            written: FxHashMap::default(),
            in_doubt: Vec::new(),
            round: Round::new(false),
            rebuild_since: None,
            generation: Generation::default(),
            lowest: Generation::default(),
        }
    }

    /// Connects again for ever.
    async fn keep(&mut self, directory: &Directory) {
        let mut pause = RECONNECT_AFTER.0;
        let mut is_told = false;
        loop {
            self.marks.mark_everything("connect");
            let error = match directory.connect().await {
                Ok(mut link) => {
                    metrics::mirror_up(true);
                    tracing::info!(node = %directory.node(), "the mirror is connected to Redis");
                    (pause, is_told) = (RECONNECT_AFTER.0, false);
                    self.forget();
                    self.serve(&mut link).await
                }
                Err(error) => error,
            };
            metrics::mirror_up(false);
            metrics::mirror_failed(error.label());
            if !is_told {
                tracing::error!(%error, "the mirror in Redis is not kept; chat goes on");
                is_told = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_AFTER.1);
        }
    }

    /// What was on its way when a connection broke is covered by writing everything again.
    fn forget(&mut self) {
        self.waiting = FxHashMap::default();
        self.written = FxHashMap::default();
    }

    /// Writes until something goes wrong.
    async fn serve(&mut self, link: &mut Link<'_>) -> DirectoryError {
        // A marker of before the break keeps its lowest generation until everything is written.
        if let Err(error) = link.claim(self.lowest).await {
            return error;
        }
        loop {
            if let Err(error) = self.step(link).await {
                return error;
            }
            let pause = if self.rebuild_since.is_some() { REBUILD_PAUSE } else { WRITE_PAUSE };
            tokio::time::sleep(pause).await;
            if self.is_idle() {
                self.await_work(self.marks.wake.notified()).await;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.round.users.is_empty() && self.rebuild_since.is_none()
    }

    async fn await_work(&self, woken: impl Future<Output = ()>) {
        let until = (Instant::now() + LOOK_EVERY).min(self.round.next_at);
        // Either there is a mark, or it is time to renew the lease or for the round's next shard.
        tokio::time::timeout_at(until, woken).await.ok();
    }

    /// One batch: marks first, then the round.
    async fn step(&mut self, link: &mut Link<'_>) -> Result<(), DirectoryError> {
        let now = Instant::now();
        self.collect(now);
        let mut users = self.take_due(now);
        let of_round = self.take_round(now, BATCH_MAX - users.len());
        users.extend_from_slice(&of_round);
        let entries: Vec<Presence> = users
            .iter()
            .map(|&user| {
                let Attendance { sessions, attentive } = self.sessions.attendance(user);
                Presence { user, sessions, attentive }
            })
            .collect();
        match link.write(self.lowest, self.generation, &entries).await {
            Ok(lease) => {
                for entry in &entries {
                    let Presence { user, sessions, attentive } = *entry;
                    self.written.insert(user, (now, Attendance { sessions, attentive }));
                }
                metrics::mirror_wrote(entries.len());
                if lease == Lease::Lost {
                    self.begin_rebuild("lost", now);
                    // There is nothing left that an older generation could keep up.
                    self.lowest = self.generation;
                    link.claim(self.lowest).await?;
                }
            }
            Err(error) => {
                self.in_doubt = users;
                return Err(error);
            }
        }
        if !self.round.is_rebuild {
            link.sweep(&of_round).await?;
        }
        self.publish();
        Ok(())
    }

    /// Takes over what was marked.
    fn collect(&mut self, now: Instant) {
        let (users, everything) = {
            let mut marked = self.marks.marked.lock();
            (std::mem::take(&mut marked.users), marked.everything.take())
        };
        if let Some((since, reason)) = everything {
            self.waiting = FxHashMap::default();
            self.begin_rebuild(reason, since);
        }
        for (user, since) in users {
            self.waiting.entry(user).or_insert(since);
        }
        if self.waiting.len() > MARKED_MAX {
            metrics::mirror_overflowed();
            self.waiting = FxHashMap::default();
            self.begin_rebuild("overflow", now);
        }
        self.written.retain(|_, (at, _)| now.duration_since(*at) < COALESCED_IN);
        self.publish();
    }

    /// Marked users whose turn it is. Who was written just now waits; who is again as he was
    /// written is done.
    fn take_due(&mut self, now: Instant) -> Vec<UserId> {
        let mut due = Vec::new();
        let (sessions, written) = (self.sessions, &self.written);
        self.waiting.retain(|&user, _| match written.get(&user) {
            Some((_, wrote)) if sessions.attendance(user) == *wrote => false,
            Some((at, _)) if now.duration_since(*at) < COALESCED_IN => true,
            _ if due.len() == BATCH_MAX => true,
            _ => {
                due.push(user);
                false
            }
        });
        due
    }

    /// Everyone, a piece at a time. At the end all older entries are void.
    fn take_round(&mut self, now: Instant, room: usize) -> Vec<UserId> {
        let round = &mut self.round;
        while round.users.is_empty() && (round.is_rebuild || now >= round.next_at) {
            if round.next_shard == SHARDS {
                self.lowest = self.generation;
                self.rebuild_since = None;
                // A late write of before the break can have gone over a newer one.
                self.waiting.extend(self.in_doubt.drain(..).map(|user| (user, now)));
                self.generation.0 += 1;
                self.round = Round::new(false);
                return Vec::new();
            }
            self.sessions.users_of_shard(round.next_shard, &mut round.users);
            round.next_shard += 1;
            round.next_at = now + ROUND / u32::try_from(SHARDS).unwrap_or(u32::MAX);
        }
        let rest = round.users.len().saturating_sub(room);
        round.users.split_off(rest)
    }

    fn begin_rebuild(&mut self, reason: &'static str, since: Instant) {
        self.generation.0 += 1;
        self.round = Round::new(true);
        self.rebuild_since.get_or_insert(since);
        self.written = FxHashMap::default();
        metrics::mirror_rebuilds(reason);
    }

    /// Tells how far behind it is.
    fn publish(&self) {
        let oldest = self.waiting.values().min().copied();
        let mut marked = self.marks.marked.lock();
        marked.held = self.waiting.len();
        marked.held_since = [oldest, self.rebuild_since].into_iter().flatten().min();
    }
}

impl Round {
    fn new(is_rebuild: bool) -> Self {
        Self { next_shard: 0, users: Vec::new(), is_rebuild, next_at: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn user(n: u32) -> UserId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        UserId(id)
    }

    #[test]
    fn who_comes_and_goes_often_costs_one_write() {
        let table = SessionTable::new(true);
        let marks = table.marks().unwrap();
        let mut mirror = Mirror::new(&table, marks);
        for _ in 0..100 {
            marks.mark(user(1));
        }
        assert_eq!(marks.waiting().0, 1);
        let now = Instant::now();
        mirror.collect(now);
        assert_eq!(mirror.take_due(now), vec![user(1)]);
        // Written with a session; then he is gone, and comes and goes.
        let one = Attendance { sessions: 1, attentive: 1 };
        mirror.written.insert(user(1), (now, one));
        for ms in [50, 100, 900] {
            marks.mark(user(1));
            let later = now + Duration::from_millis(ms);
            mirror.collect(later);
            assert!(mirror.take_due(later).is_empty(), "after {ms} ms");
        }
        let later = now + COALESCED_IN;
        mirror.collect(later);
        assert_eq!(mirror.take_due(later), vec![user(1)]);
        // Who is as he was written needs no write.
        mirror.written.insert(user(1), (later, Attendance::default()));
        marks.mark(user(1));
        mirror.collect(later);
        assert!(mirror.take_due(later).is_empty() && mirror.waiting.is_empty());
    }

    #[test]
    fn too_many_marks_become_one_for_everything() {
        let table = SessionTable::new(true);
        let marks = table.marks().unwrap();
        let mut mirror = Mirror::new(&table, marks);
        for n in 0..200_000 {
            marks.mark(user(n));
            assert!(marks.marked.lock().users.len() <= MARKED_MAX);
        }
        assert_eq!(marks.waiting().0, 0);
        mirror.collect(Instant::now());
        assert!(mirror.round.is_rebuild && mirror.waiting.is_empty());
        assert!(marks.marked.lock().everything.is_none());
    }

    #[test]
    fn after_a_rebuild_older_generations_are_void_and_doubtful_users_are_written_again() {
        let table = SessionTable::new(true);
        let mut mirror = Mirror::new(&table, table.marks().unwrap());
        let now = Instant::now();
        mirror.in_doubt = vec![user(1)];
        mirror.begin_rebuild("test", now);
        let generation = mirror.generation;
        assert!(mirror.lowest < generation);
        assert!(mirror.take_round(now, BATCH_MAX).is_empty());
        assert_eq!(mirror.lowest, generation);
        assert!(mirror.rebuild_since.is_none() && mirror.generation > generation);
        assert!(mirror.waiting.contains_key(&user(1)));
    }
}
