//! Coming back with early data: what is said first leaves with the handshake, or is said again.

use std::time::Duration;

use anyhow::Result;
use petrel_client::{ConversationRef, MessageId};
use petrel_loadtest::link::Link;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{Gateway, Person, Stage};

use crate::over::{link, person, person_options};

/// As long as anybody waits.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// Two people who have talked; the connection of one ends after a second of silence.
async fn pair(
    stage: &Stage,
    gateway: &Gateway,
    link: &Link,
) -> Result<(Person, Person, ConversationRef)> {
    let quick = person_options(gateway, link, "alice", |dialer| {
        dialer.transport.keep_alive = Some(Duration::from_millis(200));
        dialer.transport.idle_timeout = Duration::from_secs(1);
    });
    let alice = stage.device_with(quick.await?).await?;
    let bob = stage.person(gateway, "bob").await?;
    let pair = alice.with(&bob);
    alice.attach(&pair, None)?;
    bob.attach(&bob.with(&alice), None)?;
    alice.say(&pair, "before").await?;
    bob.has(pair.id, 1).await?;
    Ok((alice, bob, pair))
}

/// Alice is cut off with messages that have no answer; it comes to her notice.
async fn cut_off(alice: &Person, link: &Link, pair: &ConversationRef) -> Result<Vec<MessageId>> {
    link.black_out(FOR_EVER);
    let ids =
        (0..5).map(|n| alice.send(pair, format!("in the dark {n}"))).collect::<Result<_>>()?;
    alice.until("being offline", |seen| (!seen.offline.is_empty()).then_some(())).await?;
    Ok(ids)
}

async fn early(gateway: &Gateway, result: &str) -> Result<f64> {
    gateway.metric("petrel_gateway_early_data_total", &format!("result=\"{result}\"")).await
}

async fn early_frames(gateway: &Gateway) -> Result<f64> {
    gateway.metric("petrel_gateway_early_frames_total", "result=\"executed\"").await
}

/// The texts of a conversation as somebody saw them.
fn texts(person: &Person, pair: &ConversationRef) -> Vec<String> {
    person.seen(|seen| seen.texts(pair.id))
}

#[tokio::test]
async fn who_comes_back_says_and_hears_what_was_missed_with_the_handshake() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    // Long enough for the gateway to be done with all before the handshake ends.
    let link = link(&gateway, "delay=60ms")?;
    let (alice, bob, pair) = pair(&stage, &gateway, &link).await?;
    let ids = cut_off(&alice, &link, &pair).await?;
    for n in 0..3 {
        bob.say(&bob.with(&alice), format!("meanwhile {n}")).await?;
    }
    let (frames, known) = (
        early_frames(&gateway).await?,
        gateway.metric("petrel_gateway_addresses_known_total", "").await?,
    );
    link.black_out(Duration::ZERO);
    for id in ids {
        alice.placed(id).await?;
    }
    alice.has(pair.id, 4).await?;
    alice.online().await?;
    bob.has(pair.id, 9).await?;
    // Hello, Attach, and messages; of two flights, if she gave one up just as the link came back.
    let frames = early_frames(&gateway).await? - frames;
    assert!(frames >= 3.0, "{frames}");
    assert!(early(&gateway, "accepted").await? >= 1.0);
    assert_eq!(early(&gateway, "rejected").await?, 0.0);
    let known = gateway.metric("petrel_gateway_addresses_known_total", "").await? - known;
    assert!(known >= 1.0, "her address was not known");
    let stats = alice.client.stats();
    assert_eq!((stats.early_accepted, stats.early_rejected, stats.reconnects), (1, 0, 1));
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

/// A gateway that was started again has forgotten all TLS sessions, but not how to know addresses.
#[tokio::test]
async fn what_a_restarted_gateway_does_not_take_early_is_said_again() -> Result<()> {
    let stage = Stage::sqlite()?;
    let mut gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, "delay=5ms")?;
    let (alice, bob, pair) = pair(&stage, &gateway, &link).await?;
    gateway.kill().await?;
    let ids: Vec<_> =
        (0..5).map(|n| alice.send(&pair, format!("in the dark {n}"))).collect::<Result<_>>()?;
    gateway.restart().await?;
    for id in ids {
        alice.placed(id).await?;
    }
    alice.online().await?;
    bob.has(pair.id, 6).await?;
    assert_eq!(early(&gateway, "accepted").await?, 0.0);
    assert_eq!(early_frames(&gateway).await?, 0.0);
    let known = gateway.metric("petrel_gateway_addresses_known_total", "").await?;
    assert!(known >= 1.0, "no address was known after the restart");
    assert_eq!(alice.client.stats().early_accepted, 0);
    let said: Vec<_> = (0..5).map(|n| format!("in the dark {n}")).collect();
    assert_eq!(texts(&bob, &pair)[1..], said);
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

#[tokio::test]
async fn a_switch_turns_early_data_off() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&["gateway.early_data=false"]).await?;
    let link = link(&gateway, "delay=5ms")?;
    let (alice, bob, pair) = pair(&stage, &gateway, &link).await?;
    let ids = cut_off(&alice, &link, &pair).await?;
    link.black_out(Duration::ZERO);
    for id in ids {
        alice.placed(id).await?;
    }
    bob.has(pair.id, 6).await?;
    let stats = alice.client.stats();
    assert_eq!((stats.early_accepted, stats.early_rejected, stats.reconnects), (0, 0, 1));
    assert_eq!((early(&gateway, "accepted").await?, early_frames(&gateway).await?), (0.0, 0.0));
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

/// Messages before, with and after the first flight take their places in the order they were
/// written in, whether the server takes the flight or not, over a link that loses packets.
async fn in_order(restarts: bool) -> Result<()> {
    let stage = Stage::sqlite()?;
    let mut gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, "delay=5ms,loss=10%")?;
    let (alice, bob, pair) = pair(&stage, &gateway, &link).await?;
    let carol = person(&stage, &gateway, &link, "carol").await?;
    drop(cut_off(&alice, &link, &pair).await?);
    if restarts {
        gateway.kill().await?;
        gateway.restart().await?;
    }
    link.black_out(Duration::ZERO);
    for n in 5..60 {
        alice.send(&pair, format!("in the dark {n}"))?;
        tokio::task::yield_now().await;
    }
    // Somebody else's chat gives the loop above time to fall together with the handshake.
    carol.say(&carol.with(&bob), "hello").await?;
    // Who has nothing to say hears of a restart with his next keep-alive.
    bob.say(&bob.with(&carol), "hello").await?;
    bob.has(pair.id, 61).await?;
    let said: Vec<_> = (0..60).map(|n| format!("in the dark {n}")).collect();
    assert_eq!(texts(&bob, &pair)[1..], said);
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

#[tokio::test]
async fn messages_with_the_first_flight_and_after_it_keep_their_order() -> Result<()> {
    in_order(false).await
}

#[tokio::test]
async fn messages_of_a_flight_that_is_not_taken_keep_their_order() -> Result<()> {
    in_order(true).await
}
