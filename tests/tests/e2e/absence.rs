//! Coming back after a short and after a long absence.

use anyhow::Result;
use petrel_client::{Cursor, GapReason, PageRequest};
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{Person, Stage};
use petrel_tests::on_both_stores;

on_both_stores!(
    a_short_absence_is_made_up_for_by_what_was_missed_alone,
    a_long_absence_leaves_a_gap_and_the_newest_and_history_fills_it,
);

async fn send_many(from: &Person, to: &Person, count: usize) -> Result<()> {
    let pair = from.with(to);
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(from.send(&pair, format!("message {n}"))?);
    }
    for id in ids {
        from.placed(id).await?;
    }
    Ok(())
}

async fn a_short_absence_is_made_up_for_by_what_was_missed_alone(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let pair = alice.with(&bob);
    send_many(&alice, &bob, 300).await?;
    bob.has(pair.id, 300).await?;
    let last = bob.seen(|s| Cursor::of(s.entries[&pair.id].last().unwrap()));
    let identity = bob.identity.clone();
    bob.leave().await;
    send_many(&alice, &alice_peer(&stage, &gateway, &identity).await?, 5).await?;

    let before = gateway.metric("petrel_gateway_catch_ups_total", "").await?;
    let bob = stage.device(&gateway, &identity).await?;
    bob.attach(&bob.with(&alice), Some(last))?;
    bob.has(pair.id, 5).await?;
    assert_eq!(bob.seen(|s| s.seqs(pair.id)), (301..=305).collect::<Vec<_>>());
    assert_eq!(bob.seen(|s| s.gaps.len()), 0);
    let stats = bob.client.stats();
    assert_eq!((stats.duplicates, stats.fills), (0, 0), "only what was missed was read");
    assert!(gateway.metric("petrel_gateway_catch_ups_total", "").await? > before);
    stage.judge(&gateway, &Expectations { resumes_min: 1, ..Expectations::default() }).await?;
    Ok(())
}

/// Somebody to address: signed in and gone again.
async fn alice_peer(
    stage: &Stage,
    gateway: &petrel_tests::cluster::Gateway,
    identity: &petrel_client::Identity,
) -> Result<Person> {
    let person = stage.device(gateway, identity).await?;
    person.client.clone().close().await;
    Ok(person)
}

async fn a_long_absence_leaves_a_gap_and_the_newest_and_history_fills_it(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let pair = alice.with(&bob);
    let identity = bob.identity.clone();
    bob.client.clone().close().await;
    send_many(&alice, &bob, 1_500).await?;
    drop(bob);

    let bob = stage.device(&gateway, &identity).await?;
    bob.attach(&bob.with(&alice), None)?;
    bob.has(pair.id, 200).await?;
    assert_eq!(bob.seen(|s| s.gaps.clone()), [(pair.id, 1, 1_300, GapReason::Skipped)]);
    assert_eq!(bob.seen(|s| s.seqs(pair.id)), (1_301..=1_500).collect::<Vec<_>>());
    assert_eq!(bob.client.stats().fills, 0);

    let mut filled = Vec::new();
    while filled.len() < 1_300 {
        let from = filled.len() as u64 + 1;
        let conversation = pair.id;
        let page = bob
            .history(PageRequest { conversation, from, to: 1_300, limit: 200, newest: false })
            .await?;
        assert_eq!(page.head, 1_500);
        assert!(!page.entries.is_empty() && page.gaps.is_empty());
        filled.extend(page.entries.iter().map(|e| e.seq));
    }
    assert_eq!(filled, (1..=1_300).collect::<Vec<_>>());
    stage.judge(&gateway, &Expectations { acks_min: 1_500, ..Expectations::default() }).await?;
    Ok(())
}
