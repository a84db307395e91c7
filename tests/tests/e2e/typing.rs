//! Who types: told in datagrams to the members who are there, to nobody else, and kept nowhere.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use petrel_client::ConversationId;
use petrel_proto::frame::{bare, decode};
use petrel_proto::wire::{self, change_account, change_contact, change_group, frame::What};
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawOptions};
use prost::Message as _;

use crate::somebody::{Somebody, named, users};

on_both_stores!(
    who_types_is_told_to_the_other_one_and_to_nobody_else,
    across_a_block_nobody_is_told_who_types,
    who_hides_that_he_is_there_hides_that_he_types,
    members_of_a_group_are_told_who_types_unless_he_is_muted,
    typing_in_a_conversation_that_left_memory_is_told,
    who_says_it_too_often_is_not_heard_and_nothing_else_suffers,
);

fn pair(a: &Somebody, b: &Somebody) -> Bytes {
    Bytes::copy_from_slice(&ConversationId::of_pair(a.user(), b.user()).0)
}

fn say(who: &Somebody, conversation: &Bytes, stopped: bool) -> Result<()> {
    let typing = wire::Typing { conversation: conversation.clone(), stopped };
    let datagram = bare(What::Typing(typing)).encode_to_vec();
    Ok(who.raw.connection.send_datagram(datagram.into())?)
}

/// The next Typing that somebody is told: who, and whether he has stopped.
async fn told(who: &Somebody, conversation: &Bytes) -> Result<(Bytes, bool)> {
    let reading = who.raw.connection.read_datagram();
    let datagram = tokio::time::timeout(PATIENCE, reading).await.context("no datagram")??;
    let (frame, What::Typing(typing)) = decode(datagram)? else { bail!("no Typing") };
    assert_eq!(&typing.conversation, conversation);
    Ok((frame.sender, typing.stopped))
}

/// Waits until so many of these were counted.
async fn counted(gateway: &Gateway, result: &str, least: f64) -> Result<()> {
    let labels = format!("result=\"{result}\"");
    let look = || async {
        let count = gateway.metric("petrel_gateway_typing_total", &labels).await?;
        Ok((count >= least).then_some(()))
    };
    eventually(PATIENCE, result, look).await
}

async fn who_types_is_told_to_the_other_one_and_to_nobody_else(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let eve = Somebody::new(&gateway, "eve").await?;
    let id = pair(&alice, &bob);
    say(&alice, &id, false)?;
    counted(&gateway, "refused", 1.0).await?;
    alice.raw.attach(raw::attach(alice.user(), bob.user())).await?;

    say(&eve, &id, false)?;
    counted(&gateway, "refused", 2.0).await?;
    // Neither what is no Typing nor another's log ends anything.
    eve.raw.connection.send_datagram(Bytes::from_static(b"\xff\xff"))?;
    say(&eve, &Bytes::from_static(b"short"), false)?;
    counted(&gateway, "malformed", 2.0).await?;
    let log = petrel_core::id::ConversationId::of_user(petrel_core::id::UserId(alice.user().0));
    alice.own_log().await?;
    say(&eve, &Bytes::copy_from_slice(log.as_bytes()), false)?;
    say(&alice, &Bytes::copy_from_slice(log.as_bytes()), false)?;
    counted(&gateway, "refused", 4.0).await?;

    say(&alice, &id, false)?;
    assert_eq!(told(&bob, &id).await?, (alice.id(), false), "the first that he is told");
    say(&alice, &id, true)?;
    assert_eq!(told(&bob, &id).await?, (alice.id(), true));
    say(&bob, &id, false)?;
    assert_eq!(told(&alice, &id).await?, (bob.id(), false), "not that she types herself");
    Ok(())
}

async fn across_a_block_nobody_is_told_who_types(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let id = pair(&alice, &bob);
    alice.raw.attach(raw::attach(alice.user(), bob.user())).await?;
    bob.contact(&alice, change_contact::What::Block(true)).await?.unwrap();
    say(&alice, &id, false)?;
    say(&bob, &id, false)?;
    counted(&gateway, "refused", 2.0).await?;
    bob.contact(&alice, change_contact::What::Block(false)).await?.unwrap();
    say(&alice, &id, true)?;
    assert_eq!(told(&bob, &id).await?, (alice.id(), true), "the first that he is told");
    say(&bob, &id, true)?;
    assert_eq!(told(&alice, &id).await?, (bob.id(), true));
    Ok(())
}

async fn who_hides_that_he_is_there_hides_that_he_types(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let id = pair(&alice, &bob);
    alice.raw.attach(raw::attach(alice.user(), bob.user())).await?;
    say(&alice, &id, true)?;
    assert_eq!(told(&bob, &id).await?, (alice.id(), true));
    for (presence, refused) in [(3, 1.0), (2, 2.0)] {
        let privacy = wire::Privacy { messages: 1, groups: 1, presence };
        let what = Some(change_account::What::Privacy(privacy));
        alice.ask(What::ChangeAccount(wire::ChangeAccount { what })).await?.unwrap();
        say(&alice, &id, true)?;
        counted(&gateway, "refused", refused).await?;
    }
    alice.contact(&bob, change_contact::What::Ask(String::new())).await?.unwrap();
    bob.contact(&alice, change_contact::What::Accept(true)).await?.unwrap();
    say(&alice, &id, false)?;
    assert_eq!(told(&bob, &id).await?, (alice.id(), false), "a contact is told");
    Ok(())
}

async fn members_of_a_group_are_told_who_types_unless_he_is_muted(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let mut people = Vec::new();
    for name in ["alice", "bob", "carol", "dave"] {
        people.push(Somebody::new(&gateway, name).await?);
    }
    let [alice, bob, carol, dave] = &people[..] else { bail!("four people") };
    let group = alice.create(named("group"), &[bob, carol]).await?;
    say(bob, &group, false)?;
    for other in [alice, carol] {
        assert_eq!(told(other, &group).await?, (bob.id(), false));
    }
    say(dave, &group, false)?;
    counted(&gateway, "refused", 1.0).await?;
    let until_ms = raw::now_ms() + 3_600_000;
    let mute = wire::MuteOf { user: bob.id(), until_ms };
    alice.change(&group, change_group::What::Mute(mute)).await?.unwrap();
    say(bob, &group, false)?;
    counted(&gateway, "refused", 2.0).await?;
    alice.change(&group, change_group::What::Add(users(&[dave]))).await?.unwrap();
    say(dave, &group, false)?;
    for other in [alice, bob, carol] {
        assert_eq!(told(other, &group).await?, (dave.id(), false));
    }
    Ok(())
}

async fn typing_in_a_conversation_that_left_memory_is_told(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&["message.conversation_idle=1s"]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let id = pair(&alice, &bob);
    let (mut stream, _) = alice.raw.attach(raw::attach(alice.user(), bob.user())).await?;
    stream.send.finish().ok();
    while stream.next().await?.is_some() {}
    let forgotten = || async {
        let left = gateway.metric("petrel_gateway_conversations", "").await?;
        Ok((left == 0.0).then_some(()))
    };
    eventually(PATIENCE, "nothing in memory", forgotten).await?;
    say(&alice, &id, false)?;
    assert_eq!(told(&bob, &id).await?, (alice.id(), false));
    Ok(())
}

async fn who_says_it_too_often_is_not_heard_and_nothing_else_suffers(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    // He has not asked for it.
    let identity = gateway.dialer()?.register("deaf", "test").await?;
    let deaf = Raw::dial(&gateway, &RawOptions::default()).await?;
    let mut control = deaf.open().await?;
    let hello = wire::Hello { features: Vec::new(), ..raw::hello(&deaf.log_in(&identity).await?) };
    control.write(bare(What::Hello(hello))).await?;
    let Some((_, What::Welcome(welcome))) = control.next().await? else { bail!("no Welcome") };
    assert!(welcome.features.is_empty(), "{welcome:?}");

    let id = Bytes::copy_from_slice(&ConversationId::of_pair(alice.user(), identity.user).0);
    let (mut stream, _) = alice.raw.attach(raw::attach(alice.user(), identity.user)).await?;
    say(&alice, &id, false)?;
    counted(&gateway, "refused", 1.0).await?;
    for _ in 0..2_000 {
        say(&alice, &id, false)?;
    }
    counted(&gateway, "limited", 10.0).await?;
    stream.write(raw::send(1, raw::message_id(raw::now_ms()), b"a message")).await?;
    assert_eq!(stream.ack().await?, 1);
    let quiet = deaf.connection.read_datagram();
    assert!(tokio::time::timeout(Duration::ZERO, quiet).await.is_err(), "nobody asked for it");
    Ok(())
}
