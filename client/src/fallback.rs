//! Which transport carries a connection: QUIC, or TCP where no UDP gets through.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use petrel_transport::{Connection, Settings, tcp};
use tokio_util::task::TaskTracker;

use crate::dialer::{Transport, any_port};
use crate::error::ClientError;

/// Which transports a client uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transports {
    /// QUIC alone.
    Quic,
    /// TLS on TCP alone.
    Tcp,
    /// QUIC; TCP too if QUIC has not answered within this time. Who answers first is used, and a client
    /// that came to TCP goes back to QUIC as soon as that works.
    Race {
        /// By so much QUIC is tried earlier.
        head_start: Duration,
    },
}

impl Default for Transports {
    fn default() -> Self {
        Self::Race { head_start: HEAD_START }
    }
}

/// Longer than a QUIC handshake takes on nearly all networks where it works, shorter than anybody
/// waits (docs/decisions/0011).
const HEAD_START: Duration = Duration::from_millis(250);
/// For so long a network counts as one that lets no UDP through.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Networks that are remembered, at the most.
const NETWORKS_MAX: usize = 16;
/// Bytes of a datagram, at the most.
const DATAGRAM_BYTES: usize = 1_200;
/// Bytes of datagrams that wait to be read, or to be sent.
const DATAGRAMS_BYTES_MAX: usize = 16 * 1024;
/// Bytes written that wait for the socket, at the most.
const SEND_BUFFER: usize = 256 * 1024;
/// What has no answer for so long is followed by a question whether the server is there: TCP does
/// not tell what has arrived.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How TCP is dialed.
#[derive(Debug)]
pub(crate) struct Tcp {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) settings: Settings,
    /// The port, if it is not QUIC's.
    pub(crate) port: Option<u16>,
}

impl Tcp {
    pub(crate) fn new(tls: rustls::ClientConfig, transport: &Transport, port: Option<u16>) -> Self {
        let settings = Settings {
            receive_window: transport.receive_window.into(),
            stream_receive_window: transport.stream_receive_window.into(),
            streams_max: transport.server_streams_max,
            send_buffer: SEND_BUFFER,
            datagram_max: DATAGRAM_BYTES,
            datagrams_in: DATAGRAMS_BYTES_MAX,
            datagrams_out: DATAGRAMS_BYTES_MAX,
            idle_timeout: transport.idle_timeout,
            keep_alive: transport.keep_alive,
            answer_within: Some(ANSWER_WITHIN),
        };
        Self { tls: Arc::new(tls), settings, port }
    }

    /// Dials once; the connection's task is one of `tasks`.
    pub(crate) async fn dial(
        &self,
        server: SocketAddr,
        server_name: &str,
        tasks: &TaskTracker,
    ) -> Result<Connection, ClientError> {
        let at = SocketAddr::new(server.ip(), self.port.unwrap_or(server.port()));
        let (connection, driver) =
            tcp::connect(at, server_name, Arc::clone(&self.tls), self.settings.clone())
                .await
                .map_err(|error| ClientError::Connection(error.to_string()))?;
        tasks.spawn(driver.run());
        Ok(connection)
    }
}

/// Networks that let no UDP through, by the device's address in them. Another network with the same
/// address costs nothing: QUIC is tried there too, only without its head start.
#[derive(Debug, Default)]
pub(crate) struct Networks(Mutex<Vec<(IpAddr, Instant)>>);

impl Networks {
    /// QUIC did not answer there, and TCP did.
    pub(crate) fn blocks_udp(&self, network: Option<IpAddr>, now: Instant) {
        let Some(network) = network else { return };
        let mut known = self.0.lock();
        known.retain(|(other, until)| *other != network && *until > now);
        if known.len() >= NETWORKS_MAX {
            known.remove(0);
        }
        known.push((network, now + REMEMBERED));
    }

    /// QUIC answered there.
    pub(crate) fn lets_udp_through(&self, network: Option<IpAddr>) {
        self.0.lock().retain(|(other, _)| Some(*other) != network);
    }

    /// By how much QUIC is tried earlier there.
    pub(crate) fn head_start(
        &self,
        network: Option<IpAddr>,
        head_start: Duration,
        now: Instant,
    ) -> Duration {
        let is_blocked =
            |(other, until): &(IpAddr, Instant)| Some(*other) == network && *until > now;
        if self.0.lock().iter().any(is_blocked) { Duration::ZERO } else { head_start }
    }
}

/// The device's address on the way to a server, which tells networks apart. Nothing is sent.
pub(crate) fn network_towards(server: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(any_port(server.is_ipv6())).ok()?;
    socket.connect(server).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

/// Whichever answers first; the other one is dropped. `tcp` begins `head_start` later, or when `quic`
/// has failed. If both fail it is QUIC's error that counts.
pub(crate) async fn race<T>(
    quic: impl Future<Output = Result<T, ClientError>>,
    tcp: impl Future<Output = Result<T, ClientError>>,
    head_start: Duration,
) -> Result<T, ClientError> {
    let (mut quic, mut tcp) = (pin!(quic), pin!(tcp));
    tokio::select! {
        dialed = &mut quic => match dialed {
            Ok(dialed) => return Ok(dialed),
            Err(error) => return tcp.await.map_err(|_| error),
        },
        () = tokio::time::sleep(head_start) => {}
    }
    tokio::select! {
        biased;
        dialed = &mut quic => match dialed {
            Ok(dialed) => Ok(dialed),
            Err(error) => tcp.await.map_err(|_| error),
        },
        dialed = &mut tcp => match dialed {
            Ok(dialed) => Ok(dialed),
            Err(_) => quic.await,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::future::{pending, ready};

    use super::*;

    const SOON: Duration = Duration::ZERO;
    const NEVER: Duration = Duration::from_secs(3_600);

    fn failed<T>(why: &str) -> Result<T, ClientError> {
        Err(ClientError::Connection(why.to_owned()))
    }

    #[tokio::test]
    async fn who_answers_first_is_used_and_a_failure_alone_decides_nothing() {
        assert_eq!(race(ready(Ok(1)), pending(), NEVER).await.unwrap(), 1);
        assert_eq!(race(pending(), ready(Ok(2)), SOON).await.unwrap(), 2);
        assert_eq!(race(ready(failed("a")), ready(Ok(2)), NEVER).await.unwrap(), 2);
        let both = race(ready(failed::<u8>("a")), ready(failed("b")), NEVER).await;
        assert!(matches!(both, Err(ClientError::Connection(why)) if why == "a"));
        let late = async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            Ok(1)
        };
        assert_eq!(race(late, ready(failed("b")), SOON).await.unwrap(), 1);
    }

    #[test]
    fn a_network_is_remembered_for_a_while_and_until_it_proves_better() {
        let (networks, now) = (Networks::default(), Instant::now());
        let (home, train) = ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        let head_start = |network, later| networks.head_start(network, HEAD_START, now + later);
        networks.blocks_udp(train, now);
        assert_eq!(head_start(home, SOON), HEAD_START);
        assert_eq!(head_start(train, SOON), Duration::ZERO);
        assert_eq!(head_start(train, REMEMBERED), HEAD_START);
        networks.lets_udp_through(train);
        assert_eq!(head_start(train, SOON), HEAD_START);
        networks.blocks_udp(None, now);
        for n in 0..=u8::try_from(NETWORKS_MAX).unwrap() {
            networks.blocks_udp(Some(IpAddr::from([10, 0, 0, n])), now);
        }
        assert_eq!(networks.0.lock().len(), NETWORKS_MAX);
    }
}
