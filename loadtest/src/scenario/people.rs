//! Accounts and tokens for a run.

use std::future::Future;
use std::sync::Arc;

use anyhow::Context;
use petrel_client::{Dialer, DialerOptions, Identity, Server as Place, Transport, Transports};
use tokio::task::JoinSet;

use crate::carrier::Carrier;
use crate::dial::{self, Connector, Target};
use crate::options::Options;
use crate::progress::Progress;
use crate::server::Server;

/// Registrations under way at once.
const REGISTRATIONS: usize = 16;
/// Connections that fetch tokens at once, and tokens that each fetches: so few
/// that the time allowed before sign-in is enough.
const TOKEN_CONNECTIONS: usize = 8;
const TOKENS_PER_CONNECTION: usize = 50;

/// The server to load and `users` accounts on it: made in bulk if the server
/// is started here, else registered one by one through the protocol.
pub(super) async fn gather(
    options: &Options,
    users: usize,
    progress: &Progress,
) -> anyhow::Result<(Server, Vec<Identity>)> {
    progress.stage("starting");
    let asked = options.clone();
    // Starting waits for another process, so not on the thread that does IO.
    let (server, identities) =
        tokio::task::spawn_blocking(move || Server::of(&asked, users)).await??;
    if !identities.is_empty() {
        return Ok((server, identities));
    }
    progress.steps("registering users", users);
    let dialer = &dialers(&server.target, 1, options.transport)?[0];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let prefix = format!("lt{:x}-{:x}", now.as_secs(), std::process::id());
    let identities = concurrently(REGISTRATIONS, 0..users, |user| {
        let (dialer, name, progress) =
            (dialer.clone(), format!("{prefix}-{user}"), progress.clone());
        async move {
            let identity = dialer
                .register(&name, "petrel-loadtest")
                .await
                .with_context(|| format!("registering {name}"))?;
            progress.step();
            Ok(identity)
        }
    })
    .await?;
    Ok((server, identities))
}

/// The client SDK's ways to the server, one dialer per socket, and one per gateway at the least.
pub(super) fn dialers(
    target: &Target,
    connections: usize,
    carrier: Carrier,
) -> anyhow::Result<Vec<Dialer>> {
    let gateways = 1 + target.others.len();
    let endpoints = dial::endpoints(target, connections)?;
    // So many that each gateway has its share of the users who take them in turn.
    let dialers = endpoints.len().max(gateways);
    (0..dialers)
        .map(|number| (number, endpoints[number % endpoints.len()].clone()))
        .map(|(number, endpoint)| {
            let place = Place::Addresses(target.addresses(number));
            let mut options =
                DialerOptions::new(place, target.server_name.clone(), target.trust.clone());
            options.endpoint = Some(endpoint);
            options.transport = Transport::default();
            // No race: a figure is one transport's.
            options.transports = match carrier {
                Carrier::Quic => Transports::Quic,
                Carrier::Tcp => Transports::Tcp,
            };
            Ok(Dialer::new(options)?)
        })
        .collect()
}

/// A token for each identity, in their order.
pub(super) async fn tokens(
    connector: &Connector,
    identities: &[Identity],
    progress: &Progress,
) -> anyhow::Result<Vec<String>> {
    progress.steps("fetching tokens", identities.len());
    let chunks: Vec<Vec<Identity>> =
        identities.chunks(TOKENS_PER_CONNECTION).map(<[Identity]>::to_vec).collect();
    let tokens = concurrently(TOKEN_CONNECTIONS, chunks.into_iter().enumerate(), |(n, chunk)| {
        let (connector, progress) = (connector.clone(), progress.clone());
        async move {
            let connection = connector.connect(n).await?;
            let mut tokens = Vec::with_capacity(chunk.len());
            for identity in &chunk {
                tokens.push(dial::login(&connection, identity).await?);
                progress.step();
            }
            connection.close(0u32.into(), b"");
            Ok(tokens)
        }
    })
    .await?;
    Ok(tokens.into_iter().flatten().collect())
}

/// Does `work` on all items, at most `limit` at once; the results in the items' order.
pub(super) async fn concurrently<T, R, F, Fut>(
    limit: usize,
    items: impl IntoIterator<Item = T>,
    work: F,
) -> anyhow::Result<Vec<R>>
where
    F: Fn(T) -> Fut,
    Fut: Future<Output = anyhow::Result<R>> + Send + 'static,
    R: Send + 'static,
{
    let permits = Arc::new(tokio::sync::Semaphore::new(limit));
    let mut tasks = JoinSet::new();
    let mut results: Vec<Option<R>> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        while let Some(ended) = tasks.try_join_next() {
            keep(&mut results, ended??);
        }
        let job = work(item);
        tasks.spawn(async move {
            let result = job.await;
            drop(permit);
            result.map(|result| (index, result))
        });
    }
    while let Some(ended) = tasks.join_next().await {
        keep(&mut results, ended??);
    }
    Ok(results.into_iter().flatten().collect())
}

fn keep<R>(results: &mut Vec<Option<R>>, (index, result): (usize, R)) {
    if results.len() <= index {
        results.resize_with(index + 1, || None);
    }
    results[index] = Some(result);
}
