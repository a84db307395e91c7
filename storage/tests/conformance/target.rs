//! Messages that change, answer or mention.

use petrel_core::entry::{EVERYBODY, EntryKind, ReactionCount};
use petrel_core::id::{ConversationId, Seq, UserId};
use petrel_core::limits::REACTIONS_OF_ENTRY_MAX;
use petrel_core::store::{Append, Page};

use crate::support::{World, first, message, receipt, worlds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_an_entry_is_the_same_on_both_stores() {
    for mut world in worlds().await {
        edits_and_recalls(&mut world).await;
        reactions(&mut world).await;
        mentions_and_replies(&mut world).await;
        among_others_in_a_batch(&mut world).await;
    }
}

/// A change of an entry; an edit is made from `revision`.
pub(crate) fn change(
    (c, sender): (ConversationId, UserId),
    id: u64,
    kind: EntryKind,
    target: u64,
    text: &str,
    revision: u32,
) -> Append {
    let mut change = message(c, sender, 1, id, text);
    change.kind = kind;
    change.target = Some(Seq(target));
    change.revision = (kind == EntryKind::Edit).then_some(revision);
    let about = petrel_core::id::About { target: change.target, mentions: &[] };
    change.digest = petrel_core::id::ContentDigest::about(kind, 0, &change.body, about);
    change
}

/// Body, revision and what changed it last of each entry; `!` marks what was recalled.
async fn log(world: &World, c: ConversationId) -> String {
    let tell = |e: &petrel_core::entry::Entry| {
        let mark = if e.changes.recalled { "!" } else { "" };
        let body = String::from_utf8_lossy(&e.body).into_owned();
        format!("{body}{mark}{}@{}", e.changes.revision, e.changes.last)
    };
    world.all(c).await.iter().map(tell).collect::<Vec<_>>().join(" ")
}

async fn edits_and_recalls(world: &mut World) {
    use EntryKind::{Edit, Recall};
    let (a, _, c) = world.pair().await;
    let from = (c, a);
    assert_eq!(
        world.answers(&[message(c, a, 1, 1, "one"), message(c, a, 1, 2, "two")]).await,
        "n1 n2"
    );
    let edit = change(from, 3, Edit, 1, "uno", 0);
    assert_eq!(world.answers(std::slice::from_ref(&edit)).await, "n3");
    assert_eq!(world.answers(std::slice::from_ref(&edit)).await, "d3");
    assert_eq!(log(world, c).await, "uno1@3 two0@0 uno0@0");
    let batch = [
        change(from, 4, Edit, 1, "late", 0),
        change(from, 5, Edit, 9, "nowhere", 0),
        change(from, 6, Edit, 1, "eins", 1),
        change(from, 7, Edit, 4, "of this batch", 0),
        change(from, 8, Edit, 1, "un", 2),
        message(c, a, 1, 1, "one"),
        message(c, a, 1, 9, "three"),
    ];
    assert_eq!(world.answers(&batch).await, "x x n4 x n5 d1 n6");
    assert_eq!(log(world, c).await, "un3@5 two0@0 uno0@0 eins0@0 un0@0 three0@0");
    let recall = change(from, 10, Recall, 1, "", 0);
    assert_eq!(world.answers(&[recall.clone(), recall.clone()]).await, "n7 d7");
    assert_eq!(world.answers(&[change(from, 11, Recall, 1, "", 0), recall]).await, "x d7");
    assert_eq!(world.answers(&[change(from, 12, Edit, 1, "again", 4)]).await, "x");
    assert_eq!(log(world, c).await, "!4@7 two0@0 0@0 0@0 0@0 three0@0 0@0");
    let record = world.store.conversation(c).await.unwrap().unwrap();
    assert_eq!((record.head, record.count), (Seq(7), 3), "changes do not count");
}

async fn reactions(world: &mut World) {
    use EntryKind::{React, Recall, Unreact};
    let (a, b, c) = world.pair().await;
    assert_eq!(world.answers(&[message(c, a, 1, 1, "one")]).await, "n1");
    let batch = [
        change((c, a), 2, React, 1, "👍", 0),
        change((c, b), 3, React, 1, "👍", 0),
        change((c, b), 4, React, 1, "🎉", 0),
        change((c, b), 5, React, 1, "🎉", 0),
        change((c, a), 6, Unreact, 1, "🎉", 0),
        change((c, a), 7, React, 5, "🎉", 0),
    ];
    assert_eq!(world.answers(&batch).await, "n2 n3 n4 x x x", "given once, taken back once");
    let page = Page { from: Seq(1), to: Seq(1), entries_max: 1, bytes_max: 9, newest: false };
    let seen = world.store.entries(c, Some(a), page).await.unwrap().remove(0);
    let count = |emoji: &str, count, own| ReactionCount { emoji: emoji.to_owned(), count, own };
    assert_eq!(seen.changes.reactions, [count("👍", 2, true), count("🎉", 1, false)]);
    assert_eq!((seen.changes.last, seen.changes.revision), (Seq(4), 0));
    let seen = world.store.entries(c, None, page).await.unwrap().remove(0);
    assert_eq!(seen.changes.reactions, [count("👍", 2, false), count("🎉", 1, false)]);

    let many: Vec<_> = (0..REACTIONS_OF_ENTRY_MAX as u64)
        .map(|n| change((c, a), 100 + n, React, 1, &format!("e{n}"), 0))
        .collect();
    let answers = world.answers(&many).await;
    assert_eq!(answers.matches('n').count(), REACTIONS_OF_ENTRY_MAX - 2, "two were there");
    assert!(answers.ends_with("x x"), "{answers}");
    let again = [change((c, b), 200, React, 1, "e1", 0), change((c, a), 201, Unreact, 1, "e0", 0)];
    assert_eq!(world.answers(&again).await.matches('n').count(), 2);
    assert!(world.answers(&[change((c, a), 202, React, 1, "new", 0)]).await.starts_with('n'));
    assert!(world.answers(&[change((c, a), 203, Recall, 1, "", 0)]).await.starts_with('n'));
    assert_eq!(world.answers(&[change((c, a), 204, React, 1, "👍", 0)]).await, "x");
    let seen = world.store.entries(c, Some(a), page).await.unwrap().remove(0);
    assert!(seen.changes.recalled && seen.changes.reactions.is_empty());
}

async fn mentions_and_replies(world: &mut World) {
    let (a, b, c) = world.pair().await;
    let with = |id, target: Option<u64>, mentions: Vec<UserId>| {
        let mut message = message(c, a, 1, id, "hi");
        message.target = target.map(Seq);
        message.mentions = mentions;
        message
    };
    let batch = [
        with(1, None, vec![b, b]),
        with(2, Some(1), vec![]),
        with(3, Some(2), vec![EVERYBODY, b]),
        with(4, None, vec![a]),
    ];
    assert_eq!(world.answers(&batch).await, "n1 n2 n3 n4");
    assert_eq!(world.answers(&[with(5, Some(4), vec![])]).await, "n5");
    let entries = world.all(c).await;
    for (entry, sent) in entries.iter().zip(&batch) {
        assert_eq!((entry.target, &entry.mentions), (sent.target, &sent.mentions));
    }
    assert_eq!(entries[4].target, Some(Seq(4)));
    let mentioned =
        async |world: &World, user| world.store.list(user, first(1)).await.unwrap()[0].mentions;
    assert_eq!(
        (mentioned(world, b).await, mentioned(world, a).await),
        (2, 0),
        "own ones do not count"
    );
    let recall = change((c, a), 6, EntryKind::Recall, 1, "", 0);
    assert_eq!(world.answers(&[recall]).await, "n6");
    assert_eq!(mentioned(world, b).await, 1);
    world.store.raise_receipts(&[(c, b, receipt(3, 3))]).await.unwrap();
    assert_eq!(mentioned(world, b).await, 0);
}

async fn among_others_in_a_batch(world: &mut World) {
    let (a, b, c) = world.pair().await;
    let (d, _, other) = world.pair().await;
    let batch = [message(c, a, 1, 1, "x"), message(other, d, 1, 1, "x")];
    assert_eq!(world.answers(&batch).await, "n1 n1");
    let mut stale = change((c, b), 3, EntryKind::React, 1, "y", 0);
    stale.admitted_by = Some(petrel_core::id::RightsVersion(9));
    let mut looked_up = change((c, a), 4, EntryKind::React, 1, "z", 0);
    looked_up.admitted_by = None;
    let batch = [
        message(other, d, 1, 2, "x"),
        stale,
        looked_up,
        message(c, a, 1, 5, "x"),
        change((c, b), 6, EntryKind::React, 1, "y", 0),
        message(other, d, 1, 7, "x"),
        change((c, a), 8, EntryKind::React, 1, "z", 0),
        message(c, a, 1, 5, "other"),
    ];
    assert_eq!(world.answers(&batch).await, "n2 s s n2 s n3 n3 c");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_changes_are_answered_the_same_by_both_stores() {
    use rand::{Rng as _, SeedableRng as _};
    let mut worlds = worlds().await;
    for seed in 1..=20_u64 {
        let mut told = Vec::new();
        for world in &mut worlds {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let (a, b, c) = world.pair().await;
            let mut lines = Vec::new();
            for _ in 0..30 {
                let batch: Vec<_> = (0..rng.random_range(1..12))
                    .map(|_| {
                        let sender = if rng.random_bool(0.5) { a } else { b };
                        let kind = [
                            EntryKind::Text,
                            EntryKind::Text,
                            EntryKind::Edit,
                            EntryKind::Recall,
                            EntryKind::React,
                            EntryKind::Unreact,
                        ][rng.random_range(0..6)];
                        let (id, target) = (rng.random_range(0..200), rng.random_range(0..30));
                        let text = ["x", "y", "z"][rng.random_range(0..3)];
                        let mut one =
                            change((c, sender), id, kind, target, text, rng.random_range(0..3));
                        one.admitted_by = match rng.random_range(0..12) {
                            0 => None,
                            1 => Some(petrel_core::id::RightsVersion(2)),
                            _ => one.admitted_by,
                        };
                        if kind == EntryKind::Text {
                            one.mentions = vec![a; rng.random_range(0..2)];
                        }
                        one
                    })
                    .collect();
                lines.push(world.answers(&batch).await);
            }
            lines.push(log(world, c).await);
            for (user, who) in [(a, "a"), (b, "b")] {
                let line = &world.store.list(user, first(1)).await.unwrap()[0];
                lines.push(format!("{who} {} {}", line.mentions, line.unread));
                for entry in world.store.entries(c, Some(user), everything()).await.unwrap() {
                    lines.push(format!("{:?} {:?}", entry.target, entry.changes));
                }
            }
            told.push(lines);
        }
        for (step, (one, other)) in told[0].iter().zip(&told[1]).enumerate() {
            assert_eq!(one, other, "seed {seed}, step {step}");
        }
    }
}

fn everything() -> Page {
    Page {
        from: Seq(0),
        to: Seq(u64::MAX),
        entries_max: usize::MAX,
        bytes_max: usize::MAX,
        newest: false,
    }
}
