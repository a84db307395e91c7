//! `petrel-loadtest sweep`: the same chat over many links and in several ways, each run a process of its
//! own, as if called by hand; then all of them in one report.

mod plan;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::environment;
use crate::latency::Quantiles;
use crate::progress::Progress;
use crate::report::{SCHEMA, exit};

pub use plan::{Cell, Loss, Way};

/// What is run.
#[derive(Clone, Debug, Parser, Serialize)]
#[command(name = "petrel-loadtest sweep", about, max_term_width = 100)]
pub struct SweepOptions {
    /// Losses, each packet by itself in percent, or burst (docs/links.md).
    #[arg(long, value_delimiter = ',', default_value = "0,1,5,10,burst", value_name = "LIST")]
    pub losses: Vec<Loss>,
    /// Delays, one way, in milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "10,25,100", value_name = "LIST",
          value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub delays: Vec<u32>,
    /// Ways of carrying the chat: echo, no-echo, tcp (takes the right to make a network device), streams
    /// and one-stream (both the bare relay).
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "echo,no-echo,tcp,streams,one-stream",
        value_name = "LIST"
    )]
    pub series: Vec<Way>,
    /// How many users.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub users: usize,
    /// Conversations of each user.
    #[arg(long, default_value_t = 8, value_name = "K")]
    pub conversations: usize,
    /// Messages a second, all users together.
    #[arg(long, default_value_t = 40.0, value_name = "MSGS_PER_S")]
    pub rate: f64,
    /// Seconds that are measured of each run.
    #[arg(long, default_value_t = 60.0, value_name = "S")]
    pub seconds: f64,
    /// Seed of arrivals, texts and links.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Further options of every run, as in '--more=--bodies=FILE'; may be given several times.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub more: Vec<String>,
    /// Keeps each run's report there, and takes those of the same program and options that are there
    /// already: a sweep that was broken off goes on.
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// Writes the report there.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes the report for browsers there.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// [`SCHEMA`].
    pub schema: u32,
    /// "sweep".
    pub scenario: &'static str,
    /// Whether every run is.
    pub valid: bool,
    /// One for each link and way.
    pub runs: Vec<Outcome>,
    /// Where and how it ran.
    pub environment: Value,
}

/// What one run found.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its link and way.
    #[serde(flatten)]
    pub cell: Cell,
    /// The parts of its report that are compared.
    #[serde(flatten)]
    pub found: Found,
    /// Packets that entered the links, both directions, for each message (warm-up included).
    pub packets_per_message: Option<f64>,
}

/// The parts of a run's report that are compared.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Whether its figures may be believed, and its verdict is clean.
    pub valid: bool,
    /// Why not.
    pub invalid_because: Vec<String>,
    /// Messages without an answer or a delivery.
    pub lost: u64,
    /// Entries that came twice.
    pub duplicated: u64,
    /// Entries out of order.
    pub reordered: u64,
    /// Places that were not seen.
    pub gaps: u64,
    /// Bodies that are not those that were sent.
    pub altered: u64,
    /// Intended send to entry at the other member.
    pub delivery_ms: Quantiles,
    /// Intended send to ack.
    pub ack_ms: Quantiles,
    /// Intended to actual send.
    pub slip_ms: Quantiles,
    /// Messages that were meant to be sent while the clock ran.
    pub messages: u64,
    /// UDP payload on both links, per message.
    pub wire_bytes_per_message: Option<f64>,
}

/// Runs all of it; the exit status.
///
/// # Errors
/// When a run has no report, or one cannot be written.
pub fn run(options: &SweepOptions) -> anyhow::Result<u8> {
    let kept = match &options.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("--directory {}", directory.display()))?;
            directory.clone()
        }
        None => PathBuf::new(),
    };
    let temporary = tempfile::tempdir()?;
    let kept = if options.directory.is_some() { kept } else { temporary.path().to_owned() };
    let cells = plan::cells(options);
    let progress = Progress::default();
    progress.steps("sweeping", cells.len());
    let mut runs = Vec::with_capacity(cells.len());
    for cell in cells {
        let report = one_run(options, cell, &kept)?;
        let outcome = Outcome::of(cell, &report).with_context(|| cell.name())?;
        crate::say(&outcome.line());
        runs.push(outcome);
        progress.step();
    }
    progress.end();
    let sweep = Sweep {
        schema: SCHEMA,
        scenario: "sweep",
        valid: runs.iter().all(|run| run.found.valid),
        runs,
        environment: environment::of_sweep(options),
    };
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&sweep)?;
        std::fs::write(path, text + "\n").with_context(|| format!("--json {}", path.display()))?;
    }
    if let Some(path) = &options.html {
        let page = crate::html::sweep(&sweep);
        std::fs::write(path, page).with_context(|| format!("--html {}", path.display()))?;
    }
    Ok(if sweep.valid { exit::OK } else { exit::INVALID })
}

/// A run's report as it is kept, with what it is the report of.
#[derive(Serialize, Deserialize)]
struct Kept {
    program: String,
    arguments: Vec<String>,
    report: Value,
}

/// The report of one run: the one that is kept, if it is of the same program and options.
fn one_run(options: &SweepOptions, cell: Cell, kept: &Path) -> anyhow::Result<Value> {
    let file = kept.join(cell.name() + ".json");
    let program = environment::commit();
    let arguments = plan::arguments(options, cell);
    if let Ok(text) = std::fs::read_to_string(&file)
        && let Ok(before) = serde_json::from_str::<Kept>(&text)
        && before.program == program
        && before.arguments == arguments
    {
        return Ok(before.report);
    }
    let json = kept.join("run.json");
    let mut command = Command::new(std::env::current_exe()?);
    let out = command.args(&arguments).arg("--json").arg(&json).output()?;
    let status = out.status.code().and_then(|code| u8::try_from(code).ok());
    if !matches!(status, Some(exit::OK | exit::INVALID)) {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{}: {}: {}", cell.name(), out.status, said.trim());
    }
    let report =
        serde_json::from_str(&std::fs::read_to_string(&json)?).context("a run's report")?;
    std::fs::remove_file(&json)?;
    let done = Kept { program, arguments, report };
    std::fs::write(&file, serde_json::to_string(&done)?)
        .with_context(|| file.display().to_string())?;
    Ok(done.report)
}

impl Outcome {
    fn of(cell: Cell, report: &Value) -> anyhow::Result<Self> {
        let found = Found::deserialize(report).context("a run's report")?;
        let packets = |direction: &str| report["link"][direction]["packets"].as_f64();
        let packets = packets("up").zip(packets("down")).map(|(up, down)| up + down);
        let all = report["delivery_ms"]["count"].as_f64().filter(|count| *count > 0.0);
        let packets_per_message = packets
            .zip(all)
            .map(|(packets, messages)| crate::traffic::rounded(packets / messages, 10.0));
        Ok(Self { cell, found, packets_per_message })
    }

    /// One line for people.
    fn line(&self) -> String {
        let (d, cell) = (&self.found.delivery_ms, &self.cell);
        format!(
            "{}: {}, delivery p50 {:.2} p99 {:.2} p99.9 {:.2} ms",
            cell.name(),
            if self.found.valid { "valid" } else { "INVALID" },
            d.p50,
            d.p99,
            d.p999
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use serde_json::json;

    fn outcome(loss: Loss, delay_ms: u32, series: Way, p99: f64, lost: u64) -> Outcome {
        let report = json!({
            "valid": lost == 0, "lost": lost, "messages": 100,
            "delivery_ms": {"count": 100, "p50": 51.0, "p90": 52.0, "p99": p99, "p999": p99, "max": p99},
            "link": {"up": {"packets": 500}, "down": {"packets": 700}},
        });
        Outcome::of(Cell { loss, delay_ms, series }, &report).unwrap()
    }

    #[test]
    fn a_page_has_a_row_for_each_run_and_names_what_is_not_valid() {
        let runs = vec![
            outcome(Loss::Percent(5.0), 25, Way::Echo, 60.0, 0),
            outcome(Loss::Percent(5.0), 25, Way::OneStream, 200.0, 3),
            outcome(Loss::Burst, 25, Way::Tcp, 300.0, 0),
        ];
        assert_eq!(runs[0].packets_per_message, Some(12.0));
        let sweep = Sweep {
            schema: SCHEMA,
            scenario: "sweep",
            valid: false,
            runs,
            environment: json!({"seed": 1}),
        };
        let page = crate::html::sweep(&sweep);
        for part in ["5 %", "burst", "not valid", "gateway, TCP", "200"] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg xmlns").count(), 6, "three by loss, three for bursts");
        let json = serde_json::to_value(&sweep).unwrap();
        assert_eq!(json["runs"][1]["series"], "one-stream");
        assert_eq!(json["runs"][1]["lost"], 3);
    }

    #[test]
    fn a_run_is_a_call_as_by_hand() {
        let words = "sweep --losses 1,burst --delays 25 --series no-echo,one-stream,tcp --seconds 5 \
                     --more=--bodies=x";
        let options = SweepOptions::try_parse_from(words.split_ascii_whitespace()).unwrap();
        let cells = plan::cells(&options);
        assert_eq!(cells.len(), 6);
        let lines: Vec<String> =
            cells.iter().map(|cell| plan::arguments(&options, *cell).join(" ")).collect();
        let common = "--users 20 --conversations 8 --rate 40 --seconds 5 --seed 1 --bodies=x";
        assert_eq!(lines[0], format!("one-to-one --link delay=25ms,loss=1% {common} --no-echo"));
        assert_eq!(
            lines[2],
            format!("one-to-one --link delay=25ms,loss=1% {common} --transport tcp")
        );
        assert_eq!(
            lines[4],
            format!("relay --link delay=25ms,burst=150ms/3%/95% {common} --one-stream")
        );
        assert!(SweepOptions::try_parse_from(["sweep", "--losses", "101"]).is_err());
        assert!(SweepOptions::try_parse_from(["sweep", "--series", "carrier-pigeon"]).is_err());
    }
}
