//! A session that reads slowly: what its own queue does, and what others notice (nothing).
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::task::{Context, Waker};

use petrel_core::id::UserId;

use super::*;

const MAX: usize = 4096;
const PUSH: Bytes = Bytes::from_static(&[7; 200]);
const ATTACH: Bytes = Bytes::from_static(&[1; 50]);
const SOMEBODY: UserId = UserId([5; 16]);

fn conversation(number: u8) -> ConversationId {
    ConversationId([number; 16])
}

fn deliver(queue: &SendQueue, number: u8, seq: u64, ack: Option<(u64, Bytes)>) -> Put {
    let conversation = conversation(number);
    let delivery = Delivery { conversation, seq: Seq(seq), push: &PUSH, ack, calls: false };
    queue.deliver(delivery, 0, |_| ATTACH)
}

fn take(queue: &SendQueue) -> Taken {
    let mut taken = Taken::default();
    queue.poll_take(&Context::from_waker(Waker::noop()), &mut taken);
    taken
}

/// Frames of one conversation, with their stream's generation.
fn frames(taken: &Taken, number: u8) -> (u64, Vec<Bytes>) {
    let slot = taken.slots.iter().find(|s| s.conversation == conversation(number)).unwrap();
    (slot.generation, slot.frames.clone())
}

fn bytes_of(frames: &[Bytes]) -> usize {
    frames.iter().map(Bytes::len).sum()
}

/// Delivers to conversation 1 until it is behind; gives back the first seq that was left out.
fn fill(queue: &SendQueue) -> u64 {
    for seq in 1..100 {
        let before = queue.bytes();
        deliver(queue, 1, seq, None);
        if queue.bytes() == before {
            return seq;
        }
    }
    unreachable!("the queue takes everything");
}

#[test]
fn one_conversation_takes_half_of_the_queue_and_others_go_on() {
    let queue = SendQueue::new(MAX, 8);
    let left_out = fill(&queue);
    assert!(queue.bytes() <= MAX / 2, "{}", queue.bytes());
    assert_eq!(deliver(&queue, 2, 1, None), Put::Queued);
    let taken = take(&queue);
    let (_, first) = frames(&taken, 1);
    assert_eq!(first.len() as u64, left_out, "the Attach and what came before the first left out");
    assert_eq!(frames(&taken, 2).1, [ATTACH, PUSH]);
}

#[test]
fn the_whole_queue_is_bounded_however_many_conversations_there_are() {
    let slots = 8;
    let queue = SendQueue::new(MAX, slots);
    for seq in 1..50 {
        for number in 0..8 {
            deliver(&queue, number, seq, None);
        }
    }
    let attaches = slots * (ATTACH.len() + FRAME_OVERHEAD);
    assert!(queue.bytes() <= MAX + attaches, "{}", queue.bytes());
}

#[test]
fn what_was_left_out_is_caught_up_with_once_the_stream_has_drained() {
    let queue = SendQueue::new(MAX, 8);
    let left_out = fill(&queue);
    let (generation, written) = frames(&take(&queue), 1);
    deliver(&queue, 1, left_out + 1, None);
    let half = written.len() / 2;
    let id = conversation(1);
    assert!(!queue.written(id, generation, half, bytes_of(&written[..half])), "not drained");
    let rest = &written[half..];
    assert!(queue.written(id, generation, rest.len(), bytes_of(rest)), "drained");
    assert!(!queue.written(id, generation, 0, 0), "one catch-up at a time");
    assert_eq!(queue.position(id, generation), Some(Seq(left_out)));
    assert_eq!(queue.bytes(), 0);

    queue.put_page(id, generation, vec![PUSH, PUSH], Seq(left_out + 2));
    queue.go_live(id, generation);
    deliver(&queue, 1, left_out + 2, None);
    assert_eq!(frames(&take(&queue), 1).1.len(), 3, "the page and what came live after it");
}

#[test]
fn while_it_catches_up_nothing_is_put_in_live() {
    let queue = SendQueue::new(MAX, 8);
    let left_out = fill(&queue);
    let (generation, written) = frames(&take(&queue), 1);
    assert!(queue.written(conversation(1), generation, written.len(), bytes_of(&written)));
    deliver(&queue, 1, left_out, None);
    deliver(&queue, 1, left_out + 1, None);
    assert_eq!(queue.bytes(), 0);
    assert_eq!(queue.position(conversation(1), generation), Some(Seq(left_out)));
}

#[test]
fn the_stream_that_sent_gets_the_ack_in_place_of_the_push() {
    let queue = SendQueue::new(MAX, 8);
    deliver(&queue, 1, 1, None);
    let (generation, _) = frames(&take(&queue), 1);
    let ack = Bytes::from_static(b"ack");
    deliver(&queue, 1, 2, Some((generation, ack.clone())));
    deliver(&queue, 1, 3, Some((generation + 1, ack.clone())));
    assert_eq!(frames(&take(&queue), 1).1, [ack, PUSH], "another stream's Ack is a Push here");
}

#[test]
fn an_ack_goes_out_though_the_slot_is_behind() {
    let queue = SendQueue::new(MAX, 8);
    let left_out = fill(&queue);
    let (generation, _) = frames(&take(&queue), 1);
    let ack = Bytes::from_static(b"ack");
    deliver(&queue, 1, left_out + 1, Some((generation, ack.clone())));
    assert_eq!(frames(&take(&queue), 1).1, [ack]);
    assert_eq!(
        queue.position(conversation(1), generation),
        Some(Seq(left_out)),
        "as a frame beside"
    );
}

#[test]
fn without_room_for_another_conversation_the_client_is_told_by_a_hint() {
    let queue = SendQueue::new(MAX, 1);
    assert_eq!(deliver(&queue, 1, 1, None), Put::Queued);
    assert_eq!(deliver(&queue, 2, 1, None), Put::Hint);
}

#[test]
fn what_may_be_left_out_is_left_out_from_half_on() {
    let queue = SendQueue::new(MAX, 8);
    fill(&queue);
    let before = queue.bytes();
    queue.put_ephemeral(conversation(2), &PUSH, 0, Some((Seq(1), |_| ATTACH)));
    assert_eq!(queue.bytes(), before);
}

#[test]
fn what_goes_along_waits_for_the_next_entry_of_a_busy_session_and_for_nothing_else() {
    let queue = SendQueue::new(MAX, 8);
    let receipts = Bytes::from_static(&[3; 10]);
    assert!(!queue.put_along(conversation(1), &receipts, 0), "no stream to say it on");
    deliver(&queue, 1, 1, None);
    take(&queue);
    assert!(queue.put_along(conversation(1), &receipts, 1));
    let taken = take(&queue);
    assert_eq!(frames(&taken, 1).1, std::slice::from_ref(&receipts));
    assert_eq!(taken.waiting_since, None, "it waited on purpose");
    assert!(!queue.put_along(conversation(1), &receipts, 2), "nothing has come for a while");
}

#[test]
fn after_a_suspension_pushes_go_on_from_where_they_stopped() {
    let queue = SendQueue::new(MAX, 8);
    deliver(&queue, 1, 1, None);
    let (generation, written) = frames(&take(&queue), 1);
    queue.suspend(true);
    deliver(&queue, 1, 2, None);
    let id = conversation(1);
    assert!(!queue.written(id, generation, written.len(), bytes_of(&written)), "still suspended");
    queue.suspend(false);
    assert_eq!(frames(&take(&queue), 1).1, Vec::<Bytes>::new(), "the writer looks at it again");
    assert!(queue.written(id, generation, 0, 0), "and sees that it has to catch up");
    assert_eq!(queue.position(id, generation), Some(Seq(2)));
}

#[test]
fn an_idle_conversation_is_finished_and_forgotten_unless_something_comes() {
    let queue = SendQueue::new(MAX, 8);
    for number in [1, 2] {
        deliver(&queue, number, 1, None);
    }
    let taken = take(&queue);
    for number in [1, 2] {
        let (generation, written) = frames(&taken, number);
        queue.written(conversation(number), generation, written.len(), bytes_of(&written));
    }
    queue.finish_idle(1, 1);
    deliver(&queue, 2, 2, None);
    let taken = take(&queue);
    let finish = |n| taken.slots.iter().find(|s| s.conversation == conversation(n)).unwrap().finish;
    assert!(finish(1) && !finish(2));
    assert_eq!(queue.position(conversation(1), frames(&taken, 1).0), None);
}

fn run(first: u64, entries: usize) -> Run {
    Run::new(Seq(first), &vec![PUSH; entries], Vec::new())
}

#[test]
fn of_a_run_a_slot_gets_what_it_does_not_have_in_one_piece() {
    let queue = SendQueue::new(MAX, 8);
    let id = conversation(1);
    assert!(!queue.deliver_run(id, &run(1, 2), SOMEBODY, 0), "no slot");
    deliver(&queue, 1, 1, None);
    assert!(queue.deliver_run(id, &run(1, 4), SOMEBODY, 0));
    assert!(queue.deliver_run(id, &run(2, 3), SOMEBODY, 0), "it has all of these");
    let (generation, written) = frames(&take(&queue), 1);
    assert_eq!(written.iter().map(Bytes::len).collect::<Vec<_>>(), [50, 200, 600]);
    assert_eq!(queue.position(id, generation), Some(Seq(5)));
    let seqs: Vec<_> = run(5, 3).pushes().map(|(seq, push)| (seq.0, push.len())).collect();
    assert_eq!(seqs, [(5, 200), (6, 200), (7, 200)]);
}

#[test]
fn a_slot_that_lacks_entries_before_a_run_or_has_no_room_for_it_reads_the_store() {
    for (first, entries) in [(3, 1), (2, 12)] {
        let queue = SendQueue::new(MAX, 8);
        deliver(&queue, 1, 1, None);
        let (generation, written) = frames(&take(&queue), 1);
        let id = conversation(1);
        queue.written(id, generation, written.len(), bytes_of(&written));
        assert!(queue.deliver_run(id, &run(first, entries), SOMEBODY, 0));
        assert!(frames(&take(&queue), 1).1.is_empty());
        assert!(queue.written(id, generation, 0, 0), "from {first}: it has to catch up");
        assert_eq!(queue.position(id, generation), Some(Seq(2)));
    }
}

#[test]
fn what_is_skipped_is_read_from_the_store_by_those_who_lack_it() {
    let queue = SendQueue::new(MAX, 8);
    let id = conversation(1);
    assert!(!queue.skip(id, Seq(3), 0), "no slot");
    deliver(&queue, 1, 3, None);
    let (generation, written) = frames(&take(&queue), 1);
    queue.written(id, generation, written.len(), bytes_of(&written));
    assert!(queue.skip(id, Seq(3), 0));
    assert!(!queue.written(id, generation, 0, 0), "it has that");
    assert!(queue.skip(id, Seq(4), 0));
    assert!(queue.written(id, generation, 0, 0));
    assert_eq!(queue.position(id, generation), Some(Seq(4)));
}

#[test]
fn a_sender_in_a_large_group_gets_what_was_before_his_own_and_then_the_ack() {
    let queue = SendQueue::new(MAX, 8);
    let id = conversation(1);
    deliver(&queue, 1, 1, None);
    let (generation, _) = frames(&take(&queue), 1);
    let ack = Bytes::from_static(b"ack");
    let earlier = |from: Seq| {
        assert_eq!(from, Seq(2));
        Some(vec![PUSH, PUSH])
    };
    queue.answer(id, (generation, ack.clone()), Seq(4), earlier);
    assert_eq!(frames(&take(&queue), 1).1, [PUSH, PUSH, ack.clone()]);
    assert!(queue.deliver_run(id, &run(2, 3), SOMEBODY, 0));
    assert!(queue.bytes() > 0 && take(&queue).slots.is_empty(), "the run has nothing new for him");
    queue.answer(id, (generation, ack.clone()), Seq(7), |_| None);
    let alone = std::slice::from_ref(&ack);
    assert_eq!(frames(&take(&queue), 1).1, alone, "the Ack waits for nothing");
    assert_eq!(queue.position(id, generation), Some(Seq(5)), "the rest is read from the store");
    queue.answer(id, (generation + 1, ack), Seq(8), |_| None);
    assert!(take(&queue).slots.is_empty(), "another stream's");
}

#[tokio::test]
async fn pages_for_many_slots_together_stay_within_the_whole() {
    let queue = SendQueue::new(MAX, 8);
    let mut generations = Vec::new();
    for number in 0..8 {
        deliver(&queue, number, 1, None);
        let (generation, written) = frames(&take(&queue), number);
        let id = conversation(number);
        queue.written(id, generation, written.len(), bytes_of(&written));
        assert!(
            queue.skip(id, Seq(100), 0) && queue.written(id, generation, 0, 0),
            "it catches up"
        );
        generations.push(generation);
    }
    let mut full = 0;
    for number in 0..8 {
        let (id, generation) = (conversation(number), generations[usize::from(number)]);
        let room = queue.room(id, generation);
        let Ok(Some(bytes)) = tokio::time::timeout(std::time::Duration::ZERO, room).await else {
            full += 1;
            continue;
        };
        assert!(bytes <= MAX / 2);
        queue.put_page(id, generation, vec![PUSH; 12], Seq(14));
        let next = queue.position(id, generation).unwrap();
        let put = frames(&take(&queue), number).1.len() as u64;
        assert_eq!(next, Seq(2 + put), "what was left out is read again");
    }
    assert!(queue.bytes() <= MAX, "{}", queue.bytes());
    assert!(full > 0, "the last ones wait");
}

#[tokio::test]
async fn an_entry_larger_than_what_is_free_goes_alone_and_the_others_wait_until_it_is_written() {
    let queue = SendQueue::new(MAX, 8);
    for number in [1, 2] {
        deliver(&queue, number, 1, None);
    }
    let taken = take(&queue);
    let generation = |number| frames(&taken, number).0;
    for number in [1, 2] {
        let (generation, written) = frames(&taken, number);
        queue.written(conversation(number), generation, written.len(), bytes_of(&written));
    }
    let large = Bytes::from(vec![9; MAX]);
    queue.put_page(conversation(1), generation(1), vec![large.clone(), PUSH], Seq(4));
    queue.put_page(conversation(2), generation(2), vec![large.clone()], Seq(3));
    assert_eq!(queue.position(conversation(1), generation(1)), Some(Seq(3)), "that one alone");
    assert_eq!(queue.position(conversation(2), generation(2)), Some(Seq(2)), "nothing");
    let waiting = queue.room(conversation(2), generation(2));
    let written = async {
        assert_eq!(frames(&take(&queue), 1).1.len(), 1);
        queue.written(conversation(1), generation(1), 1, large.len());
    };
    let (room, ()) = futures_util::future::join(waiting, written).await;
    assert_eq!(room, Some(MAX / 2));
}

#[test]
fn what_a_finished_stream_has_left_is_counted_until_it_is_written() {
    let queue = SendQueue::new(MAX, 8);
    deliver(&queue, 1, 1, None);
    let (generation, written) = frames(&take(&queue), 1);
    queue.put_last(conversation(1), generation, PUSH);
    let (_, last) = frames(&take(&queue), 1);
    let frames = written.len() + last.len();
    assert!(!queue.written(conversation(1), generation, 0, 0), "the slot is gone");
    assert_eq!(queue.bytes(), bytes_of(&written) + bytes_of(&last) + frames * FRAME_OVERHEAD);
    queue.released(frames, bytes_of(&written) + bytes_of(&last));
    assert_eq!(queue.bytes(), 0);
}
