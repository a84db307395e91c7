//! Draining, and gateways that are restarted one after the other under load.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{PATIENCE, Stage, eventually};
use petrel_tests::fault::{Load, all_answered};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_is_seen_by_nobody() -> Result<()> {
    let stage = Stage::postgres().await?;
    let mut cluster = stage.cluster(3, &[]).await?;
    let people = cluster.people(&stage, &["ann", "bob", "cyd", "dan", "eve", "fay"]).await?;
    let load = Load::start(&people, 40);
    for at in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.record(What::Fault { kind: FaultKind::Drain, detail: format!("gw-{}", at + 1) });
        let status = cluster.gateways[at].terminate().await?;
        ensure!(status.success(), "{status}");
        cluster.gateways[at].restart().await?;
        cluster.linked(2).await?;
    }
    load.stop().await?;
    stage.record(What::Heal);
    all_answered(&people).await?;
    let offline: Vec<_> =
        people.iter().map(|person| person.seen(|seen| seen.offline.len())).collect();
    let expectations = Expectations {
        acks_min: 500,
        delivers_min: 500,
        faults_min: BTreeMap::from([(FaultKind::Drain, 3)]),
        ..Expectations::default()
    };
    let verdict = stage.judge(&cluster.gateways[0], &expectations).await?;
    ensure!(verdict.counts.refused == 0 && verdict.counts.unknown == 0, "{:?}", verdict.counts);
    eprintln!("times that somebody was without a session: {offline:?}");
    ensure!(offline.iter().sum::<usize>() == 0, "somebody was without a session: {offline:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_sends_people_away_at_its_pace_is_shown_and_can_be_taken_back() -> Result<()> {
    let stage = Stage::postgres().await?;
    let cluster = stage.cluster(2, &[]).await?;
    let mut people = Vec::new();
    for n in 0..6 {
        people.push(stage.person_by(cluster.dialer_from(0)?, &format!("user{n}")).await?);
    }
    let (first, second) = (&cluster.gateways[0], &cluster.gateways[1]);
    assert_eq!(sessions(first).await?, 6);
    let started = admin(first, &["admin", "drain", "--rate", "1", "--json"]).await?;
    assert_eq!(started["draining"], true);
    let (status, ready) = first.readyz().await?;
    assert_eq!((status, &ready["draining"]), (503, &serde_json::Value::Bool(true)));
    let look = || async { Ok((sessions(first).await? <= 4).then_some(())) };
    eventually(PATIENCE, "two have gone", look).await?;
    let aborted = admin(first, &["admin", "drain", "abort", "--json"]).await?;
    assert_eq!(aborted["draining"], false);
    assert_eq!(first.readyz().await?.0, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stay = sessions(first).await?;
    ensure!((2..=4).contains(&stay), "{stay} stay");
    admin(first, &["admin", "drain", "--rate", "100", "--json"]).await?;
    let look = || async { Ok((sessions(second).await? == 6).then_some(())) };
    eventually(PATIENCE, "all are at the other one", look).await?;
    let look = || async {
        let status = admin(second, &["cluster", "status", "--json"]).await?;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        Ok(nodes.iter().any(|node| node["state"] == "draining").then_some(()))
    };
    eventually(PATIENCE, "it is listed as draining", look).await?;
    for person in &people {
        ensure!(person.seen(|seen| seen.offline.is_empty()), "somebody was without a session");
    }
    Ok(())
}

async fn sessions(gateway: &petrel_tests::cluster::Gateway) -> Result<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    Ok(gateway.metric("petrel_gateway_sessions", "").await? as u64)
}

/// What the program answers for a gateway.
async fn admin(
    gateway: &petrel_tests::cluster::Gateway,
    arguments: &[&str],
) -> Result<serde_json::Value> {
    let output = gateway.run(arguments).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
