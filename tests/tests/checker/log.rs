//! Mutations of the final log, of what it is compared with, and of acknowledgements.

use petrel_tests::checker::Check;
use petrel_tests::checker::event::{Body, MessageId, What};

use crate::generator::{conversation, user};
use crate::{FIRST, append, caught, deliveries, log, push, sent};

#[test]
fn an_acknowledged_entry_missing_from_the_log_is_a_loss() {
    caught(Check::Loss, &[Check::Dense], |events| {
        let acked = sent(events).into_iter().find(|(.., acked)| *acked).unwrap();
        log(events).retain(|entry| entry.id != acked.0);
    });
}

#[test]
fn a_delivered_entry_missing_from_the_log_is_a_loss() {
    caught(Check::Loss, &[], |events| {
        log(events).pop();
    });
}

#[test]
fn an_entry_stored_twice_is_a_duplicate() {
    caught(Check::Duplicate, &[Check::Liveness], |events| {
        let (id, body, _) = sent(events).into_iter().find(|(.., acked)| *acked).unwrap();
        append(events, id, body);
    });
}

#[test]
fn a_message_of_unknown_outcome_stored_twice_is_named_so() {
    caught(Check::Unknown, &[Check::Liveness], |events| {
        let (id, body) = (MessageId(0xbad), Body(7));
        let (sender, conversation) = (user(0), conversation(FIRST));
        let invoke = What::InvokeSend { session: 0, sender, conversation, id, body };
        push(events, invoke);
        append(events, id, body);
        append(events, id, body);
    });
}

#[test]
fn two_entries_swapped_in_the_log_are_a_disagreement() {
    let companions = [Check::AckAgreement, Check::RealTimeOrder, Check::DeviceOrder];
    caught(Check::Agreement, &companions, |events| {
        let log = log(events);
        (log[2].seq, log[3].seq) = (log[3].seq, log[2].seq);
        log.swap(2, 3);
    });
}

#[test]
fn an_entry_that_nobody_sent_is_a_phantom() {
    caught(Check::Phantom, &[Check::Liveness], |events| append(events, MessageId(0xbad), Body(7)));
}

#[test]
fn an_entry_with_another_body_than_sent_is_a_phantom() {
    caught(Check::Phantom, &[], |events| {
        let wanted = log(events).iter().find(|entry| entry.sender.is_some()).unwrap().id;
        for event in events {
            match &mut event.what {
                What::Deliver { id, body, .. } if *id == wanted => *body = Body(7),
                What::FinalLog { entries, .. } => {
                    entries.iter_mut().filter(|e| e.id == wanted).for_each(|e| e.body = Body(7));
                }
                _ => {}
            }
        }
    });
}

#[test]
fn a_delivery_before_the_sending_is_a_phantom() {
    caught(Check::Phantom, &[Check::SessionContiguous, Check::RealTimeOrder], |events| {
        let at = deliveries(events, 2)
            .into_iter()
            .find(|at| matches!(events[*at].what, What::Deliver { sender: Some(_), .. }));
        events[at.unwrap()].at_us = 1;
    });
}

#[test]
fn a_preview_that_nobody_sent_is_a_phantom() {
    caught(Check::Phantom, &[], |events| {
        let (sender, conversation) = (user(0), conversation(FIRST));
        push(
            events,
            What::Preview { session: 2, conversation, sender, id: MessageId(0xbad), body: Body(7) },
        );
    });
}

#[test]
fn a_refused_message_that_is_stored_is_an_aborted_read() {
    caught(Check::AbortedRead, &[Check::Liveness], |events| {
        let (id, body) = (MessageId(0xbad), Body(7));
        let (sender, conversation, code) = (user(0), conversation(FIRST), "filtered".to_owned());
        push(events, What::InvokeSend { session: 0, sender, conversation, id, body });
        push(events, What::FailSend { session: 0, conversation, id, code, definite: true });
        append(events, id, body);
    });
}

#[test]
fn another_body_at_one_reader_is_a_disagreement() {
    caught(Check::Agreement, &[], |events| {
        let at = deliveries(events, 3)[5];
        if let What::Deliver { body, .. } = &mut events[at].what {
            *body = Body(7);
        }
    });
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_a_phantom() {
    caught(Check::Phantom, &[], |events| {
        let (id, conversation) = (MessageId(0xbad), conversation(FIRST));
        let ack = What::AckSend { session: 0, conversation, id, seq: 1 };
        push(events, ack);
    });
}
