//! Blocking and lifting the block, also while messages are under way.

use anyhow::Result;
use petrel_client::Code;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::Stage;
use petrel_tests::on_both_stores;

on_both_stores!(
    a_block_stops_both_directions_until_it_is_lifted,
    sends_under_way_when_a_block_comes_are_stored_or_refused_never_lost,
);

async fn a_block_stops_both_directions_until_it_is_lifted(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let (to_bob, to_alice) = (alice.with(&bob), bob.with(&alice));
    alice.say(&to_bob, "before").await?;

    bob.client.set_block(alice.user(), true).await?;
    let refused = alice.refused(alice.send(&to_bob, "blocked")?).await?;
    assert_eq!(refused.code, Code::Blocked);
    let refused = bob.refused(bob.send(&to_alice, "blocked too")?).await?;
    assert_eq!(refused.code, Code::Blocked);

    bob.client.set_block(alice.user(), false).await?;
    assert_eq!(alice.say(&to_bob, "after").await?, 2);
    assert_eq!(bob.say(&to_alice, "after too").await?, 3);
    for person in [&alice, &bob] {
        person.has(to_bob.id, 3).await?;
        assert_eq!(person.seen(|s| s.texts(to_bob.id)), ["before", "after", "after too"]);
    }
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

async fn sends_under_way_when_a_block_comes_are_stored_or_refused_never_lost(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let pair = alice.with(&bob);
    alice.say(&pair, "first").await?;
    let blocking = async {
        alice.until("some acks", |s| (s.acked.len() > 20).then_some(())).await?;
        bob.client.set_block(alice.user(), true).await?;
        anyhow::Ok(())
    };
    let sending = async {
        let mut ids = Vec::new();
        while alice.seen(|s| s.refused.is_empty()) {
            ids.push(alice.send(&pair, format!("message {}", ids.len()))?);
            tokio::task::yield_now().await;
            if ids.len() % 8 == 0 {
                let last = *ids.last().unwrap();
                alice.until("an answer", |s| answered(s, last)).await?;
            }
        }
        anyhow::Ok(ids)
    };
    let (blocked, ids) = tokio::join!(blocking, sending);
    blocked?;
    let ids = ids?;
    for id in &ids {
        alice.until("an answer", |s| answered(s, *id)).await?;
    }
    let (acked, refused) = alice.seen(|s| (s.acked.len(), s.refused.clone()));
    assert_eq!(acked + refused.len(), ids.len() + 1);
    assert!(refused.values().all(|r| r.code == Code::Blocked), "{refused:?}");
    bob.has(pair.id, acked).await?;
    stage.judge(&gateway, &Expectations { acks_min: 20, ..Expectations::default() }).await?;
    Ok(())
}

fn answered(seen: &petrel_tests::cluster::Seen, id: petrel_client::MessageId) -> Option<()> {
    (seen.acked.contains_key(&id) || seen.refused.contains_key(&id)).then_some(())
}
