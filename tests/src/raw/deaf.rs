//! A client's socket on which nothing is heard: all that is said arrives, and a handshake never ends.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime as _, TokioRuntime, UdpPoller};

/// An endpoint on such a socket.
pub(super) fn endpoint() -> Result<Endpoint> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    let runtime = Arc::new(TokioRuntime);
    let socket = Arc::new(Deaf(runtime.wrap_udp_socket(socket)?));
    Ok(Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, runtime)?)
}

#[derive(Debug)]
struct Deaf(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for Deaf {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        _cx: &mut Context<'_>,
        _buffers: &mut [IoSliceMut<'_>],
        _metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
