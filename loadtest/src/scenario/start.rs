//! How much later chat starts where no UDP gets through: a client that knows nothing of its network
//! dials, signs in and has its first message stored, over QUIC and, with UDP eaten, over TCP in turn.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use petrel_client::{
    Client, ClientOptions, ConversationId, ConversationRef, Dialer, DialerOptions, Identity,
    Server, TransportKind, kind,
};
use serde::Serialize;

use super::people;
use crate::dial::{TIMEOUT, Target};
use crate::environment;
use crate::latency::{Quantiles, Series};
use crate::link::{Link, Profile, Stretched};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::Report;

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Starts {
    /// Starts of each kind.
    pub starts: u64,
    /// From the dial to the first message's ack, over QUIC.
    pub quic_ms: Quantiles,
    /// The same with UDP eaten, over TCP.
    pub tcp_ms: Quantiles,
    /// The difference of the medians.
    pub later_ms: f64,
    /// The same without two round trips of the link.
    pub later_beyond_two_round_trips_ms: f64,
}

/// Runs it.
///
/// # Errors
/// When there can be no report: no server, a start that fails, or one over the wrong transport.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let (server, identities) = people::gather(options, 2, progress).await?;
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, server.admin);
    let profile = match &options.link {
        Some(profile) => profile.clone(),
        None => Profile::parse("clean").map_err(anyhow::Error::msg)?,
    };
    let target = &server.target;
    let link =
        || Link::start(&profile, (Ipv4Addr::LOCALHOST, 0).into(), target.address, options.seed);
    let (open, eaten) = (link()?, link()?);
    eaten.black_out(FOR_EVER);
    let (up, down) = (profile.up.delay, profile.down.delay);
    let stretched = Stretched::start(target.address, up, down).await?;
    let (quic, tcp) = (Series::default(), Series::default());
    let mut starts = Starts::default();
    let until = Instant::now() + Duration::from_secs_f64(options.seconds());
    progress.stage("starts");
    while starts.starts == 0 || Instant::now() < until {
        for (link, carrier, series) in
            [(&open, TransportKind::Quic, &quic), (&eaten, TransportKind::Tcp, &tcp)]
        {
            let port = stretched.address().port();
            let started = start(target, link, port, &identities).await?;
            ensure!(started.1 == Some(carrier), "a start over {:?}, not {carrier}", started.1);
            series.record(u64::try_from(started.0.as_nanos()).unwrap_or(u64::MAX));
        }
        starts.starts += 1;
    }
    (starts.quic_ms, starts.tcp_ms) = (quic.quantiles(), tcp.quantiles());
    starts.later_ms = starts.tcp_ms.p50 - starts.quic_ms.p50;
    let round_trip_ms = (up + down).as_secs_f64() * 1e3;
    starts.later_beyond_two_round_trips_ms = starts.later_ms - 2.0 * round_trip_ms;
    report.starts = Some(starts);
    report.connections = 1;
    drop((open, eaten, stretched));
    tokio::task::spawn_blocking(move || server.stop()).await??;
    report.judge();
    Ok(report)
}

/// From the dial to the first ack, and what carried it.
async fn start(
    target: &Target,
    link: &Link,
    tcp_port: u16,
    identities: &[Identity],
) -> anyhow::Result<(Duration, Option<TransportKind>)> {
    let place = Server::Addresses(vec![link.address()]);
    let mut options = DialerOptions::new(place, target.server_name.clone(), target.trust.clone());
    options.tcp_port = Some(tcp_port);
    // A dialer of its own: it remembers no network and no TLS session.
    let dialer = Dialer::new(options)?;
    let [me, peer] = identities else { anyhow::bail!("two people are needed") };
    let began = Instant::now();
    let (client, events) = Client::start(ClientOptions::new(dialer, me.clone())).await?;
    drop(events);
    let pair =
        ConversationRef { id: ConversationId::of_pair(me.user, peer.user), peer: Some(peer.user) };
    let said = client.send_and_wait(&pair, kind::TEXT, "hello");
    tokio::time::timeout(TIMEOUT, said).await.context("no ack in time")??;
    let took = began.elapsed();
    let carrier = client.transport();
    client.close().await;
    Ok((took, carrier))
}
