#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
#![allow(clippy::panic, reason = "a test may fail by panicking")]

mod fake;

use std::time::Duration;

use petrel_core::error::Rejection;
use petrel_core::id::RightsVersion;
use tokio::time::Instant;

use super::WriterOptions;
use fake::{Bench, Event, Message};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn order(events: &[Event]) -> Vec<u8> {
    let ids = events.iter().filter_map(|event| match event {
        Event::Stored(id, ..) | Event::Refused(id, _) => Some(*id),
        Event::Preview(_) => None,
    });
    ids.collect()
}

fn previews(events: &[Event]) -> Vec<u8> {
    let ids = events.iter().filter_map(|event| match event {
        Event::Preview(id) => Some(*id),
        _ => None,
    });
    ids.collect()
}

#[tokio::test(start_paused = true)]
async fn what_queues_up_during_a_commit_is_the_next_batch() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| store.delays.push_back(ms(5)));
    bench.submit(1).await;
    bench.store_was_called(1).await;
    for id in 2..=5 {
        bench.submit(id).await;
    }
    let events = bench.settled(5).await;
    assert_eq!(order(&events), [1, 2, 3, 4, 5]);
    assert_eq!(bench.calls(), [vec![1], vec![2, 3, 4, 5]]);
    assert_eq!(previews(&events), [0; 0], "nothing is previewed for queueing");
    assert_eq!(bench.budget.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_in_messages_and_in_bytes() {
    let bench = Bench::new(WriterOptions {
        batch_messages_max: 3,
        batch_bytes_max: 100,
        ..WriterOptions::default()
    });
    bench.store(|store| store.delays.push_back(ms(5)));
    bench.submit(1).await;
    bench.store_was_called(1).await;
    for (id, bytes) in [(2, 60), (3, 60), (4, 500), (5, 1), (6, 1), (7, 1), (8, 1)] {
        bench.send(Message { bytes, ..Message::of(id) }).await;
    }
    assert_eq!(order(&bench.settled(8).await), [1, 2, 3, 4, 5, 6, 7, 8]);
    let expected: [&[u8]; 6] = [&[1], &[2], &[3], &[4], &[5, 6, 7], &[8]];
    assert_eq!(bench.calls(), expected);
}

#[tokio::test(start_paused = true)]
async fn room_is_given_back_only_after_the_answer() {
    let bench = Bench::new(WriterOptions::default());
    bench.submit(1).await;
    bench.settled(1).await;
    assert_eq!(bench.in_use_when_settled(), [1], "while `settled` ran");
    bench.quiet().await;
    assert_eq!(bench.budget.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stalling_commit_shows_what_waits_once_and_in_order() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| store.delays.push_back(ms(200)));
    bench.submit(1).await;
    bench.store_was_called(1).await;
    bench.submit(2).await;
    bench.look_up(3, Rejection::Blocked).await;
    bench.after(ms(49)).await;
    assert_eq!(previews(&bench.events()), [0; 0], "not stalling yet");
    bench.after(ms(2)).await;
    assert_eq!(previews(&bench.events()), [1, 2], "a mere look-up is never shown");
    bench.submit(4).await;
    bench.after(ms(1)).await;
    assert_eq!(previews(&bench.events()), [1, 2, 4], "what arrives is shown at once");
    let events = bench.settled(4).await;
    bench.submit(5).await;
    bench.settled(5).await;
    assert_eq!(previews(&bench.events()), [1, 2, 4], "no longer stalling");
    assert_eq!(order(&events), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_a_stall_too() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| store.transient_errors = 8);
    bench.submit(1).await;
    bench.settled(1).await;
    assert_eq!(previews(&bench.events()), [1]);
}

#[tokio::test(start_paused = true)]
async fn with_preview_after_zero_everything_is_shown_on_arrival() {
    let bench =
        Bench::new(WriterOptions { preview_after: Duration::ZERO, ..WriterOptions::default() });
    bench.store(|store| store.delays.push_back(ms(5)));
    bench.submit(1).await;
    bench.store_was_called(1).await;
    bench.submit(2).await;
    bench.after(ms(1)).await;
    assert_eq!(bench.events(), [Event::Preview(1), Event::Preview(2)]);
    bench.settled(2).await;
    assert_eq!(previews(&bench.events()), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_the_same_batch_runs_again() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| store.delays.push_back(ms(5)));
    bench.submit(1).await;
    bench.store_was_called(1).await;
    bench.submit(2).await;
    bench.submit(3).await;
    // The second call commits, and its reply is lost.
    bench.store(|store| store.lost_replies_from = Some((1, 3)));
    bench.after(ms(6)).await;
    bench.submit(4).await;
    let events = bench.settled(4).await;
    assert_eq!(bench.calls(), [vec![1], vec![2, 3], vec![2, 3], vec![2, 3], vec![2, 3], vec![4]]);
    let expected = [
        Event::Stored(1, 1, true),
        Event::Stored(2, 2, false),
        Event::Stored(3, 3, false),
        Event::Stored(4, 4, true),
    ];
    assert_eq!(events, expected);
}

#[tokio::test(start_paused = true)]
async fn retries_slow_down_to_the_maximum() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| store.transient_errors = 20);
    let begun = Instant::now();
    bench.submit(1).await;
    bench.settled(1).await;
    let took = begun.elapsed();
    assert!(took > ms(6_000) && took < ms(15_000), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_one_message_that_the_database_refuses_is_found_by_halves() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| {
        store.delays.push_back(ms(5));
        store.poison.extend([6, 7]);
    });
    bench.submit(1).await;
    bench.store_was_called(1).await;
    for id in 2..=17 {
        bench.submit(id).await;
    }
    let events = bench.settled(17).await;
    assert_eq!(order(&events), (1..=17).collect::<Vec<_>>());
    let refused: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Refused(id, rejection) => Some((*id, rejection.is_retryable())),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [(6, false), (7, false)]);
    assert!(bench.calls().len() < 20, "{:?}", bench.calls());
}

#[tokio::test(start_paused = true)]
async fn while_halves_are_tried_nothing_overtakes_what_is_judged_again() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| {
        store.delays.push_back(ms(5));
        store.poison.insert(7);
        store.stale.insert(3, 2);
    });
    bench.submit(1).await;
    bench.store_was_called(1).await;
    for id in 2..=9 {
        bench.submit(id).await;
    }
    let events = bench.settled(9).await;
    assert_eq!(order(&events), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn stale_messages_are_judged_again_and_keep_their_turn() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| {
        store.delays.push_back(ms(5));
        store.stale.insert(2, 1);
    });
    bench.submit(1).await;
    bench.store_was_called(1).await;
    for id in [2, 3] {
        bench.submit(id).await;
    }
    bench.send(Message { sender: 9, ..Message::of(4) }).await;
    bench.after(ms(4)).await;
    bench.store(|store| store.delays.push_back(ms(5)));
    bench.after(ms(2)).await;
    bench.submit(5).await;
    let events = bench.settled(5).await;
    assert_eq!(
        order(&events),
        [1, 4, 2, 3, 5],
        "only the sender's own messages are caught up in it"
    );
    assert_eq!(bench.judged(), [vec![2, 3]]);
    assert_eq!(bench.calls()[2], [2, 3, 5]);
    assert_eq!(bench.admitted_by(2), Some(RightsVersion(2)));
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_when_judged_again_does_not_hold_up_the_rest() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| {
        store.stale.insert(1, 1);
    });
    bench.verdict(1, Err(Rejection::Blocked));
    for id in [1, 2] {
        bench.submit(id).await;
    }
    let events = bench.settled(2).await;
    assert_eq!(events, [Event::Refused(1, Rejection::Blocked), Event::Stored(2, 1, true)]);
}

#[tokio::test(start_paused = true)]
async fn behind_a_refusal_for_now_nothing_of_that_sender_is_stored() {
    let bench = Bench::new(WriterOptions { batch_messages_max: 2, ..WriterOptions::default() });
    bench.store(|store| {
        store.stale.insert(1, 1);
        store.stored_before(4, 1);
    });
    bench.verdict(1, Err(Rejection::Unavailable));
    for id in [1, 2, 3, 4] {
        bench.submit(id).await;
    }
    bench.send(Message { sender: 9, ..Message::of(5) }).await;
    let events = bench.settled(5).await;
    assert_eq!(
        events,
        [
            Event::Refused(1, Rejection::Unavailable),
            Event::Refused(2, Rejection::Unavailable),
            Event::Refused(3, Rejection::Unavailable),
            Event::Stored(4, 1, false),
            Event::Stored(5, 2, true),
        ]
    );
    bench.submit(6).await;
    assert_eq!(
        bench.settled(6).await[5],
        Event::Stored(6, 3, true),
        "only what had been submitted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_is_not_judged_for_ever() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| {
        store.stale.insert(1, usize::MAX);
    });
    bench.submit(1).await;
    let events = bench.settled(1).await;
    assert_eq!(events, [Event::Refused(1, Rejection::Unavailable)]);
    assert_eq!(bench.judged().len(), 17);
}

#[tokio::test(start_paused = true)]
async fn a_refused_resend_is_looked_up_first() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| store.stored_before(1, 1));
    bench.look_up(1, Rejection::Blocked).await;
    bench.look_up(2, Rejection::Blocked).await;
    let events = bench.settled(2).await;
    assert_eq!(events, [Event::Stored(1, 1, false), Event::Refused(2, Rejection::Blocked)]);
    assert!(bench.judged().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_copy_behind_a_refusal_for_good_is_not_stored() {
    let bench = Bench::new(WriterOptions::default());
    bench.look_up(1, Rejection::Blocked).await;
    bench.store_was_called(1).await;
    // Rights have moved again meanwhile: these were admitted.
    bench.submit(1).await;
    bench.submit(2).await;
    let events = bench.settled(3).await;
    let refused = || Event::Refused(1, Rejection::Blocked);
    assert_eq!(events[..2], [refused(), refused()]);
    assert_eq!(order(&events[2..]), [2]);
    assert_eq!(bench.admitted_by(1), None);
}

#[tokio::test(start_paused = true)]
async fn other_content_under_a_used_id_is_refused() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| {
        store.conflicts.insert(1);
    });
    bench.submit(1).await;
    assert_eq!(bench.settled(1).await, [Event::Refused(1, Rejection::IdConflict)]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_stores_what_there_is_and_takes_nothing_more() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| store.delays.push_back(ms(20)));
    bench.submit(1).await;
    bench.store_was_called(1).await;
    bench.submit(2).await;
    let late = bench.pending(Message::of(3)).await;
    let drain = bench.writers.drain(Instant::now() + ms(1_000));
    let submit_late = async {
        tokio::task::yield_now().await;
        bench.writers.submit(late).unwrap_err().outcome
    };
    let (report, refused) = tokio::join!(drain, submit_late);
    assert_eq!(refused, Err(Rejection::GoingAway));
    assert_eq!((report.unanswered, report.failed), (0, 0));
    assert_eq!(order(&bench.events()), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_gives_up_at_its_deadline() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| store.transient_errors = usize::MAX);
    for id in 1..=3 {
        bench.submit(id).await;
    }
    bench.store_was_called(1).await;
    let begun = Instant::now();
    let report = bench.writers.drain(begun + ms(500)).await;
    assert_eq!((report.unanswered, report.failed), (3, 0));
    assert_eq!(begun.elapsed(), ms(500));
    assert_eq!(order(&bench.events()), [0; 0]);
    assert_eq!(bench.budget.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_ends_by_itself_is_noticed() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| store.answers_too_little = true);
    bench.submit(1).await;
    bench.writers.failed().await;
    let pending = bench.pending(Message::of(2)).await;
    let refused = bench.writers.submit(pending).unwrap_err();
    assert_eq!(refused.outcome, Err(Rejection::GoingAway));
    let report = bench.writers.drain(Instant::now() + ms(10)).await;
    assert_eq!(report.failed, 1);
    assert_eq!(order(&bench.events()), [0; 0], "nobody is told a guess");
}

#[tokio::test(start_paused = true)]
async fn one_conversation_stays_with_one_writer() {
    let bench = Bench::new(WriterOptions { writers: 4, ..WriterOptions::default() });
    for id in 1..=40 {
        bench.send(Message { conversation: id % 20, ..Message::of(id) }).await;
    }
    let events = bench.settled(40).await;
    for conversation in 0..20 {
        let mut of_one = order(&events);
        of_one.retain(|id| id % 20 == conversation);
        assert!(of_one.is_sorted(), "{of_one:?}");
    }
    assert!(bench.appenders_used() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_writer_is_noticed() {
    let bench = Bench::new(WriterOptions::default());
    bench.panic_when_settled();
    bench.submit(1).await;
    bench.writers.failed().await;
    let report = bench.writers.drain(Instant::now() + ms(10)).await;
    assert_eq!(report.failed, 1);
    assert_eq!(bench.budget.in_use(), 0, "what it held is dropped");
}

#[tokio::test(start_paused = true)]
async fn while_rights_are_loaded_their_conversation_is_not_shown() {
    let bench = Bench::new(WriterOptions::default());
    bench.store(|store| {
        store.stale.insert(1, 1);
    });
    bench.judging_takes(ms(200));
    bench.submit(1).await;
    bench.store_was_called(1).await;
    bench.submit(2).await;
    bench.send(Message { conversation: 2, ..Message::of(3) }).await;
    bench.after(ms(100)).await;
    assert_eq!(previews(&bench.events()), [3]);
    assert_eq!(order(&bench.settled(3).await), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn with_room_for_one_to_four_everybody_is_answered() {
    for room in 1..=4 {
        let bench = Bench::with_room(room, WriterOptions::default());
        bench.store(|store| store.delays.push_back(ms(2_500)));
        let send = |id| bench.send_apart(id);
        let refused = tokio::join!(send(1), send(2), send(3), send(4), send(5), send(6));
        let refused: [_; 6] = refused.into();
        let overloaded = refused.iter().flatten().count();
        assert_eq!(overloaded, 6 - room, "no more than fits, and nobody waits for ever");
        for id in 9..=20 {
            assert_eq!(bench.send_apart(id).await, None, "room comes back");
        }
        assert_eq!(order(&bench.settled(room + 12).await).len(), room + 12);
        bench.quiet().await;
        assert_eq!(bench.budget.in_use(), 0);
    }
}
