//! Chat between people at different gateways.

use anyhow::{Result, ensure};
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::What;
use petrel_tests::cluster::Stage;
use petrel_tests::fault::{Load, all_answered};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_at_one_gateway_is_pushed_at_the_others_by_links_alone() -> Result<()> {
    let stage = Stage::postgres().await?;
    let cluster = stage.cluster(3, &[]).await?;
    let people = cluster.people(&stage, &["ann", "bob", "cyd", "dan", "eve", "fay"]).await?;
    let load = Load::start(&people, 30);
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    load.stop().await?;
    stage.record(What::Heal);
    all_answered(&people).await?;
    let expectations = Expectations { acks_min: 400, delivers_min: 400, ..Expectations::default() };
    for gateway in &cluster.gateways {
        stage.judge(gateway, &expectations).await?;
    }
    let sent = cluster.metric("petrel_cluster_entries_sent_total", r#"fate="sent""#).await;
    let left_out = cluster.metric("petrel_cluster_entries_sent_total", r#"fate="left_out""#).await;
    let repaired = cluster.metric("petrel_cluster_journal_repairs_total", "").await;
    let rows = cluster.metric("petrel_cluster_journal_rows_total", "").await;
    eprintln!(
        "{sent} entries by links, {left_out} left out, {rows} rows of the journal, {repaired} repairs"
    );
    ensure!(sent >= 300.0 && left_out == 0.0 && rows > 0.0, "{sent} {left_out} {rows}");
    // The first word of a pair may come before a route is known.
    ensure!(repaired <= 5.0, "{repaired} repairs in health");
    Ok(())
}
