//! Every request of groups, contacts and members by everybody who might try it: who gets which
//! answer, as a table.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use petrel_proto::code::Code;
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, change_contact, change_group, frame::What};
use petrel_tests::cluster::{Gateway, Stage};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw};

use crate::somebody::{Somebody, named, users};

on_both_stores!(
    every_request_of_a_group_by_everybody,
    every_request_of_a_pair_by_everybody,
    nothing_is_done_for_who_is_not_signed_in,
);

const REQUESTS: &str = "message.requests_per_s=100000";
const BURST: &str = "message.requests_burst=100000";

struct Cast {
    owner: Somebody,
    admin: Somebody,
    member: Somebody,
    muted: Somebody,
    former: Somebody,
    stranger: Somebody,
    /// Somebody whom nobody minds.
    guest: Somebody,
}

impl Cast {
    async fn new(gateway: &Gateway) -> Result<Self> {
        Ok(Self {
            owner: Somebody::new(gateway, "owner").await?,
            admin: Somebody::new(gateway, "admin").await?,
            member: Somebody::new(gateway, "member").await?,
            muted: Somebody::new(gateway, "muted").await?,
            former: Somebody::new(gateway, "former").await?,
            stranger: Somebody::new(gateway, "stranger").await?,
            guest: Somebody::new(gateway, "guest").await?,
        })
    }

    fn actors(&self) -> [&Somebody; 6] {
        [&self.owner, &self.admin, &self.member, &self.muted, &self.former, &self.stranger]
    }

    /// A new group in which everybody is what his name says.
    async fn group(&self) -> Result<Bytes> {
        let Self { owner, admin, member, muted, former, .. } = self;
        let group = owner.create(named("climbers"), &[admin, member, muted, former]).await?;
        let until_ms = raw::now_ms() + 600_000;
        for what in [
            change_group::What::Role(wire::RoleOf { user: admin.id(), role: 2 }),
            change_group::What::Mute(wire::MuteOf { user: muted.id(), until_ms }),
            change_group::What::Remove(users(&[former])),
        ] {
            owner.change(&group, what).await?.map_err(|code| anyhow::anyhow!("{code}"))?;
        }
        Ok(group)
    }
}

/// The code of an answer; OK for one that is no refusal.
async fn code_of(actor: &Somebody, what: What) -> Result<Code> {
    Ok(actor.ask(what).await?.err().unwrap_or(Code::Ok))
}

fn group_requests(cast: &Cast, conversation: Bytes) -> Vec<(&'static str, What, [Code; 6])> {
    use Code::{Forbidden as No, Invalid as Bad, NotFound as Gone, Ok};
    use change_group::What as Change;
    let change = |what| {
        let conversation = conversation.clone();
        What::ChangeGroup(wire::ChangeGroup { conversation, what: Some(what) })
    };
    let by_admins = [Ok, Ok, No, No, Gone, Gone];
    let by_owner = [Ok, No, No, No, Gone, Gone];
    let by_members = [Ok, Ok, Ok, Ok, Gone, Gone];
    let by_known = [Ok, Ok, Ok, Ok, Ok, Gone];
    let role_of = |user: &Somebody, role| wire::RoleOf { user: user.id(), role };
    let mute_of = |user: &Somebody| wire::MuteOf { user: user.id(), until_ms: u64::MAX >> 2 };
    let c = || conversation.clone();
    vec![
        ("GetGroup", What::GetGroup(wire::GetGroup { conversation: c() }), by_members),
        ("profile", change(Change::Profile(named("walkers"))), by_admins),
        (
            "profile without a name",
            change(Change::Profile(named(""))),
            [Bad, Bad, No, No, Gone, Gone],
        ),
        ("add", change(Change::Add(users(&[&cast.guest]))), by_admins),
        ("remove", change(Change::Remove(users(&[&cast.guest]))), by_admins),
        (
            "remove the admin",
            change(Change::Remove(users(&[&cast.admin]))),
            [Ok, Bad, No, No, Gone, Gone],
        ),
        (
            "remove the owner",
            change(Change::Remove(users(&[&cast.owner]))),
            [Bad, No, No, No, Gone, Gone],
        ),
        ("leave", change(Change::Leave(true)), [No, Ok, Ok, Ok, Ok, Gone]),
        ("leave false", change(Change::Leave(false)), [Bad; 6]),
        ("role", change(Change::Role(role_of(&cast.member, 2))), by_owner),
        ("role 3", change(Change::Role(role_of(&cast.member, 3))), [Bad, No, No, No, Gone, Gone]),
        ("role 4", change(Change::Role(role_of(&cast.member, 4))), [Bad; 6]),
        ("transfer", change(Change::Transfer(cast.member.id())), by_owner),
        (
            "transfer to nobody",
            change(Change::Transfer(cast.guest.id())),
            [Bad, No, No, No, Gone, Gone],
        ),
        ("mute", change(Change::Mute(mute_of(&cast.member))), by_admins),
        (
            "mute the owner",
            change(Change::Mute(mute_of(&cast.owner))),
            [No, No, No, No, Gone, Gone],
        ),
        (
            "accept",
            change(Change::Accept(cast.guest.id())),
            [Code::Conflict, Code::Conflict, No, No, Gone, Gone],
        ),
        ("decline", change(Change::Decline(cast.guest.id())), by_admins),
        (
            "nothing",
            What::ChangeGroup(wire::ChangeGroup { conversation: c(), what: None }),
            [Bad; 6],
        ),
        (
            "JoinGroup",
            What::JoinGroup(wire::JoinGroup { conversation: c(), ..Default::default() }),
            by_members,
        ),
        (
            "MakeLink",
            What::MakeLink(wire::MakeLink { conversation: c(), ..Default::default() }),
            by_admins,
        ),
        (
            "RevokeLink",
            What::RevokeLink(wire::RevokeLink {
                conversation: c(),
                hash: Bytes::from_static(&[7; 32]),
            }),
            by_admins,
        ),
        ("ListLinks", What::ListLinks(wire::ListLinks { conversation: c() }), by_admins),
        (
            "ListMembers",
            What::ListMembers(wire::ListMembers { conversation: c(), ..Default::default() }),
            by_members,
        ),
        (
            "ListJoinRequests",
            What::ListJoinRequests(wire::ListJoinRequests {
                conversation: c(),
                ..Default::default()
            }),
            by_admins,
        ),
        ("ReadBy", What::ReadBy(wire::ReadBy { conversation: c(), seq: 2 }), by_members),
        (
            "ReadHistory",
            What::ReadHistory(wire::ReadHistory { conversation: c(), ..Default::default() }),
            by_known,
        ),
        (
            "SetConversation",
            What::SetConversation(wire::SetConversation { conversation: c(), settings: None }),
            by_known,
        ),
        (
            "HideEntries",
            What::HideEntries(wire::HideEntries { conversation: c(), seqs: vec![1] }),
            by_known,
        ),
    ]
}

async fn every_request_of_a_group_by_everybody(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[REQUESTS, BURST]).await?;
    let cast = Cast::new(&gateway).await?;
    let names: Vec<_> =
        group_requests(&cast, Bytes::new()).into_iter().map(|(name, ..)| name).collect();
    for (row, name) in names.into_iter().enumerate() {
        for (column, actor) in cast.actors().into_iter().enumerate() {
            let group = cast.group().await?;
            let (_, what, expected) =
                group_requests(&cast, group).into_iter().nth(row).context("a row")?;
            let code = code_of(actor, what).await?;
            assert_eq!(code, expected[column], "{name}, actor {column}");
        }
    }
    // What is sent into it.
    let group = cast.group().await?;
    let (no, gone) = (Code::Muted, Code::NotFound);
    for (kind, mentions, expected) in [
        (1, vec![], [Code::Ok, Code::Ok, Code::Ok, no, gone, gone]),
        (1, vec![0; 16], [Code::Ok, Code::Ok, Code::Forbidden, no, gone, gone]),
        (34, vec![], [Code::Ok, Code::Ok, Code::Ok, no, gone, gone]),
        // Nobody has given it, so there is nothing to take back; a mute is not what is in the way.
        (35, vec![], [Code::Conflict, Code::Conflict, Code::Conflict, Code::Conflict, gone, gone]),
    ] {
        let mut of_owner = cast.owner.open(&group).await?;
        of_owner.write(raw::send(1, raw::message_id(raw::now_ms()), b"hello")).await?;
        let target = of_owner.ack().await?;
        for (actor, expected) in cast.actors().into_iter().zip(expected) {
            let mut frame = raw::send(1, raw::message_id(raw::now_ms()), "👍".as_bytes());
            frame.entry_kind = kind;
            frame.target = if kind == 1 { 0 } else { target };
            if !mentions.is_empty() {
                frame.mentions = vec![Bytes::from(mentions.clone())];
            }
            let Ok(mut stream) = actor.open(&group).await else {
                assert_eq!(expected, gone);
                continue;
            };
            stream.write(frame).await?;
            let code = stream.answer().await?.err().map_or(Code::Ok, |refused| refused.code);
            assert_eq!(code, expected, "kind {kind} by {:?}", actor.user());
        }
    }
    Ok(())
}

async fn every_request_of_a_pair_by_everybody(stage: Stage) -> Result<()> {
    use change_contact::What as Change;
    let gateway = stage.gateway(&[REQUESTS, BURST]).await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    let blocking = Somebody::new(&gateway, "blocking").await?;
    let plain = Somebody::new(&gateway, "plain").await?;
    blocking
        .contact(&alice, Change::Block(true))
        .await?
        .map_err(|code| anyhow::anyhow!("{code}"))?;
    // To one who blocks the caller, to one who does not, to the caller himself, to nobody.
    let (ok, bad, none) = (Code::Ok, Code::Invalid, Code::NotFound);
    for (what, expected) in [
        (Change::Ask("hi".to_owned()), [ok, ok, bad, none]),
        (Change::Ask("a".repeat(257)), [bad, bad, bad, none]),
        (Change::Accept(true), [Code::Conflict, Code::Conflict, bad, none]),
        (Change::Accept(false), [bad; 4]),
        (Change::Decline(true), [ok, ok, bad, none]),
        (Change::Remove(true), [ok, ok, bad, none]),
        (Change::Remark("x".to_owned()), [ok, ok, bad, none]),
        (Change::Remark("\n".to_owned()), [bad, bad, bad, none]),
        (Change::Follow(true), [ok, ok, bad, none]),
        (Change::Block(false), [ok, ok, bad, none]),
    ] {
        let others = [blocking.id(), plain.id(), alice.id(), Bytes::from_static(&[9; 16])];
        for (user, expected) in others.into_iter().zip(expected) {
            let change = wire::ChangeContact { user, what: Some(what.clone()) };
            let code = code_of(&alice, What::ChangeContact(change)).await?;
            assert_eq!(code, expected, "{what:?}");
        }
    }
    // Requests of groups about a pair are about no group.
    plain.raw.attach(raw::attach(plain.user(), alice.user())).await?;
    let pair = raw::attach(plain.user(), alice.user()).conversation;
    for what in [
        What::GetGroup(wire::GetGroup { conversation: pair.clone() }),
        What::ChangeGroup(wire::ChangeGroup {
            conversation: pair.clone(),
            what: Some(change_group::What::Leave(true)),
        }),
        What::JoinGroup(wire::JoinGroup { conversation: pair.clone(), ..Default::default() }),
        What::MakeLink(wire::MakeLink { conversation: pair.clone(), ..Default::default() }),
        What::ListMembers(wire::ListMembers { conversation: pair, ..Default::default() }),
    ] {
        assert_eq!(code_of(&alice, what.clone()).await?, Code::NotFound, "{what:?}");
    }
    Ok(())
}

/// One of each request that needs a session.
fn all_requests() -> Vec<What> {
    let id = || Bytes::from_static(&[1; 16]);
    vec![
        What::FindUsers(wire::FindUsers::default()),
        What::ListConversations(wire::ListConversations::default()),
        What::ReadHistory(wire::ReadHistory { conversation: id(), ..Default::default() }),
        What::CreateGroup(wire::CreateGroup::default()),
        What::GetGroup(wire::GetGroup { conversation: id() }),
        What::ChangeGroup(wire::ChangeGroup { conversation: id(), what: None }),
        What::JoinGroup(wire::JoinGroup { conversation: id(), ..Default::default() }),
        What::MakeLink(wire::MakeLink { conversation: id(), ..Default::default() }),
        What::RevokeLink(wire::RevokeLink { conversation: id(), ..Default::default() }),
        What::ListLinks(wire::ListLinks { conversation: id() }),
        What::ListMembers(wire::ListMembers { conversation: id(), ..Default::default() }),
        What::ListJoinRequests(wire::ListJoinRequests { conversation: id(), ..Default::default() }),
        What::ReadBy(wire::ReadBy { conversation: id(), seq: 1 }),
        What::ChangeContact(wire::ChangeContact { user: id(), what: None }),
        What::ListContacts(wire::ListContacts::default()),
        What::SetConversation(wire::SetConversation { conversation: id(), settings: None }),
        What::HideEntries(wire::HideEntries { conversation: id(), seqs: vec![1] }),
    ]
}

async fn nothing_is_done_for_who_is_not_signed_in(stage: Stage) -> Result<()> {
    let gateway = stage
        .gateway(&[REQUESTS, BURST, "auth.token_life=2s", "gateway.sign_in_timeout=3s"])
        .await?;
    let alice = Somebody::new(&gateway, "alice").await?;
    // The token ends; the connection stays.
    let list = || What::ListConversations(wire::ListConversations::default());
    while code_of(&alice, list()).await? != Code::Reauthenticate {
        tokio::task::yield_now().await;
    }
    for what in all_requests() {
        assert_eq!(code_of(&alice, what.clone()).await?, Code::Reauthenticate, "{what:?}");
    }
    // A connection without a session gets no answer; the session that comes then goes on.
    let unknown = Raw::dial(&gateway, &raw::RawOptions::default()).await?;
    let mut asked = Vec::new();
    for what in all_requests().into_iter().take(4) {
        let mut stream = unknown.open().await?;
        stream.write(bare(what)).await?;
        asked.push(stream);
    }
    assert_eq!(asked.len(), 4, "nothing was refused at once");
    match unknown.closed_with().await {
        Ok(Code::SignInTimeout) => Ok(()),
        other => bail!("{other:?}"),
    }
}
