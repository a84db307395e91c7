//! The echo: on while packets are lost, off while they are not; the order stays.

use anyhow::Result;
use petrel_client::{ClientOptions, Dialer, Server};
use petrel_loadtest::link::Link;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::Stage;

use crate::over::{link, person};
use crate::recorder::Recorder;

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

/// Text that does not get much smaller: some 420 bytes at the least.
fn incompressible() -> String {
    (0..560).map(|_| char::from(rand::random_range(b'!'..=b'~'))).collect()
}

/// A capture: messages of which two fit into no packet but one that is twice as large as a message's. There
/// are more packets with one than messages, and none with two: copy and original go apart.
#[tokio::test]
async fn a_copy_and_its_original_never_share_a_packet() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let recorder = Recorder::start(gateway.quic).await?;
    let identity = gateway.dialer()?.register("alice", "test").await?;
    let mut dialer = gateway.dialer_options()?;
    dialer.server = Server::Addresses(vec![recorder.address]);
    let options = ClientOptions::new(Dialer::new(dialer)?, identity);
    let alice = stage.device_with(options).await?;
    let bob = stage.person(&gateway, "bob").await?;
    let (to_bob, to_alice) = (alice.with(&bob), bob.with(&alice));
    recorder.lose_one_in(6);
    for n in 0..MESSAGES {
        // One at a time, so that no packet has two of them.
        alice.say(&to_bob, incompressible()).await?;
        bob.has(to_bob.id, 2 * n + 1).await?;
        bob.say(&to_alice, incompressible()).await?;
        alice.has(to_bob.id, 2 * n + 2).await?;
    }
    let captured = recorder.captured();
    for is_up in [true, false] {
        let sizes = captured.iter().filter(|one| one.is_up == is_up).map(|one| one.bytes);
        let with_one = sizes.clone().filter(|bytes| *bytes >= 420).count();
        assert!(with_one > MESSAGES + MESSAGES / 4, "up {is_up}: {with_one}: nothing is copied");
        let largest = sizes.max().unwrap_or_default();
        assert!(largest < 2 * 420, "up {is_up}: {largest} bytes");
    }
    stage.judge(&gateway, &Expectations::default()).await?;
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
