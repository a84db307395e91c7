//! A cached list of members follows the group's events.
use super::*;
use crate::change::{GroupProfile, Role};

fn group(profile: GroupProfile) -> Conversation<u32> {
    let mut c = conversation(3);
    c.kind = ConversationKind::Group(profile);
    c.members[0].role = Role::Owner;
    c
}

fn happened(c: &mut Conversation<u32>, sender: UserId, event: Event) -> Offered<u32> {
    let mut entry = entry(c.next().0, c.rights_version().0 + 1);
    (entry.kind, entry.sender) = (EntryKind::Group.number(), sender);
    c.offer_event(entry, event)
}

#[test]
fn who_comes_in_sees_the_entry_that_says_so_and_who_leaves_too() {
    let mut c = group(GroupProfile::default());
    assert_eq!(happened(&mut c, ALICE, Event::MembersAdded(vec![EVE, BOB])).ready.len(), 1);
    assert_eq!(c.rights_version(), RightsVersion(2));
    assert_eq!(c.view(EVE, Seq(1)), Ok(View::Gap(Seq(3))));
    assert_eq!(c.view(EVE, Seq(4)), Ok(View::Shown(None)));
    assert_eq!(c.members().count(), 3, "who was in is in once");
    happened(&mut c, EVE, Event::MembersLeft(vec![EVE]));
    assert_eq!(c.leavers(Seq(5)).collect::<Vec<_>>(), [EVE]);
    assert_eq!(c.readers(Seq(5)).count(), 3);
    assert_eq!(c.admit(&text(EVE), &RULES, NOW), Err(Rejection::NotFound));
    happened(&mut c, ALICE, Event::MembersAdded(vec![EVE]));
    assert_eq!(c.leavers(Seq(5)).count(), 0, "he is back");
    assert_eq!(c.view(EVE, Seq(5)), Ok(View::Shown(Some(Seq(5)))));
    assert_eq!(c.view(EVE, Seq(6)), Ok(View::Shown(None)));
}

#[test]
fn a_whole_history_is_opened_to_who_comes_in() {
    let mut c = group(GroupProfile { whole_history: true, ..GroupProfile::default() });
    happened(&mut c, ALICE, Event::MembersAdded(vec![EVE]));
    assert_eq!(c.view(EVE, Seq(1)), Ok(View::Shown(None)));
    happened(&mut c, EVE, Event::MembersLeft(vec![EVE]));
    happened(&mut c, ALICE, Event::MembersAdded(vec![EVE]));
    assert_eq!(c.view(EVE, Seq(5)), Ok(View::Shown(None)), "its interval is opened again");
}

#[test]
fn roles_mutes_and_the_profile_follow() {
    let mut c = group(GroupProfile::default());
    happened(&mut c, ALICE, Event::RoleChanged(BOB, Role::Owner));
    assert_eq!((c.role_of(ALICE), c.role_of(BOB)), (Some(Role::Admin), Some(Role::Owner)));
    happened(&mut c, BOB, Event::MemberMuted(ALICE, NOW + 1));
    assert!(matches!(c.admit(&text(ALICE), &RULES, NOW), Err(Rejection::Muted { .. })));
    happened(&mut c, BOB, Event::RoleChanged(ALICE, Role::Member));
    happened(&mut c, BOB, Event::MemberMuted(ALICE, 0));
    assert!(c.admit(&text(ALICE), &RULES, NOW).is_ok());
    let muted = GroupProfile { muted: true, ..GroupProfile::default() };
    happened(&mut c, BOB, Event::ProfileChanged(muted));
    assert!(matches!(c.admit(&text(ALICE), &RULES, NOW), Err(Rejection::Muted { until_ms: 0 })));
}

#[test]
fn a_step_that_is_missing_means_loading_again() {
    let mut c = group(GroupProfile::default());
    let mut two_ahead = entry(4, 3);
    two_ahead.kind = EntryKind::Group.number();
    let offered = c.offer_event(two_ahead, Event::MembersAdded(vec![EVE]));
    assert!(offered.ready.is_empty() && offered.repair);
    assert!(!c.is_member(EVE));
}
