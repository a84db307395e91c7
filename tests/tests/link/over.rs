//! People whose packets cross a link.

use std::net::Ipv4Addr;

use anyhow::Result;
use petrel_client::{ClientOptions, Dialer, DialerOptions, Identity, Server};
use petrel_loadtest::link::{Link, Profile};
use petrel_tests::cluster::{Gateway, Person, Stage};

/// An emulated network in front of a gateway.
pub fn link(gateway: &Gateway, profile: &str) -> Result<Link> {
    let profile = Profile::parse(profile).map_err(anyhow::Error::msg)?;
    Link::start(&profile, (Ipv4Addr::LOCALHOST, 0).into(), gateway.quic, 7)
}

/// A new person who reaches the gateway over a link.
pub async fn person(stage: &Stage, gateway: &Gateway, link: &Link, name: &str) -> Result<Person> {
    person_with(stage, gateway, link, name, |_| {}).await
}

/// The same with other options of the dialer.
pub async fn person_with(
    stage: &Stage,
    gateway: &Gateway,
    link: &Link,
    name: &str,
    change: impl FnOnce(&mut DialerOptions),
) -> Result<Person> {
    stage.device_with(person_options(gateway, link, name, change).await?).await
}

/// What such a person's client is started with.
pub async fn person_options(
    gateway: &Gateway,
    link: &Link,
    name: &str,
    change: impl FnOnce(&mut DialerOptions),
) -> Result<ClientOptions> {
    let identity = gateway.dialer()?.register(name, "test").await?;
    again(gateway, link, identity, change)
}

/// What another session of a device is started with.
pub fn again(
    gateway: &Gateway,
    link: &Link,
    identity: Identity,
    change: impl FnOnce(&mut DialerOptions),
) -> Result<ClientOptions> {
    let mut options = gateway.dialer_options()?;
    options.server = Server::Addresses(vec![link.address()]);
    change(&mut options);
    Ok(ClientOptions::new(Dialer::new(options)?, identity))
}
