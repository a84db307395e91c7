//! One client's way to the server: which address, by which transport, and early or not.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use petrel_transport::{Connection, Kind};
use quinn::ZeroRttAccepted;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::dialer::{Dialer, any_port, open_endpoint};
use crate::error::ClientError;
use crate::fallback::{self, Transports, network_towards};
use crate::race;
use crate::way_back::WayBack;

/// How long closing waits for the last packet.
const LAST_PACKET: Duration = Duration::from_millis(50);
/// How long the server may be silent before what was said early is given up, and fresh dials begin.
const EARLY_PATIENCE: Duration = Duration::from_millis(1_500);

/// The way: its own endpoint, unless the dialer has a shared one.
#[derive(Debug)]
pub(crate) struct Line {
    dialer: Dialer,
    own: Mutex<Option<quinn::Endpoint>>,
    /// How many addresses the server had when it was dialed last.
    addresses: AtomicUsize,
    /// What is tried before the server's own addresses; the last one first.
    preferred: Mutex<Vec<String>>,
    /// Which address the next dial tries.
    turn: AtomicUsize,
    /// Where TCP connections have their tasks.
    tasks: TaskTracker,
    /// Where the last dial went.
    last: Mutex<Option<SocketAddr>>,
    /// A connection that is there already, for the next dial.
    ready: Mutex<Option<Connection>>,
}

/// The end of a handshake that is under way on a connection which is used already.
pub(crate) struct Handshake {
    done: ZeroRttAccepted,
    address: SocketAddr,
}

/// What a dial goes to.
struct Aim {
    address: SocketAddr,
    /// Of the device, on the way there.
    network: Option<IpAddr>,
    /// When TCP is tried too. `None`: never, or alone.
    head_start: Option<Duration>,
}

impl Line {
    pub(crate) fn new(dialer: Dialer, tasks: TaskTracker) -> Self {
        let (own, last, ready) = (Mutex::default(), Mutex::default(), Mutex::default());
        let preferred = Mutex::default();
        let (addresses, turn) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { dialer, own, addresses, preferred, turn, tasks, last, ready }
    }

    /// Dials, and while there is no answer anew, also when `anew` is notified. Each try goes to the
    /// next address.
    pub(crate) async fn connect(&self, anew: &Notify) -> Result<Connection, ClientError> {
        self.connect_with(None, anew).await
    }

    /// The same; but if the server gave what early data takes, and QUIC may work here, the connection is
    /// usable before its handshake is done, whose end comes with it then.
    pub(crate) async fn connect_early(
        &self,
        anew: &Notify,
    ) -> Result<(Connection, Option<Handshake>), ClientError> {
        let mut begun = None;
        if self.dialer.transports() != Transports::Tcp && self.ready.lock().is_none() {
            let aim = self.aim().await?;
            if aim.head_start != Some(Duration::ZERO) {
                match self.begin(aim.address)?.into_0rtt() {
                    Ok((connection, done)) => {
                        // A call for a dial that came before this one is answered by it.
                        pin!(anew.notified()).as_mut().enable();
                        let handshake = Handshake { done, address: aim.address };
                        return Ok((connection.into(), Some(handshake)));
                    }
                    Err(connecting) => begun = Some((aim, connecting)),
                }
            }
        }
        Ok((self.connect_with(begun, anew).await?, None))
    }

    /// Waits for the end of the handshake; whether the server has taken what was said before. `None`: it
    /// does not answer, or TCP has an answer first, or `anew` was notified.
    pub(crate) async fn proven(
        &self,
        handshake: Handshake,
        connection: &Connection,
        anew: &Notify,
    ) -> Result<Option<bool>, ClientError> {
        let Handshake { done, address } = handshake;
        let aim = self.aim_at(address);
        let quic = async {
            let is_accepted = done.await;
            match connection.close_reason() {
                Some(reason) => Err(ClientError::Connection(reason.to_string())),
                None => Ok((connection.clone(), is_accepted)),
            }
        };
        let tcp = async { Ok((self.tcp(address).await?, false)) };
        let answered = async {
            match aim.head_start {
                Some(head_start) => fallback::race(quic, tcp, head_start).await,
                None => quic.await,
            }
        };
        let (answered, is_accepted) = tokio::select! {
            answered = answered => answered?,
            () = tokio::time::sleep(EARLY_PATIENCE) => return Ok(None),
            () = anew.notified() => return Ok(None),
        };
        self.remember(&aim, &answered);
        if answered.kind() == Kind::Tcp {
            self.go_on_with(Some(answered));
            return Ok(None);
        }
        Ok(Some(is_accepted))
    }

    async fn connect_with(
        &self,
        begun: Option<(Aim, quinn::Connecting)>,
        anew: &Notify,
    ) -> Result<Connection, ClientError> {
        let begun = Mutex::new(begun);
        let next = || {
            let begun = begun.lock().take();
            async {
                match begun {
                    Some((aim, connecting)) => self.dial_to(aim, established(connecting)).await,
                    None => self.dial().await,
                }
            }
        };
        let dialed = tokio::time::timeout(self.dialer.dial_timeout(), race::first(next, anew));
        dialed.await.map_err(|_| ClientError::TimedOut).flatten()
    }

    async fn dial(&self) -> Result<Connection, ClientError> {
        let ready = self.ready.lock().take();
        if let Some(ready) = ready {
            return Ok(ready);
        }
        let aim = self.aim().await?;
        if self.dialer.transports() == Transports::Tcp {
            return self.tcp(aim.address).await;
        }
        let quic = established(self.begin(aim.address)?);
        self.dial_to(aim, quic).await
    }

    async fn dial_to(
        &self,
        aim: Aim,
        quic: impl Future<Output = Result<Connection, ClientError>>,
    ) -> Result<Connection, ClientError> {
        let Some(head_start) = aim.head_start else { return quic.await };
        let connection = fallback::race(quic, self.tcp(aim.address), head_start).await?;
        self.remember(&aim, &connection);
        Ok(connection)
    }

    /// Whether there is another address to try.
    pub(crate) fn has_others(&self) -> bool {
        self.addresses.load(Ordering::Relaxed) > 1
    }

    /// The next dials go to these first, `HOST:PORT`, each once.
    pub(crate) fn prefer(&self, names: Vec<String>) {
        if !names.is_empty() {
            *self.preferred.lock() = names.into_iter().rev().collect();
        }
    }

    async fn aim(&self) -> Result<Aim, ClientError> {
        loop {
            // Not held over the look-up.
            let next = self.preferred.lock().pop();
            let Some(name) = next else { break };
            // One that is not found is left out.
            let found = tokio::net::lookup_host(&name).await;
            if let Some(address) = found.ok().and_then(|mut found| found.next()) {
                *self.last.lock() = Some(address);
                return Ok(self.aim_at(address));
            }
        }
        let addresses = self.dialer.addresses().await?;
        self.addresses.store(addresses.len(), Ordering::Relaxed);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = addresses[turn % addresses.len()];
        *self.last.lock() = Some(address);
        Ok(self.aim_at(address))
    }

    fn aim_at(&self, address: SocketAddr) -> Aim {
        let Transports::Race { head_start } = self.dialer.transports() else {
            return Aim { address, network: None, head_start: None };
        };
        let network = network_towards(address);
        let head_start = self.dialer.networks().head_start(network, head_start, Instant::now());
        Aim { address, network, head_start: Some(head_start) }
    }

    /// What the race on this network says of it.
    fn remember(&self, aim: &Aim, answered: &Connection) {
        let networks = self.dialer.networks();
        match answered.kind() {
            Kind::Quic => networks.lets_udp_through(aim.network),
            Kind::Tcp => networks.blocks_udp(aim.network, Instant::now()),
        }
    }

    /// What may be better than this connection: nothing than QUIC, QUIC than TCP if it is not off.
    pub(crate) fn way_back(&self, from: &Connection) -> WayBack {
        if from.kind() == Kind::Quic {
            return WayBack::NotWanted;
        }
        match (self.dialer.transports(), *self.last.lock()) {
            (Transports::Race { .. }, Some(address)) => match self.endpoint(address) {
                Ok(endpoint) => WayBack::to_quic(self.dialer.clone(), endpoint, address),
                Err(_) => WayBack::Redial,
            },
            _ => WayBack::Redial,
        }
    }

    /// The next dial is answered with this connection, if there is one.
    pub(crate) fn go_on_with(&self, connection: Option<Connection>) {
        *self.ready.lock() = connection;
    }

    fn begin(&self, address: SocketAddr) -> Result<quinn::Connecting, ClientError> {
        self.dialer.begin(&self.endpoint(address)?, address)
    }

    async fn tcp(&self, address: SocketAddr) -> Result<Connection, ClientError> {
        self.dialer.tcp(address, &self.tasks).await
    }

    fn endpoint(&self, server: SocketAddr) -> Result<quinn::Endpoint, ClientError> {
        if let Some(shared) = self.dialer.shared_endpoint() {
            return Ok(shared.clone());
        }
        let mut known = self.own.lock();
        if let Some(own) = &*known
            && own.local_addr().is_ok_and(|local| local.is_ipv6() == server.is_ipv6())
        {
            return Ok(own.clone());
        }
        let endpoint = open_endpoint(any_port(server.is_ipv6()))
            .map_err(|error| ClientError::Connection(error.to_string()))?;
        *known = Some(endpoint.clone());
        Ok(endpoint)
    }

    /// The client's own endpoint, once it has dialed.
    pub(crate) fn own_endpoint(&self) -> Option<quinn::Endpoint> {
        self.own.lock().clone()
    }

    /// Gives the connection's last packet a moment to leave an own endpoint: the runtime may
    /// end right after.
    pub(crate) async fn finish(&self) {
        if let Some(own) = self.own_endpoint() {
            drop(tokio::time::timeout(LAST_PACKET, own.wait_idle()).await);
        }
    }
}

/// The end of QUIC's handshake.
pub(crate) async fn established(connecting: quinn::Connecting) -> Result<Connection, ClientError> {
    let connected = connecting.await;
    connected.map(Connection::from).map_err(|error| ClientError::Connection(error.to_string()))
}
