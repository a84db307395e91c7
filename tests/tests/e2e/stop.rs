//! Stopping gracefully, and at once.

use std::time::Duration;

use anyhow::Result;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{PATIENCE, Signal, Stage, eventually};
use petrel_tests::on_both_stores;

on_both_stores!(a_stop_under_load_answers_what_it_took_and_ends_with_0);

async fn a_stop_under_load_answers_what_it_took_and_ends_with_0(stage: Stage) -> Result<()> {
    let mut gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let (to_bob, to_alice) = (alice.with(&bob), bob.with(&alice));
    let (status, ready) = gateway.readyz().await?;
    assert_eq!((status, ready["ready"].as_bool()), (200, Some(true)), "{ready}");

    let mut tick = tokio::time::interval(Duration::from_millis(5));
    for n in 0..200 {
        alice.send(&to_bob, format!("alice {n}"))?;
        bob.send(&to_alice, format!("bob {n}"))?;
        tick.tick().await;
        if n == 100 {
            gateway.signal(Signal::Terminate)?;
            let draining = || async {
                Ok(match gateway.readyz().await {
                    Ok((status, told)) => (status == 503 && told["draining"] == true).then_some(()),
                    // It has ended already: that may take less time than a look.
                    Err(_) => Some(()),
                })
            };
            eventually(PATIENCE, "/readyz says draining", draining).await?;
        }
    }
    let status = gateway.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(0), "{status}");
    gateway.restart().await?;
    for person in [&alice, &bob] {
        person.until("all answers", |s| (s.acked.len() >= 200).then_some(())).await?;
        person.has(to_bob.id, 400).await?;
        assert!(person.seen(|s| s.sign_ins) >= 2);
    }
    let expectations = Expectations { acks_min: 400, resumes_min: 1, ..Expectations::default() };
    stage.judge(&gateway, &expectations).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_stop_that_waits_for_the_store() -> Result<()> {
    let mut stage = Stage::postgres().await?;
    let mut gateway = stage.gateway(&["gateway.drain_timeout=60s"]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let pair = alice.with(&bob);
    // On the screen, so that it is attached again when he comes back.
    bob.attach(&bob.with(&alice), None)?;
    alice.say(&pair, "stored").await?;
    stage.postgres_server().unwrap().pause()?;
    alice.send(&pair, "under way")?;
    let in_channel = || async {
        Ok((gateway.metric("petrel_storage_channel_units", "").await? > 0.0).then_some(()))
    };
    eventually(PATIENCE, "a message in the channel", in_channel).await?;

    gateway.signal(Signal::Terminate)?;
    let draining = || async { Ok((gateway.readyz().await?.0 == 503).then_some(())) };
    eventually(PATIENCE, "/readyz says draining", draining).await?;
    gateway.signal(Signal::Terminate)?;
    let status = gateway.wait(Duration::from_secs(5)).await?;
    assert_ne!(status.code(), Some(0), "{status}");

    stage.postgres_server().unwrap().unpause()?;
    gateway.restart().await?;
    bob.has(pair.id, 2).await?;
    stage.judge(&gateway, &Expectations { acks_min: 2, ..Expectations::default() }).await?;
    Ok(())
}
