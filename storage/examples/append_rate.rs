//! How many messages a second the batch transaction stores, and how long a
//! batch takes, by batch size and number of writers.
//!
//! `cargo run --release -p petrel-storage --example append_rate -- URL [SECONDS] [CONVERSATIONS]`
//!
//! URL as in `storage.url`, of a database that may be filled with test data;
//! `private` starts a PostgreSQL for itself (`private-socket`: the same, not over TCP).
//! Every cell runs for SECONDS (1.5) over CONVERSATIONS (10000), each message
//! to a random one.

#![allow(clippy::print_stdout, reason = "it is a program that prints a table")]
#![allow(clippy::disallowed_methods, reason = "it awaits each task that it spawns")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use petrel_core::entry::EntryKind;
use petrel_core::id::{
    ClientMessageId, ContentDigest, ConversationId, DeviceId, RightsVersion, UserId,
};
use petrel_core::store::{Append, AppendOutcome, NewAccount, Store, User};
use petrel_storage::StoreOptions;
use petrel_storage::testing::PrivatePostgres;
use rand::Rng as _;
use uuid::Uuid;

const BODY_BYTES: usize = 120;
const BATCHES: [usize; 4] = [1, 16, 64, 128];
const WRITERS: [usize; 3] = [1, 2, 4];

type Pair = (UserId, ConversationId);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("usage: append_rate URL [SECONDS] [CONVERSATIONS]")?;
    let seconds = arguments.next().map_or(Ok(1.5), |text| text.parse())?;
    let conversations = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let server = match url.starts_with("private") {
        true => Some(PrivatePostgres::start()?),
        false => None,
    };
    let url = match (&server, url.as_str()) {
        (Some(server), "private-socket") => server.socket_url("postgres"),
        (Some(server), _) => server.url("postgres"),
        (None, _) => url,
    };
    let store = petrel_storage::open(&url, StoreOptions::default()).await?;
    println!("{:?}", store.durability().await?);
    let pairs = Arc::new(set_up(&store, conversations).await?);
    println!("writers  batch    rows/s   p50 ms   p99 ms");
    for writers in WRITERS {
        for batch in BATCHES {
            cell(&store, &pairs, writers, batch, Duration::from_secs_f64(seconds)).await?;
        }
    }
    Ok(())
}

async fn set_up(store: &Arc<dyn Store>, conversations: usize) -> anyhow::Result<Vec<Pair>> {
    let accounts: Vec<_> = (0..conversations + 1)
        .map(|_| {
            let id = Uuid::now_v7();
            NewAccount {
                user: User::named(id.into(), id.simple().to_string()),
                device: DeviceId::from(Uuid::now_v7()),
                device_label: String::new(),
                secret_hash: [0; 32],
                created_ms: 0,
                password: None,
                outside: None,
            }
        })
        .collect();
    store.register_many(&accounts).await?;
    let mut pairs = Vec::with_capacity(conversations);
    for two in accounts.windows(2) {
        let (a, b) = (two[0].user.id, two[1].user.id);
        store.ensure_pair(a, b).await?;
        pairs.push((a, ConversationId::of_pair(a, b)));
    }
    Ok(pairs)
}

async fn cell(
    store: &Arc<dyn Store>,
    pairs: &Arc<Vec<Pair>>,
    writers: usize,
    batch: usize,
    duration: Duration,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (mut appender, pairs) = (store.appender(), Arc::clone(pairs));
            tokio::spawn(async move {
                let mut took = Vec::new();
                while begun.elapsed() < duration {
                    let messages: Vec<_> = (0..batch).map(|_| message(&pairs)).collect();
                    let start = Instant::now();
                    let outcomes = appender.append(&messages).await?;
                    took.push(start.elapsed());
                    anyhow::ensure!(
                        outcomes.iter().all(|o| matches!(o, AppendOutcome::New(_))),
                        "something was not new"
                    );
                }
                anyhow::Ok(took)
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    let rows = (took.len() * batch) as f64 / begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!("{writers:7} {batch:6} {rows:9.0} {:8.2} {:8.2}", at(50), at(99));
    Ok(())
}

fn message(pairs: &[Pair]) -> Append {
    let (sender, conversation) = pairs[rand::rng().random_range(0..pairs.len())];
    let body = vec![b'x'; BODY_BYTES];
    Append {
        conversation,
        admitted_by: Some(RightsVersion(1)),
        sender,
        id: ClientMessageId::from(Uuid::now_v7()),
        kind: EntryKind::Text,
        encoding: 0,
        digest: ContentDigest::of(EntryKind::Text, 0, &body),
        target: None,
        revision: None,
        mentions: Vec::new(),
        body: body.into(),
    }
}
