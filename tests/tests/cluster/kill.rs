//! kill -9 of one gateway after the other, with messages between admission and answer. People at other gateways notice
//! nothing, the killed one's clients go on elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{Person, Signal, Stage};
use petrel_tests::fault::{Load, all_answered};

/// How often.
const KILLS: usize = 50;
/// Messages per second of each of the six.
const EACH_PER_S: u32 = 40;
/// Messages of each that are on their way when the kill comes.
const BURST: usize = 250;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_lose_and_double_nothing_and_clients_go_on_elsewhere() -> Result<()> {
    let stage = Stage::postgres().await?;
    let mut cluster = stage.cluster(3, &[]).await?;
    let people = cluster.people(&stage, &["ann", "bob", "cyd", "dan", "eve", "fay"]).await?;
    let load = Load::start(&people, EACH_PER_S);
    let mut found_stored = 0.0;
    let mut back = Vec::new();
    for n in 0..KILLS {
        let at = n % cluster.gateways.len();
        let address = cluster.gateways[at].quic;
        // Resends that the store knew already: they were committed, and a kill came before the answer.
        found_stored += cluster.gateways[at].metric("petrel_storage_duplicates_total", "").await?;
        let burst = load.burst(BURST)?;
        let (watched, _) = burst.get(n % people.len()).context("nobody sent")?;
        watched
            .until("the first answer to a burst", |seen| {
                burst.iter().any(|(_, id)| seen.acked.contains_key(id)).then_some(())
            })
            .await?;
        let theirs: Vec<_> = people.iter().filter(|p| p.client.server() == Some(address)).collect();
        let others: Vec<_> = people
            .iter()
            .filter(|p| p.client.server() != Some(address))
            .map(|p| (p, p.client.stats().reconnects))
            .collect();
        cluster.gateways[at].signal(Signal::Kill)?;
        stage.record(What::Fault {
            kind: FaultKind::Kill,
            detail: format!("kill {n} of gw-{}", at + 1),
        });
        let killed = Instant::now();
        cluster.gateways[at].wait(Duration::from_secs(10)).await?;
        for person in &theirs {
            back.push(speaks_again(person, &people, killed).await?);
        }
        for (person, reconnects) in others {
            let now = person.client.stats().reconnects;
            ensure!(
                now == reconnects,
                "somebody elsewhere reconnected {now} times, before {reconnects}"
            );
        }
        cluster.gateways[at].restart().await?;
        cluster.linked(2).await?;
    }
    load.stop().await?;
    stage.record(What::Heal);
    all_answered(&people).await?;
    found_stored += cluster.metric("petrel_storage_duplicates_total", "").await;
    let expectations = Expectations {
        acks_min: 5_000,
        delivers_min: 5_000,
        faults_min: BTreeMap::from([(FaultKind::Kill, u64::try_from(KILLS)?)]),
        in_flight_at_kill_min: 1,
        ..Expectations::default()
    };
    let verdict = stage.judge(&cluster.gateways[0], &expectations).await?;
    let repaired = cluster.metric("petrel_cluster_journal_repairs_total", "").await;
    back.sort();
    eprintln!(
        "{KILLS} kills: {} messages; {found_stored} resends were found stored; {repaired} repairs by the journals at the end; \
         clients of a killed gateway had an answer elsewhere after {:?} (median), {:?} (worst), {} times",
        verdict.counts.acks,
        back.get(back.len() / 2),
        back.last(),
        back.len(),
    );
    ensure!(verdict.counts.unknown == 0 && verdict.counts.refused == 0, "{:?}", verdict.counts);
    ensure!(
        found_stored >= 5.0,
        "{found_stored} messages only were stored and unanswered when a kill came"
    );
    ensure!(back.len() >= KILLS, "{} clients only were at a gateway that was killed", back.len());
    Ok(())
}

/// Says something new and waits for its answer; how long after the kill it came.
async fn speaks_again(
    person: &Person,
    people: &[std::sync::Arc<Person>],
    killed: Instant,
) -> Result<Duration> {
    let peer = people.iter().find(|peer| peer.user() != person.user()).context("alone")?;
    person.say(&person.with(peer), "elsewhere").await?;
    Ok(killed.elapsed())
}
