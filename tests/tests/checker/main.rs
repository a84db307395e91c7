//! The tester tested: good histories are green, and each way to break one is caught by name.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test says what it needs by failing; its numbers are small"
)]

mod generator;

use std::collections::BTreeSet;

use generator::{LEAVER, conversation, expectations, good, history, user};
use petrel_tests::checker::event::{
    Body, Conversation, Event, FaultKind, GapReason, LogEntry, MessageId, Way, What,
};
use petrel_tests::checker::{Check, Expectations, History, Recorder, Verdict, check};

const SEEDS: std::ops::Range<u64> = 1..21;
const FIRST: usize = 0;

#[test]
fn good_histories_are_green() {
    for seed in 1..200 {
        let verdict = check(&history(good(seed)), &expectations());
        assert!(verdict.is_green(), "seed {seed}: {verdict}");
        assert!(
            verdict.counts.unknown > 0 && verdict.counts.refused > 0,
            "seed {seed}: {verdict}"
        );
    }
}

/// Breaks good histories and asserts that `expected` is reported, and nothing else but what
/// may come with it.
fn caught(expected: Check, companions: &[Check], mutate: impl Fn(&mut Vec<Event>)) {
    for seed in SEEDS {
        let mut events = good(seed);
        let before = events.clone();
        mutate(&mut events);
        assert_ne!(events, before, "seed {seed}: the mutation changed nothing");
        assert_found(
            &check(&history(events), &expectations()),
            expected,
            companions,
            seed,
        );
    }
}

fn assert_found(verdict: &Verdict, expected: Check, companions: &[Check], seed: u64) {
    assert!(
        verdict.total(expected) > 0,
        "seed {seed}: no {expected:?} in {verdict}"
    );
    let found: BTreeSet<Check> = verdict.totals.keys().copied().collect();
    let others: Vec<_> = found
        .iter()
        .filter(|c| **c != expected && !companions.contains(c))
        .collect();
    assert!(
        others.is_empty(),
        "seed {seed}: {others:?} beside {expected:?} in {verdict}"
    );
}

fn log(events: &mut [Event]) -> &mut Vec<LogEntry> {
    let logs = events.iter_mut().find_map(|event| match &mut event.what {
        What::FinalLog {
            conversation: c,
            entries,
        } if *c == conversation(FIRST) => Some(entries),
        _ => None,
    });
    logs.unwrap()
}

fn append(events: &mut [Event], id: MessageId, body: Body) {
    let log = log(events);
    let seq = log.len() as u64 + 1;
    log.push(LogEntry {
        seq,
        sender: Some(user(0)),
        id,
        body,
    });
}

/// The messages of user 1 in the first conversation: id, body, and whether it was acknowledged.
fn sent(events: &[Event]) -> Vec<(MessageId, Body, bool)> {
    let sends = events.iter().filter_map(|event| match event.what {
        What::InvokeSend {
            sender,
            conversation: c,
            id,
            body,
            ..
        } if sender == user(0) && c == conversation(FIRST) => {
            Some((id, body, acked(events, id).is_some()))
        }
        _ => None,
    });
    sends.collect()
}

fn acked(events: &[Event], wanted: MessageId) -> Option<u64> {
    events.iter().find_map(|event| match event.what {
        What::AckSend { id, seq, .. } if id == wanted => Some(seq),
        _ => None,
    })
}

/// The positions in the history of a session's live deliveries in the first conversation.
fn deliveries(events: &[Event], wanted: u64) -> Vec<usize> {
    let is = |what: &What| {
        matches!(what, What::Deliver { session, conversation: c, way: Way::Live, .. }
            if *session == wanted && *c == conversation(FIRST))
    };
    (0..events.len())
        .filter(|at| is(&events[*at].what))
        .collect()
}

fn push(events: &mut Vec<Event>, what: What) {
    let at_us = events.last().unwrap().at_us + 1;
    events.push(Event {
        at_us,
        process: 1,
        what,
    });
}

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
        let invoke = What::InvokeSend {
            session: 0,
            sender,
            conversation,
            id,
            body,
        };
        push(events, invoke);
        append(events, id, body);
        append(events, id, body);
    });
}

#[test]
fn two_entries_swapped_in_the_log_are_a_disagreement() {
    let companions = [
        Check::AckAgreement,
        Check::RealTimeOrder,
        Check::DeviceOrder,
    ];
    caught(Check::Agreement, &companions, |events| {
        let log = log(events);
        (log[2].seq, log[3].seq) = (log[3].seq, log[2].seq);
        log.swap(2, 3);
    });
}

#[test]
fn an_entry_that_nobody_sent_is_a_phantom() {
    caught(Check::Phantom, &[Check::Liveness], |events| {
        append(events, MessageId(0xbad), Body(7))
    });
}

#[test]
fn an_entry_with_another_body_than_sent_is_a_phantom() {
    caught(Check::Phantom, &[], |events| {
        let wanted = log(events)
            .iter()
            .find(|entry| entry.sender.is_some())
            .unwrap()
            .id;
        for event in events {
            match &mut event.what {
                What::Deliver { id, body, .. } if *id == wanted => *body = Body(7),
                What::FinalLog { entries, .. } => {
                    entries
                        .iter_mut()
                        .filter(|e| e.id == wanted)
                        .for_each(|e| e.body = Body(7));
                }
                _ => {}
            }
        }
    });
}

#[test]
fn a_delivery_before_the_sending_is_a_phantom() {
    caught(
        Check::Phantom,
        &[Check::SessionContiguous, Check::RealTimeOrder],
        |events| {
            let at = deliveries(events, 2).into_iter().find(|at| {
                matches!(
                    events[*at].what,
                    What::Deliver {
                        sender: Some(_),
                        ..
                    }
                )
            });
            events[at.unwrap()].at_us = 1;
        },
    );
}

#[test]
fn a_preview_that_nobody_sent_is_a_phantom() {
    caught(Check::Phantom, &[], |events| {
        let (sender, conversation) = (user(0), conversation(FIRST));
        push(
            events,
            What::Preview {
                session: 2,
                conversation,
                sender,
                id: MessageId(0xbad),
                body: Body(7),
            },
        );
    });
}

#[test]
fn a_refused_message_that_is_stored_is_an_aborted_read() {
    caught(Check::AbortedRead, &[Check::Liveness], |events| {
        let (id, body) = (MessageId(0xbad), Body(7));
        let (sender, conversation, code) = (user(0), conversation(FIRST), "filtered".to_owned());
        push(
            events,
            What::InvokeSend {
                session: 0,
                sender,
                conversation,
                id,
                body,
            },
        );
        push(
            events,
            What::FailSend {
                session: 0,
                conversation,
                id,
                code,
                definite: true,
            },
        );
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
        let What::Deliver {
            seq: from,
            session,
            conversation,
            ..
        } = events[at].what
        else {
            panic!()
        };
        events[at].what = What::Resume {
            session,
            conversation,
            from,
        };
    });
}

#[test]
fn an_announced_gap_is_legal_unless_it_denies_membership() {
    for (reason, green) in [(GapReason::TooMany, true), (GapReason::NotMember, false)] {
        let mut events = good(1);
        let at = deliveries(&events, 3)[5];
        let What::Deliver {
            seq,
            session,
            conversation,
            ..
        } = events[at].what
        else {
            panic!()
        };
        events[at].what = What::Gap {
            session,
            conversation,
            from: seq,
            to: seq,
            reason,
        };
        let verdict = check(&history(events), &expectations());
        assert_eq!(verdict.is_green(), green, "{verdict}");
    }
}

#[test]
fn a_delivery_to_someone_who_left_is_a_breach_of_isolation() {
    caught(Check::Isolation, &[], |events| {
        let at = *deliveries(events, LEAVER as u64).last().unwrap();
        let What::Deliver { seq, .. } = events[at].what else {
            panic!()
        };
        let next = log(events)[seq as usize];
        let LogEntry {
            seq,
            sender,
            id,
            body,
        } = next;
        let (session, conversation) = (LEAVER as u64, conversation(FIRST));
        push(
            events,
            What::Deliver {
                session,
                conversation,
                seq,
                sender,
                id,
                body,
                way: Way::Page,
            },
        );
    });
}

#[test]
fn an_entry_by_someone_outside_is_a_breach_of_isolation() {
    caught(Check::Isolation, &[Check::Liveness], |events| {
        let (id, body, sender) = (MessageId(0xbad), Body(7), user(LEAVER));
        let (session, conversation) = (LEAVER as u64, conversation(FIRST));
        push(
            events,
            What::InvokeSend {
                session,
                sender,
                conversation,
                id,
                body,
            },
        );
        let log = log(events);
        log.push(LogEntry {
            seq: log.len() as u64 + 1,
            sender: Some(sender),
            id,
            body,
        });
    });
}

#[test]
fn a_preview_for_someone_outside_is_a_breach_of_isolation() {
    caught(Check::Isolation, &[], |events| {
        let (id, body, _) = sent(events)[0];
        push(
            events,
            What::SignIn {
                session: 99,
                user: user(99),
            },
        );
        let (sender, conversation) = (user(0), conversation(FIRST));
        push(
            events,
            What::Preview {
                session: 99,
                conversation,
                sender,
                id,
                body,
            },
        );
    });
}

#[test]
fn a_mark_that_runs_back_is_caught() {
    caught(Check::Receipts, &[], |events| {
        let (user, conversation) = (user(3), conversation(FIRST));
        for delivered in [5, 4] {
            push(
                events,
                What::Receipt {
                    session: 77,
                    user,
                    conversation,
                    delivered,
                    read: 3,
                },
            );
        }
    });
}

#[test]
fn a_mark_ahead_of_the_deliveries_is_caught() {
    caught(Check::Receipts, &[], |events| {
        let (user, conversation) = (user(3), conversation(FIRST));
        push(
            events,
            What::Receipt {
                session: 77,
                user,
                conversation,
                delivered: 9_999,
                read: 0,
            },
        );
    });
}

#[test]
fn two_places_acknowledged_for_one_message_are_caught() {
    caught(Check::AckAgreement, &[], |events| {
        let id = sent(events)
            .into_iter()
            .find(|(.., acked)| *acked)
            .unwrap()
            .0;
        let seq = acked(events, id).unwrap() + 1;
        push(
            events,
            What::AckSend {
                session: 0,
                conversation: conversation(FIRST),
                id,
                seq,
            },
        );
    });
}

#[test]
fn an_entry_that_never_reaches_someone_online_is_caught() {
    caught(Check::Liveness, &[Check::Receipts], |events| {
        let at = *deliveries(events, 3).last().unwrap();
        events.remove(at);
    });
}

#[test]
fn an_entry_that_reaches_someone_online_too_late_is_caught() {
    caught(Check::Liveness, &[Check::Receipts], |events| {
        let at = *deliveries(events, 3).last().unwrap();
        events[at].at_us += 2_000_000;
    });
}

#[test]
fn a_fault_that_is_never_healed_is_caught() {
    caught(Check::Liveness, &[], |events| {
        push(
            events,
            What::Fault {
                kind: FaultKind::Cut,
                detail: String::new(),
            },
        );
    });
}

#[test]
fn someone_who_signed_out_need_not_catch_up() {
    let mut events = good(1);
    let at = *deliveries(&events, 3).last().unwrap();
    events[at].what = What::SignOut { session: 3 };
    events.retain(|event| !matches!(event.what, What::Receipt { session: 3, .. }));
    // Its later deliveries in other conversations would bring it online again.
    let after = events.split_off(at + 1);
    let gone = |what: &What| {
        matches!(
            what,
            What::Deliver { session: 3, .. } | What::Sync { session: 3, .. }
        )
    };
    events.extend(after.into_iter().filter(|event| !gone(&event.what)));
    let verdict = check(&history(events), &expectations());
    assert!(verdict.is_green(), "{verdict}");
}

#[test]
fn a_run_that_lacks_what_it_was_for_is_not_green() {
    let is_preview = |what: &What| matches!(what, What::Preview { .. });
    caught(Check::NonVacuity, &[], |events| {
        events.retain(|event| !is_preview(&event.what))
    });
    let raised: [fn(&mut Expectations); 7] = [
        |e| e.acks_min = 100_000,
        |e| e.delivers_min = 100_000,
        |e| e.resends_min = 100_000,
        |e| e.resumes_min = 100_000,
        |e| e.previews_min = 100_000,
        |e| e.in_flight_at_kill_min = 100_000,
        |e| e.faults_min = [(FaultKind::RedisLoss, 1)].into(),
    ];
    for raise in raised {
        let mut expectations = expectations();
        raise(&mut expectations);
        assert_found(
            &check(&history(good(1)), &expectations),
            Check::NonVacuity,
            &[],
            1,
        );
    }
    let empty = check(&History::default(), &Expectations::default());
    assert_found(&empty, Check::NonVacuity, &[], 0);
}

#[test]
fn an_unread_log_or_a_full_recorder_makes_a_run_void() {
    let is_log = |what: &What| matches!(what, What::FinalLog { .. });
    caught(Check::NonVacuity, &[], |events| {
        events.retain(|event| !is_log(&event.what))
    });
    let recorder = Recorder::new(1, 2);
    (0..5).for_each(|at| recorder.record_at(at, What::Heal));
    assert_eq!(recorder.missing(), 3);
    let verdict = check(&recorder.history(), &Expectations::default());
    assert!(
        verdict.to_string().contains("could not record 3 events"),
        "{verdict}"
    );
}

/// A hand-written history: two users, their sends and acknowledgements in the given order.
/// Steps: (session, message, None = sent | Some(seq) = acknowledged).
fn written(steps: &[(u64, u128, Option<u64>)]) -> Vec<Event> {
    let (conversation, mut entries) = (Conversation(1), Vec::new());
    let mut events = vec![Event {
        at_us: 1,
        process: 1,
        what: What::Heal,
    }];
    for session in [1, 2] {
        let user = user(session as usize);
        push(&mut events, What::SignIn { session, user });
        push(
            &mut events,
            What::Join {
                user,
                conversation,
                seq: 1,
            },
        );
    }
    for (session, id, seq) in steps.iter().copied() {
        let (sender, id, body) = (user(session as usize), MessageId(id), Body(1));
        push(
            &mut events,
            match seq {
                None => What::InvokeSend {
                    session,
                    sender,
                    conversation,
                    id,
                    body,
                },
                Some(seq) => {
                    entries.push(LogEntry {
                        seq,
                        sender: Some(sender),
                        id,
                        body,
                    });
                    What::AckSend {
                        session,
                        conversation,
                        id,
                        seq,
                    }
                }
            },
        );
    }
    entries.sort_by_key(|entry| entry.seq);
    push(
        &mut events,
        What::FinalLog {
            conversation,
            entries,
        },
    );
    events
}

fn judge(events: Vec<Event>) -> Verdict {
    check(
        &history(events),
        &Expectations {
            delivers_min: 0,
            ..Expectations::default()
        },
    )
}

#[test]
fn a_send_that_overtakes_a_completed_one_breaks_real_time_order() {
    let steps = [
        (1, 10, None),
        (1, 10, Some(2)),
        (2, 11, None),
        (2, 11, Some(1)),
    ];
    assert_found(&judge(written(&steps)), Check::RealTimeOrder, &[], 0);
    let concurrent = [
        (1, 10, None),
        (2, 11, None),
        (1, 10, Some(2)),
        (2, 11, Some(1)),
    ];
    assert!(judge(written(&concurrent)).is_green());
}

#[test]
fn a_devices_messages_out_of_order_break_device_order() {
    let steps = [
        (1, 10, None),
        (1, 11, None),
        (1, 10, Some(2)),
        (1, 11, Some(1)),
    ];
    let verdict = judge(written(&steps));
    assert_found(&verdict, Check::DeviceOrder, &[], 0);
    assert_eq!(verdict.counts.reordered, 1);
}

#[test]
fn a_log_with_a_hole_is_not_dense() {
    let steps = [
        (1, 10, None),
        (1, 10, Some(1)),
        (1, 11, None),
        (1, 11, Some(3)),
    ];
    assert_found(&judge(written(&steps)), Check::Dense, &[], 0);
    let loose = Expectations {
        dense: false,
        delivers_min: 0,
        ..Expectations::default()
    };
    assert!(check(&history(written(&steps)), &loose).is_green());
}

#[test]
fn a_reset_is_legal_only_after_a_restored_backup_and_voids_what_it_undid() {
    let mut events = written(&[
        (1, 10, None),
        (1, 10, Some(1)),
        (1, 11, None),
        (1, 11, Some(2)),
    ]);
    let conversation = Conversation(1);
    let Some(Event {
        what: What::FinalLog { mut entries, .. },
        ..
    }) = events.pop()
    else {
        panic!()
    };
    let LogEntry {
        sender, id, body, ..
    } = entries.pop().unwrap();
    for (seq, entry) in [
        (1, entries[0]),
        (
            2,
            LogEntry {
                seq: 2,
                sender,
                id,
                body,
            },
        ),
    ] {
        let LogEntry {
            sender, id, body, ..
        } = entry;
        push(
            &mut events,
            What::Deliver {
                session: 2,
                conversation,
                seq,
                sender,
                id,
                body,
                way: Way::Live,
            },
        );
    }
    let mut restored = events.clone();
    push(
        &mut restored,
        What::Fault {
            kind: FaultKind::Restore,
            detail: String::new(),
        },
    );
    push(&mut restored, What::Heal);
    for (mut events, green) in [(events, false), (restored, true)] {
        push(
            &mut events,
            What::Reset {
                session: 2,
                conversation,
                to: 1,
            },
        );
        push(
            &mut events,
            What::FinalLog {
                conversation,
                entries: entries.clone(),
            },
        );
        let verdict = judge(events);
        assert_eq!(verdict.is_green(), green, "{verdict}");
        assert_eq!(
            verdict.total(Check::SessionContiguous) > 0,
            !green,
            "{verdict}"
        );
        assert_eq!(verdict.counts.lost > 0, !green, "{verdict}");
    }
}

#[test]
fn json_lines_carry_a_history_and_several_files_merge_by_time() {
    let whole = history(good(3));
    let mut files = [Vec::new(), Vec::new()];
    for (at, event) in whole.events().iter().enumerate() {
        History::new(vec![event.clone()])
            .write_jsonl(&mut files[at % 2])
            .unwrap();
    }
    files[1].extend_from_slice(b"{\"at_us\":12,\"proc");
    let parts = files
        .iter()
        .map(|file| History::read_jsonl(file.as_slice()).unwrap());
    assert_eq!(History::merge(parts).events(), whole.events());
    assert!(History::read_jsonl(&b"no event\n"[..]).is_err());
}

#[test]
fn a_streaming_recorder_writes_each_event_at_once_and_marks_what_it_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let file = std::fs::File::create(&path).unwrap();
    let recorder = Recorder::streaming(4, 2, Box::new(file));
    (0..4).for_each(|_| recorder.record(What::Heal));
    let read =
        History::read_jsonl(std::io::BufReader::new(std::fs::File::open(&path).unwrap())).unwrap();
    assert_eq!(read.events().len(), 3);
    assert!(matches!(read.events()[2].what, What::Truncated { .. }));
    assert!(read.events().iter().all(|event| event.process == 4));
}
