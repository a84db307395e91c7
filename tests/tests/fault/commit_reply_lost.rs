//! The database commits, and the answer is lost with its connection.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{Gateway, Stage, Storage, Store};
use petrel_tests::fault::{Load, TcpProxy, all_answered, crowd, speak_once_each};

/// Answers that are lost.
const LOSSES: u64 = 10;
/// From a lost answer until all that waited is answered.
const BACK_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found_and_acknowledged_once() -> Result<()> {
    let stage = Stage::postgres().await?;
    let Store::Postgres(server) = &stage.store else { bail!("no server") };
    let proxy = TcpProxy::start(server.port(), "append_messages").await?;
    server.create_database("proxied")?;
    let url = server
        .url("proxied")
        .replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port));
    let gateway = Gateway::start(Storage::Url(&format!("{url}?sslmode=disable")), &[]).await?;
    let people = crowd(&stage, &gateway, &["ann", "bob", "cyd", "dan"]).await?;
    let load = Load::start(&people, 75);

    let mut slowest = Duration::ZERO;
    let mut lost = proxy.lost();
    for n in 1..=LOSSES {
        speak_once_each(&people).await?;
        proxy.lose_next_answer();
        load.burst(10)?;
        tokio::time::timeout(Duration::from_secs(10), lost.wait_for(|lost| *lost >= n)).await??;
        stage.record(What::Fault { kind: FaultKind::Cut, detail: format!("commit {n}") });
        let (_, last) = speak_once_each(&people).await?;
        slowest = slowest.max(last);
    }
    load.stop().await?;
    stage.record(What::Heal);
    all_answered(&people).await?;

    let duplicates = gateway.metric("petrel_storage_duplicates_total", "").await?;
    let retries = gateway.metric("petrel_storage_retries_total", "").await?;
    let deliveries = gateway.metric("petrel_gateway_deliveries_total", "").await?;
    let verdict = stage
        .judge(
            &gateway,
            &Expectations {
                acks_min: 500,
                delivers_min: 500,
                faults_min: BTreeMap::from([(FaultKind::Cut, LOSSES)]),
                ..Expectations::default()
            },
        )
        .await?;
    let stats: Vec<_> = people.iter().map(|person| person.client.stats()).collect();
    let [resends, repeats] =
        [stats.iter().map(|s| s.resends).sum::<u64>(), stats.iter().map(|s| s.duplicates).sum()];
    eprintln!(
        "{LOSSES} lost answers: {} messages, {duplicates} found stored by {retries} further \
         tries, {deliveries} deliveries, {repeats} repeated; answered within {slowest:?}",
        verdict.counts.acks,
    );
    // Repeats are told, not judged: a stream that both sides open at once may bring an entry
    // twice (docs/protocol.md §5). That nothing is handed out twice is the checker's to judge.
    ensure!(proxy.refusals() == 0, "{} batches were refused", proxy.refusals());
    ensure!(retries >= 10.0 && duplicates >= 10.0, "{retries} tries, {duplicates} duplicates");
    ensure!(resends == 0, "a client sent {resends} messages again");
    ensure!(slowest <= BACK_WITHIN, "answered after {slowest:?}");
    ensure!(verdict.counts.unknown == 0 && verdict.counts.refused == 0, "{:?}", verdict.counts);
    Ok(())
}
