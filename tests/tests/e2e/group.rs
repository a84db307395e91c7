//! Groups: a whole life, who may do what, how people come in, and what who is out still reads.

use anyhow::{Result, bail};
use bytes::Bytes;
use petrel_proto::code::Code;
use petrel_proto::wire::{self, change_group::What as Change, event, frame::What};
use petrel_tests::cluster::Stage;
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, RawStream};

use crate::somebody::{Somebody, ends_after, named, next_entry, users};

on_both_stores!(
    the_whole_life_of_a_group,
    people_come_in_by_request_and_by_link,
    who_is_out_reads_what_was_his_and_nothing_else,
    a_request_that_is_sent_again_changes_nothing_more,
    removals_race_with_sends_and_each_send_has_one_answer,
    two_admins_at_once_both_get_what_they_asked_for,
);

async fn say(stream: &mut RawStream, number: u64, text: &str) -> Result<u64> {
    stream.write(raw::send(number, raw::message_id(raw::now_ms()), text.as_bytes())).await?;
    stream.ack().await
}

/// The stream that the server opens for a new conversation.
async fn opened(somebody: &Somebody) -> Result<(RawStream, wire::Attach)> {
    let mut stream = somebody.raw.accept().await?;
    match stream.next().await? {
        Some((_, What::Attach(attach))) => Ok((stream, attach)),
        other => bail!("instead of Attach: {other:?}"),
    }
}

async fn the_whole_life_of_a_group(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let carol = Somebody::new(&gateway, "carol").await?;
    let dave = Somebody::new(&gateway, "dave").await?;

    let group = alice.create(named("climbers"), &[&bob, &carol]).await?;
    let (mut of_bob, attach) = opened(&bob).await?;
    assert_eq!((attach.conversation, attach.peer.len()), (group.clone(), 0));
    let (first, event) = next_entry(&mut of_bob).await?;
    assert_eq!((first.seq, first.entry_kind, first.count), (1, 48, 0));
    let Some(event::What::GroupMade(made)) = event else { bail!("{event:?}") };
    assert_eq!(made.profile.unwrap_or_default().name, "climbers");
    assert_eq!(first.sender, alice.id());

    let mut of_alice = alice.open(&group).await?;
    assert_eq!(next_entry(&mut of_alice).await?.0.seq, 1);
    assert_eq!(say(&mut of_alice, 1, "hello").await?, 2);
    assert_eq!(next_entry(&mut of_bob).await?.0.body, "hello");

    // A member comes in and reads from then on.
    let added = alice.change(&group, Change::Add(users(&[&dave]))).await?.unwrap();
    assert_eq!((added.members, added.role), (4, 3));
    let (mut of_dave, attach) = opened(&dave).await?;
    assert_eq!((attach.head, next_entry(&mut of_dave).await?.0.seq), (3, 3));
    assert_eq!(next_entry(&mut of_bob).await?.0.seq, 3);

    // Roles, the profile, a mute.
    let role = wire::RoleOf { user: bob.id(), role: 2 };
    alice.change(&group, Change::Role(role)).await?.unwrap();
    let (_, event) = next_entry(&mut of_bob).await?;
    assert!(matches!(event, Some(event::What::RoleChanged(r)) if r.role == 2));
    let profile = bob.change(&group, Change::Profile(named("walkers"))).await?.unwrap();
    assert_eq!(profile.profile.unwrap_or_default().name, "walkers");
    let until_ms = raw::now_ms() + 60_000;
    let mute = wire::MuteOf { user: dave.id(), until_ms };
    bob.change(&group, Change::Mute(mute)).await?.unwrap();
    of_dave.write(raw::send(1, raw::message_id(raw::now_ms()), b"quiet")).await?;
    assert_eq!(of_dave.refusal().await?.code, Code::Muted);
    bob.change(&group, Change::Mute(wire::MuteOf { user: dave.id(), until_ms: 0 })).await?.unwrap();
    assert_eq!(say(&mut of_dave, 2, "loud").await?, 8);

    // Out: the last entry that he may see, then the end.
    bob.change(&group, Change::Remove(users(&[&dave]))).await?.unwrap();
    ends_after(&mut of_dave, &[9], Code::NotFound).await?;
    assert_eq!(carol.change(&group, Change::Leave(true)).await?.unwrap().role, 0);

    // The owner hands over and leaves; the last one leaves too.
    assert_eq!(alice.change(&group, Change::Leave(true)).await?, Err(Code::Forbidden));
    let handed = alice.change(&group, Change::Transfer(bob.id())).await?.unwrap();
    assert_eq!((handed.role, handed.members), (2, 2));
    alice.change(&group, Change::Leave(true)).await?.unwrap();
    let get = |group: &Bytes| What::GetGroup(wire::GetGroup { conversation: group.clone() });
    let Ok(What::Group(seen)) = bob.ask(get(&group)).await? else { bail!("no group") };
    assert_eq!((seen.members, seen.role), (1, 3));
    assert_eq!(alice.ask(get(&group)).await?.unwrap_err(), Code::NotFound);
    bob.change(&group, Change::Leave(true)).await?.unwrap();
    let join = wire::JoinGroup { conversation: group, ..wire::JoinGroup::default() };
    assert_eq!(alice.join(join).await?, Err(Code::NotFound));
    Ok(())
}

async fn people_come_in_by_request_and_by_link(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let carol = Somebody::new(&gateway, "carol").await?;
    let dave = Somebody::new(&gateway, "dave").await?;
    let profile = wire::GroupProfile { joins: 2, whole_history: true, ..named("climbers") };
    let group = alice.create(profile, &[]).await?;
    let mut log = alice.own_log().await?;

    // By request: it waits, shows in the log of the owner, and is answered.
    let ask = wire::JoinGroup {
        conversation: group.clone(),
        text: "let me in".to_owned(),
        ..wire::JoinGroup::default()
    };
    let asked = bob.join(ask.clone()).await?.unwrap();
    assert!(asked.asked && asked.role == 0 && asked.profile.is_none());
    let (_, event) = next_entry(&mut log).await?;
    let Some(event::What::JoinAsked(told)) = event else { bail!("{event:?}") };
    assert_eq!((told.text.as_str(), told.closed), ("let me in", false));
    assert!(bob.join(ask.clone()).await?.unwrap().asked, "again: nothing more");
    carol.join(ask.clone()).await?.unwrap();
    let list = wire::ListJoinRequests { conversation: group.clone(), ..Default::default() };
    assert_eq!(alice.ask_all(What::ListJoinRequests(list.clone())).await?.len(), 3);
    let accepted = alice.change(&group, Change::Accept(bob.id())).await?.unwrap();
    assert_eq!(accepted.members, 2);
    assert_eq!(alice.change(&group, Change::Accept(bob.id())).await?.unwrap().members, 2);
    alice.change(&group, Change::Decline(carol.id())).await?.unwrap();
    assert_eq!(alice.change(&group, Change::Accept(carol.id())).await?, Err(Code::Conflict));
    assert_eq!(alice.ask_all(What::ListJoinRequests(list)).await?.len(), 1);
    // The whole history is his.
    let mut of_bob = bob.open(&group).await?;
    assert_eq!(next_entry(&mut of_bob).await?.0.seq, 1);

    // By link: it works so often, and not after it was revoked.
    let make = wire::MakeLink { conversation: group.clone(), expires_ms: 60_000, uses_max: 1 };
    assert_eq!(bob.ask(What::MakeLink(make.clone())).await?.unwrap_err(), Code::Forbidden);
    let Ok(What::Link(link)) = alice.ask(What::MakeLink(make.clone())).await? else {
        bail!("no link")
    };
    let by_link = |secret: &Bytes| wire::JoinGroup { link: secret.clone(), ..Default::default() };
    assert_eq!(carol.join(by_link(&link.secret)).await?.unwrap().members, 3);
    assert_eq!(dave.join(by_link(&link.secret)).await?, Err(Code::NotFound), "it is used up");
    let unlimited = wire::MakeLink { uses_max: 0, ..make };
    let Ok(What::Link(link)) = alice.ask(What::MakeLink(unlimited)).await? else {
        bail!("no link")
    };
    let list = wire::ListLinks { conversation: group.clone() };
    assert_eq!(alice.ask_all(What::ListLinks(list)).await?.len(), 3);
    let revoke = wire::RevokeLink { conversation: group.clone(), hash: link.hash };
    assert!(matches!(alice.ask(What::RevokeLink(revoke)).await?, Ok(What::Done(_))));
    assert_eq!(dave.join(by_link(&link.secret)).await?, Err(Code::NotFound));

    // Who was removed comes back by an invitation only; who has left may ask.
    alice.change(&group, Change::Remove(users(&[&bob]))).await?.unwrap();
    assert_eq!(bob.join(ask.clone()).await?, Err(Code::Forbidden));
    carol.change(&group, Change::Leave(true)).await?.unwrap();
    assert!(carol.join(ask).await?.unwrap().asked);
    alice.change(&group, Change::Add(users(&[&bob]))).await?.unwrap();
    let list = wire::ListMembers { conversation: group, ..Default::default() };
    assert_eq!(bob.ask_all(What::ListMembers(list)).await?.len(), 3);
    Ok(())
}

async fn who_is_out_reads_what_was_his_and_nothing_else(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let group = alice.create(named("climbers"), &[]).await?;
    let mut of_alice = alice.open(&group).await?;
    say(&mut of_alice, 1, "before").await?; // 2
    alice.change(&group, Change::Add(users(&[&bob]))).await?.unwrap(); // 3
    say(&mut of_alice, 2, "with bob").await?; // 4
    bob.change(&group, Change::Leave(true)).await?.unwrap(); // 5
    say(&mut of_alice, 3, "without").await?; // 6
    say(&mut of_alice, 4, "without").await?; // 7

    // By attaching: a gap, his entries, the end.
    let (mut stream, attach) = bob.raw.attach(crate::somebody::from_nothing(&group)).await?;
    assert_eq!((attach.head, attach.count, attach.receipts.len()), (5, 2, 0));
    let Some((_, What::Gap(gap))) = stream.next().await? else { bail!("no gap") };
    assert_eq!((gap.from, gap.to, gap.reason), (1, 2, 2));
    ends_after(&mut stream, &[3, 4, 5], Code::NotFound).await?;
    // By history: the same.
    let read = bob.history(&group, 1).await?;
    let said: Vec<_> = read.iter().map(|(frame, what)| (frame.seq, kind(what))).collect();
    assert_eq!(said, [(0, "gap"), (3, "push"), (4, "push"), (5, "push"), (0, "done")]);
    let Some((_, What::Done(done))) = read.last() else { bail!("no end") };
    assert_eq!(done.head, 5);
    // He writes nothing, and is told nothing of the group.
    let list =
        What::ListMembers(wire::ListMembers { conversation: group.clone(), ..Default::default() });
    assert_eq!(bob.ask(list).await?.unwrap_err(), Code::NotFound);

    // Back again: between his two memberships there is a gap.
    alice.change(&group, Change::Add(users(&[&bob]))).await?.unwrap(); // 8
    say(&mut of_alice, 5, "with bob again").await?; // 9
    let mut stream = bob.open(&group).await?;
    let mut told = Vec::new();
    for _ in 0..7 {
        match stream.next().await? {
            Some((_, What::Gap(gap))) => told.push((gap.from, gap.to)),
            Some((frame, What::Push(_))) => told.push((frame.seq, frame.seq)),
            other => bail!("{other:?}"),
        }
    }
    assert_eq!(told, [(1, 2), (3, 3), (4, 4), (5, 5), (6, 7), (8, 8), (9, 9)]);
    let newest = wire::ReadHistory {
        conversation: group,
        to: 7,
        newest: true,
        ..wire::ReadHistory::default()
    };
    let read = bob.raw.ask(What::ReadHistory(newest)).await?;
    let said: Vec<_> = read.iter().map(|(frame, what)| (frame.seq, kind(what))).collect();
    assert_eq!(said, [(3, "push"), (4, "push"), (5, "push"), (0, "gap"), (0, "done")]);
    Ok(())
}

fn kind(what: &What) -> &'static str {
    match what {
        What::Push(_) => "push",
        What::Gap(_) => "gap",
        What::Done(_) => "done",
        _ => "other",
    }
}

async fn a_request_that_is_sent_again_changes_nothing_more(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let create = What::CreateGroup(wire::CreateGroup {
        profile: Some(named("climbers")),
        users: vec![bob.id()],
    });
    let id = raw::message_id(raw::now_ms());
    let twice = tokio::join!(alice.ask_named(id, create.clone()), alice.ask_named(id, create));
    let (first, second) = (twice.0?, twice.1?);
    let (Some(What::Group(first)), Some(What::Group(second))) = (first.first(), second.first())
    else {
        bail!("{first:?} {second:?}")
    };
    assert_eq!((&first.conversation, first.members), (&second.conversation, second.members));
    let group = first.conversation.clone();
    for what in [
        Change::Add(users(&[&bob])),
        Change::Role(wire::RoleOf { user: bob.id(), role: 2 }),
        Change::Transfer(bob.id()),
        Change::Leave(true),
    ] {
        let change = wire::ChangeGroup { conversation: group.clone(), what: Some(what) };
        let id = raw::message_id(raw::now_ms());
        let first = alice.ask_named(id, What::ChangeGroup(change.clone())).await?;
        let second = alice.ask_named(id, What::ChangeGroup(change)).await?;
        assert_eq!(first, second);
        assert!(matches!(first.as_slice(), [What::Group(_)]), "{first:?}");
    }
    let log = bob.history(&group, 1).await?;
    let seqs: Vec<_> = log.iter().map(|(frame, _)| frame.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 0], "made, admin, owner, left");
    Ok(())
}

async fn removals_race_with_sends_and_each_send_has_one_answer(stage: Stage) -> Result<()> {
    const SENDS: u64 = 60;
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let group = alice.create(named("climbers"), &[&bob]).await?;
    let mut of_bob = bob.open(&group).await?;
    let removing = async {
        for _ in 0..5 {
            alice.change(&group, Change::Remove(users(&[&bob]))).await?.unwrap();
            alice.change(&group, Change::Add(users(&[&bob]))).await?.unwrap();
        }
        alice.change(&group, Change::Remove(users(&[&bob]))).await?.unwrap();
        anyhow::Ok(())
    };
    let sending = async {
        for number in 1..=SENDS {
            let id = raw::message_id(raw::now_ms());
            if of_bob.write(raw::send(number, id, b"still here")).await.is_err() {
                break;
            }
        }
        let mut acked = Vec::new();
        while let Ok(Some((frame, what))) = of_bob.next().await {
            match what {
                What::Ack(_) => acked.push(frame.seq),
                What::Refusal(refusal) => assert_eq!(refusal.code, Code::NotFound.number()),
                _ => {}
            }
        }
        anyhow::Ok(acked)
    };
    let (removed, acked) = tokio::join!(removing, sending);
    removed?;
    let acked = acked?;
    // What was stored of him stands between an entry that let him in and one that took him out.
    let log = alice.history(&group, 1).await?;
    let mut is_in = true;
    let mut stored = Vec::new();
    for (frame, what) in &log {
        if !matches!(what, What::Push(_)) {
            continue;
        }
        match frame.entry_kind {
            48 if frame.seq > 1 => is_in = !is_in,
            1 => {
                assert!(is_in, "stored while he was out: {}", frame.seq);
                stored.push(frame.seq);
            }
            _ => {}
        }
    }
    assert!(acked.iter().all(|seq| stored.contains(seq)), "{acked:?} {stored:?}");
    assert!(!is_in);
    Ok(())
}

async fn two_admins_at_once_both_get_what_they_asked_for(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let bob = Somebody::new(&gateway, "bob").await?;
    let mut others = Vec::new();
    for n in 0..6 {
        others.push(Somebody::new(&gateway, &format!("other{n}")).await?);
    }
    let group = alice.create(named("climbers"), &[&bob]).await?;
    alice.change(&group, Change::Role(wire::RoleOf { user: bob.id(), role: 2 })).await?.unwrap();
    let (low, high) = others.split_at(3);
    let adding = async |admin: &Somebody, people: &[Somebody]| {
        for person in people {
            admin.change(&group, Change::Add(users(&[person]))).await?.unwrap();
        }
        anyhow::Ok(())
    };
    let (of_alice, of_bob) = tokio::join!(adding(&alice, low), adding(&bob, high));
    of_alice?;
    of_bob?;
    // Both want the same one out, and one wants him in: whatever comes last holds.
    let target = &others[0];
    let (out, out_too, back) = tokio::join!(
        alice.change(&group, Change::Remove(users(&[target]))),
        bob.change(&group, Change::Remove(users(&[target]))),
        alice.change(&group, Change::Add(users(&[target]))),
    );
    assert!(out?.is_ok() && out_too?.is_ok() && back?.is_ok());
    let log = alice.history(&group, 1).await?;
    let seqs: Vec<_> = log.iter().map(|(frame, _)| frame.seq).filter(|seq| *seq > 0).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    Ok(())
}
