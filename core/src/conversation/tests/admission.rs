//! Who may say what.
use super::*;
use crate::change::{GroupProfile, Role};
use crate::entry::EVERYBODY;

const LIST: [UserId; 3] = [ALICE, BOB, EVE];

fn group(muted: bool) -> Conversation<u32> {
    let mut c = conversation(3);
    c.kind = ConversationKind::Group(GroupProfile { muted, ..GroupProfile::default() });
    c.members = LIST
        .into_iter()
        .zip([Role::Owner, Role::Admin, Role::Member])
        .map(|(user, role)| Member { role, ..Member::new(user, Seq(1)) })
        .collect();
    c
}

fn of_kind(sender: UserId, kind: EntryKind) -> Append {
    Append { kind, target: Some(Seq(1)), revision: Some(0), ..text(sender) }
}

#[test]
fn nobody_sends_into_a_users_own_log() {
    let mut c = conversation(0);
    c.kind = ConversationKind::Own;
    assert!(matches!(c.admit(&text(ALICE), &RULES, NOW), Err(Rejection::Forbidden { .. })));
}

#[test]
fn who_takes_messages_of_contacts_only_gets_no_others() {
    let mut c = conversation(0);
    c.members[1].accepts = false;
    assert!(matches!(c.admit(&text(ALICE), &RULES, NOW), Err(Rejection::NotAccepted { .. })));
    assert!(c.admit(&text(BOB), &RULES, NOW).is_ok(), "he may write himself");
}

#[test]
fn a_stranger_says_so_much_before_an_answer() {
    let rules = SendRules { strangers_max: 20, ..RULES };
    for (count, under_way, fits) in [
        (19, 0, true),
        (20, 0, false),
        (21, 0, false),
        (18, 1, true),
        (19, 1, false),
        (0, 20, false),
    ] {
        let mut c = conversation(count);
        for n in 0..under_way {
            c.begin(ALICE, id_at(NOW, 100 + n), ContentDigest([1; 32]), 1);
        }
        c.begin(ALICE, text(ALICE).id, ContentDigest([1; 32]), 1);
        assert_eq!(c.admit(&text(ALICE), &rules, NOW).is_ok(), fits, "{count} {under_way}");
        assert!(c.admit(&of_kind(ALICE, EntryKind::React), &rules, NOW).is_ok());
        c.members[1].is_contact = true;
        assert!(c.admit(&text(ALICE), &rules, NOW).is_ok());
    }
    let mut c = conversation(20);
    let mut answer = entry(21, 1);
    answer.sender = BOB;
    c.offer(answer, vec![]);
    assert!(c.admit(&text(ALICE), &rules, NOW).is_ok(), "he has answered");
}

#[test]
fn a_mute_stops_writing_and_not_taking_back() {
    use EntryKind::{Edit, React, Recall, Text, Unreact};
    for (kind, writes) in
        [(Text, true), (Edit, true), (React, true), (Recall, false), (Unreact, false)]
    {
        for (muted, until_ms, allowed) in [
            (false, 0, [true; 3]),
            (true, 0, [true, true, false]),
            (false, NOW, [true; 3]),
            (false, NOW + 1, [true, true, false]),
        ] {
            let mut c = group(muted);
            c.members[2].muted_until_ms = until_ms;
            for (user, allowed) in LIST.into_iter().zip(allowed) {
                let admitted = c.admit(&of_kind(user, kind), &RULES, NOW).is_ok();
                assert_eq!(admitted, allowed || !writes, "{kind:?} {user} {until_ms}");
            }
        }
    }
}

#[test]
fn admins_mention_everybody() {
    for (user, allowed) in LIST.into_iter().zip([true, true, false]) {
        let all = Append { mentions: vec![EVE, EVERYBODY], ..text(user) };
        assert_eq!(group(false).admit(&all, &RULES, NOW).is_ok(), allowed);
    }
    let of_a_pair = Append { mentions: vec![EVERYBODY], ..text(BOB) };
    assert!(conversation(0).admit(&of_a_pair, &RULES, NOW).is_ok());
}

#[test]
fn changes_are_checked_for_their_form() {
    use EntryKind::{Edit, React, Recall, Text, Unreact};
    let with_body = |kind, body: &'static [u8]| Append {
        body: Bytes::from_static(body),
        ..of_kind(ALICE, kind)
    };
    let max = limits::REACTION_BYTES_MAX;
    let long =
        |bytes: usize| Append { body: Bytes::from("a".repeat(bytes)), ..of_kind(ALICE, React) };
    let mentioning = |users| Append { mentions: vec![BOB; users], ..text(ALICE) };
    for (append, fits) in [
        (text(ALICE), true),
        (mentioning(limits::MENTIONS_MAX), true),
        (mentioning(limits::MENTIONS_MAX + 1), false),
        (with_body(Edit, b"new"), true),
        (Append { target: None, ..with_body(Edit, b"new") }, false),
        (Append { mentions: vec![BOB], ..with_body(Edit, b"new") }, false),
        (with_body(Recall, b""), true),
        (with_body(Recall, b"x"), false),
        (with_body(React, "👍🏽".as_bytes()), true),
        (with_body(Unreact, "👍🏽".as_bytes()), true),
        (Append { encoding: 1, ..with_body(React, b"x") }, false),
        (with_body(React, b"\xff"), false),
        (with_body(React, b"a b"), false),
        (with_body(React, b"\x1b[2J"), false),
        (long(0), false),
        (long(1), true),
        (long(max - 1), true),
        (long(max), true),
        (long(max + 1), false),
        (Append { kind: Text, ..with_body(React, b"any thing\0") }, true),
    ] {
        assert_eq!(check_send(&append).is_ok(), fits, "{append:?}");
    }
}

/// What became of a change, in a word.
fn word(result: Result<(), Rejection>) -> &'static str {
    match result {
        Ok(()) => "done",
        Err(Rejection::Forbidden { .. }) => "forbidden",
        Err(Rejection::Invalid { field: "target", .. }) => "no target",
        Err(Rejection::Conflict { .. }) => "conflict",
        Err(Rejection::TooLate { .. }) => "too late",
        Err(_) => "other",
    }
}

#[test]
fn who_may_change_what() {
    use EntryKind::{Edit, React, Recall, Unreact};
    let target = entry(1, 1);
    let no = "forbidden";
    for (kind, expected) in [
        (Edit, ["done", no, no, no]),
        (Recall, ["done", no, no, "done"]),
        (React, ["done"; 4]),
        (Unreact, ["done"; 4]),
    ] {
        let who = [(ALICE, None), (BOB, None), (BOB, Some(Role::Member)), (BOB, Some(Role::Admin))];
        for ((sender, role), expected) in who.into_iter().zip(expected) {
            let judged = judge_change(&of_kind(sender, kind), Some(&target), role, &RULES, NOW);
            assert_eq!(word(judged), expected, "{kind:?} {role:?}");
        }
    }
}

#[test]
fn only_messages_that_are_still_there_are_changed() {
    use EntryKind::{Edit, React, Recall, Unreact};
    let kinds = [Edit, Recall, React, Unreact];
    let judge = |kind, target: Option<&Entry>| {
        word(judge_change(&of_kind(ALICE, kind), target, Some(Role::Owner), &RULES, NOW))
    };
    let of = |kind: EntryKind| Entry { kind: kind.number(), ..entry(1, 1) };
    let mut recalled = entry(1, 1);
    recalled.changes.recalled = true;
    let mut edited = entry(1, 1);
    edited.changes.revision = 1;
    let unknown = Entry { kind: 9_999, ..entry(1, 1) };
    for (target, expected) in [
        (None, ["no target"; 4]),
        (Some(of(Edit)), ["no target"; 4]),
        (Some(of(EntryKind::Group)), ["no target"; 4]),
        (Some(unknown), ["no target"; 4]),
        (Some(of(EntryKind::System)), ["forbidden", "forbidden", "done", "done"]),
        (Some(of(EntryKind::Image)), ["done"; 4]),
        (Some(recalled), ["conflict"; 4]),
        (Some(edited), ["conflict", "done", "done", "done"]),
    ] {
        assert_eq!(kinds.map(|kind| judge(kind, target.as_ref())), expected, "{target:?}");
    }
}

#[test]
fn windows_end_exactly() {
    use EntryKind::{Edit, React, Recall};
    let target = entry(1, 1);
    for (kind, after_ms, expected) in [
        (Edit, 999, "done"),
        (Edit, 1_000, "done"),
        (Edit, 1_001, "too late"),
        (Recall, 1_999, "done"),
        (Recall, 2_000, "done"),
        (Recall, 2_001, "too late"),
        (React, 1_000_000, "done"),
    ] {
        let change = of_kind(ALICE, kind);
        let judged = judge_change(&change, Some(&target), None, &RULES, NOW + after_ms);
        assert_eq!(word(judged), expected, "{kind:?} {after_ms}");
    }
}
