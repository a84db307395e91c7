//! A connection.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use quinn::VarInt;

use crate::error::{ConnectionError, SendDatagramError};
use crate::mux::Mux;
use crate::stream::{RecvStream, SendStream};

/// A connection to a peer; a cheap handle. It is closed when the last one of them and of its
/// streams is dropped.
#[derive(Clone)]
pub struct Connection(Inner);

#[derive(Clone)]
enum Inner {
    Quic(quinn::Connection),
    Tcp(Mux),
}

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// QUIC.
    Quic,
    /// TLS on TCP.
    Tcp,
}

impl Kind {
    /// Its name, for people and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What a connection has measured.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The round trip; zero while it is not known.
    pub rtt: Duration,
    /// Packets that were sent on the path in use; TCP does not tell.
    pub sent_packets: u64,
    /// Those of them that were lost.
    pub lost_packets: u64,
    /// How often something came from the peer: UDP datagrams, or reads of the socket.
    pub received: u64,
    /// How often something was sent that the peer's QUIC acknowledges, retransmissions too; 0 where nothing is
    /// seen of acknowledgements.
    pub asked: u64,
    /// How often the peer was asked to show that it is where its packets came from: a change of its address.
    pub path_challenges: u64,
    /// How often the peer asked that of this side: it saw it at another address.
    pub challenged: u64,
    /// Frames of streams that were sent or came, retransmissions too: what is said, other than acknowledgements and
    /// datagrams.
    pub stream_frames: u64,
    /// Bytes that came: of UDP payload, or of what TLS carries.
    pub received_bytes: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
}

impl From<quinn::Connection> for Connection {
    fn from(connection: quinn::Connection) -> Self {
        Self(Inner::Quic(connection))
    }
}

impl From<Mux> for Connection {
    fn from(mux: Mux) -> Self {
        Self(Inner::Tcp(mux))
    }
}

impl Connection {
    /// What carries it.
    pub fn kind(&self) -> Kind {
        match self.0 {
            Inner::Quic(_) => Kind::Quic,
            Inner::Tcp(_) => Kind::Tcp,
        }
    }

    /// Whether both are handles of one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Inner::Quic(one), Inner::Quic(other)) => one.stable_id() == other.stable_id(),
            (Inner::Tcp(one), Inner::Tcp(other)) => one.is_same(other),
            _ => false,
        }
    }

    /// QUIC's own handle, for what only QUIC has.
    pub fn quic(&self) -> Option<&quinn::Connection> {
        match &self.0 {
            Inner::Quic(quic) => Some(quic),
            Inner::Tcp(_) => None,
        }
    }

    /// Opens a stream. Waits while the peer allows no more; dropped, it opens none.
    ///
    /// # Errors
    /// If the connection is over.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        match &self.0 {
            Inner::Quic(quic) => {
                let (send, recv) = quic.open_bi().await?;
                Ok((send.into(), recv.into()))
            }
            Inner::Tcp(mux) => mux.open().await.map(|(send, recv)| (send.into(), recv.into())),
        }
    }

    /// The next stream that the peer opened. Dropped, it takes none.
    ///
    /// # Errors
    /// If the connection is over.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        match &self.0 {
            Inner::Quic(quic) => {
                let (send, recv) = quic.accept_bi().await?;
                Ok((send.into(), recv.into()))
            }
            Inner::Tcp(mux) => mux.accept().await.map(|(send, recv)| (send.into(), recv.into())),
        }
    }

    /// The next datagram. Dropped, it takes none.
    ///
    /// # Errors
    /// If the connection is over.
    pub async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        match &self.0 {
            Inner::Quic(quic) => Ok(quic.read_datagram().await?),
            Inner::Tcp(mux) => mux.read_datagram().await,
        }
    }

    /// Sends a datagram, which may be lost; older ones that wait make room for it.
    ///
    /// # Errors
    /// If it certainly cannot be sent.
    pub fn send_datagram(&self, data: Bytes) -> Result<(), SendDatagramError> {
        match &self.0 {
            Inner::Quic(quic) => quic.send_datagram(data).map_err(|_| SendDatagramError),
            Inner::Tcp(mux) => mux.send_datagram(data),
        }
    }

    /// Bytes of the largest datagram that can be sent now; `None`: the peer takes none.
    pub fn max_datagram_size(&self) -> Option<usize> {
        match &self.0 {
            Inner::Quic(quic) => quic.max_datagram_size(),
            Inner::Tcp(mux) => mux.max_datagram_size(),
        }
    }

    /// Allows the peer this many streams at once.
    pub fn set_streams_max(&self, streams: u32) {
        match &self.0 {
            Inner::Quic(quic) => quic.set_max_concurrent_bi_streams(VarInt::from_u32(streams)),
            Inner::Tcp(mux) => mux.set_streams_max(streams),
        }
    }

    /// Closes it now. What was written and has not arrived may be lost.
    pub fn close(&self, code: u32, reason: &[u8]) {
        match &self.0 {
            Inner::Quic(quic) => quic.close(VarInt::from_u32(code), reason),
            Inner::Tcp(mux) => mux.close(code, reason),
        }
    }

    /// Waits until it is over; says why it is.
    pub async fn closed(&self) -> ConnectionError {
        match &self.0 {
            Inner::Quic(quic) => quic.closed().await.into(),
            Inner::Tcp(mux) => mux.closed().await,
        }
    }

    /// Why it is over, if it is.
    pub fn close_reason(&self) -> Option<ConnectionError> {
        match &self.0 {
            Inner::Quic(quic) => quic.close_reason().map(Into::into),
            Inner::Tcp(mux) => mux.close_reason(),
        }
    }

    /// Where the peer is.
    pub fn remote_address(&self) -> SocketAddr {
        match &self.0 {
            Inner::Quic(quic) => quic.remote_address(),
            Inner::Tcp(mux) => mux.remote(),
        }
    }

    /// The round trip, as it is known now.
    pub fn rtt(&self) -> Duration {
        match &self.0 {
            Inner::Quic(quic) => quic.rtt(),
            Inner::Tcp(mux) => mux.stats().rtt,
        }
    }

    /// What it has measured. Takes the connection's lock.
    pub fn stats(&self) -> Stats {
        match &self.0 {
            Inner::Quic(quic) => {
                let stats = quic.stats();
                let sent = stats.frame_tx;
                Stats {
                    rtt: stats.path.rtt,
                    sent_packets: stats.path.sent_packets,
                    lost_packets: stats.path.lost_packets,
                    received: stats.udp_rx.datagrams,
                    asked: sent.stream
                        + sent.datagram
                        + sent.ping
                        + sent.immediate_ack
                        + sent.path_challenge,
                    path_challenges: sent.path_challenge,
                    challenged: stats.frame_rx.path_challenge,
                    stream_frames: sent.stream + stats.frame_rx.stream,
                    received_bytes: stats.udp_rx.bytes,
                    sent_bytes: stats.udp_tx.bytes,
                }
            }
            Inner::Tcp(mux) => mux.stats(),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Quic(quic) => quic.fmt(f),
            Inner::Tcp(mux) => mux.fmt(f),
        }
    }
}
