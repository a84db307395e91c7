//! The same load as `one-to-one`, through the bare relay.

use std::sync::Arc;

use super::one_to_one::{ring, tenth, texts};
use super::{find_max, measure};
use crate::environment;
use crate::ledger::{Clock, Ledger};
use crate::options::Options;
use crate::progress::Progress;
use crate::relay::client::Crowd;
use crate::report::Report;
use crate::server::Server;
use crate::traffic::{Meter, Traffic};

/// Runs it.
///
/// # Errors
/// When the relay cannot be started or joined.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let layout = Arc::new(ring(options)?);
    let plain = texts(options)?;
    let bodies = Arc::new(plain.encoded());
    progress.stage("starting the relay");
    let asked = options.clone();
    let server = tokio::task::spawn_blocking(move || Server::relay(&asked)).await??;
    let meter = Meter::new(&server, None);
    let ledger = Arc::new(Ledger::new(layout.lanes()));
    let clock = Clock::start();
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, None);
    report.connections = layout.users();
    report.body_bytes_per_message = Some(tenth(plain.mean_bytes()));
    report.compressed_body_bytes_per_message = Some(tenth(bodies.mean_bytes()));
    let crowd = Crowd::start(&server.front(), &layout, &ledger, clock, options.one_stream).await?;
    let crowd = Arc::new(crowd);
    let mut traffic =
        Traffic::new(Arc::clone(&ledger), layout, bodies, clock, Arc::clone(&crowd), options.seed);
    traffic.lanes_apart();
    traffic.prime(progress).await?;
    if options.find_max {
        find_max(&mut traffic, &meter, options, progress, &mut report).await?;
    } else {
        let rate = options.rate();
        measure(&mut traffic, &meter, options, rate, progress, &mut report).await?;
    }
    drop(traffic);
    report.verdict = ledger.verdict();
    report.errors = ledger.errors();
    report.findings = ledger.findings();
    report.link = server.link_counts();
    crowd.close();
    tokio::task::spawn_blocking(move || server.stop()).await??;
    report.judge();
    Ok(report)
}
