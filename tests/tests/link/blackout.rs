//! Networks that are dark for long, and gateways that are gone meanwhile: the chat goes on by itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use petrel_client::ConversationRef;
use petrel_loadtest::link::Link;
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{Gateway, Person, Stage};

use crate::over::{again, link, person, person_with};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3_600);

struct Pair {
    stage: Stage,
    gateway: Gateway,
    link: Link,
    alice: Person,
    bob: Person,
    conversation: ConversationRef,
}

impl Pair {
    async fn new() -> Result<Self> {
        let stage = Stage::sqlite()?;
        let gateway = stage.gateway(&[]).await?;
        let link = link(&gateway, "delay=10ms")?;
        let alice = person(&stage, &gateway, &link, "alice").await?;
        let bob = person(&stage, &gateway, &link, "bob").await?;
        let conversation = alice.with(&bob);
        let pair = Self { stage, gateway, link, alice, bob, conversation };
        pair.alice.say(&pair.conversation, "before").await?;
        pair.bob.has(pair.conversation.id, 1).await?;
        pair.bob.say(&pair.conversation, "so it is").await?;
        pair.alice.has(pair.conversation.id, 2).await?;
        Ok(pair)
    }

    /// The network is dark, and both say something, until Alice has sent so many probes.
    async fn dark_for(&self, probes: u64) -> Result<()> {
        self.link.black_out(FOR_EVER);
        self.alice.send(&self.conversation, "in the dark")?;
        self.bob.send(&self.conversation, "in the dark too")?;
        while self.alice.client.stats().probes_sent < probes {
            tokio::task::yield_now().await;
        }
        self.alice.send(&self.conversation, "still dark")?;
        Ok(())
    }

    /// Everything that was said in the dark is there, and more is.
    async fn goes_on(self) -> Result<()> {
        self.bob.has(self.conversation.id, 5).await?;
        self.alice.has(self.conversation.id, 5).await?;
        self.bob.say(&self.conversation, "after").await?;
        self.alice.has(self.conversation.id, 6).await?;
        self.stage.judge(&self.gateway, &Expectations::default()).await?;
        Ok(())
    }
}

#[tokio::test]
async fn two_dark_seconds_are_no_reason_for_another_connection() -> Result<()> {
    let pair = Pair::new().await?;
    pair.dark_for(8).await?;
    pair.link.black_out(Duration::ZERO);
    pair.bob.has(pair.conversation.id, 5).await?;
    assert_eq!(pair.alice.client.stats().reconnects, 0);
    pair.goes_on().await
}

#[tokio::test]
async fn after_ten_dark_seconds_who_answers_first_is_kept() -> Result<()> {
    let pair = Pair::new().await?;
    pair.dark_for(45).await?;
    // Longer than a silence is borne without a word.
    let told = pair.alice.seen(|seen| (seen.is_online, seen.offline.len()));
    assert_eq!(told, (false, 1));
    assert!(!pair.alice.client.stats().online);
    pair.link.black_out(Duration::ZERO);
    pair.alice.online().await?;
    assert!(pair.alice.client.stats().online);
    pair.goes_on().await
}

#[tokio::test]
async fn a_client_that_is_told_of_the_network_need_not_wait() -> Result<()> {
    let pair = Pair::new().await?;
    pair.dark_for(20).await?;
    pair.link.black_out(Duration::ZERO);
    pair.alice.client.network_changed();
    pair.bob.client.network_changed();
    pair.goes_on().await
}

/// Told in the dark, it has dialed beside the silent connection when the network is back.
#[tokio::test]
async fn a_client_that_is_told_too_early_gets_on_too() -> Result<()> {
    let pair = Pair::new().await?;
    pair.link.black_out(FOR_EVER);
    let links = pair.link.counts().links;
    pair.alice.client.network_changed();
    pair.dark_for(4).await?;
    // Its new socket is a link of its own.
    assert!(pair.link.counts().links > links);
    pair.link.black_out(Duration::ZERO);
    pair.goes_on().await
}

/// Longer than everything: probes have ended, and QUIC has given the connection up.
#[tokio::test]
async fn when_the_connection_is_given_up_dialing_goes_on_until_somebody_answers() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, "delay=5ms")?;
    let alice = person_with(&stage, &gateway, &link, "alice", |options| {
        options.transport.idle_timeout = Duration::from_secs(4);
        options.transport.keep_alive = Some(Duration::from_secs(1));
        options.dial_timeout = Duration::from_secs(2);
    })
    .await?;
    let bob = person(&stage, &gateway, &link, "bob").await?;
    let conversation = alice.with(&bob);
    alice.say(&conversation, "before").await?;
    bob.has(conversation.id, 1).await?;
    link.black_out(FOR_EVER);
    let sent = alice.send(&conversation, "in the dark")?;
    // The first time it was told as the silence grew, the second as the connection ended.
    alice.until("the connection's end", |seen| (seen.offline.len() >= 3).then_some(())).await?;
    link.black_out(Duration::ZERO);
    alice.placed(sent).await?;
    bob.has(conversation.id, 2).await?;
    assert_eq!(alice.client.stats().reconnects, 1);
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

/// Nobody waits for an answer, so that only a probe, or a packet of QUIC's own, finds the gateway changed.
#[tokio::test]
async fn a_restart_in_the_dark_is_noticed_when_the_network_is_back() -> Result<()> {
    let mut pair = Pair::new().await?;
    pair.dark_for(5).await?;
    pair.gateway.kill().await?;
    pair.stage.record(What::Fault { kind: FaultKind::Kill, detail: "in the dark".to_owned() });
    pair.gateway.restart().await?;
    pair.link.black_out(Duration::ZERO);
    pair.stage.record(What::Heal);
    pair.goes_on().await
}

/// Of hundreds of clients each is told by a reset at once.
#[tokio::test]
async fn hundreds_of_clients_notice_a_restart_together() -> Result<()> {
    const USERS: usize = 6;
    const DEVICES: usize = 40;
    let stage = Stage::sqlite()?;
    let mut gateway = stage.gateway(&[]).await?;
    let link = link(&gateway, "delay=5ms")?;
    let mut people = Vec::new();
    for user in 0..USERS {
        let first = person(&stage, &gateway, &link, &format!("user{user}")).await?;
        for _ in 1..DEVICES {
            let options = again(&gateway, &link, first.identity.clone(), |_| {})?;
            people.push(stage.device_with(options).await?);
        }
        people.push(first);
    }
    let (first, last) = (people.first().context("nobody")?, people.last().context("nobody")?);
    // Who only listens has his conversations open, as none of his own messages will tell him of them.
    let speakers: Vec<_> = people.iter().filter(|one| one.user() != last.user()).collect();
    for listener in people.iter().filter(|one| one.user() == last.user()) {
        for speaker in speakers.iter().step_by(DEVICES) {
            listener.attach(&listener.with(speaker), None)?;
        }
    }
    first.say(&first.with(last), "before").await?;
    gateway.kill().await?;
    stage.record(What::Fault { kind: FaultKind::Kill, detail: "of all".to_owned() });
    // While it is away they speak: each has something unacknowledged.
    let mut sent = Vec::new();
    for one in speakers {
        sent.push((one, one.send(&one.with(last), "are you there?")?));
    }
    gateway.restart().await?;
    stage.record(What::Heal);
    for (one, id) in sent {
        one.placed(id).await?;
        assert_eq!(one.client.stats().reconnects, 1);
    }
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}
