//! Services and processes misbehave under a cluster: Redis, the database, a gateway that stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use petrel_storage::redis::testing::PrivateRedis;
use petrel_storage::testing::Stop;
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{PATIENCE, Signal, Stage, Storage, eventually};
use petrel_tests::fault::{Load, TcpProxy, all_answered, speak_once_each};

fn expectations(fault: FaultKind, times: u64) -> Expectations {
    Expectations {
        acks_min: 300,
        delivers_min: 300,
        faults_min: BTreeMap::from([(fault, times)]),
        ..Expectations::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_at_two_gateways_notices_what_redis_does() -> Result<()> {
    let stage = Stage::postgres().await?;
    let mut redis = tokio::task::spawn_blocking(PrivateRedis::start).await??;
    let url = format!("redis.url={}", redis.url());
    let mut cluster = stage.cluster(2, &[&url, "redis.lease=2s"]).await?;
    let people = cluster.people(&stage, &["ann", "bob", "cyd", "dan"]).await?;
    let load = Load::start(&people, 30);
    let fault = |detail: &str| {
        stage.record(What::Fault { kind: FaultKind::RedisLoss, detail: detail.to_owned() });
    };
    fault("FLUSHALL");
    redis.ask(&["FLUSHALL"])?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let listed = || async {
        let mut known = BTreeSet::new();
        for key in redis.ask(&["KEYS", "petrel:petrel:a:*"])? {
            let about: serde_json::Value =
                serde_json::from_str(&redis.ask(&["GET", &key])?.concat())?;
            let has_address =
                about["address"].as_str().is_some_and(|at| at.starts_with("127.0.0.1:"));
            ensure!(has_address && about["state"] == "serving", "{about}");
            known.insert(about["name"].to_string());
        }
        Ok((known.len() == cluster.gateways.len()).then_some(()))
    };
    eventually(PATIENCE, "both gateways in Redis's list", listed).await?;
    fault("killed for ten seconds, a gateway started meanwhile");
    redis.stop()?;
    let (first, _) = speak_once_each(&people).await?;
    ensure!(first < Duration::from_secs(2), "{first:?}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.gateways[1].terminate().await?;
    cluster.gateways[1].restart().await?;
    cluster.linked(1).await?;
    speak_once_each(&people).await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let ready = cluster.gateways[0].readyz().await?;
    ensure!(ready.0 == 200 && ready.1["degraded"].to_string().contains("redis"), "{ready:?}");
    redis.start_again()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.stop().await?;
    stage.record(What::Heal);
    all_answered(&people).await?;
    stage.judge(&cluster.gateways[0], &expectations(FaultKind::RedisLoss, 2)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stands_still_for_ten_seconds_delays_its_own_clients_alone() -> Result<()> {
    let stage = Stage::postgres().await?;
    let mut cluster = stage.cluster(3, &[]).await?;
    let people = cluster.people(&stage, &["ann", "bob", "cyd", "dan", "eve", "fay"]).await?;
    let load = Load::start(&people, 30);
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.record(What::Fault { kind: FaultKind::Pause, detail: "gw-1".to_owned() });
    let stopped = cluster.gateways[0].quic;
    cluster.gateways[0].signal(Signal::Pause)?;
    // People elsewhere talk with each other as if nothing was; ten times.
    let elsewhere: Vec<_> = people.iter().filter(|p| p.client.server() != Some(stopped)).collect();
    let (one, other) = (elsewhere.first().context("nobody")?, elsewhere.last().context("nobody")?);
    let mut slowest = Duration::ZERO;
    for n in 0..10 {
        let began = std::time::Instant::now();
        one.say(&one.with(other), format!("still here {n}")).await?;
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    cluster.gateways[0].signal(Signal::Continue)?;
    ensure!(slowest < Duration::from_secs(2), "{slowest:?} for people at gateways that run");
    load.stop().await?;
    cluster.linked(2).await?;
    stage.record(What::Heal);
    all_answered(&people).await?;
    let verdict = stage.judge(&cluster.gateways[1], &expectations(FaultKind::Pause, 1)).await?;
    eprintln!("slowest answer elsewhere: {slowest:?}; {} messages", verdict.counts.acks);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_fails_over_to_its_synchronous_standby() -> Result<()> {
    let mut stage = Stage::postgres().await?;
    let server = stage.postgres_server().context("no PostgreSQL")?;
    let name = "petrel_failover";
    server.create_database(name)?;
    let (primary, url) = (server.port(), server.url(name));
    let standby = server.standby()?;
    // What an operator has: an address that follows the primary.
    let follows = TcpProxy::start(primary, "append_").await?;
    let url = url.replace(&format!(":{primary}/"), &format!(":{}/", follows.port));
    let url = format!("{url}?sslmode=disable");
    let cluster = stage.cluster_on(Storage::Url(&url), &[[], []] as &[[String; 0]]).await?;
    let people = cluster.people(&stage, &["ann", "bob", "cyd", "dan"]).await?;
    let load = Load::start(&people, 30);
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage.record(What::Fault { kind: FaultKind::StoreRestart, detail: "failover".to_owned() });
    // The old one lives on and refuses to write; the new one takes over.
    stage.postgres_server().context("no PostgreSQL")?.read_only(true)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    standby.promote()?;
    follows.turn_to(standby.port());
    let (first, last) = speak_once_each(&people).await?;
    eprintln!("first answer {first:?}, last answer {last:?} after the new primary took over");
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.stop().await?;
    stage.record(What::Heal);
    all_answered(&people).await?;
    stage.judge(&cluster.gateways[0], &expectations(FaultKind::StoreRestart, 1)).await?;
    stage.judge(&cluster.gateways[1], &expectations(FaultKind::StoreRestart, 1)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_restarted_under_two_gateways() -> Result<()> {
    let mut stage = Stage::postgres().await?;
    let cluster = stage.cluster(2, &[]).await?;
    let people = cluster.people(&stage, &["ann", "bob", "cyd", "dan"]).await?;
    let load = Load::start(&people, 30);
    for n in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.record(What::Fault { kind: FaultKind::StoreRestart, detail: format!("restart {n}") });
        stage.postgres_server().context("no PostgreSQL")?.restart(Stop::Fast)?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.stop().await?;
    stage.record(What::Heal);
    all_answered(&people).await?;
    stage.judge(&cluster.gateways[0], &expectations(FaultKind::StoreRestart, 3)).await?;
    stage.judge(&cluster.gateways[1], &expectations(FaultKind::StoreRestart, 3)).await.map(drop)
}
