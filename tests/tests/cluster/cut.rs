//! The way between two gateways is cut, and clients notice a second or two of delay at the most: the journal.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use petrel_loadtest::link::{Link, Profile};
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::Stage;
use petrel_tests::fault::{Load, all_answered};

/// For so long.
const CUT: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_link_entries_come_by_the_journal_within_two_seconds() -> Result<()> {
    let stage = Stage::postgres().await?;
    // Each of the two is reached by way of a relay that can be cut.
    let mut relays = Vec::new();
    let mut settings = Vec::new();
    for _ in 0..2 {
        let listens = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let near = Profile::parse("clean,delay=1ms").map_err(anyhow::Error::msg)?;
        let relay = Link::start(&near, (Ipv4Addr::LOCALHOST, 0).into(), listens, 7)?;
        settings.push([
            format!("cluster.listen={listens}"),
            format!("cluster.advertise={}", relay.address()),
        ]);
        relays.push(relay);
    }
    let cluster = stage.cluster_of(&settings).await?;
    let alice = stage.person(&cluster.gateways[0], "alice").await?;
    let bob = stage.person(&cluster.gateways[1], "bob").await?;
    let pair = alice.with(&bob);
    alice.say(&pair, "by a link").await?;
    bob.has(pair.id, 1).await?;
    let people = vec![alice.into(), bob.into()];
    let load = Load::start(&people, 20);
    for relay in &relays {
        relay.black_out(CUT);
    }
    stage.record(What::Fault {
        kind: FaultKind::Cut,
        detail: "both ways between gw-1 and gw-2".into(),
    });
    let cut = Instant::now();
    tokio::time::sleep(Duration::from_secs(7)).await;
    load.stop().await?;
    all_answered(&people).await?;
    // A last word in a quiet conversation: nothing is under way behind it that would show that it is missing.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let id = people[0].send(&people[0].with(&people[1]), "a last word")?;
    let seq = people[0].placed(id).await?;
    let said = Instant::now();
    people[1].has(pair.id, usize::try_from(seq)?).await?;
    let late = said.elapsed();
    ensure!(cut.elapsed() < CUT, "the cut was over");
    eprintln!("the last word of a quiet conversation came {late:?} after its commit");
    ensure!(late < Duration::from_secs(4), "{late:?}");
    let repaired = cluster.metric("petrel_cluster_journal_repairs_total", "").await;
    ensure!(repaired > 0.0, "{repaired} repairs");
    let degraded = cluster.gateways[0].readyz().await?;
    ensure!(degraded.0 == 200, "a gateway without links serves on: {degraded:?}");
    ensure!(degraded.1["degraded"].to_string().contains("links"), "{degraded:?}");
    cluster.linked(1).await?;
    stage.record(What::Heal);
    all_answered(&people).await?;
    let expectations = Expectations {
        acks_min: 200,
        delivers_min: 200,
        faults_min: BTreeMap::from([(FaultKind::Cut, 1)]),
        ..Expectations::default()
    };
    stage.judge(&cluster.gateways[0], &expectations).await?;
    stage.judge(&cluster.gateways[1], &expectations).await.map(drop)
}
