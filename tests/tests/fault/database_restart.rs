//! The database restarts, in good order and as after a crash.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use petrel_storage::testing::Stop;
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{PATIENCE, Stage, eventually};
use petrel_tests::fault::{Load, all_answered, crowd, speak_once_each};

/// Restarts of each story.
const RESTARTS: u64 = 3;
/// After a restart, until everybody is answered.
const BACK_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_goes_on_after_fast_restarts_of_postgresql() -> Result<()> {
    chat_goes_on_after(Stop::Fast).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_goes_on_after_crashes_of_postgresql() -> Result<()> {
    chat_goes_on_after(Stop::Immediate).await
}

async fn chat_goes_on_after(stop: Stop) -> Result<()> {
    let mut stage = Stage::postgres().await?;
    let mut gateway = stage.gateway(&[]).await?;
    let people = crowd(&stage, &gateway, &["ann", "bob", "cyd", "dan"]).await?;
    let load = Load::start(&people, 75);
    let mut back = Vec::new();
    for n in 0..RESTARTS {
        speak_once_each(&people).await?;
        let burst = load.burst(20)?;
        let (watched, _) = burst.first().context("nobody sent")?;
        watched
            .until("the first answer to a burst", |seen| {
                burst.iter().any(|(_, id)| seen.acked.contains_key(id)).then_some(())
            })
            .await?;
        stage
            .record(What::Fault { kind: FaultKind::StoreRestart, detail: format!("{stop:?} {n}") });
        let began = Instant::now();
        let server = stage.postgres_server().context("no server")?;
        tokio::task::block_in_place(|| server.restart(stop))?;
        let down = began.elapsed();
        let (first, last) = speak_once_each(&people).await?;
        eprintln!(
            "{stop:?}: down for {down:?}, then first answer {first:?}, all answered {last:?}"
        );
        back.push(last);
    }
    load.stop().await?;
    stage.record(What::Heal);
    all_answered(&people).await?;
    ensure!(gateway.is_running(), "the gateway ended");
    eventually(PATIENCE, "/readyz says ready", || async {
        Ok((gateway.readyz().await?.0 == 200).then_some(()))
    })
    .await?;

    let retries = gateway.metric("petrel_storage_retries_total", "").await?;
    let verdict = stage
        .judge(
            &gateway,
            &Expectations {
                acks_min: RESTARTS * 100,
                delivers_min: RESTARTS * 100,
                faults_min: BTreeMap::from([(FaultKind::StoreRestart, RESTARTS)]),
                ..Expectations::default()
            },
        )
        .await?;
    eprintln!("{stop:?}: {} messages, {retries} batches tried again", verdict.counts.acks);
    ensure!(retries >= 1.0, "no batch met a restart");
    ensure!(verdict.counts.unknown == 0 && verdict.counts.refused == 0, "{:?}", verdict.counts);
    ensure!(back.iter().all(|last| *last <= BACK_WITHIN), "back after {back:?}");
    ensure!(
        people.iter().all(|person| person.seen(|seen| seen.sign_ins) == 1),
        "a client lost its connection because the database did"
    );
    Ok(())
}
