//! Every setting: its default, unit, range and reason. Unknown keys are
//! refused; every value is checked before a port opens.
//!
//! Order of precedence: default, file (`--config`), environment
//! (`PETREL__SECTION__KEY`), flags (`--set section.key=value`).
//!
//! The tables below are the only place where a setting is written down: the example file
//! (deploy/petrel.example.toml) and docs/configuration.md are made from them.

mod check;
mod layer;
pub mod render;
mod setting;
mod value;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use petrel_core::limits;

pub use layer::{Loaded, Origin, Problem};
pub use setting::{Section, Setting, SettingType};
use setting::{configuration, section};
pub use value::{Bounded, ByteSize, IssuerAlgorithm, Secret, Span, TcpListen};

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
    /// Keys are unknown or values are not allowed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Problem>),
}

configuration! {
    /// All settings.
    pub struct Config {
        /// Directory of keys, the development certificate and the embedded store; made at the first
        /// start.
        pub data_dir: PathBuf = PathBuf::from("petrel-data"),
        sections:
        /// QUIC.
        pub gateway: Gateway,
        /// Certificate of one's own.
        pub tls: Tls,
        /// The admin HTTP port.
        pub admin: Admin,
        /// Where messages are kept.
        pub storage: Storage,
        /// The mirror of who is signed in where.
        pub redis: Redis,
        /// Other gateways on the same database.
        pub cluster: Cluster,
        /// A message's way.
        pub message: Message,
        /// Groups.
        pub group: Group,
        /// Tokens.
        pub auth: Auth,
        /// Tokens of an outside issuer.
        pub auth_issuer: Issuer as "auth.issuer",
        /// Passwords.
        pub password: Password,
        /// Log output.
        pub log: Log,
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

section! {
    /// QUIC.
    pub struct Gateway {
        /// UDP address. Beyond loopback a certificate of one's own is required (`tls.certificate`).
        pub listen: SocketAddr = loopback(4433),
        /// TCP address for clients whose network lets no UDP through: `same` (as `gateway.listen`), an
        /// address of its own (clients are told its port), or `off`.
        pub listen_tcp: TcpListen = TcpListen::Same,
        /// Where clients reach this gateway itself and not another one behind the same balancer, as `HOST:PORT`: told
        /// to clients of gateways that drain. Default: clients find another one by what brought them here.
        pub advertise: Option<String> = None => "gw-1.example.org:4433",
        /// Connections at once, at the most, on UDP and TCP together.
        pub connections_max: Bounded<1, 1_000_000> = Bounded(25_000),
        /// Memory that all connections' windows and queues may take together when
        /// filled by hostile peers; `connections_max` times one connection's cap
        /// has to fit.
        pub memory_budget: ByteSize<{ 16 << 20 }, { 1 << 40 }> = ByteSize(16 << 30),
        /// A connection that is silent for so long is ended.
        pub idle_timeout: Span<5_000, 600_000> = Span(120_000),
        /// Handshakes under way from which on an address has to prove itself before more is done for it
        /// (QUIC Retry, one round trip): what floods from forged addresses. 0: always.
        pub handshakes_retry: Bounded<0, 1_000_000> = Bounded(1_024),
        /// Handshakes under way at once, at the most, half of them from one source address; beyond it
        /// nobody is answered, and clients come again by themselves.
        pub handshakes_max: Bounded<2, 1_000_000> = Bounded(8_192),
        /// Connections let in a second for each core while messages are being sent; more of them wait, so that a
        /// storm of reconnects does not hold up those who chat. While nobody sends, all come in at once.
        pub connects_beside_chat: Bounded<1, 1_000_000> = Bounded(300),
        /// From the first packet to the end of the TLS handshake, at the most.
        pub handshake_timeout: Span<500, 60_000> = Span(5_000),
        /// From the end of the handshake to Hello, at the most.
        pub sign_in_timeout: Span<500, 60_000> = Span(10_000),
        /// Bytes that a session's unread frames may take.
        pub send_queue: ByteSize<{ 64 << 10 }, { 64 << 20 }> = ByteSize(144 << 10),
        /// Conversation streams that one client may have open at once.
        pub streams_max: Bounded<4, 1_024> = Bounded(64),
        /// A conversation stream on which nothing moved for so long is finished.
        pub stream_idle: Span<1_000, 3_600_000> = Span(60_000),
        /// What can wait is held for a session in the background for so long (in whole seconds), and goes
        /// out together; 0: nothing is held.
        pub background_hold: Span<0, 600_000> = Span(60_000),
        /// Whose presence is shown to a session is read again once in this time.
        pub presence_interval: Span<1_000, 3_600_000> = Span(60_000),
        /// New connections per second and source address (an IPv4 address, an IPv6 /56).
        pub connects_per_s: Bounded<1, 1_000_000> = Bounded(5_000),
        /// New connections at once per source address.
        pub connects_burst: Bounded<1, 1_000_000> = Bounded(10_000),
        /// TLS sessions kept for resumption (two per client).
        pub tls_sessions: Bounded<0, 10_000_000> = Bounded(50_000),
        /// Clients that come back say the first things together with the handshake (0-RTT), and save a
        /// round trip.
        pub early_data: bool = true,
        /// While packets are being lost, small messages go twice, in both directions: on time over
        /// lossy networks, for up to three times the packets.
        pub echo: bool = true,
        /// Worker threads of the runtime; 0: one per core.
        pub threads: Bounded<0, 1_024> = Bounded(0),
        /// How long a graceful stop may take.
        pub drain_timeout: Span<100, 600_000> = Span(10_000),
    }
}

section! {
    /// A certificate of one's own; both or neither. Without it a self-signed one for
    /// development is made in the data directory.
    pub struct Tls {
        /// PEM file with the chain, leaf first. Looked at again every few seconds; a
        /// changed one is used for new connections.
        pub certificate: Option<PathBuf> = None => "/etc/petrel/fullchain.pem",
        /// PEM file with the private key.
        pub key: Option<PathBuf> = None => "/etc/petrel/key.pem",
    }
}

section! {
    /// The admin HTTP port.
    pub struct Admin {
        /// TCP address of the admin port; loopback only.
        pub listen: SocketAddr = loopback(4480),
        /// A second TCP address, for `/livez`, `/readyz` and `/metrics` alone, which a monitoring
        /// system on another machine or in another container can reach. They have no log-in: give
        /// it an address of a private network.
        pub metrics_listen: Option<SocketAddr> = None => "10.0.0.5:4481",
        /// What a caller of the admin API proves himself with: 32 to 512 visible ASCII characters. Default:
        /// made at the first start, in `admin.token` in the data directory.
        pub token: Option<Secret> = None => "the output of openssl rand -hex 32",
        /// The user name of the account that the service's own messages come from; nobody can register it.
        pub system_name: String = "system".to_owned(),
    }
}

section! {
    /// Where messages are kept.
    pub struct Storage {
        /// `sqlite:PATH` or `postgres://...`. Default: `petrel.db` in the data directory.
        pub url: Option<Secret> = None => "postgres://petrel@db.example/petrel",
        /// Messages (of up to 1 KiB; larger ones count as several) that may wait for storage.
        pub channel_messages: Bounded<1, 16_777_216> = Bounded(limits::CHANNEL_MESSAGES_DEFAULT as u64),
        /// Writers on PostgreSQL, each with a connection and a batch of its own under way. The first takes everything
        /// while it keeps up, the others what comes beyond that.
        pub writers: Bounded<1, 16> = Bounded(2),
        /// How long a sender waits for room in the channel before Overloaded.
        pub channel_wait: Span<0, 60_000> = Span(2_000),
    }
}

section! {
    /// The mirror of who is signed in where, in Redis. It is soft state: chat does not wait for it, and
    /// it is made again from memory whenever Redis lost it.
    pub struct Redis {
        /// `redis://[USER:PASSWORD@]HOST:PORT/DATABASE`, `rediss://` for TLS. Without it there is no mirror.
        pub url: Option<Secret> = None => "redis://:password@127.0.0.1:6379/0",
        /// A gateway that is silent for so long counts as dead: all its entries are void.
        pub lease: Span<1_000, 300_000> = Span(15_000),
    }
}

section! {
    /// Other gateways on the same database (PostgreSQL): they are found in it, and linked by QUIC with
    /// certificates on both sides (`petrel cluster certificates` makes them).
    pub struct Cluster {
        /// UDP address for other gateways. Default: none, this gateway is alone.
        pub listen: Option<SocketAddr> = None => "10.0.0.1:4434",
        /// Where others reach it, as `HOST:PORT`. Default: as `cluster.listen`.
        pub advertise: Option<String> = None => "gw-1.example.org:4434",
        /// This gateway's name, which its certificate carries: as a DNS name, and no other gateway's.
        pub name: Option<String> = None => "gw-1",
        /// The authority that has signed the certificates of all gateways (PEM).
        pub ca: Option<PathBuf> = None => "/etc/petrel/cluster/ca.pem",
        /// This gateway's certificate (PEM).
        pub certificate: Option<PathBuf> = None => "/etc/petrel/cluster/gw-1.pem",
        /// Its key (PEM).
        pub key: Option<PathBuf> = None => "/etc/petrel/cluster/gw-1.key",
    }
}

section! {
    /// A message's way.
    pub struct Message {
        /// Previews are sent once the commit under way is older than this; 0: always.
        pub preview_after: Span<0, 60_000> = Span(50),
        /// A compression dictionary of one's own, made by `petrel dictionary train`, for bodies that
        /// come plain. Default: none, and the shipped one that suits a body.
        pub dictionary: Option<PathBuf> = None => "/etc/petrel/own-100.dict",
        /// Earlier dictionaries of one's own: stored messages need them for ever. At most 32 files.
        pub dictionaries_kept: Vec<PathBuf> = Vec::new(),
        /// Sends per second of one session, in the long run.
        pub sends_per_s: Bounded<1, 1_000_000> = Bounded(500),
        /// Sends at once of one session.
        pub sends_burst: Bounded<1, 1_000_000> = Bounded(2_000),
        /// Requests per second of one session, in the long run.
        pub requests_per_s: Bounded<1, 1_000_000> = Bounded(50),
        /// Requests at once of one session.
        pub requests_burst: Bounded<1, 1_000_000> = Bounded(200),
        /// Receipts are written and passed on once in this time.
        pub receipts_interval: Span<10, 60_000> = Span(300),
        /// Conversations kept in memory, at the most.
        pub conversations_cached_max: Bounded<16, 10_000_000> = Bounded(100_000),
        /// A conversation that nobody used for so long leaves memory.
        pub conversation_idle: Span<1_000, 86_400_000> = Span(300_000),
        /// For how long an author may edit a message.
        pub edit_window: Span<0, 31_536_000_000> = Span(limits::CHANGE_WINDOW_MS_DEFAULT),
        /// For how long a message may be recalled.
        pub recall_window: Span<0, 31_536_000_000> = Span(limits::CHANGE_WINDOW_MS_DEFAULT),
        /// Messages to somebody who is no contact and has never answered, at the most; 0: any number.
        pub stranger_messages_max: Bounded<0, 1_000_000_000> = Bounded(limits::STRANGER_MESSAGES_DEFAULT),
    }
}

section! {
    /// Groups.
    pub struct Group {
        /// Members of one group, at the most.
        pub members_max: Bounded<2, 1_000_000> = Bounded(limits::GROUP_MEMBERS_DEFAULT),
        /// Groups that one user is a member of, at the most.
        pub per_user_max: Bounded<1, 1_000_000> = Bounded(limits::GROUPS_OF_USER_DEFAULT),
    }
}

section! {
    /// Tokens.
    pub struct Auth {
        /// How long a token is good for.
        pub token_life: Span<2_000, 86_400_000> = Span(15 * 60 * 1000),
        /// Names this service in its tokens; gateways of one service share it and the key.
        pub audience: String = "petrel".to_owned(),
        /// PEM file with the Ed25519 key that signs tokens. Default: made in the data directory.
        pub key: Option<PathBuf> = None => "/etc/petrel/token.key",
        /// Registrations per second and source address.
        pub registrations_per_s: Bounded<1, 1_000_000> = Bounded(20),
        /// Registrations at once and source address.
        pub registrations_burst: Bounded<1, 1_000_000> = Bounded(1_000),
        /// Log-ins (a device's secret for a token) per second and source address.
        pub logins_per_s: Bounded<1, 1_000_000> = Bounded(2_000),
        /// Log-ins at once and source address.
        pub logins_burst: Bounded<1, 1_000_000> = Bounded(20_000),
    }
}

section! {
    /// Tokens of an outside issuer (OpenID Connect and the like), by which people log in. Off unless
    /// `name`, `audience` and `jwks` are set.
    pub struct Issuer {
        /// The issuer, as its tokens name it (`iss`). Accounts belong to it and their subject (`sub`):
        /// under another name nobody finds his account again.
        pub name: Option<String> = None => "https://id.example.com",
        /// Whom its tokens are for (`aud`): this service, as the issuer knows it.
        pub audience: Option<String> = None => "petrel",
        /// JWKS file (RFC 7517) with the issuer's public keys. Looked at again every few seconds; a
        /// changed one is used from then on.
        pub jwks: Option<PathBuf> = None => "/etc/petrel/issuer.jwks.json",
        /// Signatures that are believed.
        pub algorithms: Vec<IssuerAlgorithm> =
            vec![IssuerAlgorithm::EdDSA, IssuerAlgorithm::ES256, IssuerAlgorithm::RS256],
        /// How far the issuer's clock may be from ours, in whole seconds.
        pub leeway: Span<0, 600_000> = Span(30_000),
    }
}

section! {
    /// Passwords: hashed with Argon2id (RFC 9106).
    pub struct Password {
        /// Memory that one hash takes. (Memory, passes and lanes are the second recommended option
        /// of RFC 9106.)
        pub memory: ByteSize<{ 19 << 20 }, { 4 << 30 }> = ByteSize(64 << 20),
        /// Passes over this memory.
        pub passes: Bounded<2, 64> = Bounded(3),
        /// Lanes (computed one after the other).
        pub lanes: Bounded<1, 16> = Bounded(4),
        /// Threads that hash, apart from those that chat; 0: half of the cores.
        pub threads: Bounded<0, 64> = Bounded(0),
        /// Passwords that may wait for a thread; more are refused with Overloaded.
        pub queue: Bounded<1, 4_096> = Bounded(64),
        /// Passwords tried per second and source address, in the long run.
        pub tries_per_s: Bounded<1, 1_000_000> = Bounded(10),
        /// Passwords tried at once and source address.
        pub tries_burst: Bounded<1, 1_000_000> = Bounded(100),
        /// In the long run, one password may be tried for a user name in this time.
        pub name_interval: Span<1, 3_600_000> = Span(10_000),
        /// Passwords tried at once for a user name.
        pub name_burst: Bounded<1, 1_000_000> = Bounded(10),
    }
}

section! {
    /// Log output.
    pub struct Log {
        /// A filter as of `tracing`: `info`, `petrel=debug,info`.
        pub filter: String = "info".to_owned(),
        /// One JSON object a line instead of text.
        pub json: bool = false,
    }
}

impl Config {
    /// Reads all layers and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem: its place, the key and what is allowed.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<Self, ConfigError> {
        Loaded::load(file, environment, flags).map(|loaded| loaded.config)
    }

    /// Where TCP listens, if it does.
    pub fn listen_tcp(&self) -> Option<SocketAddr> {
        match self.gateway.listen_tcp {
            TcpListen::Same => Some(self.gateway.listen),
            TcpListen::Off => None,
            TcpListen::At(address) => Some(address),
        }
    }

    /// What one connection may take at the most: windows, queue, frames being read, state.
    pub fn connection_bytes_max(&self) -> u64 {
        use crate::endpoint::{RECEIVE_WINDOW, SEND_WINDOW, STATE_BYTES};
        let received = RECEIVE_WINDOW + crate::intake::LARGE_FRAMES_KIB as u64 * 1024;
        received + SEND_WINDOW + self.gateway.send_queue.0 + STATE_BYTES
    }

    /// The store's URL.
    pub fn storage_url(&self) -> String {
        match &self.storage.url {
            Some(url) => url.expose().to_owned(),
            None => format!("sqlite:{}", self.data_dir.join("petrel.db").display()),
        }
    }
}

#[cfg(test)]
mod tests;
