//! Accounts, devices, the conversation of a pair, blocks.

use petrel_core::id::{ConversationId, DeviceId, RightsVersion, Seq, UserId};

use crate::support::{World, first, worlds};

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

    let mut many: Vec<_> =
        (0..2_500).map(|n| world.account(&format!("{}-many-{n}", world.name))).collect();
    let mut known = world.account("ада-☂-'; --");
    known.user.name.clone_from(&ada.user.name);
    many.push(known);
    world.store.register_many(&many).await.unwrap();
    world.store.register_many(&many).await.unwrap();
    let names = [many[0].user.name.clone(), ada.user.name.clone(), "nobody".to_owned()];
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
    assert_eq!((record.head, record.head_entry, record.count), (Seq(0), None, 0));
    assert_eq!(record.rights_version, RightsVersion(1));
    for (member, user) in record.members.iter().zip([a.min(b), a.max(b)]) {
        assert_eq!(member.user, user);
        assert_eq!((member.from, member.until, member.blocks), (Seq(1), None, false));
    }
    let list = world.store.list(a, first(10)).await.unwrap();
    assert!(list.is_empty(), "not listed before its first entry");
}

async fn blocks(world: &World) {
    let (a, b) = (world.user().await, world.user().await);
    let id = ConversationId::of_pair(a, b);
    let nobody = UserId([0xaa; 16]);
    assert!(!world.store.set_block(a, nobody, true).await.unwrap());
    // Blocking makes the pair.
    for (blocker, other, blocks, version) in
        [(a, b, true, 2), (a, b, true, 2), (b, a, true, 3), (a, b, false, 4), (a, b, false, 4)]
    {
        assert!(world.store.set_block(blocker, other, blocks).await.unwrap());
        let record = world.store.conversation(id).await.unwrap().unwrap();
        assert_eq!(record.rights_version, RightsVersion(version));
        let member = record.members.iter().find(|m| m.user == blocker).unwrap();
        assert_eq!(member.blocks, blocks);
    }
}
