//! `petrel health`: asks the gateway of this machine whether it is ready, for a container's
//! health check or a start script. Needs no other program.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use petrel_gateway::config::Config;

/// Connecting, writing and each read may take this long.
const PATIENCE: Duration = Duration::from_secs(3);
/// An answer is read up to this.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Asks only whether the process answers, not whether it can store messages.
    #[arg(long)]
    live: bool,
}

pub(super) fn run(options: &Options, config: &Config) -> Result<()> {
    let at = config.admin.listen;
    let path = if options.live { "/livez" } else { "/readyz" };
    let (status, body) = get(at, path).with_context(|| format!("no answer from {at}"))?;
    writeln!(std::io::stdout(), "{}", body.trim_end()).context("cannot write the answer")?;
    if status != 200 {
        bail!("{at}{path} says {status}: not ready");
    }
    Ok(())
}

fn get(at: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).context("the answer has no status")?;
    Ok((status.parse().context("the answer's status is no number")?, body.to_owned()))
}
