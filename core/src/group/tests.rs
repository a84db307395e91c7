#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use proptest::prelude::*;

use super::*;
use crate::change::{Audience, JoinPolicy, Privacy};
use crate::event::Log;
use crate::id::Seq;
use crate::limits::{GROUP_ADMINS_MAX, GROUP_BATCH_MAX, GROUP_LINKS_MAX, JOIN_REQUESTS_MAX};

const OWNER: UserId = UserId([1; 16]);
const ADMIN: UserId = UserId([2; 16]);
const OTHER_ADMIN: UserId = UserId([3; 16]);
const MEMBER: UserId = UserId([4; 16]);
const FORMER: UserId = UserId([5; 16]);
const STRANGER: UserId = UserId([6; 16]);
const NOW: u64 = 1_800_000_000_000;
const LIMITS: GroupLimits = GroupLimits { members_max: 1_000, per_user_max: 10 };

fn user(n: usize) -> UserId {
    let mut id = [9; 16];
    id[..8].copy_from_slice(&(n as u64).to_be_bytes());
    UserId(id)
}

fn someone(id: UserId) -> User {
    User::named(id, "someone".to_owned())
}

fn member(user: UserId, role: Role) -> Member {
    Member { role, ..Member::new(user, Seq(1)) }
}

fn group() -> ConversationRecord {
    ConversationRecord {
        id: ConversationId([7; 16]),
        kind: ConversationKind::Group(GroupProfile {
            name: "climbing".to_owned(),
            ..GroupProfile::default()
        }),
        rights_version: RightsVersion(4),
        members: vec![
            member(OWNER, Role::Owner),
            member(ADMIN, Role::Admin),
            member(OTHER_ADMIN, Role::Admin),
            member(MEMBER, Role::Member),
            Member { until: Some(Seq(5)), ..member(FORMER, Role::Member) },
        ],
        head: Seq(9),
        head_entry: None,
        count: 3,
        floor: Seq(0),
        receipts: Vec::new(),
    }
}

fn with(change: impl FnOnce(&mut GroupProfile)) -> ConversationRecord {
    let mut record = group();
    if let ConversationKind::Group(profile) = &mut record.kind {
        change(profile);
    }
    record
}

fn run(
    record: &ConversationRecord,
    actor: UserId,
    command: GroupCommand,
) -> Result<Judged, Rejection> {
    judge(GroupState::of(record).unwrap(), actor, command, LIMITS, NOW)
}

fn invitee(user: UserId) -> Invitee {
    let relation = RelationRecord {
        own_version: RightsVersion(1),
        other_version: RightsVersion(3),
        own: Default::default(),
        other: Default::default(),
        blocks: false,
        is_blocked: false,
        privacy: Privacy::default(),
        own_contacts: 0,
        other_contacts: 0,
    };
    Invitee { user, relation: Some(relation), groups: 0 }
}

fn joining(user: UserId) -> Joining {
    Joining {
        user: someone(user),
        way: Way::Id,
        text: String::new(),
        asked: false,
        open_requests: 0,
        groups: 0,
        was_removed: false,
    }
}

fn link() -> JoinLink {
    JoinLink {
        hash: [8; 32],
        conversation: group().id,
        by: ADMIN,
        expires_ms: NOW + 1,
        uses_max: 2,
        uses: 1,
    }
}

fn asker(asked: bool) -> Asker {
    Asker { user: someone(STRANGER), asked, groups: 0 }
}

/// What became of a request, in a word.
fn word(result: &Result<Judged, Rejection>) -> &'static str {
    match result {
        Ok(judged) if judged.decision.is_nothing() => "nothing",
        Ok(_) => "done",
        Err(Rejection::NotFound) => "not found",
        Err(Rejection::Forbidden { .. }) => "forbidden",
        Err(Rejection::Invalid { .. }) => "invalid",
        Err(Rejection::LimitReached { .. }) => "limit",
        Err(Rejection::NotAccepted { .. }) => "not accepted",
        Err(Rejection::Conflict { .. }) => "conflict",
        Err(_) => "other",
    }
}

#[test]
fn everybody_may_do_what_his_role_allows() {
    use GroupCommand as C;
    let record = group();
    let profile = GroupProfile { name: "boulders".to_owned(), ..GroupProfile::default() };
    let new_link = NewLink { hash: [1; 32], life_ms: 1, uses_max: 0, working: 0 };
    let actors = [OWNER, ADMIN, MEMBER, FORMER, STRANGER];
    let (no, gone) = ("forbidden", "not found");
    for (command, expected) in [
        (C::Profile(profile), ["done", "done", no, gone, gone]),
        (C::Add(vec![invitee(STRANGER)]), ["done", "done", no, gone, gone]),
        (C::Remove(vec![UserId([4; 16])]), ["done", "done", "invalid", gone, gone]),
        (C::Remove(vec![OTHER_ADMIN]), ["done", no, no, gone, gone]),
        (C::Leave, [no, "done", "done", "nothing", gone]),
        (C::Role(MEMBER, Role::Admin), ["done", no, no, gone, gone]),
        (C::Role(OTHER_ADMIN, Role::Member), ["done", no, no, gone, gone]),
        (C::Role(MEMBER, Role::Owner), ["invalid", no, no, gone, gone]),
        (C::Role(STRANGER, Role::Admin), ["invalid", no, no, gone, gone]),
        (C::Role(OWNER, Role::Member), [no, no, no, gone, gone]),
        (C::Transfer(OTHER_ADMIN), ["done", no, no, gone, gone]),
        (C::Transfer(OWNER), ["nothing", "nothing", "nothing", gone, gone]),
        (C::Transfer(STRANGER), ["invalid", no, no, gone, gone]),
        (C::Mute(MEMBER, NOW + 9), ["done", "done", no, gone, gone]),
        (C::Mute(OTHER_ADMIN, NOW + 9), ["done", no, no, gone, gone]),
        (C::Mute(OWNER, NOW + 9), [no, no, no, gone, gone]),
        (C::Mute(STRANGER, NOW + 9), ["invalid", "invalid", no, gone, gone]),
        (C::Accept(asker(true)), ["done", "done", no, gone, gone]),
        (C::Accept(asker(false)), ["conflict", "conflict", no, gone, gone]),
        (C::Decline(asker(true)), ["done", "done", no, gone, gone]),
        (C::Decline(asker(false)), ["nothing", "nothing", no, gone, gone]),
        (C::MakeLink(new_link), ["done", "done", no, gone, gone]),
        (C::RevokeLink(Some(link())), ["done", "done", no, gone, gone]),
        (C::RevokeLink(None), ["nothing", "nothing", no, gone, gone]),
    ] {
        for (actor, expected) in actors.into_iter().zip(expected) {
            let result = run(&record, actor, command.clone());
            // The member among those to be removed is the caller himself in one column.
            let expected = if expected == "invalid" && word(&result) == no { no } else { expected };
            assert_eq!(word(&result), expected, "{command:?} by {actor}: {result:?}");
        }
    }
}

#[test]
fn a_decision_rests_on_the_version_that_was_read_and_makes_the_next() {
    let judged =
        run(&group(), ADMIN, GroupCommand::Remove(vec![MEMBER, MEMBER, STRANGER])).unwrap();
    let id = group().id;
    assert_eq!(
        judged.decision,
        Decision {
            guards: vec![Guard { conversation: id, version: RightsVersion(4), bumps: true }],
            rows: vec![RowChange::Leave { conversation: id, user: MEMBER }],
            events: vec![(Log::Group(id), Event::MembersLeft(vec![MEMBER]))],
        }
    );
}

#[test]
fn members_invite_if_the_group_lets_them() {
    let open = with(|p| p.members_invite = true);
    let add = GroupCommand::Add(vec![invitee(STRANGER)]);
    assert_eq!(word(&run(&open, MEMBER, add.clone())), "done");
    assert_eq!(word(&run(&group(), MEMBER, add)), "forbidden");
}

#[test]
fn who_does_not_want_to_be_put_in_is_named_and_left_out() {
    let edit = |change: fn(&mut Invitee)| {
        let mut invitee = invitee(STRANGER);
        change(&mut invitee);
        invitee
    };
    let relation = |i: &mut Invitee, f: fn(&mut RelationRecord)| f(i.relation.as_mut().unwrap());
    let friends = |r: &mut RelationRecord| {
        r.own.friendship = crate::change::Friendship::Friends;
        r.other.friendship = crate::change::Friendship::Friends;
    };
    let contacts_only = edit(|i| i.relation.as_mut().unwrap().privacy.groups = Audience::Contacts);
    let mut contact = contacts_only.clone();
    relation(&mut contact, friends);
    let mut friend_of_nobody = contact.clone();
    relation(&mut friend_of_nobody, |r| r.privacy.groups = Audience::Nobody);
    for (invitee, willing) in [
        (invitee(STRANGER), true),
        (contacts_only, false),
        (contact, true),
        (friend_of_nobody, false),
        (edit(|i| i.relation = None), false),
        (edit(|i| i.relation.as_mut().unwrap().blocks = true), false),
        (edit(|i| i.relation.as_mut().unwrap().is_blocked = true), false),
        (edit(|i| i.groups = 9), true),
        (edit(|i| i.groups = 10), false),
    ] {
        let alone = run(&group(), ADMIN, GroupCommand::Add(vec![invitee.clone()]));
        assert_eq!(word(&alone), if willing { "done" } else { "not accepted" }, "{invitee:?}");
        let both = vec![invitee.clone(), self::invitee(user(1))];
        let both = run(&group(), ADMIN, GroupCommand::Add(both)).unwrap();
        assert_eq!(both.refused, if willing { vec![] } else { vec![STRANGER] });
        let made = create(group().id, OWNER, 0, named(1), &[invitee], LIMITS).unwrap();
        assert_eq!(made.refused, both.refused, "a group is made without them");
    }
    let again = run(&group(), ADMIN, GroupCommand::Add(vec![invitee(MEMBER)]));
    assert_eq!(word(&again), "nothing");
}

fn named(bytes: usize) -> GroupProfile {
    GroupProfile { name: "a".repeat(bytes), ..GroupProfile::default() }
}

#[test]
fn limits_hold_exactly() {
    let max = limits::GROUP_NAME_BYTES_MAX;
    for (bytes, fits) in [(0, false), (1, true), (max - 1, true), (max, true), (max + 1, false)] {
        assert_eq!(check_profile(&named(bytes)).is_ok(), fits, "{bytes}");
    }
    let blank = GroupProfile { name: " \u{3000}".to_owned(), ..GroupProfile::default() };
    assert!(check_profile(&blank).is_err());
    let max = GROUP_BATCH_MAX;
    for (users, expected) in [(max - 1, "done"), (max, "done"), (max + 1, "invalid")] {
        let users: Vec<_> = (0..users).map(|n| invitee(user(n))).collect();
        assert_eq!(word(&run(&group(), ADMIN, GroupCommand::Add(users.clone()))), expected);
        assert_eq!(word(&create(group().id, OWNER, 0, named(1), &users, LIMITS)), expected);
        let users = users.iter().map(|i| i.user).collect();
        let removed = run(&group(), ADMIN, GroupCommand::Remove(users));
        assert_eq!(word(&removed), if expected == "done" { "nothing" } else { expected });
    }
    // Four members are in, so one or two more fit.
    for (members_max, expected) in [(5, "limit"), (6, "done"), (7, "done")] {
        let limits = GroupLimits { members_max, ..LIMITS };
        let add = GroupCommand::Add(vec![invitee(user(1)), invitee(user(2)), invitee(user(2))]);
        let result = judge(GroupState::of(&group()).unwrap(), ADMIN, add, limits, NOW);
        assert_eq!(word(&result), expected, "{members_max}");
    }
    for (groups, expected) in [(9, "done"), (10, "limit"), (11, "limit")] {
        assert_eq!(word(&create(group().id, OWNER, groups, named(1), &[], LIMITS)), expected);
        let accept = Asker { groups, ..asker(true) };
        assert_eq!(word(&run(&group(), ADMIN, GroupCommand::Accept(accept))), expected);
        let open = with(|p| p.joins = JoinPolicy::Open);
        let join = GroupCommand::Join(Joining { groups, ..joining(STRANGER) });
        assert_eq!(word(&run(&open, STRANGER, join)), expected);
    }
    for (admins, expected) in [
        (GROUP_ADMINS_MAX - 1, "done"),
        (GROUP_ADMINS_MAX, "limit"),
        (GROUP_ADMINS_MAX + 1, "limit"),
    ] {
        let mut record = group();
        record.members.extend((2..admins).map(|n| member(user(n), Role::Admin)));
        let appoint = GroupCommand::Role(MEMBER, Role::Admin);
        assert_eq!(word(&run(&record, OWNER, appoint)), expected, "{admins}");
        assert_eq!(word(&run(&record, OWNER, GroupCommand::Transfer(MEMBER))), expected);
        assert_eq!(word(&run(&record, OWNER, GroupCommand::Transfer(ADMIN))), "done");
    }
    let max = GROUP_LINKS_MAX as u64;
    for (working, expected) in [(max - 1, "done"), (max, "limit"), (max + 1, "limit")] {
        let link = NewLink { hash: [1; 32], life_ms: 1, uses_max: 0, working };
        assert_eq!(word(&run(&group(), ADMIN, GroupCommand::MakeLink(link))), expected);
    }
    let max = limits::LINK_LIFE_MS_MAX;
    for (life_ms, expected) in [(0, "invalid"), (1, "done"), (max, "done"), (max + 1, "invalid")] {
        let link = NewLink { hash: [1; 32], life_ms, uses_max: 0, working: 0 };
        assert_eq!(word(&run(&group(), ADMIN, GroupCommand::MakeLink(link))), expected);
    }
    for (until_ms, expected) in [
        (limits::TIME_MS_MAX, "done"),
        (limits::TIME_MS_MAX + 1, "invalid"),
        (NOW, "nothing"),
        (NOW + 1, "done"),
    ] {
        assert_eq!(word(&run(&group(), ADMIN, GroupCommand::Mute(MEMBER, until_ms))), expected);
    }
}

#[test]
fn a_group_is_joined_as_its_policy_says() {
    use JoinPolicy::{Closed, Open, Request};
    for (policy, was_removed, expected, asked) in [
        (Closed, false, "not found", false),
        (Closed, true, "not found", false),
        (Request, false, "done", true),
        (Request, true, "forbidden", false),
        (Open, false, "done", false),
        (Open, true, "forbidden", false),
    ] {
        let record = with(|p| p.joins = policy);
        let join = Joining { was_removed, ..joining(FORMER) };
        let result = run(&record, FORMER, GroupCommand::Join(join.clone()));
        assert_eq!(word(&result), expected, "{policy:?} {was_removed}");
        assert_eq!(result.is_ok_and(|j| j.asked), asked);
        let by_link = Joining { way: Way::Link(link()), ..join };
        let by_link = run(&record, FORMER, GroupCommand::Join(by_link));
        assert_eq!(word(&by_link), "done", "a link opens every group");
        let member = GroupCommand::Join(joining(MEMBER));
        assert_eq!(word(&run(&record, MEMBER, member)), "nothing");
    }
}

#[test]
fn a_link_ends_by_time_by_use_and_with_its_group() {
    type Edit = fn(&mut JoinLink);
    let cases: [(Edit, &str); 6] = [
        (|_| {}, "done"),
        (|l| l.expires_ms = NOW, "not found"),
        (|l| l.uses = 2, "not found"),
        (|l| l.uses = 3, "not found"),
        (|l| (l.uses, l.uses_max) = (99, 0), "done"),
        (|l| l.conversation = ConversationId([9; 16]), "not found"),
    ];
    for (change, expected) in cases {
        let mut link = link();
        change(&mut link);
        let join = Joining { way: Way::Link(link.clone()), ..joining(STRANGER) };
        assert_eq!(word(&run(&group(), STRANGER, GroupCommand::Join(join))), expected, "{link:?}");
    }
}

#[test]
fn a_request_to_join_is_told_to_who_asks_and_who_looks_after_the_group() {
    let record = with(|p| p.joins = JoinPolicy::Request);
    let join = Joining { text: "let me in".to_owned(), ..joining(STRANGER) };
    let judged = run(&record, STRANGER, GroupCommand::Join(join.clone())).unwrap();
    let told: Vec<Log> = judged.decision.events.iter().map(|(log, _)| *log).collect();
    assert_eq!(told, [STRANGER, OWNER, ADMIN, OTHER_ADMIN].map(Log::Of));
    assert!(!judged.decision.guards[0].bumps, "asking changes nobody's rights");
    let again = Joining { asked: true, ..join.clone() };
    let again = run(&record, STRANGER, GroupCommand::Join(again)).unwrap();
    assert!(again.asked && again.decision.is_nothing());
    let max = JOIN_REQUESTS_MAX as u64;
    for (open_requests, expected) in [(max - 1, "done"), (max, "limit"), (max + 1, "limit")] {
        let join = Joining { open_requests, ..join.clone() };
        assert_eq!(word(&run(&record, STRANGER, GroupCommand::Join(join))), expected);
    }
    let accepted = run(&record, ADMIN, GroupCommand::Accept(asker(true))).unwrap();
    assert!(accepted.decision.guards[0].bumps);
    let declined = run(&record, ADMIN, GroupCommand::Decline(asker(true))).unwrap();
    assert!(declined.decision.guards[0].bumps, "whoever accepts at the same time learns of it");
}

#[test]
fn the_last_one_may_leave_though_he_is_the_owner() {
    let mut record = group();
    record.members.retain(|m| m.user == OWNER || m.user == FORMER);
    assert_eq!(word(&run(&record, OWNER, GroupCommand::Leave)), "done");
}

#[test]
fn a_mute_outlives_an_absence() {
    let mut record = with(|p| p.joins = JoinPolicy::Open);
    record.members[4].muted_until_ms = NOW + 1;
    let joined = run(&record, FORMER, GroupCommand::Join(joining(FORMER))).unwrap();
    assert!(joined.decision.rows.contains(&RowChange::Mute(record.id, FORMER, NOW + 1)));
}

/// The members after a decision, as a store would have them.
fn applied(record: &ConversationRecord, decision: &Decision) -> Vec<Member> {
    let mut members = record.members.clone();
    for row in &decision.rows {
        match row {
            RowChange::Join { user, role, .. } => members.push(member(*user, *role)),
            RowChange::Leave { user, .. } => {
                let left = members.iter_mut().find(|m| m.user == *user && m.until.is_none());
                left.unwrap().until = Some(Seq(10));
            }
            RowChange::Role(_, user, role) => {
                let changed = members.iter_mut().find(|m| m.user == *user && m.until.is_none());
                changed.unwrap().role = *role;
            }
            _ => {}
        }
    }
    members
}

fn any_command() -> impl Strategy<Value = GroupCommand> {
    let who = (1..=8u8).prop_map(|n| UserId([n; 16]));
    prop_oneof![
        prop::collection::vec(who.clone(), 0..4)
            .prop_map(|users| GroupCommand::Add(users.into_iter().map(invitee).collect())),
        prop::collection::vec(who.clone(), 0..4).prop_map(GroupCommand::Remove),
        Just(GroupCommand::Leave),
        (who.clone(), prop::sample::select(vec![Role::Member, Role::Admin, Role::Owner]))
            .prop_map(|(user, role)| GroupCommand::Role(user, role)),
        who.clone().prop_map(GroupCommand::Transfer),
        who.prop_map(|user| GroupCommand::Join(joining(user))),
    ]
}

proptest! {
    #[test]
    fn whatever_is_asked_a_group_has_one_owner_and_nobody_twice(
        commands in prop::collection::vec((1..=8u8, any_command()), 1..60),
    ) {
        let mut record = with(|p| p.joins = JoinPolicy::Open);
        for (actor, command) in commands {
            let Ok(judged) = run(&record, UserId([actor; 16]), command.clone()) else { continue };
            record.members = applied(&record, &judged.decision);
            let state = GroupState::of(&record).unwrap();
            let owners = state.present().filter(|m| m.role == Role::Owner).count();
            prop_assert!(owners == usize::from(state.members() > 0));
            let mut present: Vec<_> = state.present().map(|m| m.user).collect();
            let members = present.len();
            present.sort_unstable();
            present.dedup();
            prop_assert_eq!(present.len(), members);
            if !matches!(command, GroupCommand::Leave) && state.role_of(UserId([actor; 16])).is_some() {
                let again = run(&record, UserId([actor; 16]), command);
                prop_assert!(again.is_ok_and(|j| j.decision.is_nothing()), "again: nothing more");
            }
        }
    }
}
