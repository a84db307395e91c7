//! The database hangs: people go on talking by previews.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{PATIENCE, Stage, eventually};
use petrel_tests::fault::{Facts, Load, all_answered, crowd, speak_once_each};

/// What the story is about.
const STALL: Duration = Duration::from_secs(20);
/// Of each of the two: 100 messages per second in all.
const EACH_PER_S: u32 = 50;
/// What is on its way when the stall begins or ends is left out.
const MARGIN: Duration = Duration::from_millis(500);
/// From a send to its preview: previews start when a commit is 50 ms old.
const PREVIEW_WITHIN: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_go_on_talking_while_postgresql_hangs_for_twenty_seconds() -> Result<()> {
    let mut stage = Stage::postgres().await?;
    let gateway = stage.gateway(&[]).await?;
    let people = crowd(&stage, &gateway, &["ann", "bob"]).await?;
    let load = Load::start(&people, EACH_PER_S);
    speak_once_each(&people).await?;

    stage.postgres_server().context("no server")?.pause()?;
    stage.record(What::Fault { kind: FaultKind::StoreStall, detail: "SIGSTOP".to_owned() });
    let stalled = tokio::time::Instant::now();
    eventually(PATIENCE, "/readyz says that the store does not answer", || async {
        let (status, body) = gateway.readyz().await?;
        Ok((status == 503 && body["storage"]["reachable"] == false).then_some(()))
    })
    .await?;
    let noticed = stalled.elapsed();
    // The stall itself: the only time in this story that passes without an event.
    tokio::time::sleep_until(stalled + STALL).await;
    stage.record(What::Heal);
    stage.postgres_server().context("no server")?.unpause()?;

    let (first, last) = speak_once_each(&people).await?;
    eventually(PATIENCE, "/readyz says ready", || async {
        Ok((gateway.readyz().await?.0 == 200).then_some(()))
    })
    .await?;
    load.stop().await?;
    all_answered(&people).await?;
    let verdict = stage
        .judge(
            &gateway,
            &Expectations {
                acks_min: 2_000,
                delivers_min: 2_000,
                previews_min: 1_500,
                faults_min: BTreeMap::from([(FaultKind::StoreStall, 1)]),
                ..Expectations::default()
            },
        )
        .await?;

    let history = stage.history();
    let stall = Facts::of_last(&history, FaultKind::StoreStall, MARGIN).context("no stall")?;
    let previewed = stall.previewed(PREVIEW_WITHIN);
    eprintln!(
        "stalled {STALL:?}: /readyz after {noticed:?}, {previewed:?}, acks {}, deliveries {}; \
         first answer {first:?} after its end, all {last:?}",
        stall.acks(),
        stall.delivers(),
    );
    ensure!(previewed.sent >= 1_800, "{} messages only", previewed.sent);
    ensure!(previewed.in_time * 100 >= previewed.sent * 99, "{previewed:?}");
    ensure!(stall.acks() == 0, "{} acknowledged while nothing was stored", stall.acks());
    ensure!(stall.delivers() == 0, "{} delivered while nothing was stored", stall.delivers());
    ensure!(verdict.counts.unknown == 0 && verdict.counts.refused == 0, "{:?}", verdict.counts);
    Ok(())
}
