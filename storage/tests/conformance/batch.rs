//! What becomes of each message of a batch.

use petrel_core::entry::EntryKind;
use petrel_core::id::{ContentDigest, ConversationId, RightsVersion};
use petrel_core::limits::{BATCH_MESSAGES_MAX, BODY_BYTES_MAX};
use petrel_core::store::AppendOutcome;

use crate::support::{World, message, worlds};

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
    let batch =
        [message(nowhere, a, 1, 1, "x"), message(nowhere, a, 0, 2, "x"), message(c, a, 1, 1, "x")];
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
    assert!(outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Duplicate(_))));
}

async fn a_body_of_the_largest_size_and_any_bytes_comes_back(world: &mut World) {
    let (a, _, c) = world.pair().await;
    let mut batch = Vec::new();
    for (id, length) in (1..).zip([0, 1, BODY_BYTES_MAX - 1, BODY_BYTES_MAX]) {
        let mut one = message(c, a, 1, id, "");
        one.body = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<_>>().into();
        one.kind = EntryKind::Custom;
        one.encoding = u32::MAX;
        one.digest = ContentDigest::of(one.kind, one.encoding, &one.body);
        batch.push(one);
    }
    assert_eq!(world.answers(&batch).await, "n1 n2 n3 n4");
    for (entry, sent) in world.all(c).await.iter().zip(&batch) {
        assert!(entry.body == sent.body && entry.kind == 2 && entry.encoding == u32::MAX);
        assert_eq!((entry.sender, entry.id, entry.conversation), (a, sent.id, c));
    }
}

async fn the_largest_batch_is_taken(world: &mut World) {
    let (a, _, c) = world.pair().await;
    let batch: Vec<_> = (0..BATCH_MESSAGES_MAX as u64)
        .map(|id| message(c, a, 1, id, &"x".repeat(8 * 1024)))
        .collect();
    assert_eq!(world.append(&batch).await.unwrap().len(), BATCH_MESSAGES_MAX);
    world.check(c).await;
}
