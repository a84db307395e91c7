//! A device in the background, as its network sees it: few packets, and everything comes.

use anyhow::Result;
use petrel_client::{Attention, ClientOptions, Dialer, Server};
use petrel_loadtest::link::Link;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{Gateway, PATIENCE, Person, Stage, eventually};

use crate::over::link;

/// Longer than any test.
const FOR_EVER: &str = "gateway.background_hold=600s";
const MESSAGES: u64 = 20;

async fn in_background(gateway: &Gateway, sessions: f64) -> Result<()> {
    let look = || async {
        let now = gateway.metric("petrel_gateway_background_sessions", "").await?;
        Ok((now == sessions).then_some(()))
    };
    eventually(PATIENCE, "sessions in the background", look).await
}

/// A new person who reaches the gateway over a link, and begins so.
async fn person(
    stage: &Stage,
    gateway: &Gateway,
    link: &Link,
    attention: Attention,
) -> Result<Person> {
    let identity = gateway.dialer()?.register("bob", "test").await?;
    let mut options = gateway.dialer_options()?;
    options.server = Server::Addresses(vec![link.address()]);
    let mut options = ClientOptions::new(Dialer::new(options)?, identity);
    options.attention = attention;
    stage.device_with(options).await
}

/// Messages come one by one; the packets that crossed the link to the one who reads them.
async fn packets_of_messages(stage: &Stage, attention: Attention) -> Result<u64> {
    let gateway = stage.gateway(&[FOR_EVER]).await?;
    let link = link(&gateway, "delay=2ms")?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = person(stage, &gateway, &link, attention).await?;
    bob.online().await?;
    let is_background = attention == Attention::Background;
    in_background(&gateway, f64::from(u8::from(is_background))).await?;
    let pair = alice.with(&bob);
    let before = link.counts().down.packets;
    for n in 0..MESSAGES {
        alice.say(&pair, format!("message {n}")).await?;
        if !is_background {
            bob.has(pair.id, usize::try_from(n)? + 1).await?;
        }
    }
    if is_background {
        let held = gateway.metric("petrel_gateway_background_held_entries", "").await?;
        assert_eq!((held, bob.seen(|seen| seen.count(pair.id))), (20.0, 0));
        bob.client.set_attention(Attention::Foreground);
    }
    bob.has(pair.id, usize::try_from(MESSAGES)?).await?;
    let packets = link.counts().down.packets - before;
    stage.judge(&gateway, &Expectations { acks_min: MESSAGES, ..Expectations::default() }).await?;
    Ok(packets)
}

#[tokio::test]
async fn to_the_background_messages_come_together_in_few_packets() -> Result<()> {
    let together = packets_of_messages(&Stage::sqlite()?, Attention::Background).await?;
    let one_by_one = packets_of_messages(&Stage::sqlite()?, Attention::Foreground).await?;
    assert!(one_by_one >= MESSAGES, "{one_by_one}");
    assert!(together <= MESSAGES / 2, "{together} packets for {MESSAGES} messages");
    Ok(())
}

/// The client would be content with a packet each 100 s; the gateway says how long it waits.
#[tokio::test]
async fn the_path_is_kept_open_within_the_idle_timeout_that_the_gateway_says() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&["gateway.idle_timeout=5s"]).await?;
    let link = link(&gateway, "delay=2ms")?;
    let bob = person(&stage, &gateway, &link, Attention::Background).await?;
    bob.online().await?;
    in_background(&gateway, 1.0).await?;
    // Each is one packet and its acknowledgement: after three of them the timeout is long over.
    let before = link.counts();
    while link.counts().up.packets < before.up.packets + 3
        || link.counts().down.packets < before.down.packets + 3
    {
        tokio::task::yield_now().await;
    }
    assert_eq!((bob.client.stats().reconnects, bob.client.stats().online), (0, true));
    Ok(())
}

#[tokio::test]
async fn it_stays_in_the_background_over_reconnects_and_sends_as_ever() -> Result<()> {
    let stage = Stage::sqlite()?;
    let mut gateway = stage.gateway(&[FOR_EVER]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let link = link(&gateway, "delay=2ms")?;
    let bob = person(&stage, &gateway, &link, Attention::Foreground).await?;
    bob.online().await?;
    bob.client.set_attention(Attention::Background);
    in_background(&gateway, 1.0).await?;
    gateway.kill().await?;
    gateway.restart().await?;
    // By itself an idle device looks only now and then: something wakes it.
    bob.client.network_changed();
    bob.until("being back", |seen| (seen.sign_ins > 1 && seen.is_online).then_some(())).await?;
    in_background(&gateway, 1.0).await?;
    let pair = alice.with(&bob);
    alice.say(&pair, "are you there?").await?;
    // An answer in the background takes along what was held.
    bob.say(&bob.with(&alice), "on my way").await?;
    bob.has(pair.id, 2).await?;
    alice.has(pair.id, 2).await?;
    bob.client.set_attention(Attention::Foreground);
    in_background(&gateway, 0.0).await?;
    stage.judge(&gateway, &Expectations { acks_min: 2, ..Expectations::default() }).await?;
    Ok(())
}
