//! A network that lets no UDP through, and lets it through again.

use std::time::Duration;

use anyhow::Result;
use petrel_client::{ClientOptions, Dialer, Server, TransportKind, Transports};
use petrel_loadtest::link::Link;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{Gateway, PATIENCE, Person, Stage, eventually};

use crate::over::link;

const FOR_EVER: Duration = Duration::from_secs(3_600);

/// A new person: UDP crosses the link, TCP does not.
async fn person(stage: &Stage, gateway: &Gateway, link: &Link, name: &str) -> Result<Person> {
    let identity = gateway.dialer()?.register(name, "test").await?;
    let mut options = gateway.dialer_options()?;
    options.server = Server::Addresses(vec![link.address()]);
    options.transports = Transports::default();
    options.tcp_port = Some(gateway.quic.port());
    stage.device_with(ClientOptions::new(Dialer::new(options)?, identity)).await
}

async fn carried_by(person: &Person, kind: TransportKind) -> Result<()> {
    let look = || async { Ok((person.client.transport() == Some(kind)).then_some(())) };
    eventually(PATIENCE, "the other transport", look).await
}

#[tokio::test]
async fn where_udp_is_eaten_chat_starts_over_tcp_and_goes_back_to_quic_without_loss() -> Result<()>
{
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, "delay=2ms")?;
    link.black_out(FOR_EVER);
    let alice = person(&stage, &gateway, &link, "alice").await?;
    let bob = person(&stage, &gateway, &link, "bob").await?;
    assert_eq!(alice.client.transport(), Some(TransportKind::Tcp));
    assert!(link.counts().up.blacked_out > 0, "QUIC was tried");
    let (to_bob, to_alice) = (alice.with(&bob), bob.with(&alice));
    for n in 0..20 {
        alice.say(&to_bob, format!("alice {n}")).await?;
        bob.say(&to_alice, format!("bob {n}")).await?;
    }
    link.black_out(Duration::ZERO);
    // One is told of it, the other finds out.
    alice.client.network_changed();
    let mut said = 20;
    while [&alice, &bob].iter().any(|p| p.client.transport() != Some(TransportKind::Quic)) {
        alice.say(&to_bob, format!("alice {said}")).await?;
        bob.say(&to_alice, format!("bob {said}")).await?;
        said += 1;
    }
    alice.say(&to_bob, "over QUIC").await?;
    for person in [&alice, &bob] {
        person.has(to_bob.id, 2 * said + 1).await?;
        // Once, or twice if TCP was quicker once more.
        assert!((1..=2).contains(&person.client.stats().reconnects));
    }
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

#[tokio::test]
async fn where_udp_stops_in_mid_chat_tcp_takes_over() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, "delay=2ms")?;
    let alice = person(&stage, &gateway, &link, "alice").await?;
    let bob = person(&stage, &gateway, &link, "bob").await?;
    let (to_bob, to_alice) = (alice.with(&bob), bob.with(&alice));
    alice.say(&to_bob, "over QUIC").await?;
    bob.has(to_bob.id, 1).await?;
    assert_eq!(alice.client.transport(), Some(TransportKind::Quic));
    link.black_out(FOR_EVER);
    for n in 0..10 {
        alice.send(&to_bob, format!("alice {n}"))?;
        bob.send(&to_alice, format!("bob {n}"))?;
    }
    for person in [&alice, &bob] {
        carried_by(person, TransportKind::Tcp).await?;
        person.has(to_bob.id, 21).await?;
    }
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}
