//! Edits, recalls and reactions: who may, until when, and what is left to be read.

use anyhow::{Result, bail};
use bytes::Bytes;
use petrel_core::limits;
use petrel_proto::code::Code;
use petrel_proto::wire::{self, Frame, change_group::What as Change, frame::What};
use petrel_tests::cluster::{Gateway, Stage};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, RawStream};

use crate::somebody::{Somebody, change, named, next_entry};

on_both_stores!(
    what_was_changed_is_read_as_it_is_now_and_told_as_it_happens,
    of_conflicting_edits_one_is_stored,
    who_may_change_what_and_until_when,
    changes_that_make_no_sense_are_refused,
    members_hide_and_sort_for_themselves,
);

const EDIT: u32 = 32;
const RECALL: u32 = 33;
const REACT: u32 = 34;
const UNREACT: u32 = 35;

fn edit(number: u64, target: u64, revision: u32, body: &str) -> Frame {
    let what = Some(What::Send(wire::Send { revision, ..wire::Send::default() }));
    Frame { what, ..change(number, EDIT, target, body.as_bytes()) }
}

struct Pair {
    _gateway: Gateway,
    alice: Somebody,
    of_alice: RawStream,
    bob: Somebody,
    of_bob: RawStream,
    id: Bytes,
}

impl Pair {
    async fn new(stage: &Stage, settings: &[&str]) -> Result<Self> {
        let gateway = stage.gateway(settings).await?;
        let alice = Somebody::new(&gateway, "alice").await?;
        let bob = Somebody::new(&gateway, "bob").await?;
        let (of_alice, attach) = alice.raw.attach(raw::attach(alice.user(), bob.user())).await?;
        let (of_bob, _) = bob.raw.attach(raw::attach(bob.user(), alice.user())).await?;
        Ok(Self { _gateway: gateway, alice, of_alice, bob, of_bob, id: attach.conversation })
    }
}

async fn say(stream: &mut RawStream, number: u64, text: &str) -> Result<u64> {
    stream.write(raw::send(number, raw::message_id(raw::now_ms()), text.as_bytes())).await?;
    stream.ack().await
}

/// One entry as somebody reads it now.
async fn read(who: &Somebody, conversation: &Bytes, seq: u64) -> Result<(Frame, wire::Push)> {
    for (frame, what) in who.history(conversation, seq).await? {
        if let What::Push(push) = what
            && frame.seq == seq
        {
            return Ok((frame, push));
        }
    }
    bail!("no entry {seq}")
}

async fn what_was_changed_is_read_as_it_is_now_and_told_as_it_happens(stage: Stage) -> Result<()> {
    let Pair { _gateway, alice, mut of_alice, bob, mut of_bob, id, .. } =
        Pair::new(&stage, &[]).await?;
    say(&mut of_alice, 1, "helo").await?;
    let reply = Frame { target: 1, ..raw::send(1, raw::message_id(raw::now_ms()), b"what?") };
    of_bob.write(Frame { mentions: vec![alice.id()], ..reply }).await?;
    assert_eq!(next_entry(&mut of_alice).await?.0.target, 1);

    of_alice.write(edit(2, 1, 0, "hello")).await?;
    assert_eq!(of_alice.ack().await?, 3);
    of_bob.ack().await?;
    let mut pushes = of_bob;
    let told = next_entry(&mut pushes).await?.0;
    assert_eq!((told.entry_kind, told.target, told.body.as_ref()), (EDIT, 1, &b"hello"[..]));
    let (now, push) = read(&bob, &id, 1).await?;
    assert_eq!((now.body.as_ref(), push.revision, push.changed), (&b"hello"[..], 1, 3));

    of_alice.write(change(3, REACT, 2, "👍".as_bytes())).await?;
    of_alice.ack().await?;
    pushes.write(change(2, REACT, 2, "👍".as_bytes())).await?;
    pushes.ack().await?;
    pushes.write(change(3, REACT, 2, "🎉".as_bytes())).await?;
    pushes.ack().await?;
    let (_, push) = read(&alice, &id, 2).await?;
    let said: Vec<_> = push.reactions.iter().map(|r| (r.emoji.as_str(), r.count, r.own)).collect();
    assert_eq!(said, [("👍", 2, true), ("🎉", 1, false)]);
    pushes.write(change(4, UNREACT, 2, "👍".as_bytes())).await?;
    pushes.ack().await?;
    let (_, push) = read(&bob, &id, 2).await?;
    assert!(push.reactions.iter().all(|r| (r.count, r.own) == (1, r.emoji == "🎉")), "{push:?}");
    for (number, kind, emoji) in [(5, UNREACT, "👍"), (6, REACT, "🎉")] {
        pushes.write(change(number, kind, 2, emoji.as_bytes())).await?;
        assert_eq!(pushes.refusal().await?.code, Code::Conflict, "that is so already");
    }

    of_alice.write(change(4, RECALL, 1, b"")).await?;
    of_alice.ack().await?;
    let (now, push) = read(&bob, &id, 1).await?;
    assert_eq!((now.body.len(), push.recalled, push.revision), (0, true, 2));
    assert_eq!(read(&bob, &id, 3).await?.0.body.len(), 0, "nor is the edit's text kept");
    let (mut again, attach) = bob.raw.attach(crate::somebody::from_nothing(&id)).await?;
    assert_eq!((attach.count, next_entry(&mut again).await?.0.body.len()), (2, 0));
    Ok(())
}

async fn of_conflicting_edits_one_is_stored(stage: Stage) -> Result<()> {
    let Pair { _gateway: gateway, alice, mut of_alice, id, .. } = Pair::new(&stage, &[]).await?;
    say(&mut of_alice, 1, "one").await?;
    let again = Somebody::signed_in(&gateway, alice.identity.clone()).await?;
    let mut of_other = again.open(&id).await?;
    for revision in 0..5u32 {
        let number = u64::from(revision);
        of_alice.write(edit(number + 2, 1, revision, "from the first device")).await?;
        of_other.write(edit(number + 1, 1, revision, "from the second device")).await?;
        let answers = [of_alice.answer().await?, of_other.answer().await?];
        let stored = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(stored, 1, "{answers:?}");
        let refused = answers.into_iter().find_map(Result::err).map(|refused| refused.code);
        assert_eq!(refused, Some(Code::Conflict));
        assert_eq!(read(&alice, &id, 1).await?.1.revision, revision + 1);
    }
    Ok(())
}

async fn who_may_change_what_and_until_when(stage: Stage) -> Result<()> {
    let settings = ["message.edit_window=0ms"];
    let Pair { _gateway: gateway, alice, mut of_alice, bob, mut of_bob, .. } =
        Pair::new(&stage, &settings).await?;
    say(&mut of_alice, 1, "hello").await?;
    of_bob.write(edit(1, 1, 0, "mine now")).await?;
    assert_eq!(of_bob.refusal().await?.code, Code::Forbidden);
    of_bob.write(change(2, RECALL, 1, b"")).await?;
    assert_eq!(of_bob.refusal().await?.code, Code::Forbidden);
    let mut number = 1;
    // The window of 0 ms is over with the millisecond of the commit.
    loop {
        number += 1;
        let (_, push) = read(&alice, &attach_id(&alice, &bob), 1).await?;
        of_alice.write(edit(number, 1, push.revision, "too late")).await?;
        match of_alice.answer().await? {
            Err(refused) => break assert_eq!(refused.code, Code::TooLate),
            Ok(_) => assert!(number < 100, "the window never ends"),
        }
    }

    // In a group admins recall what others wrote; nobody edits it.
    let carol = Somebody::new(&gateway, "carol").await?;
    let group = alice.create(named("climbers"), &[&bob, &carol]).await?;
    alice.change(&group, Change::Role(wire::RoleOf { user: bob.id(), role: 2 })).await?.unwrap();
    let mut of_carol = carol.open(&group).await?;
    let seq = say(&mut of_carol, 1, "spam").await?;
    let mut of_bob = bob.open(&group).await?;
    of_bob.write(edit(1, seq, 0, "no spam")).await?;
    assert_eq!(of_bob.refusal().await?.code, Code::Forbidden);
    of_bob.write(change(2, RECALL, seq, b"")).await?;
    of_bob.ack().await?;
    of_carol.write(change(2, REACT, seq, "😢".as_bytes())).await?;
    assert_eq!(of_carol.refusal().await?.code, Code::Conflict, "it is gone");
    of_carol.write(change(3, REACT, 1, "👍".as_bytes())).await?;
    let refused = of_carol.refusal().await?;
    assert_eq!((refused.code, refused.text.as_str()), (Code::Invalid, "target: no such message"));
    // What was before one's time cannot be changed either.
    let dave = Somebody::new(&gateway, "dave").await?;
    alice.change(&group, Change::Add(crate::somebody::users(&[&dave]))).await?.unwrap();
    let mut of_dave = dave.open(&group).await?;
    of_dave.write(change(1, REACT, seq, "👍".as_bytes())).await?;
    assert_eq!(of_dave.refusal().await?.code, Code::Invalid);
    Ok(())
}

fn attach_id(one: &Somebody, other: &Somebody) -> Bytes {
    raw::attach(one.user(), other.user()).conversation
}

async fn changes_that_make_no_sense_are_refused(stage: Stage) -> Result<()> {
    let mut pair = Pair::new(&stage, &[]).await?;
    let (of_alice, bob) = (&mut pair.of_alice, &pair.bob);
    say(of_alice, 1, "hello").await?;
    let max = limits::REACTION_BYTES_MAX;
    let mentioning = |users: usize| Frame {
        mentions: vec![bob.id(); users],
        ..raw::send(0, raw::message_id(raw::now_ms()), b"all of you")
    };
    for (frame, expected) in [
        (change(0, EDIT, 0, b"x"), Some("target")),
        (change(0, EDIT, 99, b"x"), Some("target")),
        (change(0, REACT, 1 << 62, b"x"), Some("target")),
        (change(0, RECALL, 1, b"why"), Some("body")),
        (change(0, REACT, 1, b""), Some("body")),
        (change(0, REACT, 1, b"a b"), Some("body")),
        (change(0, REACT, 1, b"\x1b[2J"), Some("body")),
        (change(0, REACT, 1, b"\xff"), Some("body")),
        (change(0, REACT, 1, &vec![b'a'; max - 1]), None),
        (change(0, REACT, 1, &vec![b'a'; max]), None),
        (change(0, REACT, 1, &vec![b'a'; max + 1]), Some("body")),
        (change(0, 8, 0, b"from above"), Some("entry_kind")),
        (change(0, 48, 0, b""), Some("entry_kind")),
        (change(0, 99, 0, b""), Some("entry_kind")),
        (mentioning(limits::MENTIONS_MAX - 1), None),
        (mentioning(limits::MENTIONS_MAX), None),
        (mentioning(limits::MENTIONS_MAX + 1), Some("mentions")),
        (Frame { mentions: vec![bob.id()], ..change(0, REACT, 1, b"x") }, Some("mentions")),
        (Frame { mentions: vec![Bytes::from_static(b"bob")], ..mentioning(0) }, Some("mentions")),
    ]
    .into_iter()
    .zip(2..)
    .map(|((frame, expected), number)| (Frame { number, ..frame }, expected))
    {
        of_alice.write(frame.clone()).await?;
        match (of_alice.answer().await?, expected) {
            (Ok(_), None) => {}
            (Err(refused), Some(field)) => {
                assert_eq!(refused.code, Code::Invalid, "{frame:?}");
                assert!(refused.text.starts_with(field), "{frame:?}: {}", refused.text);
            }
            (answer, _) => bail!("{frame:?}: {answer:?}"),
        }
    }
    Ok(())
}

async fn members_hide_and_sort_for_themselves(stage: Stage) -> Result<()> {
    let Pair { _gateway, alice, mut of_alice, bob, id, .. } = Pair::new(&stage, &[]).await?;
    say(&mut of_alice, 1, "hello").await?;
    let mut log = bob.own_log().await?;
    let hide =
        |seqs: Vec<u64>| What::HideEntries(wire::HideEntries { conversation: id.clone(), seqs });
    assert!(matches!(bob.ask(hide(vec![1])).await?, Ok(What::Done(_))));
    let hidden = read(&bob, &id, 1).await?;
    assert_eq!((hidden.0.body.len(), hidden.1.hidden), (0, true));
    let shown = read(&alice, &id, 1).await?;
    assert_eq!((shown.0.body.as_ref(), shown.1.hidden), (&b"hello"[..], false));
    assert_eq!(next_entry(&mut log).await?.0.entry_kind, 67);
    for bad in [vec![], vec![0], vec![2], vec![1 << 62], (1..=101).collect()] {
        assert_eq!(bob.ask(hide(bad)).await?.unwrap_err(), Code::Invalid);
    }

    let settings = wire::MemberSettings { pinned_ms: 7, archived: true, silenced_until_ms: 9 };
    let set = |settings| {
        let conversation = id.clone();
        What::SetConversation(wire::SetConversation { conversation, settings: Some(settings) })
    };
    assert!(matches!(bob.ask(set(settings)).await?, Ok(What::Done(_))));
    assert_eq!(next_entry(&mut log).await?.0.entry_kind, 67);
    let list = bob.ask(What::ListConversations(wire::ListConversations::default())).await?;
    let Ok(What::Summary(line)) = list else { bail!("{list:?}") };
    assert_eq!(line.settings, Some(settings));
    let far = wire::MemberSettings { pinned_ms: 1 << 62, ..settings };
    assert_eq!(bob.ask(set(far)).await?.unwrap_err(), Code::Invalid);
    Ok(())
}
