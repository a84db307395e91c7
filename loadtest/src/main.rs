//! The binary; everything is in the library, so that tests reach it.

use std::process::ExitCode;

use clap::Parser;
use petrel_loadtest::options::Options;

fn main() -> ExitCode {
    ExitCode::from(petrel_loadtest::main(&Options::parse()))
}
