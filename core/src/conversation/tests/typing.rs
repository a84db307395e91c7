//! Who is told that somebody types.
use super::*;
use crate::change::{Audience, GroupProfile, Role};

fn told(c: &Conversation<u32>, user: UserId, shown: Audience) -> Vec<UserId> {
    c.told_of_typing(user, shown, NOW).collect()
}

#[test]
fn the_other_one_of_a_pair_is_told_unless_a_block_or_privacy_is_between_them() {
    let mut c = conversation(3);
    assert_eq!(told(&c, ALICE, Audience::Everybody), [BOB]);
    assert_eq!(told(&c, EVE, Audience::Everybody), []);
    assert_eq!(told(&c, ALICE, Audience::Contacts), []);
    c.members[1].is_contact = true;
    assert_eq!(told(&c, ALICE, Audience::Contacts), [BOB]);
    assert_eq!(told(&c, ALICE, Audience::Nobody), []);
    c.members[1].accepts = false;
    assert_eq!(told(&c, ALICE, Audience::Everybody), []);
    assert_eq!(told(&c, BOB, Audience::Everybody), [ALICE], "she takes his messages");
    for blocker in [0, 1] {
        let mut c = conversation(3);
        c.members[blocker].blocks = true;
        assert_eq!(told(&c, ALICE, Audience::Everybody), []);
        assert_eq!(told(&c, BOB, Audience::Everybody), []);
    }
}

#[test]
fn in_a_group_who_may_write_is_seen_typing_if_he_shows_himself_to_everybody() {
    let mut c = conversation(3);
    c.kind = ConversationKind::Group(GroupProfile::default());
    c.members.push(Member { until: Some(Seq(2)), ..Member::new(EVE, Seq(1)) });
    assert_eq!(told(&c, ALICE, Audience::Everybody), [BOB]);
    assert_eq!(told(&c, EVE, Audience::Everybody), [], "she has left");
    assert_eq!(told(&c, ALICE, Audience::Contacts), []);
    c.members[0].muted_until_ms = NOW + 1;
    assert_eq!(told(&c, ALICE, Audience::Everybody), []);
    c.members[0].muted_until_ms = NOW;
    c.kind = ConversationKind::Group(GroupProfile { muted: true, ..GroupProfile::default() });
    assert_eq!(told(&c, ALICE, Audience::Everybody), []);
    c.members[0].role = Role::Admin;
    assert_eq!(told(&c, ALICE, Audience::Everybody), [BOB]);
    let many = limits::TYPING_MEMBERS_MAX as u128;
    c.members.extend((0..many).map(|n| Member::new(UserId((9 << 64 | n).to_be_bytes()), Seq(1))));
    assert_eq!(told(&c, ALICE, Audience::Everybody), []);
    c.kind = ConversationKind::Own;
    assert_eq!(told(&c, ALICE, Audience::Everybody), []);
}
