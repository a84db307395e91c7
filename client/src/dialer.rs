//! Where the server is, how its certificate is checked, and the QUIC settings;
//! makes connections.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use petrel_proto::echo::{ACK_DELAY_MAX, WitnessConfig};
use petrel_proto::wire::{self, frame::What};
use petrel_transport::Connection;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::RandomConnectionIdGenerator;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::error::ClientError;
use crate::fallback::{Networks, Tcp, Transports};
use crate::identity::{Identity, Token};
use crate::line::Line;
use crate::request::Password;
use crate::tls::{self, Trust};

/// Where the server is.
#[derive(Clone, Debug)]
pub enum Server {
    /// These addresses, tried in turn.
    Addresses(Vec<SocketAddr>),
    /// `host:port`, resolved anew at each dial.
    Name(String),
}

/// QUIC settings of a client.
#[derive(Clone, Debug)]
pub struct Transport {
    /// How often the path is kept open in the foreground; `None`: never. With five sixths of the shorter idle
    /// timeout, if that is less.
    pub keep_alive: Option<Duration>,
    /// The same in the background.
    pub background_keep_alive: Option<Duration>,
    /// After how long without a packet the connection is given up.
    pub idle_timeout: Duration,
    /// The round trip assumed before the first one is measured.
    pub initial_rtt: Duration,
    /// Bytes that the server may send on one stream before they are read.
    pub stream_receive_window: u32,
    /// The same for the whole connection.
    pub receive_window: u32,
    /// Bytes written and not yet acknowledged, at the most.
    pub send_window: u64,
    /// Streams that the server may have open.
    pub server_streams_max: u32,
    /// Asks the server to acknowledge packets at once instead of after up to 25 ms
    /// (the extension for acknowledgement frequency); `None`: QUIC's default.
    pub ack_delay_max: Option<Duration>,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            keep_alive: Some(Duration::from_secs(20)),
            background_keep_alive: Some(Duration::from_secs(100)),
            idle_timeout: Duration::from_secs(120),
            initial_rtt: Duration::from_millis(100),
            stream_receive_window: 256 * 1024,
            receive_window: 1024 * 1024,
            send_window: 1024 * 1024,
            server_streams_max: 256,
            ack_delay_max: Some(ACK_DELAY_MAX),
        }
    }
}

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct DialerOptions {
    /// Where it is.
    pub server: Server,
    /// The name in its certificate.
    pub server_name: String,
    /// Which certificate is believed.
    pub trust: Trust,
    /// An endpoint that several clients share; `None`: each client has its own.
    pub endpoint: Option<quinn::Endpoint>,
    /// QUIC settings.
    pub transport: Transport,
    /// TLS sessions kept in memory for cheaper handshakes; 0: none.
    pub session_tickets: usize,
    /// QUIC alone, TCP alone, or TCP where no UDP gets through.
    pub transports: Transports,
    /// The server's TCP port, if it is another than that of QUIC.
    pub tcp_port: Option<u16>,
    /// Whether a client that comes back says the first things with the first packets (0-RTT), which
    /// saves a round trip. It takes a TLS session and a token that are still good; what was said is said
    /// again when the server does not take it.
    pub early_data: bool,
    /// How long a dial may take.
    pub dial_timeout: Duration,
}

impl DialerOptions {
    /// The defaults for this server.
    pub fn new(server: Server, server_name: impl Into<String>, trust: Trust) -> Self {
        Self {
            server,
            server_name: server_name.into(),
            trust,
            endpoint: None,
            transport: Transport::default(),
            session_tickets: 8,
            transports: Transports::default(),
            tcp_port: None,
            early_data: true,
            dial_timeout: Duration::from_secs(10),
        }
    }
}

/// Makes connections to one server. Cheap to clone; clones share what makes coming back cheaper, for
/// as long as the process runs: TLS sessions, and tokens that prove the address.
#[derive(Clone, Debug)]
pub struct Dialer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    server: Server,
    server_name: String,
    endpoint: Option<quinn::Endpoint>,
    config: quinn::ClientConfig,
    dial_timeout: Duration,
    keep_alive: Option<Duration>,
    transports: Transports,
    tcp: Tcp,
    networks: Networks,
    background_keep_alive: Option<Duration>,
    idle_timeout: Duration,
}

impl Dialer {
    /// Checks the options and reads the CA file if there is one.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] saying which option is not usable.
    pub fn new(options: DialerOptions) -> Result<Self, ClientError> {
        if let Server::Addresses(addresses) = &options.server
            && addresses.is_empty()
        {
            return Err(ClientError::Invalid("no server address".to_owned()));
        }
        let mut tls = tls::client_config(&options.trust, options.session_tickets)?;
        tls.enable_early_data = options.early_data;
        let crypto = QuicClientConfig::try_from(tls)
            .map_err(|error| ClientError::Invalid(format!("TLS: {error}")))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport_config(&options.transport)?));
        Ok(Self {
            inner: Arc::new(Inner {
                server: options.server,
                server_name: options.server_name,
                endpoint: options.endpoint,
                config,
                dial_timeout: options.dial_timeout,
                keep_alive: options.transport.keep_alive,
                transports: options.transports,
                // Resumption would save no round trip there.
                tcp: Tcp::new(
                    tls::client_config(&options.trust, 0)?,
                    &options.transport,
                    options.tcp_port,
                ),
                networks: Networks::default(),
                background_keep_alive: options.transport.background_keep_alive,
                idle_timeout: options.transport.idle_timeout,
            }),
        })
    }

    /// Makes an account with one device. The secret in the answer is shown this
    /// once: save it with [`Identity::save`].
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `NameTaken` or `Invalid`; what a dial may meet.
    pub async fn register(
        &self,
        user_name: &str,
        device_label: &str,
    ) -> Result<Identity, ClientError> {
        self.register_with(user_name, device_label, None).await
    }

    /// The same, with a password with which further devices log in.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn register_with(
        &self,
        user_name: &str,
        device_label: &str,
        password: Option<&Password>,
    ) -> Result<Identity, ClientError> {
        let request = What::Register(wire::Register {
            user_name: user_name.to_owned(),
            device_label: device_label.to_owned(),
            password: password.map(Password::expose).unwrap_or_default(),
        });
        Ok(self.sign_up(request, user_name).await?.0)
    }

    /// Logs in with a password, which makes a new device of the account. Save the identity; the
    /// token is good for the first sign-in ([`crate::ClientOptions::token`]).
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `WrongSecret` (also: no such user), `LimitReached` for a device
    /// too many, `Overloaded` or `RateLimited`; what a dial may meet.
    pub async fn log_in_with_password(
        &self,
        user_name: &str,
        password: &Password,
        device_label: &str,
    ) -> Result<(Identity, Token), ClientError> {
        let request = What::LogInWithPassword(wire::LogInWithPassword {
            user_name: user_name.to_owned(),
            password: password.expose(),
            device_label: device_label.to_owned(),
        });
        with_token(self.sign_up(request, user_name).await?)
    }

    /// Logs in with a token of an outside issuer, which makes a new device, and the account if there
    /// is none yet. The identity's `user_name` is empty: [`crate::Client::account`] tells it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `TokenInvalid`, `LimitReached` or `RateLimited`; what a dial
    /// may meet.
    pub async fn log_in_with_token(
        &self,
        token: &str,
        device_label: &str,
    ) -> Result<(Identity, Token), ClientError> {
        let request = What::LogInWithToken(wire::LogInWithToken {
            token: token.to_owned(),
            device_label: device_label.to_owned(),
        });
        with_token(self.sign_up(request, "").await?)
    }

    /// On a connection of its own.
    async fn sign_up(
        &self,
        request: What,
        user_name: &str,
    ) -> Result<(Identity, Option<Token>), ClientError> {
        let line = Line::new(self.clone(), TaskTracker::new());
        let connection = line.connect(&Notify::new()).await?;
        let asked = crate::request::sign_up(&connection, request, user_name);
        let signed_up = tokio::time::timeout(self.inner.dial_timeout, asked)
            .await
            .map_err(|_| ClientError::TimedOut)
            .flatten();
        connection.close(0, b"");
        signed_up
    }

    pub(crate) fn keep_alive(&self) -> Option<Duration> {
        self.inner.keep_alive
    }

    pub(crate) fn dial_timeout(&self) -> Duration {
        self.inner.dial_timeout
    }

    pub(crate) fn transports(&self) -> Transports {
        self.inner.transports
    }

    /// An endpoint that many clients share.
    pub(crate) fn shared_endpoint(&self) -> Option<&quinn::Endpoint> {
        self.inner.endpoint.as_ref()
    }

    /// Begins a handshake of QUIC.
    pub(crate) fn begin(
        &self,
        endpoint: &quinn::Endpoint,
        address: SocketAddr,
    ) -> Result<quinn::Connecting, ClientError> {
        endpoint
            .connect_with(self.inner.config.clone(), address, &self.inner.server_name)
            .map_err(|error| ClientError::Connection(error.to_string()))
    }

    /// Dials TCP; the connection's task is one of `tasks`.
    pub(crate) async fn tcp(
        &self,
        address: SocketAddr,
        tasks: &TaskTracker,
    ) -> Result<Connection, ClientError> {
        self.inner.tcp.dial(address, &self.inner.server_name, tasks).await
    }

    /// Of which networks it is known that they let no UDP through.
    pub(crate) fn networks(&self) -> &Networks {
        &self.inner.networks
    }

    pub(crate) fn background_keep_alive(&self) -> Option<Duration> {
        self.inner.background_keep_alive
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.inner.idle_timeout
    }

    pub(crate) async fn addresses(&self) -> Result<Vec<SocketAddr>, ClientError> {
        match &self.inner.server {
            Server::Addresses(addresses) => Ok(addresses.clone()),
            Server::Name(name) => {
                let resolve = |why: String| ClientError::Resolve { server: name.clone(), why };
                let found: Vec<_> = tokio::net::lookup_host(name)
                    .await
                    .map_err(|error| resolve(error.to_string()))?
                    .take(ADDRESSES_MAX)
                    .collect();
                if found.is_empty() {
                    return Err(resolve("no address".to_owned()));
                }
                Ok(found)
            }
        }
    }
}

fn with_token(
    (identity, token): (Identity, Option<Token>),
) -> Result<(Identity, Token), ClientError> {
    let missing = || ClientError::Protocol("a log-in without a token".to_owned());
    Ok((identity, token.ok_or_else(missing)?))
}

/// Addresses of one name that are tried, at the most.
const ADDRESSES_MAX: usize = 16;

/// Bytes of datagrams (who is typing, copies) that wait to be read or sent; older ones are dropped.
const DATAGRAM_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a client's connection ids, which every packet to it carries: enough to tell some
/// ten thousand connections of a shared endpoint apart.
const CONNECTION_ID_BYTES: usize = 4;

/// QUIC's settings for an endpoint of clients; also for one that many clients share
/// ([`DialerOptions::endpoint`]).
pub fn endpoint_config() -> quinn::EndpointConfig {
    let mut config = quinn::EndpointConfig::default();
    config.cid_generator(|| Box::new(RandomConnectionIdGenerator::new(CONNECTION_ID_BYTES)));
    config
}

pub(crate) fn open_endpoint(address: SocketAddr) -> std::io::Result<quinn::Endpoint> {
    let socket = std::net::UdpSocket::bind(address)?;
    quinn::Endpoint::new(endpoint_config(), None, socket, Arc::new(quinn::TokioRuntime))
}

/// Any local address and port.
pub(crate) fn any_port(ipv6: bool) -> SocketAddr {
    if ipv6 { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() }
}

fn transport_config(settings: &Transport) -> Result<TransportConfig, ClientError> {
    let idle = IdleTimeout::try_from(settings.idle_timeout)
        .map_err(|_| ClientError::Invalid("idle_timeout is too long".to_owned()))?;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(settings.server_streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(settings.stream_receive_window))
        .receive_window(VarInt::from_u32(settings.receive_window))
        .send_window(settings.send_window)
        .send_fairness(false)
        // The client's own takes its place: this one cannot be changed later.
        .keep_alive_interval(None)
        .max_idle_timeout(Some(idle))
        .initial_rtt(settings.initial_rtt)
        .congestion_controller_factory(Arc::new(WitnessConfig::new(
            petrel_transport::congestion_control(),
        )))
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false)
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES_MAX))
        .datagram_send_buffer_size(DATAGRAM_BYTES_MAX)
        .allow_spin(false);
    if let Some(delay) = settings.ack_delay_max {
        let mut frequency = AckFrequencyConfig::default();
        frequency.max_ack_delay(Some(delay));
        config.ack_frequency_config(Some(frequency));
    }
    Ok(config)
}
