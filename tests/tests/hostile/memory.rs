//! What hostile clients can make a gateway hold stays within what the settings count for them.

use anyhow::{Context as _, Result};
use petrel_client::Identity;
use petrel_gateway::config::Config;
use petrel_loadtest::hostile::{Bare, BareOptions, Filling};
use petrel_loadtest::say;
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use petrel_tests::raw::Raw;
use tokio::task::block_in_place;

use crate::stock::Stock;

/// What is aimed at for each hostile connection: 600 KB.
const AIM: u64 = 600 * 1024;
/// Hostile connections at once.
const HOSTILE: usize = 150;
/// Honest ones before, so that tables and pools are there when the memory is read first.
const WARMING: usize = 20;
/// What is pushed to each that reads nothing: more than windows and queue hold.
const PUSHES: usize = 8;
const PUSH_BYTES: usize = 60_000;
/// Readers with much that they have not read, their conversations, and messages in each.
const FEEDERS: usize = 4;
const UNREAD_READERS: usize = 80;
const UNREAD_CONVERSATIONS: usize = 10;
const UNREAD_MESSAGES: usize = 2;
/// All at once: beginnings of large frames, fragments, holes.
const ALL: Filling = Filling { large_frames: 9, fragmented: 50, holes: 3 };
/// Before anybody has signed in.
const STRANGERS: Filling = Filling { large_frames: 8, fragmented: 6, holes: 2 };
/// As much of streams with a hole as is let in.
const HOLES: Filling = Filling { large_frames: 0, fragmented: 0, holes: 12 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_connection_takes_no_more_memory_than_is_counted_for_it() -> Result<()> {
    let stage = Stage::sqlite()?;
    let rates = ["auth.registrations_per_s=10000", "auth.registrations_burst=10000"];
    let gateway = stage.gateway(&rates).await?;
    // Each has as many conversations as he may have streams.
    let mut feeders = Vec::new();
    for n in 0..FEEDERS {
        feeders.push(stage.person(&gateway, &format!("feeder{n}")).await?);
    }
    let mut identities = Vec::new();
    for n in 0..HOSTILE + WARMING {
        identities.push(gateway.dialer()?.register(&format!("user{n}"), "test").await?);
    }
    let mut warm = Vec::new();
    for identity in identities.drain(..WARMING) {
        warm.push(Raw::sign_in(&gateway, &identity).await?);
        feeders[0].say(&feeders[0].with_user(identity.user), body()).await?;
    }
    let before = rss_bytes(&gateway)?;
    let mut hostile = Vec::new();
    for (n, identity) in identities.iter().enumerate() {
        hostile.push(block_in_place(|| {
            let mut bare = Bare::sign_in(gateway.quic, identity, &BareOptions::default())?;
            bare.attach(identity.user, feeders[n % FEEDERS].user())?;
            ALL.fill(&mut bare)?;
            anyhow::Ok(bare)
        })?);
    }
    let filled = rss_bytes(&gateway)?.saturating_sub(before) / HOSTILE as u64;
    for _ in 0..PUSHES {
        for (n, identity) in identities.iter().enumerate() {
            let feeder = &feeders[n % FEEDERS];
            feeder.say(&feeder.with_user(identity.user), body()).await?;
        }
    }
    let queued = gateway.metric("petrel_gateway_send_queue_bytes", "").await?;
    let grown = rss_bytes(&gateway)?.saturating_sub(before) / HOSTILE as u64;
    let counted = Config::default().connection_bytes_max();
    let figures = format!(
        "{grown} bytes a connection ({filled} of them received, {:.0} in send queues); {counted} are counted",
        queued / HOSTILE as f64
    );
    say(&figures);
    assert!(grown <= counted, "{figures}");
    assert!(grown >= counted / 2, "the attack does not bite: {figures}");
    // Nobody was closed for it: the bounds hold by themselves.
    let over = gateway.metric("petrel_gateway_excess_total", "what=\"fragments\"").await?;
    assert_eq!(over, 0.0);
    drop((warm, hostile));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_one_of_a_stranger() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&["gateway.sign_in_timeout=60s"]).await?;
    stage.person(&gateway, "somebody").await?;
    let before = rss_bytes(&gateway)?;
    let mut hostile = Vec::new();
    for _ in 0..HOSTILE {
        hostile.push(block_in_place(|| {
            let mut bare = Bare::dial(gateway.quic, &BareOptions::default())?;
            STRANGERS.fill(&mut bare)?;
            anyhow::Ok(bare)
        })?);
    }
    // What was sent last has been read once something after it is answered.
    stage.person(&gateway, "somebody_else").await?;
    let grown = rss_bytes(&gateway)?.saturating_sub(before) / HOSTILE as u64;
    say(&format!("{grown} bytes a stranger's connection"));
    assert!(grown <= Config::default().connection_bytes_max(), "{grown}");
    drop(hostile);
    Ok(())
}

/// Somebody with much that he has not read, in many conversations, attaches all of them and never reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_one_with_much_unread_in_many_conversations() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let mut peers = Vec::new();
    for n in 0..UNREAD_CONVERSATIONS {
        peers.push(stage.person(&gateway, &format!("peer{n}")).await?);
    }
    let mut identities = Vec::new();
    for n in 0..UNREAD_READERS {
        identities.push(gateway.dialer()?.register(&format!("reader{n}"), "test").await?);
    }
    for peer in &peers {
        for identity in &identities {
            for _ in 0..UNREAD_MESSAGES {
                peer.say(&peer.with_user(identity.user), body()).await?;
            }
        }
    }
    let before = rss_bytes(&gateway)?;
    let deaf = BareOptions { window: 2_048, ..BareOptions::default() };
    let hostile = block_in_place(|| {
        let attach_all = |identity: &Identity| {
            let mut bare = Bare::sign_in(gateway.quic, identity, &deaf)?;
            for peer in &peers {
                bare.attach_unheard(identity.user, peer.user())?;
            }
            anyhow::Ok(bare)
        };
        identities.iter().map(attach_all).collect::<Result<Vec<_>>>()
    })?;
    // All of their streams have been served, as far as there is room.
    let served = || async {
        let served = gateway.metric("petrel_gateway_catch_ups_total", "").await?;
        Ok((served >= (UNREAD_READERS * UNREAD_CONVERSATIONS) as f64).then_some(()))
    };
    eventually(PATIENCE, "catch-ups", served).await?;
    let grown = rss_bytes(&gateway)?.saturating_sub(before) / UNREAD_READERS as u64;
    say(&format!("{grown} bytes a connection with much unread"));
    assert!(grown <= Config::default().connection_bytes_max(), "{grown}");
    drop(hostile);
    Ok(())
}

/// How much comes in of streams whose first byte is missing, which a reader can do nothing with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_filled_with_holes_hold_little_and_by_default_they_hold_megabytes() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let stock = Stock::start()?;
    let fill =
        |server| block_in_place(|| HOLES.fill(&mut Bare::dial(server, &BareOptions::default())?));
    let (ours, default) = (fill(gateway.quic)?, fill(stock.address()?)?);
    assert!(ours as u64 <= AIM / 4, "{ours} bytes");
    assert!(default as u64 > 10 * AIM, "by default {default} bytes");
    Ok(())
}

/// A text that does not compress below three quarters.
fn body() -> String {
    let text = |_| char::from(rand::Rng::sample(&mut rand::rng(), rand::distr::Alphanumeric));
    (0..PUSH_BYTES).map(text).collect()
}

fn rss_bytes(gateway: &Gateway) -> Result<u64> {
    let pid = gateway.pid().context("the gateway does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024)
}
