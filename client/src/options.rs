//! A client's settings.

use std::path::PathBuf;
use std::time::Duration;

use crate::attention::Attention;
use crate::dialer::Dialer;
use crate::identity::{Identity, Token};

/// Where messages wait for their acknowledgement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutboxPlace {
    /// In memory: lost with the process.
    Memory,
    /// In a SQLite file too: survives a restart, with the cursors.
    File(PathBuf),
}

/// A client's settings.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How to reach the server.
    pub dialer: Dialer,
    /// Who we are.
    pub identity: Identity,
    /// Where unacknowledged messages wait.
    pub outbox: OutboxPlace,
    /// Messages in the outbox, at the most.
    pub outbox_messages_max: usize,
    /// Bytes of bodies in the outbox, at the most.
    pub outbox_bytes_max: usize,
    /// Events that wait to be taken, at the most; beyond it streams are not read on.
    pub events_max: usize,
    /// Conversations that state is kept of, at the most.
    pub conversations_max: usize,
    /// Whether the user looks at the beginning, see [`crate::Client::set_attention`].
    pub attention: Attention,
    /// How long receipts are gathered.
    pub receipts_delay: Duration,
    /// How long delivered ones are gathered in the background.
    pub background_receipts_delay: Duration,
    /// Whether delivered receipts are sent by themselves.
    pub delivered_receipts: bool,
    /// A token that is there already; without one the client logs in.
    pub token: Option<Token>,
    /// Whether bodies are compressed.
    pub compress: bool,
    /// Whether small writes are copied while packets are being lost, in both directions: messages come
    /// on time over lossy networks, for up to three times the packets.
    pub echo: bool,
    /// Skipped entries that are filled from history without being asked, per gap; above it an
    /// event tells of the gap.
    pub fill_max: u64,
    /// How long a request may take, waiting for a connection included.
    pub request_timeout: Duration,
    /// How long the server may be silent while something has no answer; then the client dials
    /// anew instead of waiting for QUIC's idle timeout.
    pub silence_max: Duration,
    /// The shortest wait between two dials.
    pub backoff_min: Duration,
    /// The longest wait between two dials.
    pub backoff_max: Duration,
    /// The same in the background.
    pub background_backoff_max: Duration,
    /// Name and version of the software, for the server's log; cut at 64 bytes.
    pub agent: String,
}

impl ClientOptions {
    /// The defaults.
    pub fn new(dialer: Dialer, identity: Identity) -> Self {
        Self {
            dialer,
            identity,
            outbox: OutboxPlace::Memory,
            outbox_messages_max: 4_096,
            outbox_bytes_max: 16 * 1024 * 1024,
            events_max: 1_024,
            conversations_max: 10_000,
            attention: Attention::Foreground,
            receipts_delay: Duration::from_millis(300),
            background_receipts_delay: Duration::from_secs(45),
            delivered_receipts: true,
            token: None,
            compress: true,
            echo: true,
            fill_max: 1_000,
            request_timeout: Duration::from_secs(10),
            silence_max: Duration::from_secs(3),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(15),
            background_backoff_max: Duration::from_secs(5 * 60),
            agent: concat!("petrel-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}
