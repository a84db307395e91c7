//! One conversation that is written to at all gateways at once, and a large one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use petrel_client::{ConversationRef, GroupProfile, Joins};
use petrel_tests::cluster::Stage;

/// Messages of each of the six.
const EACH: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_written_to_at_three_gateways_has_one_order_for_everybody() -> Result<()> {
    let stage = Stage::postgres().await?;
    let cluster = stage.cluster(3, &[]).await?;
    let people = cluster.people(&stage, &["ann", "bob", "cyd", "dan", "eve", "fay"]).await?;
    let users: Vec<_> = people.iter().skip(1).map(|person| person.user()).collect();
    let group = people[0].client.create_group(hot(), &users).await?.conversation;
    let at = ConversationRef::from(group);
    for person in &people {
        person.attach(&at, None)?;
    }
    let began = Instant::now();
    let mut sent = Vec::new();
    for n in 0..EACH {
        for person in &people {
            sent.push((person, person.send(&at, format!("{n}"))?));
        }
    }
    for (person, id) in &sent {
        person.placed(*id).await?;
    }
    let took = began.elapsed();
    let head = EACH as u64 * people.len() as u64 + 1;
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    let mut gaps = 0;
    for person in &people {
        person
            .until("the end of the log", |seen| {
                seen.position.get(&group).filter(|position| **position >= head).map(|_| ())
            })
            .await?;
        let (seqs, said, missing) = person.seen(|seen| {
            let missing: Vec<_> = seen.gaps.iter().filter(|gap| gap.0 == group).copied().collect();
            (seen.seqs(group), seen.texts(group), missing)
        });
        ensure!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "doubles, or out of order");
        for seq in 1..=head {
            let is_told = missing.iter().any(|(_, from, to, _)| (*from..=*to).contains(&seq));
            ensure!(is_told || seqs.binary_search(&seq).is_ok(), "{seq} is missing without a word");
        }
        for (seq, text) in seqs.into_iter().zip(said) {
            let known = texts.entry(seq).or_insert_with(|| text.clone());
            ensure!(*known == text, "{seq} is {known} to one and {text} to another");
        }
        gaps += missing.len();
    }
    let repaired = cluster.metric("petrel_cluster_journal_repairs_total", "").await;
    eprintln!(
        "{} messages in {took:?}; {gaps} gaps were told; {repaired} repairs by the journal",
        sent.len()
    );
    Ok(())
}

fn hot() -> GroupProfile {
    GroupProfile {
        name: "hot".to_owned(),
        avatar: String::new(),
        joins: Joins::ByInvitation,
        members_invite: false,
        whole_history: true,
        muted: false,
        created_ms: 0,
    }
}

/// A gateway stands still with a transaction under way that has locked a conversation: nobody else's waits for it for
/// longer than the database lets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_inside_a_transaction_delays_nobody_elses_conversations() -> Result<()>
{
    let stage = Stage::postgres().await?;
    let mut cluster = stage.cluster(3, &[]).await?;
    let people = cluster.people(&stage, &["ann", "bob", "cyd", "dan", "eve", "fay"]).await?;
    let users: Vec<_> = people.iter().skip(1).map(|person| person.user()).collect();
    let group = people[0].client.create_group(hot(), &users).await?.conversation;
    let at = ConversationRef::from(group);
    // While all write to the same group, the first gateway is stopped: again and again, so that it is inside.
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        for n in 0..100 {
            for person in &people {
                person.send(&at, format!("{round} {n}"))?;
            }
        }
        cluster.gateways[0].signal(petrel_tests::cluster::Signal::Pause)?;
        let began = Instant::now();
        people[1].say(&people[1].with(&people[2]), format!("beside {round}")).await?;
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.gateways[0].signal(petrel_tests::cluster::Signal::Continue)?;
    }
    eprintln!("slowest answer in a conversation beside: {slowest:?}");
    ensure!(slowest < Duration::from_secs(2), "{slowest:?}");
    let last = people[1].send(&at, "after all that")?;
    people[1].placed(last).await?;
    let seen = people[1].seen(|seen| seen.seqs(group));
    ensure!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "holes or doubles");
    people.last().context("nobody")?.online().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_group_costs_one_frame_for_each_other_gateway() -> Result<()> {
    let stage = Stage::postgres().await?;
    let lifted = ["auth.registrations_per_s=1000000", "auth.registrations_burst=1000000"];
    let cluster = stage.cluster(3, &lifted).await?;
    let names: Vec<String> = (0..90).map(|n| format!("member{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let people = cluster.people(&stage, &names).await?;
    let users: Vec<_> = people.iter().skip(1).map(|person| person.user()).collect();
    let group = people[0].client.create_group(hot(), &users).await?.conversation;
    let at = ConversationRef::from(group);
    for person in &people {
        person.attach(&at, None)?;
    }
    let first = people[0].say(&at, "first").await?;
    for person in &people {
        person
            .until("the first message", |seen| seen.seqs(group).contains(&first).then_some(()))
            .await?;
    }
    let sent = |labels| cluster.metric("petrel_cluster_entries_sent_total", labels);
    let rows = || rows(&stage, &cluster);
    let (before, rows_before) = (sent("").await, rows()?);
    for n in 0..50 {
        people[n % 3].say(&at, format!("message {n}")).await?;
    }
    for person in &people {
        person
            .until("the last message", |seen| {
                seen.seqs(group).contains(&(first + 50)).then_some(())
            })
            .await?;
    }
    let (frames, written) = (sent("").await - before, rows()? - rows_before);
    eprintln!(
        "50 messages to 90 members at three gateways: {frames} frames on links, {written} rows of entries"
    );
    ensure!((frames - 100.0).abs() < 0.5, "{frames} frames");
    ensure!(written == 50, "{written} rows");
    Ok(())
}

fn rows(stage: &Stage, cluster: &petrel_tests::cluster::Cluster) -> Result<i64> {
    let petrel_tests::cluster::Store::Postgres(server) = &stage.store else {
        anyhow::bail!("no PostgreSQL")
    };
    let url = cluster.gateways[0].storage_url.as_deref().context("no database")?;
    let database = url.rsplit('/').next().context("no database")?;
    Ok(server.sql(database, "SELECT count(*) FROM entry")?.trim().parse()?)
}
