//! The gateway beside the bare relay: the same load, interleaved runs, the ratio
//! of CPU per message. Each run is a process of its own, as if called by hand.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;

use crate::environment;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Report, exit};

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ratio {
    /// Median of the rounds' ratios.
    pub median: f64,
    /// Each round's.
    pub rounds: Vec<f64>,
    /// Median CPU seconds per 100,000 messages of the gateway.
    pub gateway_cpu_s_per_100k: f64,
    /// The same of the relay.
    pub relay_cpu_s_per_100k: f64,
    /// Median of a local PostgreSQL, beside.
    pub postgres_cpu_s_per_100k: Option<f64>,
    /// The runs' own reports, gateway and relay in turn.
    pub runs: Vec<Value>,
}

/// Options that concern the whole comparison and not one run.
const OWN_OPTIONS: [&str; 4] = ["--json", "--html", "--goal", "--rounds"];

/// Runs it.
///
/// # Errors
/// When a run has no report or no CPU figure.
pub fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, None);
    report.connections = options.users();
    let directory = tempfile::tempdir()?;
    let mut ratio = Ratio::default();
    let (mut gateway, mut relay, mut postgres) = (Vec::new(), Vec::new(), Vec::new());
    progress.steps("comparing", options.rounds * 2);
    for round in 0..options.rounds {
        let seed = options.seed + round as u64;
        let chat = one_run("one-to-one", seed, directory.path())?;
        progress.step();
        let bare = one_run("relay", seed, directory.path())?;
        progress.step();
        for (name, run) in [("one-to-one", &chat), ("relay", &bare)] {
            if run["valid"] != Value::Bool(true) {
                let because = &run["invalid_because"];
                let reason = format!("{name}, round {}: {because}", round + 1);
                report.invalid_because.push(reason);
            }
        }
        let (own, other) = (cpu(&chat)?, cpu(&bare)?);
        gateway.push(own);
        relay.push(other);
        ratio.rounds.push(crate::traffic::rounded(own / other, 1e3));
        postgres.extend(chat["server"]["postgres_cpu_s_per_100k"].as_f64());
        report.offered_per_s = chat["offered_per_s"].as_f64().unwrap_or_default();
        report.achieved_per_s = chat["achieved_per_s"].as_f64().unwrap_or_default();
        ratio.runs.extend([chat, bare]);
    }
    ratio.median = median(&ratio.rounds);
    ratio.gateway_cpu_s_per_100k = median(&gateway);
    ratio.relay_cpu_s_per_100k = median(&relay);
    ratio.postgres_cpu_s_per_100k = (!postgres.is_empty()).then(|| median(&postgres));
    report.server.cpu_s_per_100k = Some(ratio.gateway_cpu_s_per_100k);
    report.ratio = Some(ratio);
    report.judge();
    Ok(report)
}

/// One run with this call's own options, its report read back.
fn one_run(scenario: &str, seed: u64, directory: &Path) -> anyhow::Result<Value> {
    let json = directory.join("report.json");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments(std::env::args().skip(1), scenario));
    command.arg(format!("--seed={seed}")).arg("--json").arg(&json);
    let out = command.output()?;
    let status = out.status.code().and_then(|code| u8::try_from(code).ok());
    if !matches!(status, Some(exit::OK | exit::INVALID)) {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{scenario}: {}: {}", out.status, said.trim());
    }
    let text = std::fs::read_to_string(&json).context("a run's report")?;
    serde_json::from_str(&text).context("a run's report")
}

/// This call's arguments for one run: another scenario, without the options
/// that concern the whole, and without those of a gateway for the relay.
fn arguments(own: impl Iterator<Item = String>, scenario: &str) -> Vec<String> {
    let gateway_only = [
        "--server",
        "--server-name",
        "--ca",
        "--fingerprint",
        "--server-pid",
        "--admin",
        "--storage",
        "--preview-after",
        "--set",
    ];
    let mut kept = Vec::new();
    let mut own = own.peekable();
    while let Some(argument) = own.next() {
        let name = argument.split('=').next().unwrap_or_default();
        let drops = OWN_OPTIONS.contains(&name)
            || name == "--seed"
            || (scenario == "relay" && gateway_only.contains(&name));
        if drops {
            if !argument.contains('=') {
                own.next();
            }
        } else if argument == "compare-relay" {
            kept.push(scenario.to_owned());
        } else {
            kept.push(argument);
        }
    }
    kept
}

fn cpu(run: &Value) -> anyhow::Result<f64> {
    run["server"]["cpu_s_per_100k"]
        .as_f64()
        .filter(|cpu| *cpu > 0.0)
        .context("a run without the server's CPU time (is --server-pid missing?)")
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_gets_the_options_that_concern_it() {
        let own = "compare-relay --rate 500 --json x.json --goal=ratio.median<=2 --storage sqlite:x \
                   --seed 4 --rounds 5 --users=10";
        let words = || own.split_ascii_whitespace().map(str::to_owned);
        assert_eq!(
            arguments(words(), "one-to-one").join(" "),
            "one-to-one --rate 500 --storage sqlite:x --users=10"
        );
        assert_eq!(arguments(words(), "relay").join(" "), "relay --rate 500 --users=10");
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
