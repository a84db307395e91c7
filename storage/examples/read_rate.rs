//! How long the first page of a user's list takes with 1,000 conversations (goal V2: p99 at most
//! 5 ms), and how long a group of 10,000 members takes to load.
//!
//! `cargo run --release -p petrel-storage --example read_rate -- URL`
//!
//! URL as in `storage.url`, of a database that may be filled with test data;
//! `private` starts a PostgreSQL for itself.

#![allow(clippy::print_stdout, reason = "it is a program that prints a table")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use petrel_core::change::{Change, ChangeEntry, ChangeOutcome, GroupProfile, Role, RowChange};
use petrel_core::entry::EntryKind;
use petrel_core::id::{
    ClientMessageId, ContentDigest, ConversationId, DeviceId, RightsVersion, UserId,
};
use petrel_core::limits::{BATCH_MESSAGES_MAX, LIST_PAGE_MAX};
use petrel_core::store::{Append, ListPage, NewAccount, Store, User};
use petrel_storage::StoreOptions;
use petrel_storage::testing::PrivatePostgres;
use uuid::Uuid;

const CONVERSATIONS: usize = 1_000;
const ENTRIES_EACH: usize = 20;
const MEMBERS: usize = 10_000;
const JOINS_EACH: usize = 500;
const READS: usize = 300;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).context("usage: read_rate URL")?;
    let server = (url == "private").then(PrivatePostgres::start).transpose()?;
    let url = server.as_ref().map_or(url, |server| server.url("postgres"));
    let store = petrel_storage::open(&url, StoreOptions::default()).await?;
    let users = accounts(&*store).await?;
    conversations(&*store, &users).await?;
    let group = group(&*store, &users).await?;
    let mut took = Vec::new();
    for _ in 0..READS {
        let start = Instant::now();
        let page = ListPage { after: None, since_ms: 0, limit: LIST_PAGE_MAX };
        let lines = store.list(users[0], page).await?;
        took.push(start.elapsed());
        anyhow::ensure!(lines.len() == LIST_PAGE_MAX, "the page is not full");
    }
    tell("list of 1,000, first page", took);
    let mut took = Vec::new();
    for _ in 0..READS / 10 {
        let start = Instant::now();
        let record = store.conversation(group).await?.context("no group")?;
        took.push(start.elapsed());
        anyhow::ensure!(record.members.len() == MEMBERS, "members are missing");
    }
    tell("group of 10,000", took);
    Ok(())
}

fn tell(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!("{what}: p50 {:.2} ms, p99 {:.2} ms", at(50), at(99));
}

async fn accounts(store: &dyn Store) -> anyhow::Result<Vec<UserId>> {
    let accounts: Vec<_> = (0..MEMBERS)
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
    Ok(accounts.iter().map(|account| account.user.id).collect())
}

async fn conversations(store: &dyn Store, users: &[UserId]) -> anyhow::Result<()> {
    let mut batch = Vec::new();
    for &peer in &users[1..=CONVERSATIONS] {
        store.ensure_pair(users[0], peer).await?;
        let conversation = ConversationId::of_pair(users[0], peer);
        batch.extend((0..ENTRIES_EACH).map(|_| message(conversation, peer)));
    }
    let mut appender = store.appender();
    for part in batch.chunks(BATCH_MESSAGES_MAX) {
        appender.append(part).await?;
    }
    Ok(())
}

async fn group(store: &dyn Store, users: &[UserId]) -> anyhow::Result<ConversationId> {
    let group = ConversationId::from(Uuid::now_v7());
    let mut rows = vec![RowChange::Group(group, GroupProfile::default())];
    for part in users.chunks(JOINS_EACH) {
        rows.extend(part.iter().map(|&user| RowChange::Join {
            conversation: group,
            user,
            role: Role::Member,
            whole_history: true,
        }));
        let entry = ChangeEntry {
            conversation: group,
            id: Uuid::now_v7().into(),
            sender: users[0],
            kind: EntryKind::Group,
            body: bytes::Bytes::new(),
        };
        let change =
            Change { guards: Vec::new(), rows: std::mem::take(&mut rows), entries: vec![entry] };
        let outcome = store.apply(&change).await?;
        anyhow::ensure!(matches!(outcome, ChangeOutcome::Done(_)), "not done: {outcome:?}");
    }
    Ok(group)
}

fn message(conversation: ConversationId, sender: UserId) -> Append {
    let body = vec![b'x'; 120];
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
