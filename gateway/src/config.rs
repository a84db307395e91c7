//! Every setting: its default, unit, range and reason. Unknown keys are
//! refused; every value is checked before a port opens.
//!
//! Order of precedence: default, file (`--config`), environment
//! (`PETREL__SECTION__KEY`), flags (`--set section.key=value`).

mod value;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use petrel_core::limits;
use serde::Deserialize;

pub use value::{Bounded, ByteSize, Secret, Span};

/// Why the configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key is unknown or a value is not allowed; the text says where and what is allowed.
    #[error("{place}: {problem}")]
    Refused {
        /// The file, variable or flag.
        place: String,
        /// What is wrong, with the line in a file, the key and the range.
        problem: String,
    },
}

/// All settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where keys, the certificate and the embedded store are kept. Default `./petrel-data`.
    pub data_dir: DataDir,
    /// QUIC.
    pub gateway: Gateway,
    /// Certificate of one's own.
    pub tls: Tls,
    /// The admin HTTP port.
    pub admin: Admin,
    /// Where messages are kept.
    pub storage: Storage,
    /// A message's way.
    pub message: Message,
    /// Groups.
    pub group: Group,
    /// Tokens.
    pub auth: Auth,
    /// Log output.
    pub log: Log,
}

/// `./petrel-data` unless set.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct DataDir(pub PathBuf);

impl Default for DataDir {
    fn default() -> Self {
        Self(PathBuf::from("petrel-data"))
    }
}

/// QUIC.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// UDP address. Beyond loopback a certificate of one's own is required (`tls.certificate`).
    pub listen: SocketAddr,
    /// Connections at once, at the most.
    pub connections_max: Bounded<1, 1_000_000>,
    /// Memory that all connections' windows and queues may take together when
    /// filled by hostile peers; `connections_max` times one connection's cap
    /// has to fit.
    pub memory_budget: ByteSize<{ 16 << 20 }, { 1 << 40 }>,
    /// A connection that is silent for so long is ended.
    pub idle_timeout: Span<5_000, 600_000>,
    /// From the first packet to the end of the TLS handshake, at the most.
    pub handshake_timeout: Span<500, 60_000>,
    /// From the end of the handshake to Hello, at the most.
    pub sign_in_timeout: Span<500, 60_000>,
    /// Bytes that a session's unread frames may take.
    pub send_queue: ByteSize<{ 64 << 10 }, { 64 << 20 }>,
    /// Conversation streams that one client may have open at once.
    pub streams_max: Bounded<4, 1_024>,
    /// A conversation stream on which nothing moved for so long is finished.
    pub stream_idle: Span<1_000, 3_600_000>,
    /// New connections per second and source address (an IPv4 address, an IPv6 /56).
    pub connects_per_s: Bounded<1, 1_000_000>,
    /// New connections at once per source address.
    pub connects_burst: Bounded<1, 1_000_000>,
    /// TLS sessions kept for resumption (two per client).
    pub tls_sessions: Bounded<0, 10_000_000>,
    /// Worker threads of the runtime; 0: one per core.
    pub threads: Bounded<0, 1_024>,
    /// How long a graceful stop may take.
    pub drain_timeout: Span<100, 600_000>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4433),
            connections_max: Bounded(25_000),
            memory_budget: ByteSize(16 << 30),
            idle_timeout: Span(120_000),
            handshake_timeout: Span(5_000),
            sign_in_timeout: Span(10_000),
            send_queue: ByteSize(192 << 10),
            streams_max: Bounded(64),
            stream_idle: Span(60_000),
            connects_per_s: Bounded(5_000),
            connects_burst: Bounded(10_000),
            tls_sessions: Bounded(50_000),
            threads: Bounded(0),
            drain_timeout: Span(10_000),
        }
    }
}

/// A certificate of one's own; both or neither. Without it a self-signed one for
/// development is made in the data directory.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file with the chain, leaf first. Looked at again every few seconds; a
    /// changed one is used for new connections.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key.
    pub key: Option<PathBuf>,
}

/// The admin HTTP port.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// TCP address of the admin port; loopback only.
    pub listen: SocketAddr,
    /// A second TCP address, for `/livez`, `/readyz` and `/metrics` alone, which a monitoring
    /// system on another machine or in another container can reach. They have no log-in: give
    /// it an address of a private network. Default: none.
    pub metrics_listen: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4480),
            metrics_listen: None,
        }
    }
}

/// Where messages are kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// `sqlite:PATH` or `postgres://...`. Default: `petrel.db` in the data directory.
    pub url: Option<Secret>,
    /// Messages (of up to 1 KiB; larger ones count as several) that may wait for storage.
    pub channel_messages: ChannelMessages,
    /// How long a sender waits for room in the channel before Overloaded.
    pub channel_wait: ChannelWait,
}

/// 65,536 unless set.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub struct ChannelMessages(pub Bounded<1, 16_777_216>);

impl Default for ChannelMessages {
    fn default() -> Self {
        Self(Bounded(limits::CHANNEL_MESSAGES_DEFAULT as u64))
    }
}

/// Two seconds unless set.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub struct ChannelWait(pub Span<0, 60_000>);

impl Default for ChannelWait {
    fn default() -> Self {
        Self(Span(2_000))
    }
}

/// A message's way.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Message {
    /// Previews are sent once the commit under way is older than this; 0: always.
    pub preview_after: Span<0, 60_000>,
    /// A compression dictionary of one's own, made by `petrel dictionary train`, for bodies that
    /// come plain. Default: none, and the shipped one that suits a body.
    pub dictionary: Option<PathBuf>,
    /// Earlier dictionaries of one's own: stored messages need them for ever. At most 32 files.
    pub dictionaries_kept: Vec<PathBuf>,
    /// Sends per second of one session, in the long run.
    pub sends_per_s: Bounded<1, 1_000_000>,
    /// Sends at once of one session.
    pub sends_burst: Bounded<1, 1_000_000>,
    /// Requests per second of one session, in the long run.
    pub requests_per_s: Bounded<1, 1_000_000>,
    /// Requests at once of one session.
    pub requests_burst: Bounded<1, 1_000_000>,
    /// Receipts are written and passed on once in this time.
    pub receipts_interval: Span<10, 60_000>,
    /// Conversations kept in memory, at the most.
    pub conversations_cached_max: Bounded<16, 10_000_000>,
    /// A conversation that nobody used for so long leaves memory.
    pub conversation_idle: Span<1_000, 86_400_000>,
    /// For how long an author may edit a message.
    pub edit_window: Span<0, 31_536_000_000>,
    /// For how long a message may be recalled.
    pub recall_window: Span<0, 31_536_000_000>,
    /// Messages to somebody who is no contact and has never answered, at the most.
    pub stranger_messages_max: Bounded<0, 1_000_000_000>,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            preview_after: Span(50),
            dictionary: None,
            dictionaries_kept: Vec::new(),
            sends_per_s: Bounded(500),
            sends_burst: Bounded(2_000),
            requests_per_s: Bounded(50),
            requests_burst: Bounded(200),
            receipts_interval: Span(300),
            conversations_cached_max: Bounded(100_000),
            conversation_idle: Span(300_000),
            edit_window: Span(limits::CHANGE_WINDOW_MS_DEFAULT),
            recall_window: Span(limits::CHANGE_WINDOW_MS_DEFAULT),
            stranger_messages_max: Bounded(limits::STRANGER_MESSAGES_DEFAULT),
        }
    }
}

/// Groups.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// Members of one group, at the most.
    pub members_max: Bounded<2, 1_000_000>,
    /// Groups that one user is a member of, at the most.
    pub per_user_max: Bounded<1, 1_000_000>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            members_max: Bounded(limits::GROUP_MEMBERS_DEFAULT),
            per_user_max: Bounded(limits::GROUPS_OF_USER_DEFAULT),
        }
    }
}

/// Tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// How long a token is good for.
    pub token_life: Span<2_000, 86_400_000>,
    /// Names this service in its tokens; gateways of one service share it and the key.
    pub audience: String,
    /// PEM file with the Ed25519 key that signs tokens. Default: made in the data directory.
    pub key: Option<PathBuf>,
    /// Registrations per second and source address.
    pub registrations_per_s: Bounded<1, 1_000_000>,
    /// Registrations at once and source address.
    pub registrations_burst: Bounded<1, 1_000_000>,
    /// Log-ins (a device's secret for a token) per second and source address.
    pub logins_per_s: Bounded<1, 1_000_000>,
    /// Log-ins at once and source address.
    pub logins_burst: Bounded<1, 1_000_000>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            token_life: Span(15 * 60 * 1000),
            audience: "petrel".to_owned(),
            key: None,
            registrations_per_s: Bounded(20),
            registrations_burst: Bounded(1_000),
            logins_per_s: Bounded(2_000),
            logins_burst: Bounded(20_000),
        }
    }
}

/// Log output.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A filter as of `tracing`: `info`, `petrel=debug,info`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), json: false }
    }
}

impl Config {
    /// Reads all layers and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] with the place, the key and what is allowed.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<Self, ConfigError> {
        let mut table = toml::Table::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            // The file is checked by itself first: its errors carry line and column.
            let place = path.display().to_string();
            value::check::<Self>(&place, &text)?;
            table = text.parse().map_err(|e: toml::de::Error| value::refused(&place, &e))?;
        }
        let mut overrides = value::from_environment(environment);
        overrides.extend(flags.iter().map(|flag| value::Override::flag(flag)));
        for o in overrides {
            o.apply::<Self>(&mut table)?;
        }
        let config: Self =
            table.try_into().map_err(|e: toml::de::Error| value::refused("configuration", &e))?;
        config.check()?;
        Ok(config)
    }

    /// Checks what single values cannot tell.
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, problem: String| {
            Err(ConfigError::Refused { place: key.to_owned(), problem })
        };
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return refuse(
                "tls.certificate and tls.key",
                "set both (PEM files), or neither for a self-signed development certificate".into(),
            );
        }
        if !self.gateway.listen.ip().is_loopback() && self.tls.certificate.is_none() {
            return refuse(
                "gateway.listen",
                format!(
                    "{} is reachable from outside, and the development certificate is not for that; \
                     set tls.certificate and tls.key, or listen on 127.0.0.1",
                    self.gateway.listen
                ),
            );
        }
        if !self.admin.listen.ip().is_loopback() {
            return refuse(
                "admin.listen",
                format!(
                    "{} is not a loopback address, and the admin port is for this machine alone; \
                     for a monitoring system elsewhere set admin.metrics_listen",
                    self.admin.listen
                ),
            );
        }
        let cap = self.connection_bytes_max();
        let needed = cap.saturating_mul(self.gateway.connections_max.0);
        if needed > self.gateway.memory_budget.0 {
            return refuse(
                "gateway.connections_max",
                format!(
                    "{} connections of up to {cap} bytes need {needed} bytes, more than gateway.memory_budget = {}; \
                     at most {} connections fit",
                    self.gateway.connections_max.0,
                    self.gateway.memory_budget.0,
                    self.gateway.memory_budget.0 / cap
                ),
            );
        }
        Ok(())
    }

    /// What one connection may take at the most: windows, queue, frames being read, state.
    pub fn connection_bytes_max(&self) -> u64 {
        use crate::endpoint::{RECEIVE_WINDOW, SEND_WINDOW, STATE_BYTES};
        RECEIVE_WINDOW + SEND_WINDOW + self.gateway.send_queue.0 + STATE_BYTES
    }

    /// The store's URL.
    pub fn storage_url(&self) -> String {
        match &self.storage.url {
            Some(url) => url.expose().to_owned(),
            None => format!("sqlite:{}", self.data_dir.0.join("petrel.db").display()),
        }
    }
}

#[cfg(test)]
mod tests;
