//! The echo: on while packets are lost, off while they are not; the order stays.

use anyhow::Result;
use petrel_loadtest::link::Link;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::Stage;

use crate::over::{link, person};

/// Messages of each of two people.
const MESSAGES: usize = 150;

/// Two people write to each other over a link; the datagrams that the gateway and both clients
/// sent, and the copies that the gateway got in time.
async fn chat_over(profile: &str) -> Result<(f64, u64, f64)> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, profile)?;
    let alice = person(&stage, &gateway, &link, "alice").await?;
    let bob = person(&stage, &gateway, &link, "bob").await?;
    let (to_bob, to_alice) = (alice.with(&bob), bob.with(&alice));
    for n in 0..MESSAGES {
        alice.send(&to_bob, format!("alice {n}"))?;
        bob.send(&to_alice, format!("bob {n}"))?;
        // Each answers the other, so that there are many small packets.
        alice.has(to_bob.id, 2 * n + 2).await?;
        bob.has(to_bob.id, 2 * n + 2).await?;
    }
    for person in [&alice, &bob] {
        let seqs: Vec<_> = person.seen(|seen| seen.seqs(to_bob.id));
        assert_eq!(seqs, (1..=2 * MESSAGES as u64).collect::<Vec<_>>());
    }
    let from_clients = alice.client.stats().echoes_sent + bob.client.stats().echoes_sent;
    stage.judge(&gateway, &Expectations::default()).await?;
    let scrape = gateway.scrape().await?;
    Ok((
        scrape.sum("petrel_gateway_echo_datagrams_sent_total", ""),
        from_clients,
        scrape.sum("petrel_gateway_echo_copies_received_total", "result=\"news\""),
    ))
}

#[tokio::test]
async fn over_a_lossy_link_copies_come_first_where_an_original_is_lost() -> Result<()> {
    let (from_gateway, from_clients, in_time) = chat_over("delay=5ms,loss=15%").await?;
    assert!(from_gateway > 0.0 && from_clients > 0 && in_time > 0.0);
    Ok(())
}

#[tokio::test]
async fn on_a_clean_link_nothing_is_copied() -> Result<()> {
    let (from_gateway, from_clients, in_time) = chat_over("delay=2ms").await?;
    assert_eq!((from_gateway, from_clients, in_time), (0.0, 0, 0.0));
    Ok(())
}

/// What a link does while two people write to each other: between their messages, and for how often.
async fn copies_after(disturb: impl Fn(&Link)) -> Result<f64> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, "delay=2ms")?;
    let alice = person(&stage, &gateway, &link, "alice").await?;
    let bob = person(&stage, &gateway, &link, "bob").await?;
    let (to_bob, to_alice) = (alice.with(&bob), bob.with(&alice));
    for n in 0..20 {
        if n % 10 == 5 {
            disturb(&link);
        }
        // Both speak, so that the gateway hears of new addresses.
        alice.send(&to_bob, format!("alice {n}"))?;
        bob.send(&to_alice, format!("bob {n}"))?;
        alice.has(to_bob.id, 2 * n + 2).await?;
        bob.has(to_bob.id, 2 * n + 2).await?;
    }
    stage.judge(&gateway, &Expectations::default()).await?;
    let scrape = gateway.scrape().await?;
    let of = |kind: &str| scrape.sum("petrel_gateway_echo_copies_sent_total", kind);
    Ok(of("kind=\"first\"") + of("kind=\"second\""))
}

#[tokio::test]
async fn a_change_of_port_starts_no_copies() -> Result<()> {
    let copies = copies_after(|link| link.rebind().expect("the link's thread is there")).await?;
    assert_eq!(copies, 0.0);
    Ok(())
}

#[tokio::test]
async fn packets_out_of_order_doubled_and_damaged_do_no_harm() -> Result<()> {
    chat_over("delay=2ms,jitter=2ms,loss=5%,reorder=5%,duplicate=5%,corrupt=2%").await?;
    Ok(())
}
