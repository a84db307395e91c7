//! One gateway a SQLite database.

use std::time::Duration;

use anyhow::{Result, ensure};
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{Stage, binary};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gateway_on_one_sqlite_database_is_refused_and_does_no_harm() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let (ann, bob) = (stage.person(&gateway, "ann").await?, stage.person(&gateway, "bob").await?);
    let pair = ann.with(&bob);
    ann.say(&pair, "before").await?;

    let mut second = tokio::process::Command::new(binary()?);
    second.kill_on_drop(true).current_dir(gateway.data_dir()).arg("serve");
    for setting in [
        format!("data_dir={}", gateway.data_dir().display()),
        "gateway.listen=127.0.0.1:0".to_owned(),
        "admin.listen=127.0.0.1:0".to_owned(),
    ] {
        second.arg("--set").arg(setting);
    }
    let ended = tokio::time::timeout(Duration::from_secs(10), second.output()).await??;
    let said = String::from_utf8_lossy(&ended.stderr);
    eprintln!("the second gateway ends with {} and says: {}", ended.status, said.trim());
    ensure!(!ended.status.success(), "it ended with {}", ended.status);
    ensure!(said.contains(".lock") && said.contains("gateway"), "it says: {said}");

    ann.say(&pair, "after").await?;
    bob.has(pair.id, 2).await?;
    stage.judge(&gateway, &Expectations { acks_min: 2, ..Expectations::default() }).await?;
    Ok(())
}
