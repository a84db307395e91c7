//! kill -9 of the gateway, again and again, with messages between admission and answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{Gateway, Signal, Stage};
use petrel_tests::fault::{Load, all_answered, crowd, speak_once_each};
use petrel_tests::on_both_stores;

/// How often.
const KILLS: u64 = 20;
/// Messages per second of each of the six.
const EACH_PER_S: u32 = 50;
/// Messages of each that are on their way when the kill comes.
const BURST: usize = 300;

on_both_stores!(twenty_kills_under_load_lose_and_double_nothing);

async fn twenty_kills_under_load_lose_and_double_nothing(stage: Stage) -> Result<()> {
    let mut gateway = stage.gateway(&[]).await?;
    let people = crowd(&stage, &gateway, &["ann", "bob", "cyd", "dan", "eve", "fay"]).await?;
    let load = Load::start(&people, EACH_PER_S);

    // Of each gateway process: resends that the store knew already. They were committed, and
    // the kill came before the answer.
    let mut found_stored = Vec::new();
    let mut back: Vec<[Duration; 3]> = Vec::new();
    for n in 0..KILLS {
        found_stored.push(duplicates(&gateway).await?);
        kill_with_answers_under_way(&stage, &mut gateway, &load, n).await?;
        let killed = Instant::now();
        gateway.restart().await?;
        let serving = killed.elapsed();
        let (first, last) = speak_once_each(&people).await?;
        back.push([serving, first, last]);
    }
    load.stop().await?;
    stage.record(What::Heal);
    all_answered(&people).await?;
    found_stored.push(duplicates(&gateway).await?);

    let verdict = stage
        .judge(
            &gateway,
            &Expectations {
                acks_min: KILLS * 100,
                delivers_min: KILLS * 100,
                resumes_min: KILLS,
                faults_min: BTreeMap::from([(FaultKind::Kill, KILLS)]),
                in_flight_at_kill_min: 10,
                ..Expectations::default()
            },
        )
        .await?;
    let counts = &verdict.counts;
    let resends: u64 = people.iter().map(|person| person.client.stats().resends).sum();
    let stored: u64 = found_stored.iter().sum();
    eprintln!(
        "{} kills: {} messages, {resends} sent again, of which {stored} had been stored before \
         (in {} of the kills); fewest in flight at a kill: {:?}",
        KILLS,
        counts.acks,
        found_stored.iter().filter(|found| **found > 0).count(),
        counts.in_flight_at_kill,
    );
    for (at, what) in ["kill to serving", "serving to first answer", "serving to last answer"]
        .into_iter()
        .enumerate()
    {
        let mut times: Vec<Duration> = back.iter().map(|times| times[at]).collect();
        times.sort();
        eprintln!(
            "{what}: median {:?}, worst {:?}",
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
    ensure!(counts.unknown == 0 && counts.refused == 0, "{counts:?}");
    ensure!(resends >= KILLS * 10, "{resends} resends only");
    ensure!(stored >= 5, "{stored} messages only were stored and unanswered when a kill came");
    Ok(())
}

/// Everybody sends a burst; the first answer to it says that its commits have begun, and the
/// gateway is killed.
async fn kill_with_answers_under_way(
    stage: &Stage,
    gateway: &mut Gateway,
    load: &Load,
    n: u64,
) -> Result<()> {
    let burst = load.burst(BURST)?;
    let (watched, _) = burst.get(usize::try_from(n)? % 6).context("nobody sent")?;
    watched
        .until("the first answer to a burst", |seen| {
            burst.iter().any(|(_, id)| seen.acked.contains_key(id)).then_some(())
        })
        .await?;
    gateway.signal(Signal::Kill)?;
    stage.record(What::Fault { kind: FaultKind::Kill, detail: format!("kill {n}") });
    gateway.wait(Duration::from_secs(10)).await?;
    Ok(())
}

async fn duplicates(gateway: &Gateway) -> Result<u64> {
    let found = gateway.metric("petrel_storage_duplicates_total", "").await?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    Ok(found as u64)
}
