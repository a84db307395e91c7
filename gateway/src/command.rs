//! The command line.

mod chat;
mod dictionary;
mod health;
mod serve;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use petrel_gateway::config::Config;

/// Instant messaging over QUIC: a gateway, and what belongs to it.
#[derive(Debug, Parser)]
#[command(name = "petrel", version)]
pub(crate) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Where settings come from.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over the file's and the environment's: section.key=value.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves (what it does without a command, too).
    Serve,
    /// Chats in the terminal, line by line.
    Chat(chat::Options),
    /// Makes and judges compression dictionaries from one's own messages.
    #[command(subcommand)]
    Dictionary(dictionary::Dictionary),
    /// Says whether the gateway of this machine is ready (exit status 0) or not (1).
    Health(health::Options),
    /// Works on the store directly.
    #[command(subcommand)]
    Admin(Admin),
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Makes many accounts at once, for load tests.
    Seed {
        /// How many.
        #[arg(long)]
        users: usize,
        /// Their names are this and a number.
        #[arg(long, default_value = "user")]
        prefix: String,
        /// Where their identities go, one JSON object a line.
        #[arg(long)]
        out: PathBuf,
    },
}

/// Does what the arguments say.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let Settings { config, set } = arguments.settings;
    let load = || {
        Config::load(config.as_deref(), std::env::vars(), &set)
            .context("the configuration is refused")
    };
    match arguments.command {
        None | Some(Command::Serve) => serve::run(load()?),
        Some(Command::Chat(options)) => chat::run(&options, &load()?),
        Some(Command::Dictionary(options)) => dictionary::run(&options),
        Some(Command::Health(options)) => health::run(&options, &load()?),
        Some(Command::Admin(Admin::Seed { users, prefix, out })) => {
            let config = load()?;
            runtime(0)?.block_on(petrel_gateway::seed::seed(&config, users, &prefix, &out))
        }
    }
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().context("cannot start the runtime")
}
