//! Mutations of what sessions were given.

use petrel_tests::checker::event::{Body, GapReason, LogEntry, MessageId, Way, What};
use petrel_tests::checker::{Check, check};

use crate::generator::{LEAVER, conversation, expectations, good, history, user};
use crate::{FIRST, acked, caught, deliveries, log, push, sent};

#[test]
fn a_hole_within_a_session_is_caught() {
    caught(Check::SessionContiguous, &[Check::Receipts], |events| {
        let at = deliveries(events, 3)[5];
        events.remove(at);
    });
}

#[test]
fn the_same_entry_twice_within_a_session_is_caught() {
    caught(Check::SessionContiguous, &[], |events| {
        let at = *deliveries(events, 3).last().unwrap();
        let again = events[at].what.clone();
        push(events, again);
    });
}

#[test]
fn resuming_above_what_was_given_is_caught() {
    caught(Check::SessionContiguous, &[Check::Receipts], |events| {
        let at = deliveries(events, 3)[5];
        let What::Deliver { seq: from, session, conversation, .. } = events[at].what else {
            panic!()
        };
        events[at].what = What::Resume { session, conversation, from };
    });
}

#[test]
fn an_announced_gap_is_legal_unless_it_denies_membership() {
    for (reason, green) in [(GapReason::TooMany, true), (GapReason::NotMember, false)] {
        let mut events = good(1);
        let at = deliveries(&events, 3)[5];
        let What::Deliver { seq, session, conversation, .. } = events[at].what else { panic!() };
        events[at].what = What::Gap { session, conversation, from: seq, to: seq, reason };
        let verdict = check(&history(events), &expectations());
        assert_eq!(verdict.is_green(), green, "{verdict}");
    }
}

#[test]
fn a_delivery_to_someone_who_left_is_a_breach_of_isolation() {
    caught(Check::Isolation, &[], |events| {
        let at = *deliveries(events, LEAVER as u64).last().unwrap();
        let What::Deliver { seq, .. } = events[at].what else { panic!() };
        let next = log(events)[seq as usize];
        let LogEntry { seq, sender, id, body } = next;
        let (session, conversation) = (LEAVER as u64, conversation(FIRST));
        push(
            events,
            What::Deliver { session, conversation, seq, sender, id, body, way: Way::Page },
        );
    });
}

#[test]
fn an_entry_by_someone_outside_is_a_breach_of_isolation() {
    caught(Check::Isolation, &[Check::Liveness], |events| {
        let (id, body, sender) = (MessageId(0xbad), Body(7), user(LEAVER));
        let (session, conversation) = (LEAVER as u64, conversation(FIRST));
        push(events, What::InvokeSend { session, sender, conversation, id, body });
        let log = log(events);
        log.push(LogEntry { seq: log.len() as u64 + 1, sender: Some(sender), id, body });
    });
}

#[test]
fn a_preview_for_someone_outside_is_a_breach_of_isolation() {
    caught(Check::Isolation, &[], |events| {
        let (id, body, _) = sent(events)[0];
        push(events, What::SignIn { session: 99, user: user(99) });
        let (sender, conversation) = (user(0), conversation(FIRST));
        push(events, What::Preview { session: 99, conversation, sender, id, body });
    });
}

#[test]
fn a_mark_that_runs_back_is_caught() {
    caught(Check::Receipts, &[], |events| {
        let (user, conversation) = (user(3), conversation(FIRST));
        for delivered in [5, 4] {
            push(events, What::Receipt { session: 77, user, conversation, delivered, read: 3 });
        }
    });
}

#[test]
fn a_mark_ahead_of_the_deliveries_is_caught() {
    caught(Check::Receipts, &[], |events| {
        let (user, conversation) = (user(3), conversation(FIRST));
        push(events, What::Receipt { session: 77, user, conversation, delivered: 9_999, read: 0 });
    });
}

#[test]
fn two_places_acknowledged_for_one_message_are_caught() {
    caught(Check::AckAgreement, &[], |events| {
        let id = sent(events).into_iter().find(|(.., acked)| *acked).unwrap().0;
        let seq = acked(events, id).unwrap() + 1;
        push(events, What::AckSend { session: 0, conversation: conversation(FIRST), id, seq });
    });
}

#[test]
fn a_list_that_runs_back_or_counts_too_many_unread_is_caught() {
    let conversation = conversation(FIRST);
    let sync = |head, unread| What::Sync { session: 3, conversation, head, unread };
    caught(Check::SessionContiguous, &[], |events| {
        push(events, sync(9_999, 0));
        push(events, sync(9_998, 0));
    });
    caught(Check::Receipts, &[], |events| {
        push(events, sync(9_999, 10_000));
    });
}
