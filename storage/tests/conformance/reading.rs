//! Pages, cursors, receipts, the list of conversations.

use petrel_core::entry::Cursor;
use petrel_core::id::{ConversationId, RightsVersion, Seq, UserId};
use petrel_core::store::{ListPage, ListPosition, Page, Receipt, Standing};

use crate::support::{World, first, message, receipt, worlds};

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
    let batch: Vec<_> = (1..=10).map(|id| message(c, a, 1, id, &"x".repeat(100))).collect();
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
        let page = Page { from: Seq(from), to: Seq(to), entries_max, bytes_max, newest };
        let entries = world.store.entries(c, None, page).await.unwrap();
        let seqs: Vec<_> = entries.iter().map(|entry| entry.placed.seq.0).collect();
        assert_eq!(seqs, expected.collect::<Vec<_>>(), "{} {page:?}", world.name);
    }
}

async fn cursors(world: &mut World) {
    let (a, _, c) = world.pair().await;
    let batch: Vec<_> = (1..=5).map(|id| message(c, a, 1, id, "x")).collect();
    world.append(&batch).await.unwrap();
    let entries = world.all(c).await;
    let at = |seq: u64, id: usize| Cursor { seq: Seq(seq), ..Cursor::of(&entries[id - 1]) };
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
        let standing = world.store.standing(c, &cursors).await.unwrap();
        let expected = Standing {
            head: Seq(5),
            count: 5,
            rights_version: RightsVersion(1),
            matched: Seq(expected),
        };
        assert_eq!(standing, Some(expected), "{} {cursors:?}", world.name);
    }
    let nowhere = ConversationId([0xee; 16]);
    assert_eq!(world.store.standing(nowhere, &[at(5, 5)]).await.unwrap(), None);
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
        (vec![(c, b, receipt(1, 1)), (nowhere, b, receipt(1, 1))], receipt(3, 2)),
        (
            vec![(c, b, receipt(4, 2)), (c, b, receipt(1, 4)), (empty, d, receipt(9, 9))],
            receipt(4, 4),
        ),
        (vec![(c, b, receipt(u64::MAX, 99))], receipt(5, 5)),
        (vec![], receipt(5, 5)),
    ] {
        world.store.raise_receipts(&raised).await.unwrap();
        let record = world.store.conversation(c).await.unwrap().unwrap();
        assert_eq!(record.receipts, [(b, expected)], "{} {raised:?}", world.name);
    }
    let record = world.store.conversation(empty).await.unwrap().unwrap();
    assert!(record.receipts.iter().all(|(_, receipt)| *receipt == Receipt::default()));
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
    let lines = world.store.list(me, first(10)).await.unwrap();
    assert_eq!(lines.len(), 4, "without the one that has no entry");
    let keys: Vec<_> = lines.iter().map(|l| (l.last_activity_ms, l.id)).collect();
    assert!(keys.is_sorted_by(|a, b| a > b), "most recent first");
    for (n, (peer, c)) in (0..).zip(&peers).skip(1) {
        let line = lines.iter().find(|line| line.id == *c).unwrap();
        assert_eq!(line.peer.as_ref().unwrap().id, *peer);
        assert_eq!(line.unread, n + 1, "all but my own");
        let last = line.last.as_ref().unwrap();
        assert_eq!((&last.body[..], last.placed.seq), (&b"last"[..], Seq(n + 2)));
        assert_eq!(last.placed.time_ms, line.last_activity_ms);
        assert_eq!(last, world.all(*c).await.last().unwrap());
        assert_eq!((line.own, line.peer_receipt), (receipt(0, 0), receipt(0, 0)));
    }
    // Page by page it is the same list, each line once.
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = world.store.list(me, ListPage { after, ..first(3) }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(ListPosition { last_activity_ms: last.last_activity_ms, id: last.id });
        paged.extend(page.iter().map(|line| (line.last_activity_ms, line.id)));
    }
    assert_eq!(paged, keys);
    // Reading up to my own entry leaves the last one; the other one's receipt is told.
    let (peer, c) = peers[4];
    let raised = [(c, me, receipt(6, 4)), (c, peer, receipt(5, 3))];
    world.store.raise_receipts(&raised).await.unwrap();
    let lines = world.store.list(me, first(10)).await.unwrap();
    let line = lines.iter().find(|line| line.id == c).unwrap();
    assert_eq!(line.unread, 1);
    assert_eq!((line.own, line.peer_receipt), (receipt(6, 4), receipt(5, 3)));
    let his = world.store.list(peer, first(10)).await.unwrap();
    assert_eq!((his.len(), his[0].unread), (1, 1), "he has not read mine");
    assert!(world.store.list(UserId([0; 16]), first(10)).await.unwrap().is_empty());
}
