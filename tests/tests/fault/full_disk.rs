//! The file system has no room left for SQLite.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use petrel_tests::fault::{Facts, Load, all_answered, crowd, speak_once_each};

/// What the story is about.
const FULL: Duration = Duration::from_secs(5);
/// What is on its way when it begins or ends is left out.
const MARGIN: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_acknowledges_nothing_and_people_go_on_talking() -> Result<()> {
    let stage = Stage::sqlite()?;
    let mut gateway = stage.gateway(&[]).await?;
    let people = crowd(&stage, &gateway, &["ann", "bob"]).await?;
    let load = Load::start(&people, 50);
    speak_once_each(&people).await?;

    // No file of this process may grow beyond what the database has already.
    file_size_max(&gateway, "1024")?;
    stage.record(What::Fault { kind: FaultKind::StoreStall, detail: "full disk".to_owned() });
    // The time for which there is no room.
    tokio::time::sleep(FULL).await;
    let (status, _) = gateway.readyz().await?;
    stage.record(What::Heal);
    file_size_max(&gateway, "unlimited")?;

    let (first, last) = speak_once_each(&people).await?;
    load.stop().await?;
    all_answered(&people).await?;
    ensure!(gateway.is_running(), "the gateway ended");
    eventually(PATIENCE, "/readyz says ready", || async {
        Ok((gateway.readyz().await?.0 == 200).then_some(()))
    })
    .await?;
    let history = stage.history();
    let full = Facts::of_last(&history, FaultKind::StoreStall, MARGIN).context("no fault")?;
    let previewed = full.previewed(MARGIN);
    eprintln!(
        "full for {FULL:?}: {previewed:?}, acks {}; /readyz {status}; first answer \
         {first:?} after its end, all {last:?}",
        full.acks()
    );
    let verdict = stage
        .judge(
            &gateway,
            &Expectations {
                acks_min: 500,
                delivers_min: 500,
                previews_min: 300,
                faults_min: BTreeMap::from([(FaultKind::StoreStall, 1)]),
                ..Expectations::default()
            },
        )
        .await?;
    ensure!(status == 503, "/readyz says {status} while nothing can be stored");
    ensure!(full.acks() == 0, "{} acknowledged without room to store them", full.acks());
    ensure!(previewed.in_time * 100 >= previewed.sent * 99, "{previewed:?}");
    ensure!(verdict.counts.unknown == 0 && verdict.counts.refused == 0, "{:?}", verdict.counts);
    Ok(())
}

/// Limits what the files of a running gateway may grow to, in bytes.
fn file_size_max(gateway: &Gateway, bytes: &str) -> Result<()> {
    let pid = gateway.pid().context("the gateway does not run")?.to_string();
    let limit = format!("--fsize={bytes}:");
    let status = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    ensure!(status.context("prlimit (package util-linux)")?.success(), "prlimit failed");
    Ok(())
}
