//! Who may come in: limits that hold before anybody has signed in, and before any cryptography is
//! done for a newcomer.
//!
//! Handshakes under way are what a flood from forged addresses fills. From `gateway.handshakes_retry`
//! of them on, an address has to prove that it hears us (Retry, RFC 9000 §8.1.2), which costs us no
//! state and an honest client one round trip. From `gateway.handshakes_max` on, nobody is answered:
//! a client's Initial comes again by itself. Half of these places are the most that one source gets.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use petrel_core::rate::{Bucket, Rate};
use petrel_transport::Kind;
use rustc_hash::FxHashMap;

use crate::config::Config;
use crate::gateway::Gateway;
use crate::{clock, metrics};

/// Source addresses whose rates are remembered, at the most.
const SOURCES_MAX: usize = 65_536;
/// User names whose rates of passwords are remembered, at the most.
const NAMES_MAX: usize = 65_536;

/// The limits, and what is used of them.
#[derive(Debug)]
pub(crate) struct Doors {
    connections: AtomicUsize,
    /// Those of them that TCP carries.
    on_tcp: AtomicUsize,
    connections_max: usize,
    handshakes: AtomicUsize,
    handshakes_max: usize,
    handshakes_retry: usize,
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
    handshakes: usize,
    connects: Bucket,
    registrations: Bucket,
    logins: Bucket,
    passwords: Bucket,
}

/// What becomes of a connection attempt that is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TurnedAway {
    /// It is asked to prove its address, and may come again with the proof.
    Retry,
    /// It is told that there is no place.
    Refuse(&'static str),
    /// It gets no answer: nobody may be there, and an answer costs.
    Ignore(&'static str),
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

/// Counts a handshake for as long as it takes.
#[derive(Debug)]
pub(crate) struct Handshake {
    gateway: Arc<Gateway>,
    source: IpAddr,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.gateway.doors.end_handshake(self.source);
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
            handshakes: AtomicUsize::new(0),
            handshakes_max: g.handshakes_max.to_usize(),
            handshakes_retry: g.handshakes_retry.to_usize(),
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

    /// Handshakes under way.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// A place for a connection attempt from this address, which is `validated` if it has proved
    /// that it hears us.
    ///
    /// # Errors
    /// What to do with it instead.
    pub(crate) fn enter(
        gateway: &Arc<Gateway>,
        source: IpAddr,
        validated: bool,
    ) -> Result<(Place, Handshake), TurnedAway> {
        let doors = &gateway.doors;
        let source = network_of(source);
        doors.begin_handshake(source, validated)?;
        let handshake = Handshake { gateway: Arc::clone(gateway), source };
        let place = Self::place(gateway, Kind::Quic).ok_or(TurnedAway::Refuse("full"))?;
        Ok((place, handshake))
    }

    /// The same for a connection by TCP, whose address is proved.
    pub(crate) fn enter_by_tcp(gateway: &Arc<Gateway>, source: IpAddr) -> Option<Place> {
        let doors = &gateway.doors;
        let now_ns = clock::monotonic_ns();
        if doors.take(source, |of| of.connects.take(doors.connects, now_ns)).is_err() {
            metrics::connection_refused(Kind::Tcp, "rate");
            return None;
        }
        let place = Self::place(gateway, Kind::Tcp);
        if place.is_none() {
            metrics::connection_refused(Kind::Tcp, "full");
        }
        place
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

    /// Takes a handshake's place. A source's rate is looked at last, so that who forges its address
    /// in a flood does not use it up.
    fn begin_handshake(&self, source: IpAddr, validated: bool) -> Result<(), TurnedAway> {
        let under_way = self.handshakes();
        if under_way >= self.handshakes_max {
            return Err(TurnedAway::Ignore("saturated"));
        }
        if under_way >= self.handshakes_retry && !validated {
            return Err(TurnedAway::Retry);
        }
        let (now_ns, share) = (clock::monotonic_ns(), self.handshakes_max.div_ceil(2));
        self.of_source(source, |of| {
            if of.handshakes >= share {
                return Err(TurnedAway::Ignore("source"));
            }
            if of.connects.take(self.connects, now_ns).is_err() {
                return Err(TurnedAway::Refuse("rate"));
            }
            of.handshakes += 1;
            Ok(())
        })?;
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn end_handshake(&self, source: IpAddr) {
        self.handshakes.fetch_sub(1, Ordering::Relaxed);
        if let Some(of) = self.sources.lock().get_mut(&source) {
            // Less than it was, if all were forgotten meanwhile.
            of.handshakes = of.handshakes.saturating_sub(1);
        }
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
        self.of_source(network_of(source), take).map_err(|ns| ns.div_ceil(1_000_000))
    }

    fn of_source<T>(&self, source: IpAddr, take: impl FnOnce(&mut Source) -> T) -> T {
        let mut sources = self.sources.lock();
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            // Whoever floods from ever new addresses costs everybody their
            // history, which is a full burst at the most.
            sources.clear();
        }
        take(sources.entry(source).or_default())
    }
}

/// The network that counts as one source: an IPv4 address, an IPv6 /56.
fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 72)).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::config::Bounded;

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
        config.password.tries_burst = Bounded(3);
        config.password.name_burst = Bounded(2);
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
        config.gateway.connects_per_s = Bounded(1);
        config.gateway.connects_burst = Bounded(2);
        let doors = Doors::new(&config);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!((0..2).all(|_| doors.begin_handshake(a, false).is_ok()));
        assert_eq!(doors.begin_handshake(a, true), Err(TurnedAway::Refuse("rate")));
        assert_eq!(doors.begin_handshake(b, false), Ok(()));
    }

    #[test]
    fn while_many_handshakes_are_under_way_an_address_has_to_prove_itself() {
        let mut config = Config::default();
        config.gateway.handshakes_max = Bounded(4);
        config.gateway.handshakes_retry = Bounded(1);
        let doors = Doors::new(&config);
        let [a, b, c] = [1, 2, 3].map(|n| IpAddr::from([192, 0, 2, n]));
        assert_eq!(doors.begin_handshake(a, false), Ok(()));
        assert_eq!(doors.begin_handshake(b, false), Err(TurnedAway::Retry));
        assert_eq!(doors.begin_handshake(a, true), Ok(()));
        assert_eq!(doors.begin_handshake(a, true), Err(TurnedAway::Ignore("source")), "half");
        assert!((0..2).all(|_| doors.begin_handshake(b, true).is_ok()));
        assert_eq!(doors.begin_handshake(c, true), Err(TurnedAway::Ignore("saturated")));
        doors.end_handshake(a);
        assert_eq!(doors.begin_handshake(a, true), Ok(()));
        for source in [a, a, b, b] {
            doors.end_handshake(source);
        }
        assert_eq!(doors.handshakes(), 0);
        assert_eq!(doors.begin_handshake(c, false), Ok(()), "calm again");
    }
}
