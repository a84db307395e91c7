//! A long way for TCP: a relay that delays. It loses nothing: what the kernel does about losses
//! cannot be had without its packets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Parts of a connection's bytes that are on their way, in each direction.
const PARTS_MAX: usize = 1_024;
/// Bytes read at once.
const PART_BYTES: usize = 16 * 1024;

/// The relay. It ends when this is dropped.
#[derive(Debug)]
pub struct Stretched {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for Stretched {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stretched {
    /// Starts a relay to `server`, so long one way and so long the other.
    ///
    /// # Errors
    /// If no port can be opened.
    #[allow(
        clippy::disallowed_methods,
        reason = "the accepting task ends with the relay, the others with it"
    )]
    pub async fn start(server: SocketAddr, up: Duration, down: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                carried.spawn(carry(near, server, up, down));
                while carried.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, accepting })
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn carry(
    near: TcpStream,
    server: SocketAddr,
    up: Duration,
    down: Duration,
) -> io::Result<()> {
    // The kernel has answered the client at once: the round trip of TCP's own handshake, which would
    // have been on the way, is added to the first bytes.
    let opened = Instant::now() + up + down;
    let far = TcpStream::connect(server).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let there = pass(near_read, far_write, up, opened);
    let back = pass(far_read, near_write, down, opened);
    tokio::join!(there, back);
    Ok(())
}

/// Passes bytes on, so much later, until the end.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    not_before: Instant,
) {
    let (sender, mut parts) = mpsc::channel::<(Instant, Bytes)>(PARTS_MAX);
    let reading = async move {
        loop {
            let mut part = BytesMut::with_capacity(PART_BYTES);
            match from.read_buf(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let due = Instant::now().max(not_before) + delay;
            if sender.send((due, part.freeze())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, part)) = parts.recv().await {
            sleep_until(due).await;
            if to.write_all(&part).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[tokio::test]
    async fn bytes_come_whole_and_not_before_their_time() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        let (up, down) = (Duration::from_millis(30), Duration::from_millis(20));
        let relay = Stretched::start(server, up, down).await.unwrap();
        let began = Instant::now();
        let mut client = TcpStream::connect(relay.address()).await.unwrap();
        client.write_all(&[7; 100_000]).await.unwrap();
        client.shutdown().await.unwrap();
        let (mut served, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        served.read_to_end(&mut all).await.unwrap();
        assert!(all == [7; 100_000]);
        assert!(began.elapsed() >= up + down + up);
    }
}
