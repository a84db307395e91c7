//! Runs that do not catch up, and runs that are worth nothing.

use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::checker::{Check, Expectations, History, Recorder, check};

use crate::generator::{SESSIONS, expectations, good, history};
use crate::{assert_found, caught, deliveries, push};

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
        push(events, What::Fault { kind: FaultKind::Cut, detail: String::new() });
    });
}

#[test]
fn someone_who_signed_out_need_not_catch_up() {
    let mut events = good(1);
    let at = *deliveries(&events, 3).last().unwrap();
    events[at].what = What::SignOut { session: 3 };
    // What it is given later would bring it online again.
    let after = events.split_off(at + 1);
    let gone = |what: &What| {
        matches!(
            what,
            What::Deliver { session: 3, .. }
                | What::Sync { session: 3, .. }
                | What::Resume { session: 3, .. }
        )
    };
    events.extend(after.into_iter().filter(|event| !gone(&event.what)));
    events.retain(|event| !matches!(event.what, What::Receipt { session: 3, .. }));
    let verdict = check(&history(events), &expectations());
    assert!(verdict.is_green(), "{verdict}");
}

#[test]
fn a_run_that_lacks_what_it_was_for_is_not_green() {
    let is_preview = |what: &What| matches!(what, What::Preview { .. });
    caught(Check::NonVacuity, &[], |events| events.retain(|event| !is_preview(&event.what)));
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
        assert_found(&check(&history(good(1)), &expectations), Check::NonVacuity, &[], 1);
    }
    let empty = check(&History::default(), &Expectations::default());
    assert_found(&empty, Check::NonVacuity, &[], 0);
}

#[test]
fn an_unread_log_or_a_full_recorder_makes_a_run_void() {
    let is_log = |what: &What| matches!(what, What::FinalLog { .. });
    caught(Check::NonVacuity, &[], |events| events.retain(|event| !is_log(&event.what)));
    let recorder = Recorder::new(1, 2);
    (0..5).for_each(|at| recorder.record_at(at, What::Heal));
    assert_eq!(recorder.missing(), 3);
    let verdict = check(&recorder.history(), &Expectations::default());
    assert!(verdict.to_string().contains("could not record 3 events"), "{verdict}");
}

#[test]
fn a_run_that_ends_with_nobody_online_has_shown_no_liveness() {
    caught(Check::NonVacuity, &[], |events| {
        for session in 0..SESSIONS as u64 {
            push(events, What::SignOut { session });
        }
    });
}
