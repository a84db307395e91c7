//! A connection's packets from addresses that are not its client's.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;
use petrel_loadtest::hostile::{Bare, BareOptions};
use petrel_tests::cluster::{PATIENCE, Stage, eventually};
use tokio::task::block_in_place;

/// Addresses that packets are sent again from.
const FORGED: usize = 8;
/// Bytes of a datagram: an address that is new is sent one whole datagram, whatever came from it (quinn
/// would otherwise never find out who is there), and beyond that three times what came.
const DATAGRAM: usize = 1_452;
/// Changes of an address at once that are far too many.
const CHANGES: usize = 1_500;

fn replied(socket: &UdpSocket) -> Result<usize> {
    socket.set_nonblocking(true)?;
    let mut packet = [0; 4_096];
    let mut bytes = 0;
    while let Ok(len) = socket.recv(&mut packet) {
        bytes += len;
    }
    Ok(bytes)
}

/// Somebody on the way takes a client's packets away and sends them from elsewhere, while much is to be
/// sent to the client. Nobody there is flooded, and the chat goes on where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_addresses_are_not_flooded_and_the_connection_lives() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let victim = gateway.dialer()?.register("victim", "test").await?;
    let to_victim = alice.with_user(victim.user);
    let (mut bare, stream) = block_in_place(|| {
        let mut bare = Bare::sign_in(gateway.quic, &victim, &BareOptions::default())?;
        let stream = bare.attach(victim.user, alice.user())?;
        anyhow::Ok((bare, stream))
    })?;
    let mut forged = Vec::new();
    for n in 0..FORGED {
        let socket = UdpSocket::bind(("127.0.0.2", 0))?;
        // Small ones and large ones.
        bare.pad(if n % 2 == 0 { 20 } else { 900 });
        let packets = bare.packets();
        let sent = bare.send_from(&socket, &packets)?;
        // All this is for the client, whose address the gateway believes to be another one now.
        alice.say(&to_victim, "x".repeat(20_000)).await?;
        forged.push((socket, sent));
    }
    block_in_place(|| bare.say(stream, 3, 100))?;
    for (socket, sent) in &forged {
        let got = replied(socket)?;
        assert!(got <= 3 * sent + DATAGRAM, "{got} bytes for {sent}");
    }
    assert_eq!(bare.ended(), None);
    alice.has(to_victim.id, FORGED + 3).await?;
    Ok(())
}

/// Whose address changes all the time is done with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_changes_without_end_ends_the_connection() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let identity = gateway.dialer()?.register("flapping", "test").await?;
    let over = || async {
        let over = gateway.metric("petrel_gateway_excess_total", "what=\"path_changes\"").await?;
        Ok((over > 0.0).then_some(()))
    };
    let mut bare =
        block_in_place(|| Bare::sign_in(gateway.quic, &identity, &BareOptions::default()))?;
    block_in_place(|| {
        let sockets = [UdpSocket::bind(("127.0.0.2", 0))?, UdpSocket::bind(("127.0.0.3", 0))?];
        for n in 0..CHANGES {
            bare.pad(500);
            let packets = bare.packets();
            bare.send_from(&sockets[n % 2], &packets)?;
            // One after the other: what comes at once changes the address once.
            bare.hear(Duration::from_millis(1))?;
        }
        anyhow::Ok(())
    })?;
    eventually(PATIENCE, "the end of it", over).await?;
    let gone = || async {
        Ok((gateway.metric("petrel_gateway_connections", "").await? == 0.0).then_some(()))
    };
    eventually(PATIENCE, "the connection gone", gone).await?;
    Ok(())
}
