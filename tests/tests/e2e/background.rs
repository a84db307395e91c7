//! Foreground and background: what can wait is held for who does not look, and comes together; nobody is
//! told that he is there.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use petrel_client::ConversationId;
use petrel_proto::code::Code;
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, Frame, frame::What};
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawOptions, RawStream};

use crate::account::identity;
use crate::somebody::{Somebody, first, next_entry};

on_both_stores!(
    what_is_pushed_to_the_background_comes_together_and_answers_and_mentions_are_not_held,
    coming_back_brings_everything_at_once_what_found_no_room_too,
    what_is_held_comes_by_itself_after_a_while,
    who_is_in_the_background_is_not_there_and_hears_of_nobody,
    a_client_that_does_not_know_of_the_background_is_served_as_ever,
    who_comes_and_goes_without_end_is_slowed_and_stays_where_he_was_last,
);

/// Longer than any test.
const FOR_EVER: &str = "gateway.background_hold=600s";

async fn says(who: &mut Somebody, background: bool) -> Result<()> {
    who.control.write(bare(What::Attention(wire::Attention { background }))).await
}

/// Waits until a metric is this.
async fn is(gateway: &Gateway, name: &str, wanted: f64) -> Result<()> {
    let name = format!("petrel_gateway_{name}");
    let look = || async { Ok((gateway.metric(&name, "").await? == wanted).then_some(())) };
    eventually(PATIENCE, &format!("{name} is {wanted}"), look).await
}

fn pair(a: &Somebody, b: &Somebody) -> Bytes {
    Bytes::copy_from_slice(&ConversationId::of_pair(a.user(), b.user()).0)
}

fn message(number: u64, mentions: Vec<Bytes>) -> Frame {
    let id = raw::message_id(raw::now_ms());
    Frame { mentions, ..raw::send(number, id, format!("message {number}").as_bytes()) }
}

/// The next entries of a stream are these.
async fn come(stream: &mut RawStream, seqs: std::ops::RangeInclusive<u64>) -> Result<()> {
    for seq in seqs {
        assert_eq!(next_entry(stream).await?.0.seq, seq, "each once, in order");
    }
    Ok(())
}

async fn what_is_pushed_to_the_background_comes_together_and_answers_and_mentions_are_not_held(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[FOR_EVER]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let mut bob = Somebody::new(&gateway, "bob").await?;
    let mut carol = Somebody::new(&gateway, "carol").await?;
    let (mut from_alice, _) = alice.raw.attach(raw::attach(alice.user(), bob.user())).await?;
    let (mut at_bob, _) = bob.raw.attach(raw::attach(bob.user(), alice.user())).await?;
    for who in [&mut bob, &mut carol] {
        says(who, true).await?;
    }
    is(&gateway, "background_sessions", 2.0).await?;
    for n in 1..=5 {
        from_alice.write(message(n, Vec::new())).await?;
        assert_eq!(from_alice.ack().await?, n, "the sender does not wait");
    }
    // To carol it is the first of a conversation.
    let (mut to_carol, _) = alice.raw.attach(raw::attach(alice.user(), carol.user())).await?;
    to_carol.write(message(1, Vec::new())).await?;
    to_carol.ack().await?;
    assert_eq!(gateway.metric("petrel_gateway_background_held_entries", "").await?, 6.0);

    // His own message from the background is answered at once, and all comes with the answer, in order.
    at_bob.write(message(1, Vec::new())).await?;
    come(&mut at_bob, 1..=5).await?;
    assert_eq!(at_bob.ack().await?, 6);
    assert_eq!(gateway.metric("petrel_gateway_background_held_entries", "").await?, 1.0);
    from_alice.write(message(6, Vec::new())).await?;
    assert_eq!(from_alice.ack().await?, 7);
    from_alice.write(message(7, vec![bob.id()])).await?;
    assert_eq!(from_alice.ack().await?, 8);
    come(&mut at_bob, 7..=8).await?;
    // Nobody keeps a device awake by mentions.
    from_alice.write(message(8, vec![bob.id()])).await?;
    assert_eq!(from_alice.ack().await?, 9);
    assert_eq!(gateway.metric("petrel_gateway_background_held_entries", "").await?, 2.0);
    says(&mut carol, false).await?;
    let mut opened = carol.raw.accept().await?;
    assert!(matches!(opened.next().await?, Some((_, What::Attach(_)))));
    come(&mut opened, 1..=1).await?;
    come(&mut at_bob, 9..=9).await?;
    let scrape = gateway.scrape().await?;
    let released =
        |part: &str| scrape.sum(&format!("petrel_gateway_background_released_messages_{part}"), "");
    assert_eq!((released("count"), released("sum")), (4.0, 9.0));
    Ok(())
}

async fn coming_back_brings_everything_at_once_what_found_no_room_too(stage: Stage) -> Result<()> {
    const MESSAGES: u64 = 400;
    let gateway = stage.gateway(&[FOR_EVER, "gateway.send_queue=64KiB"]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let mut bob = Somebody::new(&gateway, "bob").await?;
    let added = first(bob.ask_all(What::AddDevice(wire::AddDevice::default())).await?)?.unwrap();
    let tablet = Somebody::signed_in(&gateway, identity("bob", added)?).await?;
    let attach = raw::attach(bob.user(), alice.user());
    let (mut at_bob, _) = bob.raw.attach(attach.clone()).await?;
    let (mut at_tablet, _) = tablet.raw.attach(attach).await?;
    says(&mut bob, true).await?;
    is(&gateway, "background_sessions", 1.0).await?;
    let to_bob = alice.with_user(bob.user());
    let text = "x".repeat(300);
    for n in 0..MESSAGES {
        alice.send(&to_bob, format!("{n} {text}"))?;
    }
    come(&mut at_tablet, 1..=MESSAGES).await?;
    // What she has read is told to who looks, and to the other one when he does.
    alice.client.read_up_to(to_bob.id, 7);
    while receipts(&mut at_tablet).await? < 7 {}
    let queued = gateway.metric("petrel_gateway_send_queue_bytes", "").await?;
    assert!(0.0 < queued && queued <= 65_536.0, "{queued} bytes are held");
    says(&mut bob, false).await?;
    come(&mut at_bob, 1..=MESSAGES).await?;
    assert!(gateway.metric("petrel_gateway_catch_ups_total", "").await? > 0.0);

    says(&mut bob, true).await?;
    is(&gateway, "background_sessions", 1.0).await?;
    alice.client.read_up_to(to_bob.id, 9);
    while receipts(&mut at_tablet).await? < 9 {}
    says(&mut bob, false).await?;
    while receipts(&mut at_bob).await? < 9 {}
    stage.judge(&gateway, &Expectations { acks_min: MESSAGES, ..Expectations::default() }).await?;
    Ok(())
}

/// Up to where the next Receipts say that somebody has read.
async fn receipts(stream: &mut RawStream) -> Result<u64> {
    loop {
        match stream.next().await?.context("the stream has ended")? {
            (_, What::Receipts(said)) => {
                return Ok(said.members.iter().map(|m| m.read).max().unwrap_or(0));
            }
            (_, What::Push(_)) => {}
            other => bail!("instead of Receipts: {other:?}"),
        }
    }
}

async fn what_is_held_comes_by_itself_after_a_while(stage: Stage) -> Result<()> {
    let settings = ["gateway.background_hold=1s", "gateway.stream_idle=1s"];
    let gateway = stage.gateway(&settings).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let mut bob = Somebody::new(&gateway, "bob").await?;
    says(&mut bob, true).await?;
    is(&gateway, "background_sessions", 1.0).await?;
    let to_bob = alice.with_user(bob.user());
    for n in 0..3 {
        alice.say(&to_bob, format!("message {n}")).await?;
    }
    let mut opened = bob.raw.accept().await?;
    assert!(matches!(opened.next().await?, Some((_, What::Attach(_)))));
    come(&mut opened, 1..=3).await?;
    // Nor is the end of an idle stream held for ever.
    assert!(opened.next().await?.is_none());
    stage.judge(&gateway, &Expectations { acks_min: 3, ..Expectations::default() }).await?;
    Ok(())
}

/// The next word on somebody's presence: who, and whether he is there.
async fn told(who: &mut Somebody) -> Result<(Bytes, bool, u64)> {
    match who.control.next().await?.context("the control stream has ended")? {
        (_, What::Presence(p)) => Ok((p.user, p.online, p.seen_ms)),
        (_, other) => bail!("instead of a Presence: {other:?}"),
    }
}

async fn watch(who: &mut Somebody, users: &[Bytes]) -> Result<()> {
    let watch = wire::WatchPresence { users: users.to_vec() };
    who.control.write(bare(What::WatchPresence(watch))).await
}

async fn who_is_in_the_background_is_not_there_and_hears_of_nobody(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[FOR_EVER]).await?;
    let mut alice = Somebody::new(&gateway, "alice").await?;
    let mut bob = Somebody::new(&gateway, "bob").await?;
    let carol = Somebody::new(&gateway, "carol").await?;
    let of_bob = bob.id();
    watch(&mut alice, std::slice::from_ref(&of_bob)).await?;
    assert_eq!(told(&mut alice).await?, (of_bob.clone(), true, 0));
    watch(&mut bob, &[carol.id()]).await?;
    assert_eq!(told(&mut bob).await?, (carol.id(), true, 0));

    let before_ms = raw::now_ms();
    says(&mut bob, true).await?;
    let (who, online, seen_ms) = told(&mut alice).await?;
    assert_eq!((who, online), (of_bob.clone(), false));
    assert!(before_ms <= seen_ms, "he was there until now");
    // Another device that begins in the background changes nothing, a new watcher hears the same.
    let added = first(bob.ask_all(What::AddDevice(wire::AddDevice::default())).await?)?.unwrap();
    let watch_device = in_background(&gateway, identity("bob", added)?).await?;
    is(&gateway, "background_sessions", 2.0).await?;
    let mut dave = Somebody::new(&gateway, "dave").await?;
    watch(&mut dave, std::slice::from_ref(&of_bob)).await?;
    let (who, online, _) = told(&mut dave).await?;
    assert_eq!((who, online), (of_bob.clone(), false));

    // He is told neither who types nor who leaves; when he looks again, how it is then.
    let id = pair(&alice, &bob);
    alice.raw.attach(raw::attach(alice.user(), bob.user())).await?;
    let typing = wire::Typing { conversation: id, stopped: false };
    let datagram = prost::Message::encode_to_vec(&bare(What::Typing(typing)));
    alice.raw.connection.send_datagram(datagram.into())?;
    let refused = || async {
        let refused = gateway.metric("petrel_gateway_typing_total", "result=\"refused\"").await?;
        Ok((refused == 1.0).then_some(()))
    };
    eventually(PATIENCE, "typing that nobody hears", refused).await?;
    let of_carol = carol.id();
    watch(&mut dave, std::slice::from_ref(&of_carol)).await?;
    assert_eq!(told(&mut dave).await?, (of_carol.clone(), true, 0));
    carol.raw.connection.close(0u32.into(), b"");
    assert!(!told(&mut dave).await?.1);
    says(&mut bob, false).await?;
    let (who, online, _) = told(&mut bob).await?;
    assert_eq!((who, online), (of_carol, false));
    assert_eq!(told(&mut alice).await?, (of_bob, true, 0));
    drop(watch_device);
    Ok(())
}

/// A device whose session begins in the background.
async fn in_background(
    gateway: &Gateway,
    identity: petrel_client::Identity,
) -> Result<(Raw, RawStream)> {
    let raw = Raw::dial(gateway, &RawOptions::default()).await?;
    let mut control = raw.open().await?;
    let hello = raw::hello(&raw.log_in(&identity).await?);
    control.write(bare(What::Hello(wire::Hello { background: true, ..hello }))).await?;
    match control.next().await? {
        Some((_, What::Welcome(welcome))) => assert_eq!(welcome.idle_timeout_ms, 120_000),
        other => bail!("instead of a Welcome: {other:?}"),
    }
    Ok((raw, control))
}

async fn a_client_that_does_not_know_of_the_background_is_served_as_ever(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[FOR_EVER]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let identity = gateway.dialer()?.register("old", "test").await?;
    let old = Raw::dial(&gateway, &RawOptions::default()).await?;
    let mut control = old.open().await?;
    let hello = raw::hello(&old.log_in(&identity).await?);
    // Without the feature the word in Hello means nothing.
    let hello = wire::Hello { features: Vec::new(), background: true, ..hello };
    control.write(bare(What::Hello(hello))).await?;
    let Some((_, What::Welcome(_))) = control.next().await? else { bail!("no Welcome") };
    alice.say(&alice.with_user(identity.user), "hello").await?;
    let mut opened = old.accept().await?;
    assert!(matches!(opened.next().await?, Some((_, What::Attach(_)))));
    come(&mut opened, 1..=1).await?;
    control.write(bare(What::Attention(wire::Attention { background: true }))).await?;
    match control.next().await? {
        Some((_, What::Refusal(refusal))) => {
            assert_eq!(refusal.code, Code::Unexpected.number(), "{refusal:?}");
        }
        other => bail!("instead of a refusal: {other:?}"),
    }
    assert_eq!(old.closed_with().await?, Code::ProtocolViolation);
    stage.judge(&gateway, &Expectations { acks_min: 1, ..Expectations::default() }).await?;
    Ok(())
}

async fn who_comes_and_goes_without_end_is_slowed_and_stays_where_he_was_last(
    stage: Stage,
) -> Result<()> {
    // Fewer than the frames that a control stream may bring at once.
    const TIMES: u32 = 150;
    let gateway = stage.gateway(&[FOR_EVER]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let mut bob = Somebody::new(&gateway, "bob").await?;
    for n in 0..TIMES {
        says(&mut bob, n % 2 == 0).await?;
    }
    says(&mut bob, true).await?;
    let counted = || async {
        let changes = gateway.metric("petrel_gateway_attention_changes_total", "").await?;
        let delayed = gateway.metric("petrel_gateway_attention_delayed_total", "").await?;
        Ok((changes + delayed > f64::from(TIMES)).then_some((changes, delayed)))
    };
    let (changes, delayed) = eventually(PATIENCE, "all that was said", counted).await?;
    is(&gateway, "background_sessions", 1.0).await?;
    assert!(
        changes < f64::from(TIMES) / 4.0 && delayed > f64::from(TIMES) / 2.0,
        "{changes} {delayed}"
    );
    alice.say(&alice.with_user(bob.user()), "held").await?;
    is(&gateway, "background_held_entries", 1.0).await?;
    says(&mut bob, false).await?;
    let mut opened = bob.raw.accept().await?;
    assert!(matches!(opened.next().await?, Some((_, What::Attach(_)))));
    come(&mut opened, 1..=1).await?;
    stage.judge(&gateway, &Expectations { acks_min: 1, ..Expectations::default() }).await?;
    Ok(())
}
