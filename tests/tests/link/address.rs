//! Addresses that change and networks that go dark, in mid-chat.

use std::time::Duration;

use anyhow::Result;
use petrel_client::{ClientOptions, DialerOptions};
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::Stage;

use crate::over::{link, person, person_options};

/// Both ways of changing an address keep the connection: nobody signs in again.
#[tokio::test]
async fn a_new_port_and_a_new_network_are_not_noticed() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, "delay=2ms")?;
    let alice = person(&stage, &gateway, &link, "alice").await?;
    let bob = person(&stage, &gateway, &link, "bob").await?;
    let pair = alice.with(&bob);
    for round in 0..6usize {
        for n in 0..10 {
            alice.say(&pair, format!("round {round}, {n}")).await?;
        }
        if round % 2 == 0 { link.rebind()? } else { link.switch()? }
    }
    bob.has(pair.id, 60).await?;
    // Three times for each of two links.
    while (link.counts().rebinds, link.counts().switches) != (6, 6) {
        tokio::task::yield_now().await;
    }
    bob.say(&pair, "still here").await?;
    alice.has(pair.id, 61).await?;
    for person in [&alice, &bob] {
        assert_eq!(person.client.stats().reconnects, 0);
    }
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

/// Shorter than the time after which a client gives a silent gateway up: the connection stays.
#[tokio::test]
async fn after_a_short_blackout_chat_goes_on_over_the_same_connection() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, "delay=2ms")?;
    let alice = person(&stage, &gateway, &link, "alice").await?;
    let bob = person(&stage, &gateway, &link, "bob").await?;
    let pair = alice.with(&bob);
    alice.say(&pair, "before").await?;
    bob.has(pair.id, 1).await?;
    link.black_out(Duration::from_secs(3_600));
    let ids: Vec<_> = (0..5).map(|n| alice.send(&pair, format!("in the dark {n}"))).collect();
    while link.counts().up.blacked_out == 0 {
        tokio::task::yield_now().await;
    }
    link.black_out(Duration::ZERO);
    for id in ids {
        alice.placed(id?).await?;
    }
    bob.has(pair.id, 6).await?;
    assert_eq!(alice.client.stats().reconnects, 0);
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

/// A phone tries another network for less than the round trip that would show whether it is one: the
/// gateway follows, finds nobody there, and comes back, and what was lost meanwhile is not forgotten. (After a
/// path validation that failed quinn 0.11 leaves its timer for lost packets standing, until something
/// new is sent.)
#[tokio::test]
async fn what_was_lost_around_an_address_that_was_none_comes_by_itself() -> Result<()> {
    const ROUNDS: usize = 20;
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, "delay=2ms,down.loss=30%")?;
    // Alice's way is another one, and Bob says nothing by himself: only acknowledgements take the detour.
    let alice = stage.person(&gateway, "alice").await?;
    let quiet = |transport: &mut DialerOptions| transport.transport.keep_alive = None;
    let options = person_options(&gateway, &link, "bob", quiet).await?;
    let options = ClientOptions { delivered_receipts: false, echo: false, ..options };
    let bob = stage.device_with(options).await?;
    let pair = alice.with(&bob);
    alice.say(&pair, "before").await?;
    bob.has(pair.id, 1).await?;
    for round in 0..ROUNDS {
        link.detour(true)?;
        let before = link.counts().up.forwarded;
        for n in 0..3 {
            alice.say(&pair, format!("round {round}, {n}")).await?;
        }
        // Something of Bob's went that way.
        while link.counts().up.forwarded == before {
            tokio::task::yield_now().await;
        }
        link.detour(false)?;
        bob.has(pair.id, 3 * round + 4).await?;
    }
    assert_eq!(bob.client.stats().reconnects, 0);
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}
