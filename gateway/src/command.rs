//! The command line.

mod admin;
mod chat;
mod cluster;
mod config;
mod dictionary;
mod doctor;
mod health;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use petrel_gateway::config::Loaded;

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
    /// Chats in the terminal.
    Chat(chat::Options),
    /// Makes and judges compression dictionaries from one's own messages.
    #[command(subcommand)]
    Dictionary(dictionary::Dictionary),
    /// Says whether the gateway of this machine is ready (exit status 0) or not (1).
    Health(health::Options),
    /// Checks and shows settings.
    #[command(subcommand)]
    Config(config::Command),
    /// Looks whether a gateway with these settings would run well here; exits with 1 if not.
    Doctor(doctor::Options),
    /// Looks after a gateway that runs here: users, devices, groups.
    #[command(subcommand)]
    Admin(Admin),
    /// Several gateways on one database: how they are, and certificates for them.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Makes many accounts at once, straight in the store, for load tests.
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
    #[command(flatten)]
    Call(admin::Call),
}

/// Does what the arguments say.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let Settings { config, set } = arguments.settings;
    let layers = || Loaded::load(config.as_deref(), std::env::vars(), &set);
    let load = || layers().map(|loaded| loaded.config).context("the configuration is refused");
    match arguments.command {
        None | Some(Command::Serve) => serve::run(load()?),
        Some(Command::Chat(options)) => chat::run(&options, &load()?),
        Some(Command::Dictionary(options)) => dictionary::run(&options),
        Some(Command::Health(options)) => health::run(&options, &load()?),
        Some(Command::Config(command)) => return config::run(&command, layers),
        Some(Command::Doctor(options)) => return doctor::run(&options, layers()),
        Some(Command::Admin(Admin::Call(call))) => admin::run(call, &load()?),
        Some(Command::Cluster(cluster::Cluster::Status { json })) => {
            admin::run(cluster::status(json)?, &load()?)
        }
        Some(Command::Cluster(cluster::Cluster::Certificates(options))) => options.make(),
        Some(Command::Admin(Admin::Seed { users, prefix, out })) => {
            let config = load()?;
            runtime(0)?.block_on(petrel_gateway::seed::seed(&config, users, &prefix, &out))
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().context("cannot start the runtime")
}
