//! How a client is doing.

/// How a client is doing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Whether it is signed in.
    pub online: bool,
    /// The smoothed round trip, in microseconds; 0 when not connected.
    pub rtt_us: u64,
    /// Packets lost on this connection.
    pub lost_packets: u64,
    /// Packets sent on this connection.
    pub sent_packets: u64,
    /// UDP payload received on this connection, in bytes.
    pub udp_rx_bytes: u64,
    /// UDP payload sent on this connection, in bytes.
    pub udp_tx_bytes: u64,
    /// Sign-ins after the first.
    pub reconnects: u64,
    /// Probes sent: because the server was silent, or to show it an address that changes now and then.
    pub probes_sent: u64,
    /// Sign-ins whose first words left with the first packets, and were taken by the server.
    pub early_accepted: u64,
    /// Those whose first words had to be said again: the server did not know the TLS session any more.
    pub early_rejected: u64,
    /// Messages sent again.
    pub resends: u64,
    /// Entries that came twice and were dropped.
    pub duplicates: u64,
    /// Holes that were filled from history.
    pub fills: u64,
    /// Datagrams with copies that were sent on this connection, because packets were lost.
    pub echoes_sent: u64,
    /// Copies in them that were sent because nothing was heard of what went before.
    pub echoes_rescued: u64,
    /// Copies that came on this connection before their original.
    pub echoes_won: u64,
    /// Messages without an answer.
    pub outbox_len: usize,
    /// Bytes of their bodies.
    pub outbox_bytes: usize,
    /// Conversations that state is kept of.
    pub conversations: usize,
    /// Conversation streams that are open.
    pub streams: usize,
}
