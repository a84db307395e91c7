//! Contacts: requests, consent, blocks, and how much a stranger may write.

use anyhow::{Result, bail};
use bytes::Bytes;
use petrel_proto::code::Code;
use petrel_proto::wire::{self, change_contact::What as Change, event, frame::What};
use petrel_tests::cluster::Stage;
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, RawStream};

use crate::somebody::{Somebody, next_entry};

on_both_stores!(
    friends_are_made_by_request_and_consent_and_both_logs_tell_it,
    double_accepts_and_crossed_requests_make_friends_once,
    a_block_is_seen_by_who_set_it_alone,
    a_stranger_writes_so_much_before_an_answer,
);

async fn contact_of(log: &mut RawStream) -> Result<wire::Contact> {
    match next_entry(log).await? {
        (_, Some(event::What::ContactChanged(changed))) => Ok(changed.contact.unwrap_or_default()),
        other => bail!("instead of a contact: {other:?}"),
    }
}

async fn contacts(of: &Somebody) -> Result<(Vec<wire::Contact>, u64)> {
    let mut found = Vec::new();
    for answer in of.ask_all(What::ListContacts(wire::ListContacts::default())).await? {
        match answer {
            What::Contact(contact) => found.push(contact),
            What::Done(done) => return Ok((found, done.head)),
            other => bail!("{other:?}"),
        }
    }
    bail!("no end")
}

async fn friends_are_made_by_request_and_consent_and_both_logs_tell_it(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let mut of_alice = alice.own_log().await?;
    let mut of_bob = bob.own_log().await?;

    let asked = alice.contact(&bob, Change::Ask("it is me".to_owned())).await?.unwrap();
    assert_eq!((asked.friendship, asked.user.unwrap_or_default().name.as_str()), (1, "bob"));
    assert_eq!(contact_of(&mut of_alice).await?.friendship, 1);
    let told = contact_of(&mut of_bob).await?;
    assert_eq!((told.friendship, told.text.as_str()), (2, "it is me"));
    alice.contact(&bob, Change::Remark("Bobby".to_owned())).await?.unwrap();
    assert_eq!(contact_of(&mut of_alice).await?.remark, "Bobby");

    assert_eq!(bob.contact(&alice, Change::Accept(true)).await?.unwrap().friendship, 3);
    let told = contact_of(&mut of_bob).await?;
    assert_eq!((told.friendship, told.remark.as_str()), (3, ""), "a remark is one's own");
    assert_eq!(contact_of(&mut of_alice).await?.friendship, 3);
    bob.contact(&alice, Change::Follow(true)).await?.unwrap();
    assert!(contact_of(&mut of_alice).await?.is_followed);

    // The list and the log go together.
    let (listed, head) = contacts(&alice).await?;
    assert_eq!((listed.len(), listed[0].friendship, head), (1, 3, 4));
    alice.contact(&bob, Change::Remove(true)).await?.unwrap();
    let (changed, _) = next_entry(&mut of_alice).await?;
    assert_eq!(changed.seq, head + 1);
    let (listed, _) = contacts(&bob).await?;
    assert_eq!((listed[0].friendship, listed[0].follows), (0, true));

    // Own logs are one's own, and nobody sends into them.
    let mut of_bob = bob.own_log().await?;
    assert_eq!(next_entry(&mut of_bob).await?.0.sender, alice.id());
    of_bob.write(raw::send(1, raw::message_id(raw::now_ms()), b"note")).await?;
    assert_eq!(of_bob.refusal().await?.code, Code::Forbidden);
    let foreign = petrel_core::id::ConversationId::of_user(petrel_core::id::UserId(bob.user().0));
    let foreign = Bytes::copy_from_slice(foreign.as_bytes());
    assert!(alice.open(&foreign).await.is_err(), "another's log");
    Ok(())
}

async fn double_accepts_and_crossed_requests_make_friends_once(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let again = Somebody::signed_in(&gateway, bob.identity.clone()).await?;
    assert_eq!(bob.contact(&alice, Change::Accept(true)).await?, Err(Code::Conflict));
    alice.contact(&bob, Change::Ask(String::new())).await?.unwrap();
    let (one, other) = tokio::join!(
        bob.contact(&alice, Change::Accept(true)),
        again.contact(&alice, Change::Accept(true)),
    );
    assert_eq!((one?.unwrap().friendship, other?.unwrap().friendship), (3, 3));
    let (_, head) = contacts(&bob).await?;
    assert_eq!(head, 2, "asked, accepted once");

    let carol = Somebody::new(&gateway, "carol").await?;
    let (one, other) = tokio::join!(
        alice.contact(&carol, Change::Ask("hi".to_owned())),
        carol.contact(&alice, Change::Ask("hello".to_owned())),
    );
    let states = [one?.unwrap().friendship, other?.unwrap().friendship];
    assert!(states == [1, 3] || states == [3, 1], "{states:?}");
    assert_eq!(contacts(&carol).await?.0[0].friendship, 3);
    Ok(())
}

async fn a_block_is_seen_by_who_set_it_alone(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let carol = Somebody::new(&gateway, "carol").await?;
    assert!(bob.contact(&alice, Change::Block(true)).await?.unwrap().blocks);
    let asked = alice.contact(&bob, Change::Ask("hi".to_owned())).await?.unwrap();
    let usual = alice.contact(&carol, Change::Ask("hi".to_owned())).await?.unwrap();
    assert_eq!((asked.friendship, asked.blocks), (usual.friendship, usual.blocks));
    let (of_bob, head) = contacts(&bob).await?;
    assert_eq!((of_bob.len(), of_bob[0].blocks, of_bob[0].friendship), (1, true, 0));
    assert_eq!(head, 1, "his log says nothing of it");
    assert_eq!(bob.contact(&alice, Change::Ask(String::new())).await?, Err(Code::Blocked));
    // Nor does who blocks somebody get into a group with him.
    let group = alice.create(crate::somebody::named("climbers"), &[&bob, &carol]).await?;
    let get = What::GetGroup(wire::GetGroup { conversation: group });
    let Ok(What::Group(group)) = alice.ask(get).await? else { bail!("no group") };
    assert_eq!(group.members, 2);
    // Unblocked, his own request meets the one that he was not told of.
    bob.contact(&alice, Change::Block(false)).await?.unwrap();
    assert_eq!(bob.contact(&alice, Change::Ask(String::new())).await?.unwrap().friendship, 3);
    Ok(())
}

async fn a_stranger_writes_so_much_before_an_answer(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&["message.stranger_messages_max=3"]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let (mut of_alice, _) = alice.raw.attach(raw::attach(alice.user(), bob.user())).await?;
    let mut say = async |number: u64| {
        of_alice.write(raw::send(number, raw::message_id(raw::now_ms()), b"hello")).await?;
        of_alice.answer().await
    };
    for number in 1..=3 {
        assert_eq!(say(number).await?.unwrap().seq, number);
    }
    assert_eq!(say(4).await?.unwrap_err().code, Code::NotAccepted);
    let (mut of_bob, _) = bob.raw.attach(raw::attach(bob.user(), alice.user())).await?;
    of_bob.write(raw::send(1, raw::message_id(raw::now_ms()), b"yes?")).await?;
    assert_eq!(of_bob.ack().await?, 4);
    assert_eq!(say(5).await?.unwrap().seq, 5);

    let carol = Somebody::new(&gateway, "carol").await?;
    carol.contact(&bob, Change::Ask(String::new())).await?.unwrap();
    bob.contact(&carol, Change::Accept(true)).await?.unwrap();
    let (mut of_carol, _) = carol.raw.attach(raw::attach(carol.user(), bob.user())).await?;
    for number in 1..=4 {
        of_carol.write(raw::send(number, raw::message_id(raw::now_ms()), b"hi")).await?;
        assert_eq!(of_carol.ack().await?, number, "contacts write as they like");
    }
    Ok(())
}
