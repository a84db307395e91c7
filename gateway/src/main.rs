//! `petrel`: serves by default; `chat`, `config`, `dictionary`, `doctor`, `health`, `admin`.

mod command;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = command::Arguments::parse();
    match command::run(arguments) {
        Ok(status) => status,
        Err(error) => {
            use std::io::Write as _;
            // With the error stream gone there is nobody to tell.
            writeln!(std::io::stderr(), "petrel: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}
