//! `petrel config`: says what is wrong with a configuration, what can be set, and what is in force.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use petrel_gateway::config::{ConfigError, Loaded, render};

/// A configuration that is refused.
const REFUSED: u8 = 2;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Checks file, environment and flags; exits with 2 and all problems if they are refused.
    Check,
    /// Prints all settings with their defaults, to start a file from.
    Default {
        /// As a file to start from, or as a page of documentation.
        #[arg(long, value_enum, default_value_t = Format::Toml)]
        format: Format,
    },
    /// Prints the settings in force; secrets as ***.
    Show {
        /// With where each value came from.
        #[arg(long)]
        origin: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Toml,
    Markdown,
}

/// `load` reads all layers.
pub(super) fn run(
    command: &Command,
    load: impl Fn() -> Result<Loaded, ConfigError>,
) -> Result<ExitCode> {
    let text = match command {
        Command::Default { format: Format::Toml } => render::example(),
        Command::Default { format: Format::Markdown } => render::page(),
        Command::Check | Command::Show { .. } => match load() {
            Ok(loaded) => match command {
                Command::Show { origin } => render::shown(&loaded, *origin),
                _ => "the configuration is good\n".to_owned(),
            },
            Err(error) => {
                writeln!(std::io::stderr(), "{error}").context("cannot write")?;
                return Ok(ExitCode::from(REFUSED));
            }
        },
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}
