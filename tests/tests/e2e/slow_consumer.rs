//! A client that does not read holds up nobody, and catches up with everything once, in order.

use std::time::Duration;

use anyhow::{Result, bail};
use petrel_proto::wire::frame::What;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::Stage;
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawOptions};

on_both_stores!(a_client_that_does_not_read_holds_up_nobody_and_catches_up);

const MESSAGES: u64 = 1_500;
const PER_SECOND: u64 = 500;

async fn a_client_that_does_not_read_holds_up_nobody_and_catches_up(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&["gateway.send_queue=64KiB"]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let carol = stage.person(&gateway, "carol").await?;
    let slow = gateway.dialer()?.register("slow", "test").await?;
    let tiny = RawOptions { stream_window: 4_096, window: 16_384, ..RawOptions::default() };
    let (raw, _control) = Raw::sign_in_with(&gateway, &slow, &tiny).await?;
    let (mut stream, _) = raw.attach(raw::attach(slow.user, alice.user())).await?;

    let (to_slow, to_carol) = (alice.with_user(slow.user), alice.with(&carol));
    let text = "x".repeat(300);
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut slowest = Duration::ZERO;
    for n in 0..MESSAGES {
        alice.send(&to_slow, format!("{n} {text}"))?;
        if (n + 1) % (PER_SECOND / 50) == 0 {
            tick.tick().await;
        }
        if n % 100 == 0 {
            let began = tokio::time::Instant::now();
            alice.say(&to_carol, format!("meanwhile {n}")).await?;
            slowest = slowest.max(began.elapsed());
        }
    }
    carol.has(to_carol.id, 15).await?;
    assert!(slowest < Duration::from_secs(2), "another conversation waited {slowest:?}");
    alice.until("all acks", |s| (s.acked.len() as u64 >= MESSAGES + 15).then_some(())).await?;
    let behind = gateway.metric("petrel_gateway_send_queue_overflows_total", "").await?;
    assert!(behind > 0.0, "the reader that does not read never fell behind");
    let queued = gateway.metric("petrel_gateway_send_queue_bytes", "").await?;
    assert!(queued <= 3.0 * 65_536.0, "{queued} bytes are queued for a reader that does not read");

    let mut next = 1;
    while next <= MESSAGES {
        match stream.next().await? {
            Some((frame, What::Push(_))) => {
                assert_eq!(frame.seq, next, "each once, in order");
                next += 1;
            }
            Some((_, What::Receipts(_))) => {}
            other => bail!("instead of a push of {next}: {other:?}"),
        }
    }
    assert!(gateway.metric("petrel_gateway_catch_ups_total", "").await? > 0.0);
    let expectations = Expectations { acks_min: MESSAGES, ..Expectations::default() };
    stage.judge(&gateway, &expectations).await?;
    Ok(())
}
