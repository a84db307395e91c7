//! `petrel doctor`: a line for each check; exit status 1 if one failed.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use petrel_gateway::config::{ConfigError, Loaded};
use petrel_gateway::doctor::{Finding, Level, examine};
use serde::Serialize;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    /// The worst of all checks.
    level: Level,
    checks: &'a [Finding],
}

pub(super) fn run(options: &Options, loaded: Result<Loaded, ConfigError>) -> Result<ExitCode> {
    let found = match loaded {
        Ok(loaded) => super::runtime(0)?.block_on(examine(&loaded.config)),
        Err(error) => vec![Finding::fail(
            "configuration",
            error.to_string(),
            "`petrel config default` lists all settings",
        )],
    };
    let level = found.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let text = if options.json {
        serde_json::to_string_pretty(&Report { level, checks: &found })? + "\n"
    } else {
        found.iter().map(line).collect()
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(if level == Level::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn line(finding: &Finding) -> String {
    let Finding { check, level, found, advice } = finding;
    let advice = advice.as_ref().map_or_else(String::new, |a| format!("\n      -> {a}"));
    format!("{:4}  {check}: {found}{advice}\n", level.label())
}
