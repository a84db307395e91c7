//! `petrel chat NAME`: chats in the terminal, on the whole screen or line by line. Registers at
//! the first start; the identity and what is not acknowledged yet are kept in the data directory.

mod plain;
mod screen;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use petrel_client::{
    Client, ClientOptions, Code, Dialer, DialerOptions, Identity, OutboxPlace, Server, Trust,
    terminal,
};
use petrel_gateway::config::Config;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Your user name: 2 to 32 of a-z 0-9 . _ -
    name: String,
    /// Where the gateway is.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4433")]
    server: String,
    /// The name in the gateway's certificate, if it is not the host.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// SHA-256 of the gateway's certificate. Default: that of the one in the data directory.
    #[arg(long, value_name = "HEX", conflicts_with = "ca")]
    fingerprint: Option<String>,
    /// PEM file with the authority that signed the gateway's certificate.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Line by line, as it is when input or output is no terminal.
    #[arg(long)]
    plain: bool,
}

pub(super) fn run(options: &Options, config: &Config) -> Result<()> {
    super::runtime(1)?.block_on(chat(options, config))
}

async fn chat(options: &Options, config: &Config) -> Result<()> {
    let dialer = dialer(options, config)?;
    let dir = config.data_dir.join("chat");
    petrel_gateway::make_data_dir(&dir)?;
    let file = dir.join(format!("{}.json", options.name));
    let identity = if file.exists() {
        Identity::load(&file)?
    } else {
        let identity = dialer.register(&options.name, "terminal").await.map_err(explain)?;
        identity.save(&file)?;
        screen::line(&format!("registered as {}", options.name));
        identity
    };
    let is_plain =
        options.plain || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal();
    let mut settings = ClientOptions::new(dialer, identity);
    settings.outbox = OutboxPlace::File(dir.join(format!("{}.outbox", options.name)));
    let (client, mut events) = Client::start(settings).await?;
    let done = if is_plain {
        plain::run(&client, &mut events, &options.name).await
    } else {
        terminal::run(&client, &mut events, &options.name).await.map_err(anyhow::Error::new)
    };
    client.close().await;
    done
}

fn dialer(options: &Options, config: &Config) -> Result<Dialer> {
    let trust = match (&options.fingerprint, &options.ca) {
        (Some(hex), _) => Trust::from_fingerprint_hex(hex).context("--fingerprint")?,
        (None, Some(file)) => Trust::CaFile(file.clone()),
        (None, None) => {
            Trust::Fingerprint(petrel_gateway::development_fingerprint(&config.data_dir).context(
                "no development certificate here: start the gateway in this directory, \
                 or say --fingerprint or --ca",
            )?)
        }
    };
    let host = options.server.rsplit_once(':').map_or(options.server.as_str(), |(host, _)| host);
    let name = options.server_name.clone().unwrap_or_else(|| host.to_owned());
    let server = Server::Name(options.server.clone());
    Dialer::new(DialerOptions::new(server, name, trust)).context("--server")
}

fn explain(error: petrel_client::ClientError) -> anyhow::Error {
    match error {
        petrel_client::ClientError::Refused { code: Code::NameTaken, .. } => anyhow::anyhow!(
            "the name is taken, and this directory does not have the identity that belongs to it"
        ),
        other => anyhow::Error::new(other).context("cannot register"),
    }
}
