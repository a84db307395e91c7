//! A client's socket that can go bad: nothing is heard any more, and half of what is said is lost.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use anyhow::Result;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime as _, TokioRuntime, UdpPoller};

/// The switch of such a socket.
#[derive(Debug, Default)]
pub struct Line {
    is_bad: AtomicBool,
    said: AtomicU64,
}

impl Line {
    /// From now on the client hears nothing, so it acknowledges nothing; every second datagram
    /// that it sends is lost, so the server keeps the rest as fragments.
    pub fn go_bad(&self) {
        self.is_bad.store(true, Ordering::Relaxed);
    }

    /// An endpoint on such a socket.
    pub(super) fn endpoint(self: &Arc<Self>) -> Result<Endpoint> {
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
        let inner = TokioRuntime.wrap_udp_socket(socket)?;
        let socket = Arc::new(Socket { inner, line: Arc::clone(self) });
        let runtime = Arc::new(TokioRuntime);
        let config = EndpointConfig::default();
        Ok(Endpoint::new_with_abstract_socket(config, None, socket, runtime)?)
    }
}

struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    line: Arc<Line>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("line", &self.line).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let is_bad = self.line.is_bad.load(Ordering::Relaxed);
        if is_bad && self.line.said.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.line.is_bad.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}
