//! One gateway is stopped in its tracks; another one writes the same conversations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{Gateway, Signal, Stage, Store};
use petrel_tests::fault::{Facts, Load, all_answered, crowd, speak_once_each};

/// What the story is about.
const PAUSE: Duration = Duration::from_secs(10);
/// Locks are looked at this often meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A message through the other gateway waits at the most so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_gateway_holds_no_lock_and_comes_back_with_its_batch() -> Result<()> {
    let stage = Stage::postgres().await?;
    let mut stopped = stage.gateway(&[]).await?;
    let other = stopped.beside(&[]).await?;
    // The same two people, each with a device at either gateway.
    let here = crowd(&stage, &stopped, &["ann", "bob"]).await?;
    let mut there = Vec::new();
    for person in &here {
        there.push(Arc::new(stage.device(&other, &person.identity).await?));
    }
    let (load, beside) = (Load::start(&here, 100), Load::start(&there, 50));
    speak_once_each(&here).await?;
    speak_once_each(&there).await?;

    load.burst(50)?;
    stopped.signal(Signal::Pause)?;
    stage.record(What::Fault { kind: FaultKind::Pause, detail: "SIGSTOP".to_owned() });
    let longest = watch_locks(&stage, &stopped).await?;
    stage.record(What::Heal);
    stopped.signal(Signal::Continue)?;

    let (first, last) = speak_once_each(&here).await?;
    load.stop().await?;
    beside.stop().await?;
    all_answered(&here).await?;
    all_answered(&there).await?;
    // What went through one gateway reaches the other's clients with its own next entry.
    speak_once_each(&here).await?;
    speak_once_each(&there).await?;
    let pair = there[0].with(&there[1]).id;
    for person in &there {
        let head = person.seen(|seen| seen.acked.values().map(|a| a.seq).max()).unwrap_or(0);
        person
            .until("what went through the other gateway", |seen| {
                (*seen.position.get(&pair)? >= head).then_some(())
            })
            .await?;
    }
    let history = stage.history();
    let pause = Facts::of_last(&history, FaultKind::Pause, Duration::ZERO).context("no pause")?;
    let mut slowest = Vec::new();
    for person in &there {
        slowest.push(pause.answers(person.session()));
    }
    let again = stopped.metric("petrel_storage_duplicates_total", "").await?;
    eprintln!(
        "paused {PAUSE:?}: through the other gateway (answers, slowest) {slowest:?}; longest lock \
         {longest:?}; the first answered {first:?} after it, all {last:?}; {again} duplicates"
    );
    for person in there {
        Arc::into_inner(person).context("somebody still holds a client")?.leave().await;
    }
    speak_once_each(&here).await?;
    let verdict = stage
        .judge(
            &stopped,
            &Expectations {
                acks_min: 1_000,
                delivers_min: 1_000,
                faults_min: BTreeMap::from([(FaultKind::Pause, 1)]),
                liveness_ms: Some(20_000),
                ..Expectations::default()
            },
        )
        .await?;
    ensure!(slowest.iter().all(|(count, worst)| *count > 200 && *worst <= ANSWER_WITHIN));
    ensure!(again >= 1.0, "nothing of the stopped gateway's was stored and unanswered");
    ensure!(longest <= ANSWER_WITHIN, "a lock was held for {longest:?}");
    ensure!(verdict.counts.unknown == 0 && verdict.counts.refused == 0, "{:?}", verdict.counts);
    Ok(())
}

/// For the length of the pause: the longest that a transaction of a gateway's has held its row
/// locks.
async fn watch_locks(stage: &Stage, gateway: &Gateway) -> Result<Duration> {
    let Store::Postgres(server) = &stage.store else { bail!("no server") };
    let url = gateway.storage_url.as_deref().context("no URL")?;
    let (_, database) = url.rsplit_once('/').context("no database")?;
    let writing = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - a.xact_start)), 0) \
        FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
        WHERE a.application_name = 'petrel' AND l.granted AND l.locktype = 'transactionid'";
    let end = tokio::time::Instant::now() + PAUSE;
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut longest = Duration::ZERO;
    while tokio::time::Instant::now() < end {
        look.tick().await;
        let held = tokio::task::block_in_place(|| server.sql(database, writing))?;
        longest = longest.max(Duration::from_secs_f64(held.trim().parse()?));
    }
    Ok(longest)
}
