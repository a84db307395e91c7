//! A TCP listener whose connections are few and do not last: others may reach these ports than those
//! that have a business there.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// A connection is at its end after this, whatever it did: monitoring systems open another. No multiple
/// of the times after which those come again: a connection is not to end while it is asked.
const CONNECTION_LIFE: Duration = Duration::from_secs(67);

pub(crate) struct FewConnections {
    listener: TcpListener,
    room: Arc<Semaphore>,
    life: Duration,
}

impl FewConnections {
    /// Serves so many connections at once; more wait in the kernel's queue.
    pub(crate) fn new(listener: TcpListener, connections_max: usize) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(connections_max)), life: CONNECTION_LIFE }
    }
}

impl Listener for FewConnections {
    type Io = Short;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Short, SocketAddr) {
        let permit =
            Arc::clone(&self.room).acquire_owned().await.expect("this semaphore is never closed");
        let (stream, from) = Listener::accept(&mut self.listener).await;
        (Short { stream, end: Box::pin(sleep(self.life)), _permit: permit }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection, until its time is over.
pub(crate) struct Short {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Short {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for Short {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            // As if the other side had nothing more to ask.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Short {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const CONNECTIONS_MAX: usize = 4;

    #[tokio::test]
    async fn one_more_waits_until_another_has_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let mut few = FewConnections::new(listener, CONNECTIONS_MAX);
        let mut clients = Vec::new();
        let mut served = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            clients.push(TcpStream::connect(at).await.unwrap());
            served.push(few.accept().await.0);
        }
        let _one_more = TcpStream::connect(at).await.unwrap();
        let mut waiting = Box::pin(few.accept());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        served.pop();
        waiting.await;
        assert_eq!(clients.len(), served.len() + 1);
    }

    #[tokio::test]
    async fn a_connection_that_asks_nothing_ends_by_itself() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut few = FewConnections::new(listener, CONNECTIONS_MAX);
        few.life = Duration::from_millis(50);
        let mut client = TcpStream::connect(few.local_addr().unwrap()).await.unwrap();
        let (mut served, _) = few.accept().await;
        assert_eq!(served.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(served.write(b"late").await.is_err());
        drop(served);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
