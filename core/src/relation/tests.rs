#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use proptest::prelude::*;

use super::*;
use crate::change::Privacy;
use crate::id::RightsVersion;
use crate::limits::CONTACTS_MAX;

const NOW: u64 = 1_800_000_000_000;

fn user(n: u8) -> User {
    User::named(UserId([n; 16]), format!("user{n}"))
}

fn strangers() -> RelationRecord {
    RelationRecord {
        own_version: RightsVersion(3),
        other_version: RightsVersion(5),
        own: Contact::default(),
        other: Contact::default(),
        blocks: false,
        is_blocked: false,
        privacy: Privacy::default(),
        own_contacts: 0,
        other_contacts: 0,
    }
}

fn run(record: &RelationRecord, command: RelationCommand) -> Result<Judged, Rejection> {
    judge(&user(1), &user(2), record, command, NOW)
}

/// The relation after a decision, seen by the same side.
fn applied(record: &RelationRecord, judged: &Judged) -> RelationRecord {
    let mut after = record.clone();
    for row in &judged.decision.rows {
        match row {
            RowChange::Contact { owner, contact, .. } => {
                let side = if *owner == user(1).id { &mut after.own } else { &mut after.other };
                *side = contact.clone().unwrap_or_default();
            }
            RowChange::Block(_, _, blocks) => after.blocks = *blocks,
            _ => {}
        }
    }
    after
}

fn turned(record: &RelationRecord) -> RelationRecord {
    RelationRecord {
        own: record.other.clone(),
        other: record.own.clone(),
        blocks: record.is_blocked,
        is_blocked: record.blocks,
        ..record.clone()
    }
}

fn told(judged: &Judged) -> Vec<UserId> {
    let logs = judged.decision.events.iter().map(|(log, _)| *log);
    logs.map(|log| match log {
        Log::Of(user) => user,
        Log::Group(_) => unreachable!("a relation is told to people"),
    })
    .collect()
}

fn bumps(judged: &Judged) -> bool {
    judged.decision.rows.iter().any(|row| matches!(row, RowChange::BumpPair(..)))
}

#[test]
fn friends_are_made_by_request_and_consent() {
    let asked = run(&strangers(), RelationCommand::Ask("hello".to_owned())).unwrap();
    assert_eq!(asked.own.friendship, Friendship::Asked);
    assert_eq!(told(&asked), [user(1).id, user(2).id]);
    assert!(!bumps(&asked), "they are no contacts yet");
    let open = turned(&applied(&strangers(), &asked));
    assert_eq!((open.own.friendship, open.own.text.as_str()), (Friendship::Invited, "hello"));
    let accepted = run(&open, RelationCommand::Accept).unwrap();
    assert!(bumps(&accepted));
    let friends = applied(&open, &accepted);
    assert!(friends.is_contact() && friends.own.text.is_empty() && friends.other.text.is_empty());
    for command in [RelationCommand::Accept, RelationCommand::Ask("again".to_owned())] {
        assert!(run(&friends, command).unwrap().decision.is_nothing());
    }
    let removed = run(&friends, RelationCommand::Remove).unwrap();
    assert!(bumps(&removed));
    let nothing = RowChange::Contact { owner: user(2).id, other: user(1).id, contact: None };
    assert!(removed.decision.rows.contains(&nothing), "nothing is left of it");
}

#[test]
fn requests_that_cross_make_friends() {
    let asked = run(&strangers(), RelationCommand::Ask("hello".to_owned())).unwrap();
    let open = turned(&applied(&strangers(), &asked));
    let crossed = run(&open, RelationCommand::Ask("hi".to_owned())).unwrap();
    assert!(applied(&open, &crossed).is_contact());
}

#[test]
fn both_versions_guard_a_request_that_changes_both_sides() {
    let asked = run(&strangers(), RelationCommand::Ask(String::new())).unwrap();
    let log_of = |n| ConversationId::of_user(user(n).id);
    let guards = [
        Guard { conversation: log_of(1), version: RightsVersion(3), bumps: true },
        Guard { conversation: log_of(2), version: RightsVersion(5), bumps: true },
    ];
    assert_eq!(asked.decision.guards, guards);
    let remark = run(&strangers(), RelationCommand::Remark("Bob".to_owned())).unwrap();
    assert!(!remark.decision.guards[1].bumps);
    assert_eq!(told(&remark), [user(1).id], "a remark is one's own");
}

#[test]
fn nobody_learns_that_he_is_blocked() {
    let blocked = RelationRecord { is_blocked: true, ..strangers() };
    let text = "hello".to_owned();
    let open = run(&strangers(), RelationCommand::Ask(text.clone())).unwrap();
    let hidden = run(&blocked, RelationCommand::Ask(text)).unwrap();
    assert_eq!((hidden.own.clone(), hidden.blocks), (open.own, open.blocks));
    assert_eq!(hidden.decision.events[0], open.decision.events[0]);
    assert_eq!(told(&hidden), [user(1).id]);
    let after = applied(&blocked, &hidden);
    assert_eq!(after.other, Contact::default());
    let back = run(&after, RelationCommand::Decline).unwrap();
    assert_eq!(told(&back), [user(1).id]);
    let followed = run(&blocked, RelationCommand::Follow(true)).unwrap();
    assert_eq!(told(&followed), [user(1).id]);
    let full = RelationRecord { other_contacts: CONTACTS_MAX, ..blocked };
    let seen = RelationRecord { is_blocked: false, ..full.clone() };
    let ask = || RelationCommand::Ask(String::new());
    assert_eq!(run(&full, ask()), run(&seen, ask()));
    // Once the block is gone, the other one's own request meets the one that he was not told of.
    let unblocked = turned(&RelationRecord { is_blocked: false, ..after });
    assert!(applied(&unblocked, &run(&unblocked, ask()).unwrap()).is_contact());
}

#[test]
fn a_block_is_ones_own_and_moves_the_pair() {
    let block = run(&strangers(), RelationCommand::Block(true)).unwrap();
    assert!(block.blocks && bumps(&block));
    assert_eq!(told(&block), [user(1).id]);
    let blocking = applied(&strangers(), &block);
    assert!(run(&blocking, RelationCommand::Block(true)).unwrap().decision.is_nothing());
    for command in [
        RelationCommand::Ask(String::new()),
        RelationCommand::Accept,
        RelationCommand::Follow(true),
    ] {
        assert_eq!(run(&blocking, command), Err(Rejection::Blocked));
    }
    assert!(run(&blocking, RelationCommand::Follow(false)).unwrap().decision.is_nothing());
}

#[test]
fn who_follow_each_other_are_contacts() {
    let follows = run(&strangers(), RelationCommand::Follow(true)).unwrap();
    assert_eq!(told(&follows), [user(1).id, user(2).id]);
    assert!(!bumps(&follows));
    let followed = turned(&applied(&strangers(), &follows));
    let back = run(&followed, RelationCommand::Follow(true)).unwrap();
    assert!(bumps(&back) && applied(&followed, &back).is_contact());
}

#[test]
fn what_is_not_there_is_neither_accepted_nor_ended() {
    assert!(matches!(run(&strangers(), RelationCommand::Accept), Err(Rejection::Conflict { .. })));
    for command in [RelationCommand::Decline, RelationCommand::Remove] {
        assert!(run(&strangers(), command).unwrap().decision.is_nothing());
    }
    let own = judge(&user(1), &user(1), &strangers(), RelationCommand::Block(true), NOW);
    assert!(matches!(own, Err(Rejection::Invalid { field: "user", .. })));
}

#[test]
fn limits_hold_exactly() {
    let max = CONTACTS_MAX;
    for (contacts, fits) in [(max - 1, true), (max, false), (max + 1, false)] {
        let own = RelationRecord { own_contacts: contacts, ..strangers() };
        let other = RelationRecord { other_contacts: contacts, ..strangers() };
        for command in [RelationCommand::Follow(true), RelationCommand::Remark("x".to_owned())] {
            assert_eq!(run(&own, command.clone()).is_ok(), fits);
            assert!(run(&other, command).is_ok(), "only the own list grows");
        }
        assert_eq!(run(&own, RelationCommand::Ask(String::new())).is_ok(), fits);
        assert_eq!(run(&other, RelationCommand::Ask(String::new())).is_ok(), fits);
        let mut known = own.clone();
        known.own.follows = true;
        assert!(
            run(&known, RelationCommand::Remark("x".to_owned())).is_ok(),
            "it is there already"
        );
    }
    type Make = fn(String) -> RelationCommand;
    let texts: [(Make, usize); 2] = [
        (RelationCommand::Ask, limits::REQUEST_TEXT_BYTES_MAX),
        (RelationCommand::Remark, limits::NICKNAME_BYTES_MAX),
    ];
    for (command, max) in texts {
        for (bytes, fits) in [(max - 1, true), (max, true), (max + 1, false)] {
            assert_eq!(run(&strangers(), command("a".repeat(bytes))).is_ok(), fits, "{bytes}");
        }
        assert!(run(&strangers(), command("\u{1b}[31m".to_owned())).is_err());
    }
}

fn any_command() -> impl Strategy<Value = RelationCommand> {
    prop_oneof![
        Just(RelationCommand::Ask("t".to_owned())),
        Just(RelationCommand::Accept),
        Just(RelationCommand::Decline),
        Just(RelationCommand::Remove),
        Just(RelationCommand::Remark("r".to_owned())),
        any::<bool>().prop_map(RelationCommand::Follow),
        any::<bool>().prop_map(RelationCommand::Block),
    ]
}

proptest! {
    #[test]
    fn friends_are_friends_on_both_sides_and_doing_it_again_does_nothing(
        commands in prop::collection::vec((any::<bool>(), any_command()), 1..40),
    ) {
        let mut record = strangers();
        for (other_side, command) in commands {
            let seen = if other_side { turned(&record) } else { record.clone() };
            let Ok(judged) = run(&seen, command.clone()) else { continue };
            let after = applied(&seen, &judged);
            prop_assert_eq!(
                after.own.friendship == Friendship::Friends,
                after.other.friendship == Friendship::Friends
            );
            prop_assert_eq!(bumps(&judged),
                after.is_contact() != seen.is_contact() || after.blocks != seen.blocks);
            prop_assert!(run(&after, command).unwrap().decision.is_nothing());
            record = if other_side { turned(&after) } else { after };
        }
    }
}
