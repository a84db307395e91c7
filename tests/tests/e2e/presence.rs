//! Presence: who watches whom is told when he comes and goes, if he shows it.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use petrel_proto::code::Code;
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, change_account, change_contact, frame::What};
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;

use crate::account::identity;
use crate::somebody::{Somebody, first};

on_both_stores!(
    who_is_watched_is_told_to_come_and_go_with_his_first_and_last_device,
    who_does_not_show_himself_is_left_out_and_a_change_of_mind_is_followed,
    who_is_named_last_is_watched_and_what_makes_no_sense_is_refused,
    somebody_who_is_watched_by_many_and_comes_back_at_once_was_never_gone,
    an_application_hears_who_types_and_who_is_there,
);

/// What a story waits for instead of 60 s.
const SOON: &str = "gateway.presence_interval=1s";

async fn watch(who: &mut Somebody, users: &[Bytes]) -> Result<()> {
    let watch = wire::WatchPresence { users: users.to_vec() };
    who.control.write(bare(What::WatchPresence(watch))).await
}

/// The next word on somebody's presence: who, whether he is there, and when he was.
async fn told(who: &mut Somebody) -> Result<(Bytes, bool, u64)> {
    match who.control.next().await?.context("the control stream has ended")? {
        (_, What::Presence(p)) => Ok((p.user, p.online, p.seen_ms)),
        (_, other) => bail!("instead of a Presence: {other:?}"),
    }
}

async fn register(gateway: &Gateway, name: &str) -> Result<petrel_client::Identity> {
    Ok(gateway.dialer()?.register(name, "test").await?)
}

fn id(identity: &petrel_client::Identity) -> Bytes {
    Bytes::copy_from_slice(&identity.user.0)
}

/// Ends a session, and waits until the gateway has noticed.
async fn leave(gateway: &Gateway, who: Somebody, left: f64) -> Result<()> {
    who.raw.connection.close(0u32.into(), b"");
    drop(who);
    let look = || async {
        Ok((gateway.metric("petrel_gateway_sessions", "").await? <= left).then_some(()))
    };
    eventually(PATIENCE, "one session less", look).await
}

async fn shows(who: &Somebody, presence: u32) -> Result<()> {
    let privacy = wire::Privacy { messages: 1, groups: 1, presence };
    let what = Some(change_account::What::Privacy(privacy));
    who.ask(What::ChangeAccount(wire::ChangeAccount { what })).await?.unwrap();
    Ok(())
}

async fn who_is_watched_is_told_to_come_and_go_with_his_first_and_last_device(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let mut alice = Somebody::new(&gateway, "alice").await?;
    let (bob, carol) = (register(&gateway, "bob").await?, register(&gateway, "carol").await?);
    let carol = Somebody::signed_in(&gateway, carol).await?;
    let of_bob = id(&bob);
    watch(&mut alice, &[of_bob.clone(), carol.id(), of_bob.clone()]).await?;
    let mut first_words = [told(&mut alice).await?, told(&mut alice).await?];
    first_words.sort();
    let mut expected = [(of_bob.clone(), false, 0), (carol.id(), true, 0)];
    expected.sort();
    assert_eq!(first_words, expected, "each once");

    let phone = Somebody::signed_in(&gateway, bob).await?;
    assert_eq!(told(&mut alice).await?, (of_bob.clone(), true, 0));
    let add = What::AddDevice(wire::AddDevice { label: "laptop".to_owned() });
    let added = first(phone.ask_all(add).await?)?.unwrap();
    let laptop = Somebody::signed_in(&gateway, identity("bob", added)?).await?;
    leave(&gateway, phone, 3.0).await?;
    // Had he been told to be gone, that would come first.
    let of_carol = carol.id();
    leave(&gateway, carol, 2.0).await?;
    let (who, online, seen_ms) = told(&mut alice).await?;
    assert_eq!((who, online), (of_carol, false));
    assert!(seen_ms > 0);
    leave(&gateway, laptop, 1.0).await?;
    let (who, online, seen_ms) = told(&mut alice).await?;
    assert_eq!((who, online), (of_bob.clone(), false));
    assert!(seen_ms > 0);

    // Who asks later is told from the store, or what the others were told.
    let mut dave = Somebody::new(&gateway, "dave").await?;
    watch(&mut dave, std::slice::from_ref(&of_bob)).await?;
    assert_eq!(told(&mut dave).await?, (of_bob, false, seen_ms));
    assert_eq!(gateway.metric("petrel_gateway_presence_watches", "").await?, 3.0);
    leave(&gateway, dave, 1.0).await?;
    leave(&gateway, alice, 0.0).await?;
    assert_eq!(gateway.metric("petrel_gateway_presence_watches", "").await?, 0.0);
    Ok(())
}

async fn who_does_not_show_himself_is_left_out_and_a_change_of_mind_is_followed(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[SOON]).await?;
    let mut alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let carol = Somebody::new(&gateway, "carol").await?;
    let dave = Somebody::new(&gateway, "dave").await?;
    shows(&bob, 3).await?;
    shows(&carol, 2).await?;
    let everybody = [bob.id(), carol.id(), dave.id()];
    watch(&mut alice, &everybody).await?;
    assert_eq!(told(&mut alice).await?, (dave.id(), true, 0), "the only one");
    alice.contact(&carol, change_contact::What::Follow(true)).await?.unwrap();
    carol.contact(&alice, change_contact::What::Follow(true)).await?.unwrap();
    assert_eq!(told(&mut alice).await?, (carol.id(), true, 0), "a contact now");
    shows(&bob, 1).await?;
    assert_eq!(told(&mut alice).await?, (bob.id(), true, 0));
    shows(&bob, 3).await?;
    assert_eq!(told(&mut alice).await?, (bob.id(), false, 0), "nothing is known of him");
    dave.contact(&alice, change_contact::What::Block(true)).await?.unwrap();
    assert_eq!(told(&mut alice).await?, (dave.id(), false, 0));
    // Neither of the two is told of any more.
    let of_carol = carol.id();
    leave(&gateway, bob, 3.0).await?;
    leave(&gateway, dave, 2.0).await?;
    leave(&gateway, carol, 1.0).await?;
    let (who, online, _) = told(&mut alice).await?;
    assert_eq!((who, online), (of_carol, false));
    Ok(())
}

async fn who_is_named_last_is_watched_and_what_makes_no_sense_is_refused(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let mut alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let carol = Somebody::new(&gateway, "carol").await?;
    let many: Vec<_> = (0..501u128).map(|n| Bytes::copy_from_slice(&n.to_be_bytes())).collect();
    for bad in [&many[..], &[Bytes::from_static(b"short")]] {
        watch(&mut alice, bad).await?;
        match alice.control.next().await? {
            Some((_, What::Refusal(refusal))) => {
                assert_eq!(refusal.code, Code::Invalid.number(), "{refusal:?}");
                assert!(refusal.text.contains("users"), "{refusal:?}");
            }
            other => bail!("instead of a refusal: {other:?}"),
        }
    }
    // Nobody knows these; 500 are allowed.
    watch(&mut alice, &[&many[2..], &[bob.id()]].concat()).await?;
    assert_eq!(told(&mut alice).await?, (bob.id(), true, 0));
    watch(&mut alice, &[carol.id()]).await?;
    assert_eq!(told(&mut alice).await?, (carol.id(), true, 0));
    let of_carol = carol.id();
    leave(&gateway, bob, 2.0).await?;
    leave(&gateway, carol, 1.0).await?;
    let (who, online, _) = told(&mut alice).await?;
    assert_eq!((who, online), (of_carol, false), "nothing of the one before");
    watch(&mut alice, &[]).await?;
    let look = || async {
        let watches = gateway.metric("petrel_gateway_presence_watches", "").await?;
        Ok((watches == 0.0).then_some(()))
    };
    eventually(PATIENCE, "no watches", look).await
}

async fn somebody_who_is_watched_by_many_and_comes_back_at_once_was_never_gone(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let mut watchers = Vec::new();
    for n in 0..20 {
        watchers.push(Somebody::new(&gateway, &format!("watcher{n}")).await?);
    }
    let star = Somebody::new(&gateway, "star").await?;
    let other = Somebody::new(&gateway, "other").await?;
    let (of_star, of_other) = (star.id(), other.id());
    for watcher in &mut watchers {
        watch(watcher, &[of_star.clone(), of_other.clone()]).await?;
        for _ in 0..2 {
            assert!(told(watcher).await?.1);
        }
    }
    let before = gateway.metric("petrel_gateway_presence_told_total", "").await?;
    let mut star = Some(star);
    for _ in 0..5 {
        let identity = star.take().context("he is there")?.identity;
        star = Some(Somebody::signed_in(&gateway, identity).await?);
    }
    leave(&gateway, other, 21.0).await?;
    for watcher in &mut watchers {
        let (who, online, _) = told(watcher).await?;
        assert_eq!((who, online), (of_other.clone(), false), "nothing of the star");
    }
    let frames = gateway.metric("petrel_gateway_presence_told_total", "").await? - before;
    assert_eq!(frames, 20.0);
    drop(star);
    Ok(())
}

async fn an_application_hears_who_types_and_who_is_there(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let (pair, of_bob) = (alice.with(&bob), bob.user());
    alice.say(&pair, "hello").await?;
    bob.has(pair.id, 1).await?;
    alice.client.watch_presence(&[of_bob])?;
    alice.until("bob is there", |s| s.was_told_presence(of_bob, true).then_some(())).await?;
    bob.client.typing(pair.id, true);
    alice.until("bob types", |s| s.was_told_typing(of_bob, true).then_some(())).await?;
    bob.say(&pair, "hello you").await?;
    alice.until("it came", |s| s.was_told_typing(of_bob, false).then_some(())).await?;
    bob.leave().await;
    alice.until("bob left", |s| s.was_told_presence(of_bob, false).then_some(())).await
}
