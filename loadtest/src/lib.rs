//! Petrel's load and latency harness.
//!
//! The server is always another process. Arrivals are open-loop: when each
//! message is meant to be sent is fixed by a seeded schedule, and its latency
//! counts from then. Everything that was sent is accounted for at the end, also
//! against the history that a fresh connection reads.
//!
//! A message's way: `arrival` says when, `traffic` sends it through an
//! `Outbound` (`scenario::chat`: the client SDK; `relay::client`: bare frames), the
//! answers go into the `ledger`, `verdict` judges, `report` tells.

pub mod admin;
pub mod arrival;
pub mod battery;
pub mod body;
pub mod carrier;
pub mod compare;
pub mod dial;
pub mod environment;
pub mod goal;
pub mod group;
pub mod hostile;
pub mod html;
pub mod latency;
pub mod layout;
pub mod ledger;
pub mod link;
pub mod options;
pub mod process;
pub mod progress;
pub mod relay;
pub mod report;
pub mod scenario;
pub mod search;
pub mod server;
pub mod sweep;
pub mod traffic;
pub mod verdict;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::options::{Options, Scenario};
use crate::progress::Progress;
use crate::report::{Report, exit};

/// Set in the environment of a process that is on its CPUs already.
pub const PINNED: &str = "PETREL_LOADTEST_PINNED";

/// One line on stdout. A reader that has gone away is no error of the run.
pub fn say(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// One line on stderr.
pub fn complain(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// `petrel-loadtest report`; the exit status.
pub fn show(options: &html::ReportOptions) -> u8 {
    match html::report(options) {
        Ok(()) => exit::OK,
        Err(error) => {
            complain(&format!("petrel-loadtest report: {error:#}"));
            exit::FAILED
        }
    }
}

/// `petrel-loadtest sweep`; the exit status.
pub fn sweep(options: &sweep::SweepOptions) -> u8 {
    match sweep::run(options) {
        Ok(status) => status,
        Err(error) => {
            complain(&format!("petrel-loadtest sweep: {error:#}"));
            exit::FAILED
        }
    }
}

/// `petrel-loadtest link`; the exit status, if it cannot run.
pub fn emulate(options: &link::LinkOptions) -> u8 {
    match link::run(options) {
        Ok(()) => exit::OK,
        Err(error) => {
            complain(&format!("petrel-loadtest link: {error:#}"));
            exit::FAILED
        }
    }
}

/// Runs what the options ask for; the exit status.
pub fn main(options: &Options) -> u8 {
    if let Err(problem) = options.validate() {
        let mut command = Options::command();
        drop(command.error(ErrorKind::ValueValidation, problem).print());
        return exit::ARGUMENTS;
    }
    // Before any thread is there: threads inherit both.
    arrival::tighten_timers();
    if let Some(error) = pin(options) {
        complain(&format!("--client-cpus: {error}"));
        return exit::FAILED;
    }
    let progress = Progress::default();
    let report = run(options, &progress);
    progress.end();
    match report.and_then(|report| report.map_or(Ok(exit::OK), |report| conclude(options, &report)))
    {
        Ok(status) => status,
        Err(error) => {
            complain(&format!("petrel-loadtest: {error:#}"));
            exit::FAILED
        }
    }
}

fn run(options: &Options, progress: &Progress) -> anyhow::Result<Option<Report>> {
    if options.scenario == Scenario::CompareRelay {
        return compare::run(options, progress).map(Some);
    }
    let mut builder = match (options.scenario, options.client_threads) {
        // As the gateway: one worker per core.
        (Scenario::RelayServer, _) => tokio::runtime::Builder::new_multi_thread(),
        (_, 1) => tokio::runtime::Builder::new_current_thread(),
        (_, threads) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let runtime = builder.enable_all().build()?;
    let scenario = async {
        match options.scenario {
            Scenario::OneToOne => Box::pin(scenario::one_to_one::run(options, progress)).await,
            Scenario::Connect => Box::pin(scenario::connect::run(options, progress)).await,
            Scenario::Idle => Box::pin(scenario::idle::run(options, progress)).await,
            Scenario::Group => Box::pin(scenario::group::run(options, progress)).await,
            Scenario::Resume => Box::pin(scenario::resume::run(options, progress)).await,
            Scenario::Blackout => Box::pin(scenario::blackout::run(options, progress)).await,
            Scenario::Login => Box::pin(scenario::login::run(options, progress)).await,
            Scenario::Start => Box::pin(scenario::start::run(options, progress)).await,
            Scenario::Hostile => Box::pin(scenario::hostile::run(options, progress)).await,
            Scenario::Battery => Box::pin(scenario::battery::run(options, progress)).await,
            Scenario::Relay => Box::pin(scenario::relay::run(options, progress)).await,
            Scenario::RelayServer | Scenario::CompareRelay => {
                Box::pin(relay::server::run(options.fault)).await?;
                return Ok(None);
            }
        }
        .map(Some)
    };
    let report = runtime.block_on(scenario);
    // What is left are tasks of connections that were closed.
    runtime.shutdown_background();
    report
}

fn conclude(options: &Options, report: &Report) -> anyhow::Result<u8> {
    if let Some(path) = &options.json {
        report.write(path)?;
    }
    if let Some(path) = &options.html {
        html::write(path, &[html::Run::of(report)?])?;
    }
    say(&report.summary());
    let (status, missed) = report.conclude(&options.goals)?;
    for line in missed {
        complain(&line);
    }
    Ok(status)
}

/// Starts this program anew under `taskset`, which needs no `unsafe` here.
/// Returns only if it need not, or with the reason why it could not.
fn pin(options: &Options) -> Option<std::io::Error> {
    let list = options.client_cpus.as_ref()?;
    if std::env::var_os(PINNED).is_some() {
        return None;
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Some(error),
    };
    let mut command = Command::new("taskset");
    command.args(["-c", list]).arg(program).args(std::env::args_os().skip(1)).env(PINNED, "1");
    Some(command.exec())
}
