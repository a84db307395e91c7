//! Floods of streams, and of frames on them.

use std::time::Duration;

use anyhow::Result;
use petrel_loadtest::hostile::{Bare, BareOptions};
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, frame::What};
use petrel_tests::cluster::{PATIENCE, Stage, eventually};
use petrel_tests::raw::{self, Raw};
use tokio::task::block_in_place;

use crate::stock::Stock;

/// Streams that are opened and reset; the gateway ends it long before.
const STREAMS: usize = 3_000;

/// Opens and resets streams as fast as credit comes back, until it has done so many or is stopped.
fn open_and_reset(bare: &mut Bare) -> Result<usize> {
    let mut opened = 0;
    while opened < STREAMS && bare.ended().is_none() {
        while let Some(stream) = bare.try_open() {
            bare.write(stream, &[0x3f]);
            bare.send()?;
            bare.reset(stream);
            opened += 1;
        }
        bare.send()?;
        bare.hear(Duration::from_millis(20))?;
    }
    Ok(opened)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_and_resets_streams_is_soon_done_with_and_by_default_never() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let pair = alice.with(&bob);
    let identity = gateway.dialer()?.register("mallory", "test").await?;
    let stock = Stock::start()?;
    block_in_place(|| {
        for signs_in in [false, true] {
            let options = BareOptions::default();
            let mut bare = if signs_in {
                Bare::sign_in(gateway.quic, &identity, &options)?
            } else {
                Bare::dial(gateway.quic, &options)?
            };
            let opened = open_and_reset(&mut bare)?;
            let ended = bare.ended().unwrap_or_default();
            assert!(opened < STREAMS && ended.contains("rate_limited"), "{opened}: {ended}");
        }
        let mut bare = Bare::dial(stock.address()?, &BareOptions::default())?;
        assert_eq!((open_and_reset(&mut bare)? >= STREAMS, bare.ended()), (true, None));
        anyhow::Ok(())
    })?;
    alice.say(&pair, "and others notice nothing").await?;
    bob.has(pair.id, 1).await?;
    let closed = gateway.metric("petrel_gateway_excess_total", "what=\"silent_streams\"").await?;
    assert!(closed >= 2.0);
    Ok(())
}

/// Whoever asks with whole streams is not closed, but comes no faster than his rate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_streams_too_fast_waits() -> Result<()> {
    let stage = Stage::sqlite()?;
    let settings = ["message.requests_per_s=50", "message.requests_burst=1"];
    let gateway = stage.gateway(&settings).await?;
    let (raw, _control) =
        Raw::sign_in(&gateway, &gateway.dialer()?.register("alice", "test").await?).await?;
    let (mut answered, mut over) = (0, 0.0);
    // 804 at once; what is answered is a refusal mostly, as requests have a rate of their own.
    while over == 0.0 && answered < 3_000 {
        raw.ask(What::FindUsers(wire::FindUsers::default())).await?;
        answered += 1;
        if answered % 100 == 0 {
            over = gateway.metric("petrel_gateway_excess_total", "what=\"streams\"").await?;
        }
    }
    assert!(answered >= 800 && over > 0.0, "{answered} {over}");
    raw.ask(What::FindUsers(wire::FindUsers::default())).await?;
    Ok(())
}

/// Small frames without end, on a conversation's stream and on the control stream: read as fast as the
/// rate allows, while others chat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_frames_too_fast_is_read_more_slowly() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&["message.sends_burst=50", "message.requests_burst=20"]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let mallory = gateway.dialer()?.register("mallory", "test").await?;
    let (raw, mut control) = Raw::sign_in(&gateway, &mallory).await?;
    let (mut stream, _) = raw.attach(raw::attach(mallory.user, alice.user())).await?;
    let members = vec![wire::MemberReceipt::default()];
    let receipts = What::Receipts(wire::Receipts { members, ..wire::Receipts::default() });
    let receipts = encode(&bare(receipts)).repeat(4_000);
    let watch = encode(&bare(What::WatchPresence(wire::WatchPresence::default()))).repeat(4_000);
    let flood = async {
        let flooding =
            tokio::join!(stream.send.write_all(&receipts), control.send.write_all(&watch));
        // They end with the connection, or with the test.
        flooding.0.and(flooding.1).ok();
        std::future::pending::<()>().await;
    };
    let watching = async {
        for what in ["frames", "control"] {
            let labels = format!("what=\"{what}\"");
            let over = || async {
                let over = gateway.metric("petrel_gateway_excess_total", &labels).await?;
                Ok((over > 0.0).then_some(()))
            };
            eventually(PATIENCE, what, over).await?;
        }
        alice.say(&alice.with(&bob), "beside it").await?;
        bob.has(alice.with(&bob).id, 1).await
    };
    tokio::select! {
        watched = watching => watched,
        () = flood => unreachable!(),
    }
}

/// Datagrams without end are dropped beyond their rate; the connection goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_datagrams_too_fast_is_not_heard() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&["message.sends_burst=50", "message.sends_per_s=50"]).await?;
    let mallory = gateway.dialer()?.register("mallory", "test").await?;
    let (raw, _control) = Raw::sign_in(&gateway, &mallory).await?;
    let flood = || async {
        for _ in 0..200 {
            raw.connection.send_datagram_wait(vec![0xff; 20].into()).await?;
        }
        let over = gateway.metric("petrel_gateway_excess_total", "what=\"datagrams\"").await?;
        Ok((over > 0.0).then_some(()))
    };
    eventually(PATIENCE, "datagrams dropped", flood).await?;
    raw.ask(What::FindUsers(wire::FindUsers::default())).await?;
    Ok(())
}
