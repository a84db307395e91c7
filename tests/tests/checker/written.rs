//! Hand-written histories, for what a generated one does not easily break alone.

use petrel_tests::checker::event::{
    Body, Conversation, Event, FaultKind, LogEntry, MessageId, Way, What,
};
use petrel_tests::checker::{Check, Expectations, Verdict, check};

use crate::generator::{history, user};
use crate::{assert_found, push};

/// A hand-written history: two users, their sends and acknowledgements in the given order.
/// Steps: (session, message, None = sent | Some(seq) = acknowledged).
fn written(steps: &[(u64, u128, Option<u64>)]) -> Vec<Event> {
    let (conversation, mut entries) = (Conversation(1), Vec::new());
    let mut events = vec![Event { at_us: 1, process: 1, what: What::Heal }];
    for session in [1, 2] {
        let user = user(session as usize);
        push(&mut events, What::SignIn { session, user });
        push(&mut events, What::Join { user, conversation, seq: 1 });
    }
    for (session, id, seq) in steps.iter().copied() {
        let (sender, id, body) = (user(session as usize), MessageId(id), Body(1));
        push(
            &mut events,
            match seq {
                None => What::InvokeSend { session, sender, conversation, id, body },
                Some(seq) => {
                    entries.push(LogEntry { seq, sender: Some(sender), id, body });
                    What::AckSend { session, conversation, id, seq }
                }
            },
        );
    }
    entries.sort_by_key(|entry| entry.seq);
    push(&mut events, What::FinalLog { conversation, entries });
    events
}

fn judge(events: Vec<Event>) -> Verdict {
    check(
        &history(events),
        &Expectations { delivers_min: 0, liveness_ms: None, ..Expectations::default() },
    )
}

#[test]
fn a_send_that_overtakes_a_completed_one_breaks_real_time_order() {
    let steps = [(1, 10, None), (1, 10, Some(2)), (2, 11, None), (2, 11, Some(1))];
    assert_found(&judge(written(&steps)), Check::RealTimeOrder, &[], 0);
    let concurrent = [(1, 10, None), (2, 11, None), (1, 10, Some(2)), (2, 11, Some(1))];
    assert!(judge(written(&concurrent)).is_green());
}

#[test]
fn a_devices_messages_out_of_order_break_device_order() {
    let steps = [(1, 10, None), (1, 11, None), (1, 10, Some(2)), (1, 11, Some(1))];
    let verdict = judge(written(&steps));
    assert_found(&verdict, Check::DeviceOrder, &[], 0);
    assert_eq!(verdict.counts.reordered, 1);
}

#[test]
fn a_log_with_a_hole_is_not_dense() {
    let steps = [(1, 10, None), (1, 10, Some(1)), (1, 11, None), (1, 11, Some(3))];
    assert_found(&judge(written(&steps)), Check::Dense, &[], 0);
    let loose = Expectations {
        dense: false,
        delivers_min: 0,
        liveness_ms: None,
        ..Expectations::default()
    };
    assert!(check(&history(written(&steps)), &loose).is_green());
}

#[test]
fn a_reset_is_legal_only_after_a_restored_backup_and_voids_what_it_undid() {
    let mut events = written(&[(1, 10, None), (1, 10, Some(1)), (1, 11, None), (1, 11, Some(2))]);
    let conversation = Conversation(1);
    let Some(Event { what: What::FinalLog { mut entries, .. }, .. }) = events.pop() else {
        panic!()
    };
    let LogEntry { sender, id, body, .. } = entries.pop().unwrap();
    for (seq, entry) in [(1, entries[0]), (2, LogEntry { seq: 2, sender, id, body })] {
        let LogEntry { sender, id, body, .. } = entry;
        push(
            &mut events,
            What::Deliver { session: 2, conversation, seq, sender, id, body, way: Way::Live },
        );
    }
    let mut restored = events.clone();
    push(&mut restored, What::Fault { kind: FaultKind::Restore, detail: String::new() });
    push(&mut restored, What::Heal);
    for (mut events, green) in [(events, false), (restored, true)] {
        push(&mut events, What::Reset { session: 2, conversation, to: 1 });
        push(&mut events, What::FinalLog { conversation, entries: entries.clone() });
        let verdict = judge(events);
        assert_eq!(verdict.is_green(), green, "{verdict}");
        assert_eq!(verdict.total(Check::SessionContiguous) > 0, !green, "{verdict}");
        assert_eq!(verdict.counts.lost > 0, !green, "{verdict}");
    }
}
