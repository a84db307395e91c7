//! What nobody keeps, told across gateways: who is there, who types, previews; and receipts.

use std::time::Duration;

use anyhow::Result;
use petrel_tests::cluster::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_there_and_who_types_is_told_at_other_gateways() -> Result<()> {
    let stage = Stage::postgres().await?;
    let cluster = stage.cluster(2, &[]).await?;
    let alice = stage.person(&cluster.gateways[0], "alice").await?;
    let bob = stage.person(&cluster.gateways[1], "bob").await?;
    let (pair, of_bob) = (alice.with(&bob), bob.user());
    alice.say(&pair, "hello").await?;
    bob.has(pair.id, 1).await?;
    alice.client.watch_presence(&[of_bob])?;
    alice.until("bob is there", |s| s.was_told_presence(of_bob, true).then_some(())).await?;
    bob.client.typing(pair.id, true);
    alice.until("bob types", |s| s.was_told_typing(of_bob, true).then_some(())).await?;
    bob.say(&pair, "hello you").await?;
    alice.has(pair.id, 2).await?;
    bob.leave().await;
    alice.until("bob left", |s| s.was_told_presence(of_bob, false).then_some(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_reach_the_other_gateway() -> Result<()> {
    let stage = Stage::postgres().await?;
    let cluster = stage.cluster(2, &[]).await?;
    let alice = stage.person(&cluster.gateways[0], "alice").await?;
    let bob = stage.person(&cluster.gateways[1], "bob").await?;
    let (pair, of_bob) = (alice.with(&bob), bob.user());
    let seq = alice.say(&pair, "have you read this?").await?;
    bob.has(pair.id, 1).await?;
    bob.client.read_up_to(pair.id, seq);
    alice
        .until("bob has read it", |seen| {
            let told = seen.receipts.get(&(pair.id, of_bob));
            told.filter(|(_, read)| *read == seq).map(|_| ())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_stalls_people_at_different_gateways_go_on_by_previews() -> Result<()> {
    let mut stage = Stage::postgres().await?;
    let cluster = stage.cluster(2, &[]).await?;
    let alice = stage.person(&cluster.gateways[0], "alice").await?;
    let bob = stage.person(&cluster.gateways[1], "bob").await?;
    let pair = alice.with(&bob);
    alice.say(&pair, "hello").await?;
    bob.say(&pair, "hello you").await?;
    let stall = stage.stall(&cluster.gateways[0])?;
    let id = alice.send(&pair, "do you see this?")?;
    bob.until("a preview", |s| s.previews.iter().any(|p| p.id == id).then_some(())).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.go_on(stall)?;
    alice.placed(id).await?;
    bob.has(pair.id, 3).await
}
