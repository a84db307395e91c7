//! The way back to QUIC from a session that TCP carries.

use std::net::SocketAddr;
use std::time::Duration;

use petrel_transport::Connection;
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::dialer::Dialer;
use crate::fallback::network_towards;
use crate::line::established;

/// Between two tries of QUIC while TCP carries the session, at the least and at the most.
const BACK_AFTER_MIN: Duration = Duration::from_secs(2);
const BACK_AFTER_MAX: Duration = Duration::from_secs(300);
/// How long one of them waits for an answer.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// What may be better than the connection that carries the session.
#[derive(Debug)]
pub(crate) enum WayBack {
    /// Nothing: it is QUIC, which follows the device to other networks.
    NotWanted,
    /// A new connection, once the network has changed.
    Redial,
    /// That, or QUIC as soon as it answers.
    ToQuic(Box<ToQuic>),
}

/// Tries QUIC while TCP carries the session.
#[derive(Debug)]
pub(crate) struct ToQuic {
    dialer: Dialer,
    endpoint: quinn::Endpoint,
    address: SocketAddr,
}

impl WayBack {
    /// From an endpoint to a server.
    pub(crate) fn to_quic(dialer: Dialer, endpoint: quinn::Endpoint, address: SocketAddr) -> Self {
        Self::ToQuic(Box::new(ToQuic { dialer, endpoint, address }))
    }
}

impl ToQuic {
    /// Tries until QUIC answers, ever more seldom: a network that lets no UDP through now mostly does
    /// not in a minute.
    async fn found(self) -> Connection {
        let mut backoff = Backoff::new(BACK_AFTER_MIN, BACK_AFTER_MAX);
        loop {
            tokio::time::sleep(backoff.next(rand::random())).await;
            let Ok(begun) = self.dialer.begin(&self.endpoint, self.address) else { continue };
            let dialed = tokio::time::timeout(BACK_WITHIN, established(begun)).await;
            if let Ok(Ok(connection)) = dialed {
                self.dialer.networks().lets_udp_through(network_towards(self.address));
                return connection;
            }
        }
    }
}

/// Waits until the session is to go on over another connection; which, if it is there already.
pub(crate) async fn wanted(way_back: WayBack, network_changed: &Notify) -> Option<Connection> {
    match way_back {
        WayBack::NotWanted => std::future::pending().await,
        WayBack::Redial => {
            network_changed.notified().await;
            None
        }
        WayBack::ToQuic(to_quic) => {
            tokio::select! {
                connection = to_quic.found() => Some(connection),
                () = network_changed.notified() => None,
            }
        }
    }
}
