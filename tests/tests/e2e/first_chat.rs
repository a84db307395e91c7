//! Two people meet and talk; one of them with two devices.

use anyhow::Result;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::Stage;
use petrel_tests::on_both_stores;

on_both_stores!(two_people_find_each_other_and_talk, both_devices_of_a_user_see_everything);

async fn two_people_find_each_other_and_talk(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;

    let found = alice.client.find_users(&["bob", "nobody"], &[]).await?;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].user, found[0].name.as_str()), (bob.user(), "bob"));

    let pair = alice.with(&bob);
    assert_eq!(alice.say(&pair, "hello").await?, 1);
    bob.has(pair.id, 1).await?;
    assert_eq!(bob.say(&bob.with(&alice), "hello yourself").await?, 2);
    alice.has(pair.id, 2).await?;
    bob.has(pair.id, 2).await?;
    for person in [&alice, &bob] {
        assert_eq!(person.seen(|s| s.texts(pair.id)), ["hello", "hello yourself"]);
        assert_eq!(person.seen(|s| s.seqs(pair.id)), [1, 2]);
    }
    stage.judge(&gateway, &Expectations { acks_min: 2, ..Expectations::default() }).await?;
    Ok(())
}

async fn both_devices_of_a_user_see_everything(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let tablet = stage.device(&gateway, &bob.identity).await?;

    let pair = alice.with(&bob);
    for n in 0..20 {
        match n % 3 {
            0 => alice.say(&pair, format!("alice {n}")).await?,
            1 => bob.say(&bob.with(&alice), format!("bob {n}")).await?,
            _ => tablet.say(&bob.with(&alice), format!("tablet {n}")).await?,
        };
    }
    for device in [&alice, &bob, &tablet] {
        device.has(pair.id, 20).await?;
        assert_eq!(device.seen(|s| s.seqs(pair.id)), (1..=20).collect::<Vec<_>>());
    }
    stage.judge(&gateway, &Expectations { acks_min: 20, ..Expectations::default() }).await?;
    Ok(())
}
