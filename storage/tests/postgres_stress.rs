//! Four writers on few conversations, with ids that overlap between and inside
//! their batches, batches that are sent again, and somebody who changes the
//! rights all the time. Afterwards the log must be what the answers said.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, says what it did, and awaits each task that it spawns"
)]

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use petrel_core::id::{ClientMessageId, ConversationId, UserId};
use petrel_core::store::{Append, AppendOutcome, Store, StoreError};
use petrel_storage::testing::PrivatePostgres;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use support::{World, message};

const WRITERS: u64 = 4;
const CONVERSATIONS: usize = 5;
const DURATION: Duration = Duration::from_secs(8);

type Key = (ConversationId, UserId, ClientMessageId);

/// What the writers were told.
#[derive(Default)]
struct Told {
    new: Vec<(Key, u64)>,
    duplicate: Vec<(Key, u64)>,
    /// Own messages (of ids that nobody else uses) in the order of their batches, by conversation.
    own: HashMap<(ConversationId, UserId), Vec<u64>>,
    stale: u64,
    conflicts: u64,
    errors: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_writers_on_few_conversations_keep_every_promise() {
    let server = PrivatePostgres::start().unwrap();
    let world = World::open("postgres", &server.create_database("petrel").unwrap()).await;
    let mut pairs = Vec::new();
    for _ in 0..CONVERSATIONS {
        pairs.push(world.pair().await);
    }
    let versions: Arc<Vec<AtomicU64>> =
        Arc::new((0..CONVERSATIONS).map(|_| AtomicU64::new(1)).collect());
    let pairs = Arc::new(pairs);
    let until = Instant::now() + DURATION;
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let store = Arc::clone(&world.store);
            tokio::spawn(write(n, store, Arc::clone(&pairs), Arc::clone(&versions), until))
        })
        .collect();
    let changer = tokio::spawn(change_rights(
        Arc::clone(&world.store),
        Arc::clone(&pairs),
        Arc::clone(&versions),
        until,
    ));
    let mut told = Vec::new();
    for writer in writers {
        told.push(writer.await.unwrap());
    }
    changer.await.unwrap();
    judge(&world, &pairs, &told).await;
    drop(world);
    updates_of_conversations_stay_within_their_pages(&server);
}

/// As long as no index names a column that a send changes.
fn updates_of_conversations_stay_within_their_pages(server: &PrivatePostgres) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        // Sessions report when they end.
        let text = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables \
             WHERE relname = 'conversation'";
        let found = server.sql("petrel", text).unwrap();
        let (all, within) = found.split_once('|').unwrap();
        let (all, within): (u64, u64) = (all.parse().unwrap(), within.parse().unwrap());
        if all > 1_000 {
            eprintln!("{within} of {all} updates within their page");
            assert!(within * 10 > all * 9, "{within} of {all} updates within their page");
            return;
        }
        assert!(Instant::now() < deadline, "{all} updates were reported");
    }
}

async fn change_rights(
    store: Arc<dyn Store>,
    pairs: Arc<Vec<(UserId, UserId, ConversationId)>>,
    versions: Arc<Vec<AtomicU64>>,
    until: Instant,
) {
    let mut blocks = true;
    while Instant::now() < until {
        for (&(a, b, c), version) in pairs.iter().zip(versions.iter()) {
            store.set_block(a, b, blocks).await.unwrap();
            let record = store.conversation(c).await.unwrap().unwrap();
            let member = record.members.iter().find(|member| member.user == a);
            assert_eq!(member.map(|member| member.blocks), Some(blocks));
            version.store(record.rights_version.0, Ordering::Relaxed);
        }
        blocks = !blocks;
    }
}

async fn write(
    writer: u64,
    store: Arc<dyn Store>,
    pairs: Arc<Vec<(UserId, UserId, ConversationId)>>,
    versions: Arc<Vec<AtomicU64>>,
    until: Instant,
) -> Told {
    let mut rng = StdRng::seed_from_u64(writer);
    let mut appender = store.appender();
    let mut told = Told::default();
    let mut own_id = 1_000_000_000 * (writer + 1);
    let mut shared_id = 0;
    while Instant::now() < until {
        shared_id += 5;
        let batch: Vec<_> = (0..rng.random_range(1..=40))
            .map(|_| {
                let at = rng.random_range(0..CONVERSATIONS);
                let (a, b, c) = pairs[at];
                let version = versions[at].load(Ordering::Relaxed);
                if rng.random_bool(0.5) {
                    own_id += 1;
                    let sender = if writer.is_multiple_of(2) { a } else { b };
                    return message(c, sender, version, own_id, "own");
                }
                // About the same ids at about the same time in all writers.
                let id = shared_id + rng.random_range(0..40);
                let text = if rng.random_bool(0.98) { "one" } else { "two" };
                let admitted_by = if rng.random_bool(0.05) { 0 } else { version };
                message(c, a, admitted_by, id, text)
            })
            .collect();
        let times = if rng.random_bool(0.05) { 2 } else { 1 };
        for _ in 0..times {
            match appender.append(&batch).await {
                Ok(outcomes) => told.note(&batch, &outcomes),
                Err(error @ StoreError::Permanent(_)) => panic!("{error}"),
                Err(error) => {
                    eprintln!("{error}");
                    told.errors += 1;
                }
            }
        }
    }
    told
}

impl Told {
    fn note(&mut self, batch: &[Append], outcomes: &[AppendOutcome]) {
        assert_eq!(batch.len(), outcomes.len());
        let mut after_stale = HashSet::new();
        for (message, outcome) in batch.iter().zip(outcomes) {
            let key = (message.conversation, message.sender, message.id);
            match outcome {
                AppendOutcome::New(placed) => {
                    assert!(!after_stale.contains(&(key.0, key.1)), "overtook a stale one");
                    assert_eq!(Some(placed.rights_version), message.admitted_by);
                    self.new.push((key, placed.seq.0));
                    if &message.body[..] == b"own" {
                        self.own.entry((key.0, key.1)).or_default().push(placed.seq.0);
                    }
                }
                AppendOutcome::Duplicate(placed) => self.duplicate.push((key, placed.seq.0)),
                AppendOutcome::Stale => {
                    self.stale += 1;
                    if message.admitted_by.is_some() {
                        after_stale.insert((key.0, key.1));
                    }
                }
                AppendOutcome::IdConflict | AppendOutcome::Conflict => self.conflicts += 1,
            }
        }
    }
}

async fn judge(world: &World, pairs: &[(UserId, UserId, ConversationId)], told: &[Told]) {
    let mut stored: HashMap<Key, u64> = HashMap::new();
    for &(_, _, c) in pairs {
        world.check(c).await;
        let entries = world.all(c).await;
        assert!(
            entries.is_sorted_by_key(|entry| entry.placed.rights_version),
            "rights versions rise along the log"
        );
        for entry in entries {
            stored.insert((c, entry.sender, entry.id), entry.placed.seq.0);
        }
    }
    let mut new: HashMap<Key, u64> = HashMap::new();
    for &(key, seq) in told.iter().flat_map(|told| &told.new) {
        assert_eq!(new.insert(key, seq), None, "{key:?} was new twice");
        assert_eq!(stored.get(&key), Some(&seq), "lost or moved: {key:?}");
    }
    assert_eq!(new.len(), stored.len(), "stored, and nobody was told so");
    for (key, seq) in told.iter().flat_map(|told| &told.duplicate) {
        assert_eq!(stored.get(key), Some(seq), "a duplicate of something else");
    }
    for seqs in told.iter().flat_map(|told| told.own.values()) {
        assert!(seqs.is_sorted_by(|a, b| a < b), "a writer's order was lost");
    }
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    let (stale, conflicts) = (sum(|told| told.stale), sum(|told| told.conflicts));
    let duplicates = told.iter().map(|told| told.duplicate.len()).sum::<usize>();
    eprintln!(
        "{} stored, {duplicates} duplicates, {stale} stale, {conflicts} conflicts, {} errors",
        stored.len(),
        sum(|told| told.errors)
    );
    // It was worth running, and no lock order or key was ever at fault.
    assert!(stored.len() > 5_000 && duplicates > 500 && stale > 200 && conflicts > 20);
    assert_eq!(sum(|told| told.errors), 0);
}
