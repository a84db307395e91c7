//! What hostile clients can make a gateway hold stays within what the settings count for them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use petrel_gateway::config::Config;
use petrel_tests::cluster::{Gateway, Stage};
use petrel_tests::raw::{self, Line, Raw, RawOptions, RawStream};

/// Hostile connections at once.
const HOSTILE: usize = 200;
/// Honest ones before, so that tables and pools are there when the memory is read first.
const WARMING: usize = 20;
/// Streams with the beginning of a large frame; a few more than the gateway takes.
const LARGE_BEGUN: usize = 12;
/// Bytes of such a beginning; the frame would be 16,000.
const BEGUN_BYTES: usize = 15_900;
/// Streams of which fragments come.
const FRAGMENTED: usize = 40;
/// Bytes written to each of them.
const FRAGMENTED_BYTES: usize = 3_000;
/// What is pushed to each that reads nothing: more than windows and queue hold.
const PUSHES: usize = 8;
const PUSH_BYTES: usize = 60_000;

struct Hostile {
    _raw: Raw,
    _streams: Vec<RawStream>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_connection_takes_no_more_memory_than_is_counted_for_it() -> Result<()> {
    let stage = Stage::sqlite()?;
    let rates = ["auth.registrations_per_s=10000", "auth.registrations_burst=10000"];
    let gateway = stage.gateway(&rates).await?;
    let feeder = stage.person(&gateway, "feeder").await?;
    let mut identities = Vec::new();
    for n in 0..HOSTILE + WARMING {
        identities.push(gateway.dialer()?.register(&format!("user{n}"), "test").await?);
    }
    let mut warm = Vec::new();
    for identity in identities.drain(..WARMING) {
        warm.push(Raw::sign_in(&gateway, &identity).await?);
        feeder.say(&feeder.with_user(identity.user), body()).await?;
    }
    let before = rss_bytes(&gateway)?;

    let mut hostile = Vec::new();
    for identity in &identities {
        let line = Arc::new(Line::default());
        let options = RawOptions { line: Some(Arc::clone(&line)), ..RawOptions::default() };
        let (raw, control) = Raw::sign_in_with(&gateway, identity, &options).await?;
        let (stream, _) = raw.attach(raw::attach(identity.user, feeder.user())).await?;
        let mut streams = vec![control, stream];
        for _ in 0..LARGE_BEGUN {
            streams.push(begun(&raw, 16_000, BEGUN_BYTES).await?);
        }
        let mut fragmented = Vec::new();
        for _ in 0..FRAGMENTED {
            let mut stream = raw.open().await?;
            // Half of a length; the gateway learns of a stream by its first byte.
            stream.write_bytes(&[0x7f]).await?;
            fragmented.push(stream);
        }
        line.go_bad();
        for stream in &mut fragmented {
            // The bytes stay in this client's own buffers as long as credit lacks.
            stream.send.set_priority(1)?;
            let writing = stream.send.write(&[0x7f; FRAGMENTED_BYTES]);
            tokio::time::timeout(std::time::Duration::from_millis(1), writing).await.ok();
        }
        streams.append(&mut fragmented);
        hostile.push(Hostile { _raw: raw, _streams: streams });
    }
    for _ in 0..PUSHES {
        let mut sent = Vec::new();
        for identity in &identities {
            sent.push(feeder.send(&feeder.with_user(identity.user), body())?);
        }
        feeder
            .until("acks", |s| sent.iter().all(|id| s.acked.contains_key(id)).then_some(()))
            .await?;
    }
    let queued = gateway.metric("petrel_gateway_send_queue_bytes", "").await?;
    let grown = rss_bytes(&gateway)?.saturating_sub(before) / HOSTILE as u64;
    let allowed = Config::default().connection_bytes_max();
    let figures = format!(
        "{grown} bytes a connection ({:.0} of them in send queues); {allowed} are counted",
        queued / HOSTILE as f64
    );
    assert!(grown <= allowed, "{figures}");
    assert!(grown >= allowed / 2, "the attack does not bite: {figures}");
    drop((warm, hostile));
    Ok(())
}

/// Opens a stream with the beginning of a frame.
async fn begun(raw: &Raw, frame_bytes: u16, sent_bytes: usize) -> Result<RawStream> {
    let mut stream = raw.open().await?;
    // A length of two bytes (RFC 9000 §16).
    let mut bytes = (0x4000 | frame_bytes).to_be_bytes().to_vec();
    bytes.resize(2 + sent_bytes, 0x20);
    // The gateway stops the stream whose frame has no room.
    stream.write_bytes(&bytes).await.ok();
    Ok(stream)
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
