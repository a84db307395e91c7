//! Nobody can be flooded by way of a gateway: who has not shown that he hears it gets at most three times
//! what came from his address (RFC 9000 §8.1), and what is no connection's gets less than it was.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use petrel_loadtest::hostile::{Bare, BareOptions};
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use tokio::task::block_in_place;

/// So that a gateway soon gives handshakes up, and it is known when nothing more comes.
const SOON: &str = "gateway.handshake_timeout=1s";

/// A socket whose owner never answers.
fn silent() -> Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Bytes of the datagrams that have come so far, and how many they are.
fn replied(socket: &UdpSocket) -> (usize, usize) {
    let mut packet = [0; 4_096];
    let (mut bytes, mut datagrams) = (0, 0);
    while let Ok(len) = socket.recv(&mut packet) {
        bytes += len;
        datagrams += 1;
    }
    (bytes, datagrams)
}

/// A first flight that has not been sent.
fn first_flight(gateway: &Gateway) -> Result<Vec<u8>> {
    let mut bare = Bare::begin(gateway.quic, &BareOptions::default())?;
    bare.packets().into_iter().next().context("no first flight")
}

/// Until so many handshakes have been given up.
async fn given_up(gateway: &Gateway, handshakes: f64) -> Result<()> {
    let look = || async {
        let reason = "reason=\"handshake_timeout\"";
        let refused = gateway.metric("petrel_gateway_connections_refused_total", reason).await?;
        Ok((refused >= handshakes).then_some(()))
    };
    eventually(PATIENCE, "the end of a handshake", look).await
}

/// One Initial, the same ones again, and others: each from somebody who never answers.
async fn silent_senders(gateway: &Gateway) -> Result<()> {
    let mut begun = 0.0;
    for (initials, copies) in [(1, 1), (1, 4), (3, 1), (3, 3)] {
        let socket = silent()?;
        let (mut sent, mut got) = (0, 0);
        for _ in 0..initials {
            let packet = first_flight(gateway)?;
            for _ in 0..copies {
                sent += socket.send_to(&packet, gateway.quic)?;
                got += replied(&socket).0;
                assert!(got <= 3 * sent, "{got} bytes for {sent}");
            }
            begun += 1.0;
        }
        given_up(gateway, begun).await?;
        got += replied(&socket).0;
        assert!(got > 0, "it never said anything");
        assert!(got <= 3 * sent, "{got} bytes for {sent}, {initials} x {copies}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_answers_gets_three_times_what_he_sent_at_most() -> Result<()> {
    let gateway = Stage::sqlite()?.gateway(&[SOON]).await?;
    silent_senders(&gateway).await
}

/// Nine certificates, which are more than three times an Initial.
fn long_chain(dir: &Path) -> Result<usize> {
    let mut pem = String::new();
    let new = |name: String| {
        let key = rcgen::KeyPair::generate()?;
        let names: Vec<_> = (0..12).map(|n| format!("{n}.{name}.a-long-name.example")).collect();
        let mut params = rcgen::CertificateParams::new(names)?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        anyhow::Ok((params, key))
    };
    let (params, key) = new("root".to_owned())?;
    let mut issuer = rcgen::Issuer::new(params, key);
    for n in 0..9 {
        let (params, key) = new(format!("c{n}"))?;
        let certificate = params.signed_by(&key, &issuer)?;
        pem.insert_str(0, &certificate.pem());
        if n == 8 {
            std::fs::write(dir.join("chain.key"), key.serialize_pem())?;
            break;
        }
        issuer = rcgen::Issuer::new(params, key);
    }
    std::fs::write(dir.join("chain.pem"), &pem)?;
    // Base64.
    Ok(pem.len() * 3 / 4)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_a_long_chain_of_certificates_change_that() -> Result<()> {
    let dir = tempfile::tempdir()?;
    assert!(long_chain(dir.path())? > 4 * 1_200);
    let of = |key: &str, file: &str| format!("tls.{key}={}", dir.path().join(file).display());
    let (chain, key) = (of("certificate", "chain.pem"), of("key", "chain.key"));
    let gateway = Stage::sqlite()?.gateway(&[SOON, &chain, &key]).await?;
    silent_senders(&gateway).await?;
    // It takes a round trip more, and then it works.
    block_in_place(|| Bare::dial(gateway.quic, &BareOptions::default()))?;
    Ok(())
}

/// A packet with a long header of another version of QUIC (RFC 9000 §17.2.1).
fn other_version(bytes: usize) -> Vec<u8> {
    let mut packet = vec![0xc3, 0x1a, 0x2a, 0x3a, 0x5a, 20];
    packet.extend([7; 20]);
    packet.push(20);
    packet.extend([8; 20]);
    packet.resize(bytes, 0);
    packet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_connections_is_answered_by_less_than_it_was() -> Result<()> {
    let mut gateway = Stage::sqlite()?.gateway(&[]).await?;
    let socket = silent()?;
    // The gateway reads one after the other: what comes before a handshake is dealt with before it.
    let settle = || block_in_place(|| Bare::dial(gateway.quic, &BareOptions::default()).map(drop));
    let mut told = String::new();
    for (packet, answered) in [
        (other_version(1_200), true),
        (other_version(1_199), false),
        (other_version(60), false),
        (vec![0x40; 1_200], false),
        (vec![0x40; 30], false),
        (first_flight(&gateway)?.drain(..1_100).collect(), false),
    ] {
        socket.send_to(&packet, gateway.quic)?;
        settle()?;
        let (bytes, datagrams) = replied(&socket);
        writeln!(told, "{bytes} for {}", packet.len())?;
        assert!(bytes < packet.len(), "{told}");
        assert_eq!(datagrams, usize::from(answered), "{told}");
    }

    // Packets of a connection that the gateway no longer knows: a reset, smaller than each.
    let mut bare = block_in_place(|| Bare::dial(gateway.quic, &BareOptions::default()))?;
    gateway.kill().await?;
    gateway.restart().await?;
    let mut resets = 0;
    for bytes in [1_000, 300, 60, 30, 1] {
        bare.pad(bytes);
        for packet in bare.packets() {
            socket.send_to(&packet, gateway.quic)?;
            // Resets have a rate: one that is left out is no reset that is too large.
            block_in_place(|| Bare::dial(gateway.quic, &BareOptions::default()).map(drop))?;
            std::thread::sleep(Duration::from_millis(25));
            let (bytes, datagrams) = replied(&socket);
            assert!(bytes < packet.len(), "{bytes} for {}", packet.len());
            resets += datagrams;
        }
    }
    assert!(resets > 0, "no reset came");
    Ok(())
}
