//! One QUIC connection: who may come in, sign-in within the time allowed,
//! streams accepted until the end.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join;
use parking_lot::Mutex;
use petrel_core::rate::{Bucket, Rate};
use petrel_proto::code::Code;
use petrel_transport::{Connection, Kind, RecvStream, SendStream};
use quinn::{Connecting, Incoming};
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, SetOnce};
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Config;
use crate::gateway::Gateway;
use crate::session::Session;
use crate::{clock, datagram, metrics, stream};

/// Streams that a connection may have open before sign-in.
pub(crate) const STREAMS_BEFORE_SIGN_IN: u32 = 16;
/// Streams that a signed-in client may have open while it has opened few of them. quinn keeps a
/// slot for each stream that is allowed, in tables that double: with 28, and what the server opens
/// left out, they are as small as with 16; with 29 they are twice as large.
const STREAMS_WHILE_FEW: u32 = 28;
/// KiB of incomplete frames (those above 1 KiB) that are held at once for one connection.
const LARGE_FRAMES_KIB: usize = 160;
/// Source addresses whose rates are remembered, at the most.
const SOURCES_MAX: usize = 65_536;
/// User names whose rates of passwords are remembered, at the most.
const NAMES_MAX: usize = 65_536;

/// What the tasks of one connection share.
#[derive(Debug)]
pub(crate) struct Context {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The connection.
    pub connection: Connection,
    /// Set by the control stream at sign-in; streams that came early wait for it.
    pub session: SetOnce<Arc<Session>>,
    /// Room for large frames of which a part has come, in KiB.
    pub large_frames: Arc<Semaphore>,
}

impl Context {
    /// Streams of the client that are being read: the task of each holds this context.
    fn streams_open(self: &Arc<Self>) -> usize {
        Arc::strong_count(self) - 1
    }

    /// The session, once there is one; `None` if the connection ends before.
    pub(crate) async fn signed_in(&self) -> Option<&Arc<Session>> {
        tokio::select! {
            session = self.session.wait() => Some(session),
            _ = self.connection.closed() => None,
        }
    }
}

/// Closes a connection when a task of it panics, so that the client starts anew instead of
/// waiting for what does not come; nobody else notices. Each task of a connection holds one.
#[derive(Debug)]
pub(crate) struct Fuse(Connection);

impl Fuse {
    /// Of the connection that the task belongs to.
    pub(crate) fn of(connection: &Connection) -> Self {
        Self(connection.clone())
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let code = Code::Internal;
            self.0.close(code.number(), code.label().as_bytes());
        }
    }
}

/// Limits that hold before anybody has signed in.
#[derive(Debug)]
pub(crate) struct Doors {
    connections: AtomicUsize,
    /// Those of them that TCP carries.
    on_tcp: AtomicUsize,
    connections_max: usize,
    connects: Rate,
    registrations: Rate,
    logins: Rate,
    passwords: Rate,
    passwords_of_name: Rate,
    sources: Mutex<FxHashMap<IpAddr, Source>>,
    names: Mutex<FxHashMap<String, Bucket>>,
}

#[derive(Debug, Default)]
struct Source {
    connects: Bucket,
    registrations: Bucket,
    logins: Bucket,
    passwords: Bucket,
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place(Arc<Gateway>, Kind);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.doors.connections.fetch_sub(1, Ordering::Relaxed);
        if self.1 == Kind::Tcp {
            self.0.doors.on_tcp.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Doors {
    /// As the settings say.
    pub(crate) fn new(config: &Config) -> Self {
        let (g, a) = (&config.gateway, &config.auth);
        Self {
            connections: AtomicUsize::new(0),
            on_tcp: AtomicUsize::new(0),
            connections_max: g.connections_max.to_usize(),
            connects: Rate::new(g.connects_per_s.to_u32(), g.connects_burst.to_u32()),
            registrations: Rate::new(
                a.registrations_per_s.to_u32(),
                a.registrations_burst.to_u32(),
            ),
            logins: Rate::new(a.logins_per_s.to_u32(), a.logins_burst.to_u32()),
            passwords: Rate::new(
                config.password.tries_per_s.to_u32(),
                config.password.tries_burst.to_u32(),
            ),
            passwords_of_name: Rate::one_in(
                config.password.name_interval.0,
                config.password.name_burst.to_u32(),
            ),
            names: Mutex::default(),
            sources: Mutex::default(),
        }
    }

    /// Connections that live.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Those of them that TCP carries.
    pub(crate) fn connections_on_tcp(&self) -> usize {
        self.on_tcp.load(Ordering::Relaxed)
    }

    /// Takes one new connection from its source's rate; milliseconds to wait if there is none.
    fn take_connect(&self, source: IpAddr) -> Result<(), u64> {
        self.take(source, |s| s.connects.take(self.connects, clock::monotonic_ns()))
    }

    /// Takes one log-in from its source's rate.
    ///
    /// # Errors
    /// Milliseconds until the next is free.
    pub(crate) fn take_login(&self, source: IpAddr) -> Result<(), u64> {
        self.take(source, |s| s.logins.take(self.logins, clock::monotonic_ns()))
    }

    /// Takes one registration from its source's rate.
    ///
    /// # Errors
    /// Milliseconds until the next is free.
    pub(crate) fn take_registration(&self, source: IpAddr) -> Result<(), u64> {
        self.take(source, |s| s.registrations.take(self.registrations, clock::monotonic_ns()))
    }

    /// Takes one try of a password from its source's rate and from its user name's.
    ///
    /// # Errors
    /// Milliseconds until the next is free.
    pub(crate) fn take_password(&self, source: Option<IpAddr>, name: &str) -> Result<(), u64> {
        let now_ns = clock::monotonic_ns();
        if let Some(source) = source {
            self.take(source, |s| s.passwords.take(self.passwords, now_ns))?;
        }
        let mut names = self.names.lock();
        if names.len() >= NAMES_MAX && !names.contains_key(name) {
            // As with sources: costs everybody a burst at the most.
            names.clear();
        }
        let bucket = names.entry(name.to_owned()).or_default();
        bucket.take(self.passwords_of_name, now_ns).map_err(|ns| ns.div_ceil(1_000_000))
    }

    fn take(
        &self,
        source: IpAddr,
        take: impl FnOnce(&mut Source) -> Result<(), u64>,
    ) -> Result<(), u64> {
        let mut sources = self.sources.lock();
        if sources.len() >= SOURCES_MAX {
            // Whoever floods from ever new addresses costs everybody their
            // history, which is a full burst at the most.
            sources.clear();
        }
        take(sources.entry(network_of(source)).or_default()).map_err(|ns| ns.div_ceil(1_000_000))
    }

    fn place(gateway: &Arc<Gateway>, kind: Kind) -> Option<Place> {
        let doors = &gateway.doors;
        if doors.connections.fetch_add(1, Ordering::Relaxed) >= doors.connections_max {
            doors.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        if kind == Kind::Tcp {
            doors.on_tcp.fetch_add(1, Ordering::Relaxed);
        }
        Some(Place(Arc::clone(gateway), kind))
    }
}

/// The network that counts as one source: an IPv4 address, an IPv6 /56.
fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 72)).into(),
    }
}

/// Lets a connection attempt in or turns it away, before any cryptography is done for it. The first
/// and dearest part of the handshake is done here and now, by the one task that accepts, and not by
/// as many tasks as there are attempts: in a storm of them all others wait for one at the most.
pub(crate) fn admit(gateway: &Arc<Gateway>, incoming: Incoming) {
    let Some(place) = enter(gateway, incoming.remote_address().ip(), Kind::Quic) else {
        return incoming.refuse();
    };
    let began = std::time::Instant::now();
    match incoming.accept() {
        Ok(connecting) => {
            let handshake = shake_hands(Arc::clone(gateway), connecting);
            gateway.tasks.spawn(run(Arc::clone(gateway), handshake, began, Some(place)));
        }
        Err(error) => handshake_failed(Kind::Quic, &error),
    }
}

/// A place for one more connection from there, if its source's rate and the gateway's bound allow it.
pub(crate) fn enter(gateway: &Arc<Gateway>, source: IpAddr, kind: Kind) -> Option<Place> {
    if gateway.doors.take_connect(source).is_err() {
        metrics::connection_refused(kind, "rate");
        return None;
    }
    let place = Doors::place(gateway, kind);
    if place.is_none() {
        metrics::connection_refused(kind, "full");
    }
    place
}

/// A handshake came to nothing.
pub(crate) fn handshake_failed(kind: Kind, error: &dyn std::fmt::Display) {
    metrics::connection_refused(kind, "handshake");
    tracing::debug!(%kind, %error, "a handshake failed");
}

/// QUIC's handshake.
async fn shake_hands(gateway: Arc<Gateway>, connecting: Connecting) -> Option<Connection> {
    let limit = gateway.config.gateway.handshake_timeout.duration();
    match timeout(limit, connecting).await {
        Ok(Ok(connection)) => return Some(connection.into()),
        Ok(Err(error)) => handshake_failed(Kind::Quic, &error),
        Err(_) => metrics::connection_refused(Kind::Quic, "handshake_timeout"),
    }
    None
}

/// Serves a connection from its handshake to its end. Its place is held here, or by who holds the
/// socket.
pub(crate) fn run(
    gateway: Arc<Gateway>,
    handshake: impl Future<Output = Option<Connection>> + Send + 'static,
    began: std::time::Instant,
    place: Option<Place>,
) -> impl Future<Output = ()> + Send {
    // Boxed: an idle connection is not to keep room for its beginning.
    let beginning = Box::pin(begin(gateway, handshake, began));
    async move {
        let _place = place;
        let Some(connected) = beginning.await else { return };
        let Connected { context, began, mut code } = connected;
        let _fuse = Fuse::of(&context.connection);
        if code.is_none() {
            join(accept_streams(&context), datagram::read(&context)).await;
        }
        if let Some(code) = code.take() {
            context.connection.close(code.number(), code.label().as_bytes());
        }
        if let Some(session) = context.session.get() {
            context.gateway.leave(session);
            session.queue().end(Code::Ok);
        }
        let reason = context.connection.close_reason();
        metrics::connection_closed(context.connection.kind(), reason.as_ref());
        tracing::debug!(
            reason = reason.map(|r| r.to_string()),
            seconds = began.elapsed().as_secs(),
            "connection closed"
        );
    }
}

/// A connection after its handshake and sign-in.
struct Connected {
    context: Arc<Context>,
    began: std::time::Instant,
    /// With which code it has to be closed, if nobody signed in.
    code: Option<Code>,
}

/// The handshake, and what comes until somebody has signed in.
async fn begin(
    gateway: Arc<Gateway>,
    handshake: impl Future<Output = Option<Connection>> + Send,
    began: std::time::Instant,
) -> Option<Connected> {
    let settings = &gateway.config.gateway;
    let connection = handshake.await?;
    metrics::connection_accepted(connection.kind());
    metrics::get().handshake.record(began.elapsed());
    let _fuse = Fuse::of(&connection);
    let deadline = Instant::now() + settings.sign_in_timeout.duration();
    let gateway = Arc::clone(&gateway);
    let large_frames = Arc::new(Semaphore::new(LARGE_FRAMES_KIB));
    let session = SetOnce::new();
    let context = Arc::new(Context { gateway, connection, session, large_frames });
    let accepting = async {
        while let Ok((send, recv)) = context.connection.accept_bi().await {
            spawn_stream(&context, send, recv);
        }
    };
    let dropping = datagram::forget(&context.connection);
    let code = tokio::select! {
        _ = context.session.wait() => None,
        // Nothing is left to accept from: the connection is gone.
        _ = join(accepting, dropping) => None,
        () = sleep_until(deadline) => Some(Code::SignInTimeout),
    };
    Some(Connected { context, began, code })
}

/// Accepts the streams of a signed-in client until its connection ends. It is allowed more once it
/// has half of what it may have.
async fn accept_streams(context: &Arc<Context>) {
    let beside = crate::session::REQUESTS_AT_ONCE + 1;
    let all = context.gateway.config.gateway.streams_max.to_u32() + beside;
    let mut allowed = all.min(STREAMS_WHILE_FEW);
    let connection = &context.connection;
    connection.set_streams_max(allowed);
    while let Ok((send, recv)) = connection.accept_bi().await {
        spawn_stream(context, send, recv);
        if allowed < all && context.streams_open() >= allowed as usize / 2 {
            allowed = all;
            connection.set_streams_max(allowed);
        }
    }
}

fn spawn_stream(context: &Arc<Context>, send: SendStream, recv: RecvStream) {
    metrics::get().streams.increment(1);
    context.gateway.tasks.spawn(stream::accepted(Arc::clone(context), send, recv));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        let of = |s: &str| network_of(s.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2ff:3::9"), "2001:db8:1:200::");
    }

    #[test]
    fn passwords_are_bounded_by_user_name_and_by_source() {
        let mut config = Config::default();
        config.password.tries_burst = crate::config::Bounded(3);
        config.password.name_burst = crate::config::Bounded(2);
        let doors = Doors::new(&config);
        let (a, b) = ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        assert!(doors.take_password(a, "alice").is_ok() && doors.take_password(b, "alice").is_ok());
        assert!(doors.take_password(b, "alice").is_err(), "by name");
        assert!(doors.take_password(a, "bob").is_ok() && doors.take_password(a, "carol").is_ok());
        assert!(doors.take_password(a, "dave").is_err(), "by source");
    }

    #[test]
    fn a_source_that_comes_too_often_waits_and_others_do_not() {
        let mut config = Config::default();
        config.gateway.connects_per_s = crate::config::Bounded(1);
        config.gateway.connects_burst = crate::config::Bounded(2);
        let doors = Doors::new(&config);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(doors.take_connect(a).is_ok() && doors.take_connect(a).is_ok());
        assert!(doors.take_connect(a).is_err());
        assert!(doors.take_connect(b).is_ok());
    }
}
