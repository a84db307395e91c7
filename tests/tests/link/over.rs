//! People whose packets cross a link.

use std::net::Ipv4Addr;

use anyhow::Result;
use petrel_client::{ClientOptions, Dialer, Server};
use petrel_loadtest::link::{Link, Profile};
use petrel_tests::cluster::{Gateway, Person, Stage};

/// An emulated network in front of a gateway.
pub fn link(gateway: &Gateway, profile: &str) -> Result<Link> {
    let profile = Profile::parse(profile).map_err(anyhow::Error::msg)?;
    Link::start(&profile, (Ipv4Addr::LOCALHOST, 0).into(), gateway.quic, 7)
}

/// A new person who reaches the gateway over a link.
pub async fn person(stage: &Stage, gateway: &Gateway, link: &Link, name: &str) -> Result<Person> {
    let identity = gateway.dialer()?.register(name, "test").await?;
    let mut options = gateway.dialer_options()?;
    options.server = Server::Addresses(vec![link.address()]);
    stage.device_with(ClientOptions::new(Dialer::new(options)?, identity)).await
}
