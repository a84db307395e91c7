//! What both stores promise, told once and run on each; then seeded sequences
//! of operations that run on both, whose answers must be the same.
//! `PETREL_SEED=n` runs one sequence alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says which seed did"
)]

mod support;

use std::collections::HashSet;

use petrel_core::entry::{Cursor, EntryKind, Placed};
use petrel_core::id::{ContentDigest, ConversationId, DeviceId, RightsVersion, Seq, UserId};
use petrel_core::limits::{BATCH_MESSAGES_MAX, BODY_BYTES_MAX};
use petrel_core::store::{Append, AppendOutcome, ListPosition, Page, Receipt};
use petrel_storage::testing::{PrivatePostgres, Stop};
use petrel_storage::{OpenError, StoreOptions};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use support::{World, bytes, message, worlds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_of_a_batch_is_the_same_on_both_stores() {
    for mut world in worlds().await {
        new_and_duplicate(&mut world).await;
        duplicates_inside_a_batch(&mut world).await;
        what_follows_a_stale_message_is_stale(&mut world).await;
        a_look_up_stores_nothing_and_makes_nothing_stale(&mut world).await;
        an_id_used_for_other_content_is_a_conflict(&mut world).await;
        an_unknown_conversation_is_stale(&mut world).await;
        a_batch_keeps_its_order_over_conversations(&mut world).await;
        a_body_of_the_largest_size_and_any_bytes_comes_back(&mut world).await;
        the_largest_batch_is_taken(&mut world).await;
    }
}

async fn new_and_duplicate(world: &mut World) {
    let (a, b, c) = world.pair().await;
    assert_eq!(world.answers(&[]).await, "");
    assert_eq!(world.answers(&[message(c, a, 1, 1, "x")]).await, "n1");
    assert_eq!(world.answers(&[message(c, a, 1, 1, "x")]).await, "d1");
    // Ids are their sender's own.
    assert_eq!(world.answers(&[message(c, b, 1, 1, "x")]).await, "n2");
    // A duplicate is told where it is, whatever the rights have become.
    world.store.set_block(b, a, true).await.unwrap();
    let again = [message(c, a, 1, 1, "x"), message(c, a, 2, 2, "y")];
    let outcomes = world.append(&again).await.unwrap();
    let entries = world.all(c).await;
    assert_eq!(outcomes[0], AppendOutcome::Duplicate(entries[0].placed));
    assert_eq!(outcomes[1], AppendOutcome::New(entries[2].placed));
    assert_eq!(entries[0].placed.rights_version, RightsVersion(1));
    assert_eq!(entries[2].placed.rights_version, RightsVersion(2));
    world.check(c).await;
}

async fn duplicates_inside_a_batch(world: &mut World) {
    let (a, b, c) = world.pair().await;
    let batch = [
        message(c, a, 1, 1, "x"),
        message(c, a, 1, 1, "x"),
        message(c, b, 1, 1, "x"),
        message(c, a, 9, 1, "x"), // stored by now: no matter what admitted it
        message(c, a, 0, 1, "x"),
        message(c, a, 1, 2, "y"),
        message(c, a, 1, 2, "other"),
        message(c, a, 1, 3, "z"),
    ];
    assert_eq!(world.answers(&batch).await, "n1 d1 n2 d1 d1 n3 c n4");
    assert_eq!(world.answers(&batch).await, "d1 d1 d2 d1 d1 d3 c d4");
    world.check(c).await;
}

async fn what_follows_a_stale_message_is_stale(world: &mut World) {
    let (a, b, c) = world.pair().await;
    let (_, _, other) = world.pair().await;
    assert_eq!(world.answers(&[message(c, a, 1, 1, "x")]).await, "n1");
    world.store.set_block(b, a, true).await.unwrap();
    let batch = [
        message(c, a, 2, 2, "before"),
        message(c, a, 1, 3, "stale"),
        message(c, a, 2, 4, "after it"),
        message(c, b, 2, 5, "of the other one"),
        message(other, a, 1, 6, "elsewhere"),
        message(c, a, 1, 1, "x"),
        message(c, a, 2, 2, "before"),
        message(c, a, 3, 7, "from the future"),
        message(c, a, 2, 3, "stale"),
    ];
    assert_eq!(world.answers(&batch).await, "n2 s s n3 n1 d1 d2 s s");
    assert_eq!(world.answers(&[message(c, a, 2, 3, "stale")]).await, "n4");
    world.check(c).await;
}

async fn a_look_up_stores_nothing_and_makes_nothing_stale(world: &mut World) {
    let (a, _, c) = world.pair().await;
    let batch = [
        message(c, a, 0, 1, "x"),
        message(c, a, 1, 2, "y"),
        message(c, a, 0, 2, "y"),
        message(c, a, 0, 2, "other"),
        message(c, a, 1, 1, "x"),
    ];
    assert_eq!(world.answers(&batch).await, "s n1 d1 c n2");
    assert_eq!(world.answers(&[message(c, a, 0, 3, "z")]).await, "s");
    world.check(c).await;
}

async fn an_id_used_for_other_content_is_a_conflict(world: &mut World) {
    let (a, _, c) = world.pair().await;
    assert_eq!(world.answers(&[message(c, a, 1, 1, "x")]).await, "n1");
    let mut same_text = message(c, a, 1, 1, "x");
    same_text.kind = EntryKind::Custom;
    same_text.digest = ContentDigest::of(EntryKind::Custom, 0, b"x");
    // Neither a conflict nor its rights make what follows stale.
    let batch = [
        message(c, a, 1, 1, "other"),
        message(c, a, 7, 1, "other"),
        message(c, a, 0, 1, "other"),
        same_text,
        message(c, a, 1, 2, "y"),
    ];
    assert_eq!(world.answers(&batch).await, "c c c c n2");
    assert_eq!(&world.all(c).await[0].body[..], b"x");
    world.check(c).await;
}

async fn an_unknown_conversation_is_stale(world: &mut World) {
    let (a, _, c) = world.pair().await;
    let nowhere = ConversationId([0xee; 16]);
    let batch = [
        message(nowhere, a, 1, 1, "x"),
        message(nowhere, a, 0, 2, "x"),
        message(c, a, 1, 1, "x"),
    ];
    assert_eq!(world.answers(&batch).await, "s s n1");
    assert!(world.store.conversation(nowhere).await.unwrap().is_none());
    assert!(world.all(nowhere).await.is_empty());
}

async fn a_batch_keeps_its_order_over_conversations(world: &mut World) {
    let (a, b, c) = world.pair().await;
    let (d, e, f) = world.pair().await;
    let mut batch = Vec::new();
    for id in 0..40 {
        batch.push(match id % 4 {
            0 => message(c, a, 1, id, "x"),
            1 => message(f, e, 1, id, "x"),
            2 => message(c, b, 1, id, "x"),
            _ => message(f, d, 1, id, "x"),
        });
    }
    world.append(&batch).await.unwrap();
    for (conversation, remainder) in [(c, 0), (f, 1)] {
        let order: Vec<_> = world.all(conversation).await.iter().map(|e| e.id).collect();
        let sent: Vec<_> = batch
            .iter()
            .filter(|message| message.conversation == conversation)
            .map(|message| message.id)
            .collect();
        assert_eq!(order, sent, "{remainder}");
        world.check(conversation).await;
    }
    let outcomes = world.append(&batch).await.unwrap();
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, AppendOutcome::Duplicate(_)))
    );
}

async fn a_body_of_the_largest_size_and_any_bytes_comes_back(world: &mut World) {
    let (a, _, c) = world.pair().await;
    let mut batch = Vec::new();
    for (id, length) in (1..).zip([0, 1, BODY_BYTES_MAX - 1, BODY_BYTES_MAX]) {
        let mut one = message(c, a, 1, id, "");
        one.body = (0..length)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect::<Vec<_>>()
            .into();
        one.kind = EntryKind::Custom;
        one.encoding = u32::MAX;
        one.digest = ContentDigest::of(one.kind, one.encoding, &one.body);
        batch.push(one);
    }
    assert_eq!(world.answers(&batch).await, "n1 n2 n3 n4");
    for (entry, sent) in world.all(c).await.iter().zip(&batch) {
        assert!(entry.body == sent.body && entry.kind == 2 && entry.encoding == u32::MAX);
        assert_eq!(
            (entry.sender, entry.id, entry.conversation),
            (a, sent.id, c)
        );
    }
}

async fn the_largest_batch_is_taken(world: &mut World) {
    let (a, _, c) = world.pair().await;
    let batch: Vec<_> = (0..BATCH_MESSAGES_MAX as u64)
        .map(|id| message(c, a, 1, id, &"x".repeat(8 * 1024)))
        .collect();
    assert_eq!(
        world.append(&batch).await.unwrap().len(),
        BATCH_MESSAGES_MAX
    );
    world.check(c).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_pairs_and_blocks_are_the_same_on_both_stores() {
    for world in worlds().await {
        accounts(&world).await;
        pairs(&world).await;
        blocks(&world).await;
    }
}

async fn accounts(world: &World) {
    let ada = world.account("ада-☂-'; --");
    assert!(world.store.register(&ada).await.unwrap());
    assert!(world.store.register(&ada).await.unwrap(), "again, the same");
    let thief = world.account("ада-☂-'; --");
    assert!(!world.store.register(&thief).await.unwrap(), "taken");
    assert_eq!(world.store.device(thief.device).await.unwrap(), None);
    let device = world.store.device(ada.device).await.unwrap().unwrap();
    assert_eq!((&device.user, device.secret_hash), (&ada.user, [7; 32]));
    assert_eq!(world.store.device(DeviceId([9; 16])).await.unwrap(), None);

    let mut many: Vec<_> = (0..2_500)
        .map(|n| world.account(&format!("{}-many-{n}", world.name)))
        .collect();
    let mut known = world.account("ада-☂-'; --");
    known.user.name.clone_from(&ada.user.name);
    many.push(known);
    world.store.register_many(&many).await.unwrap();
    world.store.register_many(&many).await.unwrap();
    let names = [
        many[0].user.name.clone(),
        ada.user.name.clone(),
        "nobody".to_owned(),
    ];
    let mut found = world.store.users_by_name(&names).await.unwrap();
    found.sort_by_key(|user| user.id);
    assert_eq!(found, [ada.user.clone(), many[0].user.clone()]);
    let ids = [many[2_499].user.id, UserId([0; 16]), ada.user.id];
    let mut found = world.store.users(&ids).await.unwrap();
    found.sort_by_key(|user| user.id);
    assert_eq!(found, [ada.user, many[2_499].user.clone()]);
    assert!(world.store.users(&[]).await.unwrap().is_empty());
    assert!(world.store.users_by_name(&[]).await.unwrap().is_empty());
}

async fn pairs(world: &World) {
    let (a, b) = (world.user().await, world.user().await);
    let nobody = UserId([0xaa; 16]);
    assert!(!world.store.ensure_pair(a, nobody).await.unwrap());
    assert!(!world.store.ensure_pair(nobody, a).await.unwrap());
    let id = ConversationId::of_pair(a, b);
    assert!(world.store.conversation(id).await.unwrap().is_none());
    // From both sides at once, several times.
    let (one, two, three, four) = tokio::join!(
        world.store.ensure_pair(a, b),
        world.store.ensure_pair(b, a),
        world.store.ensure_pair(a, b),
        world.store.ensure_pair(b, a),
    );
    assert!(one.unwrap() && two.unwrap() && three.unwrap() && four.unwrap());
    let record = world.store.conversation(id).await.unwrap().unwrap();
    assert_eq!(record.members.len(), 2);
    assert_eq!(
        (record.head, record.head_id, record.count),
        (Seq(0), None, 0)
    );
    assert_eq!(record.rights_version, RightsVersion(1));
    for (member, user) in record.members.iter().zip([a.min(b), a.max(b)]) {
        assert_eq!(member.user, user);
        assert_eq!(
            (member.from, member.until, member.blocks),
            (Seq(1), None, false)
        );
    }
    let list = world.store.list(a, None, 10).await.unwrap();
    assert!(list.is_empty(), "not listed before its first entry");
}

async fn blocks(world: &World) {
    let (a, b) = (world.user().await, world.user().await);
    let id = ConversationId::of_pair(a, b);
    let nobody = UserId([0xaa; 16]);
    assert!(!world.store.set_block(a, nobody, true).await.unwrap());
    // Blocking makes the pair.
    for (blocker, other, blocks, version) in [
        (a, b, true, 2),
        (a, b, true, 2),
        (b, a, true, 3),
        (a, b, false, 4),
        (a, b, false, 4),
    ] {
        assert!(world.store.set_block(blocker, other, blocks).await.unwrap());
        let record = world.store.conversation(id).await.unwrap().unwrap();
        assert_eq!(record.rights_version, RightsVersion(version));
        let member = record.members.iter().find(|m| m.user == blocker).unwrap();
        assert_eq!(member.blocks, blocks);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_cursors_receipts_and_the_list_are_the_same_on_both_stores() {
    for mut world in worlds().await {
        pages(&mut world).await;
        cursors(&mut world).await;
        receipts(&mut world).await;
        list_and_unread(&mut world).await;
        let durability = world.store.durability().await.unwrap();
        assert!(durability.durable, "{durability:?}");
    }
}

async fn pages(world: &mut World) {
    let (a, _, c) = world.pair().await;
    let batch: Vec<_> = (1..=10)
        .map(|id| message(c, a, 1, id, &"x".repeat(100)))
        .collect();
    world.append(&batch).await.unwrap();
    for (from, to, entries_max, bytes_max, newest, expected) in [
        (0, u64::MAX, 3, 10_000, false, 1..4),
        (0, u64::MAX, 3, 10_000, true, 8..11),
        (4, 6, 100, 10_000, false, 4..7),
        (4, 6, 100, 10_000, true, 4..7),
        (2, 9, 100, 299, false, 2..4),
        (2, 9, 100, 300, true, 7..10),
        (2, 9, 100, 1, false, 2..3),
        (2, 9, 100, 0, true, 9..10),
        (10, 10, 1, 100, false, 10..11),
        (11, 20, 5, 100, false, 0..0),
        (6, 5, 5, 100, true, 0..0),
        (1, 5, 0, 100, false, 0..0),
    ] {
        let page = Page {
            from: Seq(from),
            to: Seq(to),
            entries_max,
            bytes_max,
            newest,
        };
        let entries = world.store.entries(c, page).await.unwrap();
        let seqs: Vec<_> = entries.iter().map(|entry| entry.placed.seq.0).collect();
        assert_eq!(
            seqs,
            expected.collect::<Vec<_>>(),
            "{} {page:?}",
            world.name
        );
    }
}

async fn cursors(world: &mut World) {
    let (a, _, c) = world.pair().await;
    let batch: Vec<_> = (1..=5).map(|id| message(c, a, 1, id, "x")).collect();
    world.append(&batch).await.unwrap();
    let at = |seq: u64, id: usize| Cursor {
        seq: Seq(seq),
        tail: batch[id - 1].id.tail(),
    };
    let zero = Cursor::default();
    for (cursors, expected) in [
        (vec![], 0),
        (vec![zero], 0),
        (vec![at(5, 5)], 5),
        (vec![at(5, 4)], 0),
        (vec![at(9, 5), at(4, 4), at(2, 2), zero], 4),
        (vec![at(5, 1), at(4, 1), at(2, 2), at(1, 1)], 2),
        (vec![at(u64::MAX, 5), at(3, 3)], 3),
    ] {
        let matched = world.store.match_cursor(c, &cursors).await.unwrap();
        assert_eq!(matched, Seq(expected), "{} {cursors:?}", world.name);
    }
    let nowhere = ConversationId([0xee; 16]);
    let matched = world
        .store
        .match_cursor(nowhere, &[at(5, 5)])
        .await
        .unwrap();
    assert_eq!(matched, Seq(0));
}

fn receipt(delivered: u64, read: u64) -> Receipt {
    Receipt {
        delivered: Seq(delivered),
        read: Seq(read),
    }
}

async fn receipts(world: &mut World) {
    let (a, b, c) = world.pair().await;
    let (d, _, empty) = world.pair().await;
    let batch: Vec<_> = (1..=5).map(|id| message(c, a, 1, id, "x")).collect();
    world.append(&batch).await.unwrap();
    let nowhere = ConversationId([0xee; 16]);
    for (raised, expected) in [
        (vec![(c, b, receipt(3, 1))], receipt(3, 1)),
        (vec![(c, b, receipt(2, 2))], receipt(3, 2)),
        (
            vec![(c, b, receipt(1, 1)), (nowhere, b, receipt(1, 1))],
            receipt(3, 2),
        ),
        (
            vec![
                (c, b, receipt(4, 2)),
                (c, b, receipt(1, 4)),
                (empty, d, receipt(9, 9)),
            ],
            receipt(4, 4),
        ),
        (vec![(c, b, receipt(u64::MAX, 99))], receipt(5, 5)),
        (vec![], receipt(5, 5)),
    ] {
        world.store.raise_receipts(&raised).await.unwrap();
        let record = world.store.conversation(c).await.unwrap().unwrap();
        assert_eq!(
            record.receipts,
            [(b, expected)],
            "{} {raised:?}",
            world.name
        );
    }
    let record = world.store.conversation(empty).await.unwrap().unwrap();
    assert!(
        record
            .receipts
            .iter()
            .all(|(_, receipt)| *receipt == Receipt::default())
    );
}

async fn list_and_unread(world: &mut World) {
    let me = world.user().await;
    let mut peers = Vec::new();
    for n in 0..5_u64 {
        let peer = world.user().await;
        assert!(world.store.ensure_pair(me, peer).await.unwrap());
        let c = ConversationId::of_pair(me, peer);
        if n > 0 {
            // n from the other one, one of mine in the middle, one more from him.
            let mut batch: Vec<_> = (1..=n).map(|id| message(c, peer, 1, id, "x")).collect();
            batch.push(message(c, me, 1, 100, "mine"));
            batch.push(message(c, peer, 1, 101, "last"));
            world.append(&batch).await.unwrap();
        }
        peers.push((peer, c));
    }
    let lines = world.store.list(me, None, 10).await.unwrap();
    assert_eq!(lines.len(), 4, "without the one that has no entry");
    let keys: Vec<_> = lines.iter().map(|l| (l.last_activity_ms, l.id)).collect();
    assert!(keys.is_sorted_by(|a, b| a > b), "most recent first");
    for (n, (peer, c)) in (0..).zip(&peers).skip(1) {
        let line = lines.iter().find(|line| line.id == *c).unwrap();
        assert_eq!(line.peer.as_ref().unwrap().id, *peer);
        assert_eq!(line.unread, n + 1, "all but my own");
        let last = line.last.as_ref().unwrap();
        assert_eq!(
            (&last.body[..], last.placed.seq),
            (&b"last"[..], Seq(n + 2))
        );
        assert_eq!(last.placed.time_ms, line.last_activity_ms);
        assert_eq!(last, world.all(*c).await.last().unwrap());
        assert_eq!(
            (line.own, line.peer_receipt),
            (receipt(0, 0), receipt(0, 0))
        );
    }
    // Page by page it is the same list, each line once.
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = world.store.list(me, after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(ListPosition {
            last_activity_ms: last.last_activity_ms,
            id: last.id,
        });
        paged.extend(page.iter().map(|line| (line.last_activity_ms, line.id)));
    }
    assert_eq!(paged, keys);
    // Reading up to my own entry leaves the last one; the other one's receipt is told.
    let (peer, c) = peers[4];
    let raised = [(c, me, receipt(6, 4)), (c, peer, receipt(5, 3))];
    world.store.raise_receipts(&raised).await.unwrap();
    let lines = world.store.list(me, None, 10).await.unwrap();
    let line = lines.iter().find(|line| line.id == c).unwrap();
    assert_eq!(line.unread, 1);
    assert_eq!(
        (line.own, line.peer_receipt),
        (receipt(6, 4), receipt(5, 3))
    );
    let his = world.store.list(peer, None, 10).await.unwrap();
    assert_eq!((his.len(), his[0].unread), (1, 1), "he has not read mine");
    assert!(
        world
            .store
            .list(UserId([0; 16]), None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

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
        assert!(
            all.matches(outcome).count() > 3,
            "no sequence had {outcome}"
        );
    }
}

fn without_time(outcome: AppendOutcome) -> AppendOutcome {
    let strip = |placed: Placed| Placed {
        time_ms: 0,
        ..placed
    };
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
            0 | 1 => told.push(format!(
                "{:?}",
                world.store.ensure_pair(a, b).await.unwrap()
            )),
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
                told.extend(
                    outcomes
                        .into_iter()
                        .map(|o| format!("{:?}", without_time(o))),
                );
            }
        }
    }
    told.extend(dump(world, &users).await);
    told
}

fn random_batch(rng: &mut StdRng, users: &[UserId]) -> Vec<Append> {
    (0..rng.random_range(1..24))
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
        let list = world.store.list(a, None, 100).await.unwrap();
        assert!(
            list.iter()
                .map(|line| (line.last_activity_ms, line.id))
                .is_sorted_by(|a, b| a > b)
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
            let record = world.store.conversation(c).await.unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_opened_by_two_at_once_and_its_writers_survive_what_happens_to_it() {
    let mut server = PrivatePostgres::start().unwrap();
    let url = server.create_database("petrel").unwrap();
    let (mut world, other) = tokio::join!(
        World::open("postgres", &url),
        petrel_storage::open(&url, StoreOptions::default())
    );
    drop(other.unwrap());
    let (a, _, c) = world.pair().await;
    assert_eq!(world.answers(&[message(c, a, 1, 1, "x")]).await, "n1");

    for how in [Stop::Fast, Stop::Immediate] {
        server.restart(how).unwrap();
        // The connection is gone: that is told once, then a new one is made.
        let error = world.append(&[message(c, a, 1, 2, "y")]).await.unwrap_err();
        assert!(
            matches!(error, petrel_core::store::StoreError::Transient(_)),
            "{error}"
        );
        let answer = world.answers(&[message(c, a, 1, 2, "y")]).await;
        assert!(answer == "n2" || answer == "d2", "{answer}");
        world.check(c).await;
    }

    // A server that answers nothing costs our deadline, no more; nothing is lost or stored twice.
    server.pause().unwrap();
    let begun = std::time::Instant::now();
    let error = world.append(&[message(c, a, 1, 3, "z")]).await.unwrap_err();
    assert!(
        matches!(error, petrel_core::store::StoreError::Transient(_)),
        "{error}"
    );
    assert!(world.store.durability().await.is_err());
    let bound = StoreOptions::default().deadline * 3;
    assert!(begun.elapsed() < bound, "{:?}", begun.elapsed());
    server.unpause().unwrap();
    let answer = world.answers(&[message(c, a, 1, 3, "z")]).await;
    assert!(answer == "n3" || answer == "d3", "{answer}");
    world.check(c).await;

    // After a failover the old server is read-only, and goes on answering.
    server
        .sql(
            "postgres",
            "ALTER SYSTEM SET default_transaction_read_only = on",
        )
        .unwrap();
    server.sql("postgres", "SELECT pg_reload_conf()").unwrap();
    let mut refused = 0;
    while refused < 2 {
        // Until the reload has reached our session, it still takes them.
        if let Err(error) = world.append(&[message(c, a, 1, 4, "w")]).await {
            assert!(
                matches!(error, petrel_core::store::StoreError::Transient(_)),
                "{error}"
            );
            refused += 1;
        }
    }
    assert!(world.store.durability().await.is_err());
    server
        .sql(
            "postgres",
            "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only",
        )
        .ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_says_why() {
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| files.path().join(name).display().to_string();
    let open = |url: String| async move {
        match petrel_storage::open(&url, StoreOptions::default()).await {
            Ok(store) => panic!("{store:?} was opened"),
            Err(error) => error,
        }
    };
    let error = open("mysql://x".to_owned()).await;
    assert!(error.to_string().contains("sqlite:PATH"), "{error}");
    assert!(matches!(
        open("sqlite:".to_owned()).await,
        OpenError::UrlInvalid { .. }
    ));

    // One gateway a database.
    let url = format!("sqlite:{}", at("deep/er/petrel.db"));
    let store = petrel_storage::open(&url, StoreOptions::default())
        .await
        .unwrap();
    let error = open(url.clone()).await;
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("petrel.db.lock"), "{error}");
    let appender = store.appender();
    drop(store);
    assert!(matches!(open(url.clone()).await, OpenError::InUse { .. }));
    drop(appender);
    drop(
        petrel_storage::open(&url, StoreOptions::default())
            .await
            .unwrap(),
    );
    for (path, mode) in [("deep", 0o700), ("deep/er/petrel.db", 0o600)] {
        use std::os::unix::fs::PermissionsExt as _;
        let found = std::fs::metadata(at(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }

    // A directory, and a file that is something else.
    std::fs::create_dir(at("directory")).unwrap();
    let error = open(format!("sqlite:{}", at("directory"))).await;
    assert!(error.to_string().contains("directory"), "{error}");
    std::fs::write(
        at("text"),
        "this is no database, but long enough to have a header".repeat(20),
    )
    .unwrap();
    let error = open(format!("sqlite:{}", at("text"))).await;
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
    std::fs::write(at("file"), "").unwrap();
    let error = open(format!("sqlite:{}", at("file/petrel.db"))).await;
    assert!(matches!(error, OpenError::File { .. }), "{error}");

    // Nobody listens; and the message has no password.
    let error = open("postgres://petrel:secret@127.0.0.1:1/nothing".to_owned()).await;
    assert!(matches!(error, OpenError::Connect { .. }), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
