//! A gateway of a later version beside those of this one.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use petrel_proto::frame::encode_message;
use petrel_proto::wire;
use petrel_tests::cluster::{Seen, Stage};

use crate::link::{address_of, dial, greet, nodes};

/// What a later version has added: frames of a kind that nobody here knows, and fields in known ones.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterFrame {
    #[prost(message, tag = "3")]
    roster: Option<LaterRoster>,
    #[prost(string, tag = "99")]
    news: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LaterRoster {
    #[prost(bool, tag = "1")]
    begins: bool,
    #[prost(bool, tag = "2")]
    ends: bool,
    #[prost(message, repeated, tag = "3")]
    lines: Vec<wire::RosterLine>,
    #[prost(string, tag = "77")]
    region: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_version_is_spoken_with_in_what_both_know() -> Result<()> {
    let mut stage = Stage::postgres().await?;
    let mut cluster = stage.cluster(2, &[]).await?;
    let first = &cluster.gateways[0];
    let alice = stage.person(first, "alice").await?;
    let bob = stage.person(first, "bob").await?;
    let (pair, of_bob) = (alice.with(&bob), bob.user());
    alice.say(&pair, "hello").await?;
    bob.has(pair.id, 1).await?;
    alice.client.watch_presence(&[of_bob])?;
    alice.until("bob is there", |s| s.was_told_presence(of_bob, true).then_some(())).await?;
    bob.leave().await;
    alice.until("bob left", |s| s.was_told_presence(of_bob, false).then_some(())).await?;

    // The later version has migrated the database and has entered itself in the list.
    let url = first.storage_url.clone().context("no url")?;
    let database = url.rsplit('/').next().context("no database")?.to_owned();
    let server = stage.postgres_server().context("no server")?;
    server.sql(
        &database,
        "ALTER TABLE entry ADD COLUMN later_a text;
         ALTER TABLE node ADD COLUMN later_b text NOT NULL DEFAULT 'x';
         ALTER TABLE journal ADD COLUMN later_c bigint;
         CREATE TABLE later (id uuid PRIMARY KEY);
         INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         SELECT max(version) + 1, 'later, beside ' || max(version), true, '\\x00', 0 FROM _sqlx_migrations;
         INSERT INTO node (id, name, address, clients, version, started_ms, seen_ms, is_draining)
         SELECT '09090909-0909-0909-0909-090909090909', 'gw-9', '127.0.0.1:9', '', '9.9.9', now_ms, now_ms + 60000, false
         FROM (SELECT (extract(epoch FROM now()) * 1000)::bigint AS now_ms) AS clock",
    )?;
    let certificates = cluster.certificates();
    petrel_gateway::authority::make(certificates, &["gw-9".to_owned()])?;
    let at = address_of(&nodes(first).await?, "gw-1")?;
    let link = dial(at, "gw-1", Some((certificates, "gw-9")), certificates).await?;
    let hello = wire::NodeHello {
        version_min: 1,
        version_max: 9,
        node: Bytes::from_static(&[9; 16]),
        name: "gw-9".to_owned(),
        service: "petrel".to_owned(),
    };
    ensure!(greet(&link, hello).await? == 1);

    let mut stream = link.open_uni().await?;
    let news = LaterFrame { news: "what nobody here knows".to_owned(), roster: None };
    let line = wire::RosterLine { user: of_bob.0.to_vec().into(), sessions: 1, attentive: 1 };
    let roster =
        LaterRoster { begins: true, ends: true, lines: vec![line], region: "somewhere".to_owned() };
    let known = LaterFrame { news: String::new(), roster: Some(roster) };
    for frame in [encode_message(&news), encode_message(&known)] {
        stream.write_chunk(frame).await?;
    }
    let again = |s: &Seen| (s.times_told_presence(of_bob, true) == 2).then_some(());
    alice.until("bob is there again", again).await?;
    ensure!(link.close_reason().is_none(), "{:?}", link.close_reason());
    let listed = nodes(first).await?;
    ensure!(listed.iter().any(|n| n["name"] == "gw-9" && n["version"] == "9.9.9"), "{listed:?}");

    // One of this version that is started now finds its way in the changed database.
    cluster.gateways[1].terminate().await?;
    cluster.gateways[1].restart().await?;
    cluster.linked(1).await?;
    let carol = stage.person(&cluster.gateways[1], "carol").await?;
    let chat = alice.with(&carol);
    // On the screen, so that she has it whichever way it comes.
    carol.attach(&carol.with(&alice), None)?;
    alice.say(&chat, "does it go on?").await?;
    carol.has(chat.id, 1).await?;
    Ok(())
}
