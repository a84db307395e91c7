//! `petrel cluster`: how the gateways on one database are, and certificates by which they know each
//! other.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use petrel_gateway::admin::find;
use petrel_gateway::authority;

use super::admin::Call;

#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// Lists the gateways, as the one that runs with these settings sees them.
    Status {
        /// Prints the answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes certificates for gateways, and the authority that signs them if there is none yet.
    Certificates(Certificates),
}

#[derive(Debug, Args)]
pub(super) struct Certificates {
    /// Where they are. The authority's key (ca.key) signs further ones; no gateway needs it.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Names of gateways (cluster.name). One whose certificate exists keeps it.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// The command of the admin API that tells.
pub(super) fn status(json: bool) -> Result<Call> {
    let command = find("cluster", "status").context("no such command")?;
    Ok(Call::Ask { command, arguments: serde_json::Map::new(), password: None, json })
}

impl Certificates {
    /// Makes what is missing.
    pub(super) fn make(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        for file in authority::make(&self.dir, &self.names)? {
            writeln!(out, "{}", file.display()).context("cannot write to standard output")?;
        }
        Ok(())
    }
}
