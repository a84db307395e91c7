//! Floods of handshakes that nobody means to end, from many addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use petrel_loadtest::hostile::{Bare, BareOptions};
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use petrel_tests::raw::{Raw, RawOptions};
use tokio::task::block_in_place;

use crate::stock::Stock;

/// Handshakes under way from which on an address has to prove itself, and at the most.
const RETRY_FROM: usize = 40;
const MAX: usize = 60;
/// Half-handshakes of a flood.
const FLOOD: usize = 1_000;

fn from(local: IpAddr) -> BareOptions {
    BareOptions { local, ..BareOptions::default() }
}

/// One of many sources.
fn source(n: usize) -> Result<IpAddr> {
    let n = u16::try_from(n)?.to_be_bytes();
    Ok(Ipv4Addr::new(127, 1 + n[0], n[1], 9).into())
}

/// Begins handshakes from so many sources, and hears none of the answers.
fn flood(server: SocketAddr, handshakes: usize) -> Result<()> {
    (0..handshakes).try_for_each(|n| Bare::begin(server, &from(source(n)?))?.send().map(drop))
}

/// Whether the first answer to an Initial is a Retry (RFC 9000 §17.2.5).
fn is_asked_to_prove_itself(server: SocketAddr) -> Result<bool> {
    let mut bare = Bare::begin(server, &BareOptions::default())?;
    bare.send()?;
    let socket = bare.socket();
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut packet = [0; 2_048];
    let len = socket.recv(&mut packet).context("no answer")?;
    assert!(len <= 3 * 1_200);
    Ok(packet[0] & 0xf0 == 0xf0)
}

async fn under_way(gateway: &Gateway, handshakes: usize) -> Result<()> {
    let look = || async {
        let now = gateway.metric("petrel_gateway_handshakes", "").await?;
        Ok((now >= handshakes as f64).then_some(()))
    };
    eventually(PATIENCE, "handshakes under way", look).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_flood_of_half_handshakes_the_honest_still_come_in() -> Result<()> {
    let stage = Stage::sqlite()?;
    let retry = format!("gateway.handshakes_retry={RETRY_FROM}");
    let gateway = stage.gateway(&[&retry, "gateway.handshake_timeout=60s"]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let retries = || gateway.metric("petrel_gateway_retries_total", "");
    assert_eq!(retries().await?, 0.0, "only under load");
    assert!(!block_in_place(|| is_asked_to_prove_itself(gateway.quic))?);

    block_in_place(|| flood(gateway.quic, FLOOD))?;
    under_way(&gateway, RETRY_FROM).await?;
    assert!(block_in_place(|| is_asked_to_prove_itself(gateway.quic))?);
    // Whoever comes now is asked too, and comes in by his answer.
    let bob = stage.person(&gateway, "bob").await?;
    let pair = bob.with(&alice);
    bob.say(&pair, "in spite of them").await?;
    alice.has(pair.id, 1).await?;
    let scrape = gateway.scrape().await?;
    // The flood holds what it held when Retry began, and nothing more.
    assert!(scrape.sum("petrel_gateway_handshakes", "") <= RETRY_FROM as f64 + 1.0);
    assert!(scrape.sum("petrel_gateway_retries_total", "") >= (FLOOD / 2) as f64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_nobody_is_asked_and_all_of_a_flood_is_taken() -> Result<()> {
    let stock = Stock::start()?;
    let server = stock.address()?;
    let asked = block_in_place(|| {
        flood(server, RETRY_FROM)?;
        is_asked_to_prove_itself(server)
    })?;
    assert!(!asked);
    Ok(())
}

/// Handshakes of those who have proved their address fill all places: then nobody is answered, and who
/// goes on trying comes in once some have been given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_places_are_taken_who_waits_has_his_turn() -> Result<()> {
    let stage = Stage::sqlite()?;
    let settings = [
        format!("gateway.handshakes_retry={RETRY_FROM}"),
        format!("gateway.handshakes_max={MAX}"),
        "gateway.handshake_timeout=8s".to_owned(),
    ];
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let gateway = stage.gateway(&settings).await?;
    block_in_place(|| flood(gateway.quic, RETRY_FROM))?;
    under_way(&gateway, RETRY_FROM).await?;
    block_in_place(|| {
        // From many, so that none has more than its share.
        for n in 0..MAX - RETRY_FROM {
            let mut bare = Bare::begin(gateway.quic, &from(source(n)?))?;
            bare.send()?;
            // The Retry; its answer is the last that is heard of this one.
            if !bare.hear(Duration::from_secs(20))? {
                bail!("no Retry");
            }
            bare.send()?;
        }
        Ok(())
    })?;
    under_way(&gateway, MAX).await?;
    // It is not answered; its Initial comes again, and again.
    Raw::dial(&gateway, &RawOptions::default()).await?;
    let reason = "reason=\"saturated\"";
    let ignored = gateway.metric("petrel_gateway_connections_refused_total", reason).await?;
    assert!(ignored >= 1.0);
    Ok(())
}

/// A connection attempt that is asked to prove its address and then finds no place, in every order, with
/// packets that come again (RUSTSEC-2024-0373 was about those).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_asked_first_and_refused_then_comes_again_later() -> Result<()> {
    let stage = Stage::sqlite()?;
    let settings = ["gateway.handshakes_retry=0", "gateway.connections_max=1"];
    let gateway = stage.gateway(&settings).await?;
    let options = RawOptions::default();
    let first = Raw::dial(&gateway, &options).await?;
    for _ in 0..3 {
        block_in_place(|| {
            let mut bare = Bare::begin(gateway.quic, &BareOptions::default())?;
            let packets = bare.packets();
            let other = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
            for _ in 0..3 {
                // The same Initial, from its own address and from another one.
                bare.send_from(bare.socket(), &packets)?;
                bare.send_from(&other, &packets)?;
            }
            bare.hear(Duration::from_secs(20))?;
            let answer = bare.packets();
            for _ in 0..3 {
                // A token is for the address that it was given to.
                bare.send_from(bare.socket(), &answer)?;
                bare.send_from(&other, &answer)?;
                bare.send_from(bare.socket(), &packets)?;
            }
            anyhow::Ok(())
        })?;
        let Err(refused) = Raw::dial(&gateway, &options).await else { bail!("it came in") };
        let Some(quinn::ConnectionError::ConnectionClosed(close)) = refused.downcast_ref() else {
            bail!("{refused:?}")
        };
        assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
    }
    first.connection.close(0u32.into(), b"");
    let dial = || async { Ok(Raw::dial(&gateway, &options).await.ok()) };
    eventually(PATIENCE, "a place", dial).await?;
    let scrape = gateway.scrape().await?;
    assert!(scrape.sum("petrel_gateway_retries_total", "") >= 6.0);
    assert!(scrape.sum("petrel_gateway_connections_refused_total", "reason=\"full\"") >= 3.0);
    assert_eq!(scrape.sum("petrel_process_panics_total", ""), 0.0);
    Ok(())
}
