//! `petrel chat`.
use anyhow::Result;
use clap::Args;
use petrel_gateway::config::Config;
#[derive(Debug, Args)]
pub(super) struct Options {}
pub(super) fn run(_options: &Options, _config: &Config) -> Result<()> {
    Ok(())
}
