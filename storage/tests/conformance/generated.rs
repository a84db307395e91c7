//! Seeded sequences of operations, whose answers must be the same on both
//! stores. `PETREL_SEED=n` runs one alone.

use std::collections::HashSet;

use petrel_core::entry::Placed;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::store::{Append, AppendOutcome};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::{World, bytes, first, message, receipt, worlds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_sequences_are_answered_the_same_by_both_stores() {
    let mut worlds = worlds().await;
    let seeds = match std::env::var("PETREL_SEED") {
        Ok(seed) => seed.parse().unwrap()..=seed.parse().unwrap(),
        Err(_) => 1..=30_u64,
    };
    let mut all = String::new();
    for seed in seeds {
        let mut answers = Vec::new();
        for world in &mut worlds {
            eprintln!("PETREL_SEED={seed} on {}", world.name);
            answers.push(sequence(world, seed).await);
        }
        for (step, (one, other)) in answers[0].iter().zip(&answers[1]).enumerate() {
            assert_eq!(one, other, "PETREL_SEED={seed}, step {step}");
        }
        assert_eq!(answers[0].len(), answers[1].len());
        all.push_str(&answers[0].join("\n"));
    }
    for outcome in ["New(", "Duplicate(", "Stale", "IdConflict", "blocks: true"] {
        assert!(all.matches(outcome).count() > 3, "no sequence had {outcome}");
    }
}

fn without_time(outcome: AppendOutcome) -> AppendOutcome {
    let strip = |placed: Placed| Placed { time_ms: 0, ..placed };
    match outcome {
        AppendOutcome::New(placed) => AppendOutcome::New(strip(placed)),
        AppendOutcome::Duplicate(placed) => AppendOutcome::Duplicate(strip(placed)),
        other => other,
    }
}

/// Runs the sequence of this seed and gives what was answered, step by step.
async fn sequence(world: &mut World, seed: u64) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut users = Vec::new();
    for n in 0..4 {
        let mut account = world.account(&format!("s{seed}-{n}"));
        account.user.id = UserId(bytes(1_000 + seed, n));
        assert!(world.store.register(&account).await.unwrap());
        users.push(account.user.id);
    }
    let mut told = Vec::new();
    for _ in 0..60 {
        let (a, b) = (users[rng.random_range(0..4)], users[rng.random_range(0..4)]);
        match rng.random_range(0..10) {
            0 | 1 => told.push(format!("{:?}", world.store.ensure_pair(a, b).await.unwrap())),
            2 => {
                let blocks = rng.random_bool(0.5);
                let done = world.store.set_block(a, b, blocks).await.unwrap();
                told.push(format!("{done:?}"));
            }
            3 => {
                let of = receipt(rng.random_range(0..30), rng.random_range(0..30));
                let c = ConversationId::of_pair(a, b);
                let raised = [(c, a, of), (c, b, of)];
                world.store.raise_receipts(&raised).await.unwrap();
            }
            _ => {
                let batch = random_batch(&mut rng, &users);
                let outcomes = world.append(&batch).await.unwrap();
                told.extend(outcomes.into_iter().map(|o| format!("{:?}", without_time(o))));
            }
        }
    }
    told.extend(dump(world, &users).await);
    told
}

fn random_batch(rng: &mut StdRng, users: &[UserId]) -> Vec<Append> {
    // A batch of one goes another way on PostgreSQL.
    let messages = if rng.random_bool(0.4) { 1 } else { rng.random_range(1..24) };
    (0..messages)
        .map(|_| {
            let sender = users[rng.random_range(0..4)];
            let c = ConversationId::of_pair(sender, users[rng.random_range(0..4)]);
            let id = rng.random_range(0..40);
            let text = if rng.random_bool(0.9) { "one" } else { "two" };
            // Mostly what is current early on; sometimes older, newer, or none.
            message(c, sender, rng.random_range(0..4), id, text)
        })
        .collect()
}

/// Everything that can be read, without times.
async fn dump(world: &World, users: &[UserId]) -> Vec<String> {
    let mut told = Vec::new();
    let mut seen = HashSet::new();
    for &a in users {
        let mut lines = Vec::new();
        let list = world.store.list(a, first(100)).await.unwrap();
        assert!(
            list.iter().map(|line| (line.last_activity_ms, line.id)).is_sorted_by(|a, b| a > b)
        );
        for mut line in list {
            line.last_activity_ms = 0;
            if let Some(last) = &mut line.last {
                last.placed.time_ms = 0;
            }
            lines.push(format!("{line:?}"));
        }
        lines.sort();
        told.append(&mut lines);
        for &b in users {
            let c = ConversationId::of_pair(a, b);
            if !seen.insert(c) {
                continue;
            }
            let mut record = world.store.conversation(c).await.unwrap();
            // Each store commits at a time of its own.
            if let Some((_, time_ms)) = record.as_mut().and_then(|r| r.head_entry.as_mut()) {
                *time_ms = 0;
            }
            told.push(format!("{record:?}"));
            if record.is_some() {
                world.check(c).await;
            }
            for mut entry in world.all(c).await {
                entry.placed.time_ms = 0;
                told.push(format!("{entry:?}"));
            }
        }
    }
    told
}
