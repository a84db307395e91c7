//! `petrel serve`: prints where it listens, and serves until it is told to stop.

use std::io::Write as _;

use anyhow::{Context, Result};
use petrel_gateway::config::Config;
use petrel_gateway::server::Server;
use petrel_gateway::telemetry;
use tokio::signal::unix::{SignalKind, signal};

pub(super) fn run(config: Config) -> Result<()> {
    telemetry::install(&config.log)?;
    let runtime = super::runtime(config.gateway.threads.to_usize())?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
    // A write beyond the limit of a file's size (RLIMIT_FSIZE) is then an error, as on a full
    // disk; unheard, the signal would end the process.
    let _file_size =
        signal(SignalKind::from_raw(libc::SIGXFSZ)).context("cannot listen to signals")?;
    let server = Server::start(config).await?;
    announce(&server).context("cannot write to standard output")?;
    let failed = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = server.failed() => true,
    };
    tracing::info!(failed, "stopping");
    tokio::select! {
        stopped = server.stop() => stopped?,
        _ = terminate.recv() => anyhow::bail!("stopped at once by a second signal"),
        _ = interrupt.recv() => anyhow::bail!("stopped at once by a second signal"),
    }
    if failed {
        anyhow::bail!("a storage writer ended by itself; see the log");
    }
    Ok(())
}

/// The first lines are for programs: one fact each. The rest is for people.
fn announce(server: &Server) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening quic {}", server.quic)?;
    if let Some(at) = server.tcp {
        writeln!(out, "listening tcp {at}")?;
    }
    writeln!(out, "listening admin {}", server.admin)?;
    if let Some(at) = server.metrics {
        writeln!(out, "listening metrics {at}")?;
    }
    writeln!(out, "certificate sha256 {}", server.fingerprint)?;
    if server.is_development {
        let program = std::env::args().next().unwrap_or_else(|| "petrel".to_owned());
        let at = if server.quic.port() == 4433 {
            String::new()
        } else {
            format!(" --server {}", server.quic)
        };
        writeln!(out)?;
        writeln!(out, "Ready to chat. In two more terminals, in this directory:")?;
        writeln!(out, "    {program} chat{at} alice")?;
        writeln!(out, "    {program} chat{at} bob")?;
    }
    writeln!(out)?;
    out.flush()
}
