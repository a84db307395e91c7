//! The binary; everything is in the library, so that tests reach it.

use std::process::ExitCode;

use clap::Parser;
use petrel_loadtest::html::ReportOptions;
use petrel_loadtest::link::LinkOptions;
use petrel_loadtest::options::Options;
use petrel_loadtest::sweep::SweepOptions;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "report") {
        let options = ReportOptions::parse_from(std::env::args_os().skip(1));
        return ExitCode::from(petrel_loadtest::show(&options));
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == "link") {
        let options = LinkOptions::parse_from(std::env::args_os().skip(1));
        return ExitCode::from(petrel_loadtest::emulate(&options));
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == "sweep") {
        let options = SweepOptions::parse_from(std::env::args_os().skip(1));
        return ExitCode::from(petrel_loadtest::sweep(&options));
    }
    ExitCode::from(petrel_loadtest::main(&Options::parse()))
}
