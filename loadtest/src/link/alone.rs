//! `petrel-loadtest link`: the emulator by itself, for whatever speaks UDP (`petrel chat --server`).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Parser;

use super::{Link, Profile};

/// An emulated bad network in front of a server, until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "petrel-loadtest link", version, about, max_term_width = 100)]
pub struct LinkOptions {
    /// A name (clean, loss-5, burst, train, ...; docs/links.md) and changes, as in 'loss-5,delay=100ms,rebind=5s'.
    #[arg(value_parser = Profile::parse)]
    profile: Profile,
    /// The server behind it.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4433")]
    server: String,
    /// Where clients reach it.
    #[arg(long, value_name = "IP:PORT", default_value_t = (Ipv4Addr::LOCALHOST, 4434).into())]
    listen: SocketAddr,
    /// Seed of all chances.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Seconds between two lines of counts on stderr.
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
}

/// Runs it; does not come back while it works.
///
/// # Errors
/// If a socket cannot be opened.
pub fn run(options: &LinkOptions) -> anyhow::Result<()> {
    let server = crate::dial::resolve(&options.server)?[0];
    let link = Link::start(&options.profile, options.listen, server, options.seed)?;
    crate::say(&format!("listening link {}", link.address()));
    loop {
        std::thread::sleep(Duration::from_secs(options.every));
        crate::complain(&serde_json::to_string(&link.counts())?);
    }
}
