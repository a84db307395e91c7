//! Receipts reach the other side, survive the gateway, and come with a Hello.

use anyhow::{Result, bail};
use bytes::Bytes;
use petrel_client::ConversationId;
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, frame::What};
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawOptions};

on_both_stores!(
    receipts_reach_the_other_side_and_survive_a_killed_gateway,
    receipts_that_a_hello_carries_are_applied,
    receipts_that_go_along_with_a_message_are_applied,
);

async fn receipts_reach_the_other_side_and_survive_a_killed_gateway(stage: Stage) -> Result<()> {
    let mut gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let pair = alice.with(&bob);
    for n in 0..5 {
        alice.say(&pair, format!("message {n}")).await?;
    }
    bob.has(pair.id, 5).await?;
    let of_bob = |wanted: (u64, u64)| {
        let key = (pair.id, bob.user());
        move |s: &petrel_tests::cluster::Seen| (s.receipts.get(&key) == Some(&wanted)).then_some(())
    };
    alice.until("delivered up to 5", of_bob((5, 0))).await?;
    bob.client.read_up_to(pair.id, 4);
    alice.until("read up to 4", of_bob((5, 4))).await?;

    // They are written in the interval in which they were passed on.
    let in_list = || async {
        let list = alice.client.list(Bytes::new(), 10).await?;
        let line = &list.summaries[0];
        Ok((line.peer_receipt == (5, 4)).then_some(()))
    };
    eventually(PATIENCE, "stored receipts", in_list).await?;
    gateway.kill().await?;
    gateway.restart().await?;
    let fresh = stage.device(&gateway, &alice.identity).await?;
    let list = fresh.client.list(Bytes::new(), 10).await?;
    assert_eq!(list.summaries[0].peer_receipt, (5, 4));
    let list = bob.client.list(Bytes::new(), 10).await?;
    assert_eq!((list.summaries[0].own, list.summaries[0].unread), ((5, 4), 1));
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

async fn receipts_that_a_hello_carries_are_applied(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = gateway.dialer()?.register("bob", "test").await?;
    let pair = alice.with_user(bob.user);
    for n in 0..3 {
        alice.say(&pair, format!("message {n}")).await?;
    }
    let raw = Raw::dial(&gateway, &RawOptions::default()).await?;
    let mut hello = raw::hello(&raw.log_in(&bob).await?);
    let conversation = Bytes::copy_from_slice(&pair.id.0);
    hello.receipts.push(wire::OwnReceipt { conversation, delivered: 3, read: 2 });
    // Of conversations that are not one's own nothing is applied, and nothing is told.
    hello.receipts.push(wire::OwnReceipt {
        conversation: Bytes::from_static(&[7; 16]),
        delivered: 3,
        read: 2,
    });
    let mut control = raw.open().await?;
    control.write(bare(What::Hello(hello))).await?;
    let Some((_, What::Welcome(_))) = control.next().await? else { bail!("no Welcome") };
    alice
        .until("the receipts", |s| {
            (s.receipts.get(&(pair.id, bob.user)) == Some(&(3, 2))).then_some(())
        })
        .await?;
    Ok(())
}

async fn receipts_that_go_along_with_a_message_are_applied(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let carol = stage.person(&gateway, "carol").await?;
    let bob = gateway.dialer()?.register("bob", "test").await?;
    let pair = alice.with_user(bob.user);
    for n in 0..3 {
        alice.say(&pair, format!("message {n}")).await?;
    }
    alice.say(&alice.with(&carol), "not Bob's").await?;
    let (raw, _control) = Raw::sign_in(&gateway, &bob).await?;
    let (mut stream, _) = raw.attach(raw::attach(bob.user, carol.user())).await?;
    let own = |conversation: ConversationId, delivered| wire::OwnReceipt {
        conversation: Bytes::copy_from_slice(&conversation.0),
        delivered,
        read: 0,
    };
    // Of conversations that are not one's own nothing is applied, and nothing is told.
    let along =
        vec![own(alice.with(&carol).id, 1), own(ConversationId([7; 16]), 1), own(pair.id, 3)];
    stream.write(bare(What::Receipts(wire::Receipts { along, ..Default::default() }))).await?;
    alice
        .until("the receipts", |s| {
            (s.receipts.get(&(pair.id, bob.user)) == Some(&(3, 0))).then_some(())
        })
        .await?;
    Ok(())
}
