#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::entry::{Changes, Placed};
use crate::store::{Append, ConversationKind};

#[path = "tests/admission.rs"]
mod admission;
#[path = "tests/membership.rs"]
mod membership;
#[path = "tests/typing.rs"]
mod typing;

const ALICE: UserId = UserId([1; 16]);
const BOB: UserId = UserId([2; 16]);
const EVE: UserId = UserId([3; 16]);
const NOW: u64 = 1_800_000_000_000;

fn id_at(time_ms: u64, n: u64) -> ClientMessageId {
    Uuid::from_u64_pair((time_ms << 16) | 0x7000, (0b10 << 62) | n).into()
}

const RULES: SendRules =
    SendRules { strangers_max: 1_000, edit_window_ms: 1_000, recall_window_ms: 2_000 };

fn text(sender: UserId) -> Append {
    Append {
        conversation: ConversationId::of_pair(ALICE, BOB),
        admitted_by: None,
        sender,
        id: id_at(NOW, 1),
        kind: EntryKind::Text,
        encoding: 0,
        body: Bytes::new(),
        digest: ContentDigest([1; 32]),
        target: None,
        revision: None,
        mentions: Vec::new(),
    }
}

fn member(user: UserId, blocks: bool) -> Member {
    Member { blocks, ..Member::new(user, Seq(1)) }
}

fn conversation(head: u64) -> Conversation<u32> {
    Conversation::new(record(head))
}

fn record(head: u64) -> ConversationRecord {
    ConversationRecord {
        kind: ConversationKind::Pair,
        id: ConversationId::of_pair(ALICE, BOB),
        rights_version: RightsVersion(1),
        members: vec![member(ALICE, false), member(BOB, false)],
        head: Seq(head),
        head_entry: (head > 0).then(|| (id_at(NOW, head), NOW)),
        count: head,
        floor: Seq(0),
        receipts: Vec::new(),
    }
}

fn entry(seq: u64, rights: u64) -> Entry {
    Entry {
        conversation: ConversationId::of_pair(ALICE, BOB),
        placed: Placed {
            seq: Seq(seq),
            count: seq,
            time_ms: NOW,
            rights_version: RightsVersion(rights),
        },
        id: id_at(NOW, seq),
        sender: ALICE,
        kind: 1,
        encoding: 0,
        body: Bytes::new(),
        target: None,
        mentions: Vec::new(),
        changes: Changes::default(),
        hidden: false,
    }
}

fn seqs(ready: &[Ready<u32>]) -> Vec<u64> {
    ready.iter().map(|r| r.entry.placed.seq.0).collect()
}

#[test]
fn members_may_send_and_nobody_else() {
    let c = conversation(0);
    assert_eq!(c.admit(&text(ALICE), &RULES, NOW), Ok(RightsVersion(1)));
    assert_eq!(c.admit(&text(EVE), &RULES, NOW), Err(Rejection::NotFound));
    assert!(c.view(EVE, Seq(1)).is_err());
}

#[test]
fn a_cursor_is_up_to_date_only_on_the_very_last_entry() {
    let mut c = conversation(1);
    let last = Cursor { seq: Seq(1), tail: Cursor::tail_of(id_at(NOW, 1), NOW) };
    assert!(c.is_up_to_date(last));
    let of_another_commit = Cursor { seq: Seq(1), tail: Cursor::tail_of(id_at(NOW, 1), NOW + 1) };
    assert!(!c.is_up_to_date(of_another_commit), "the same id at the same place, committed anew");
    assert!(!c.is_up_to_date(Cursor::default()));
    c.offer(entry(2, 1), vec![]);
    assert!(!c.is_up_to_date(last));
    assert!(c.is_up_to_date(Cursor::of(&entry(2, 1))));
    assert!(conversation(0).is_up_to_date(Cursor::default()));
}

#[test]
fn a_block_silences_both_sides() {
    let mut c = conversation(0);
    c.members = vec![member(ALICE, false), member(BOB, true)];
    assert_eq!(c.admit(&text(ALICE), &RULES, NOW), Err(Rejection::Blocked));
    assert_eq!(c.admit(&text(BOB), &RULES, NOW), Err(Rejection::Blocked));
}

#[test]
fn ids_are_judged_at_their_exact_limits() {
    let horizon = limits::DEDUPE_HORIZON_MS;
    let ahead = limits::ID_AHEAD_MAX_MS;
    for (time, expected) in [
        (NOW - horizon - 1, Err(Rejection::TooOld)),
        (NOW - horizon, Ok(())),
        (NOW - horizon + 1, Ok(())),
        (NOW + ahead - 1, Ok(())),
        (NOW + ahead, Ok(())),
        (NOW + ahead + 1, Err(Rejection::FromTheFuture { server_time_ms: NOW })),
    ] {
        assert_eq!(judge_id(id_at(time, 1), NOW), expected, "{time}");
    }
    assert!(matches!(
        judge_id(ClientMessageId([7; 16]), NOW),
        Err(Rejection::Invalid { field: "id", .. })
    ));
}

#[test]
fn a_second_send_joins_the_first_and_other_content_conflicts() {
    let mut c = conversation(0);
    let id = id_at(NOW, 1);
    let (same, other) = (ContentDigest([1; 32]), ContentDigest([2; 32]));
    assert_eq!(c.join(ALICE, id, same, &1), Ok(Join::NotUnderWay));
    c.begin(ALICE, id, same, 1);
    assert_eq!(c.join(ALICE, id, same, &2), Ok(Join::Joined));
    assert_eq!(c.join(ALICE, id, other, &3), Err(Rejection::IdConflict));
    assert_eq!(c.join(BOB, id, other, &4), Ok(Join::NotUnderWay));
    assert_eq!(c.end(ALICE, id), vec![1, 2]);
    assert!(c.is_idle());
}

#[test]
fn a_hole_is_held_back_and_asked_for_once() {
    let mut c = conversation(10);
    let first = c.offer(entry(13, 1), vec![7]);
    assert!(first.ready.is_empty() && first.repair);
    assert!(!c.offer(entry(12, 1), vec![]).repair, "one repair at a time");
    assert_eq!(c.hole(), Some((Seq(11), Seq(11))));
    let filled = c.offer(entry(11, 1), vec![]);
    assert_eq!(seqs(&filled.ready), [11, 12, 13]);
    assert_eq!(filled.ready[2].origins, [7]);
    assert!(!c.repaired().1);
    assert!(c.is_idle());
}

#[test]
fn an_entry_of_newer_rights_waits_for_newer_members() {
    let mut c = conversation(0);
    let offered = c.offer(entry(1, 2), vec![]);
    assert!(offered.ready.is_empty() && offered.repair);
    assert_eq!(c.hole(), None);
    let mut record = ConversationRecord {
        kind: ConversationKind::Pair,
        id: c.id(),
        rights_version: RightsVersion(2),
        members: vec![member(ALICE, false)],
        head: Seq(1),
        head_entry: None,
        count: 1,
        floor: Seq(0),
        receipts: vec![],
    };
    c.refresh(record.clone());
    let (ready, again) = c.repaired();
    assert_eq!((seqs(&ready), again), (vec![1], false));
    record.rights_version = RightsVersion(1);
    record.members.clear();
    c.refresh(record);
    assert_eq!(c.members().count(), 1, "an older look changes nothing");
}

#[test]
fn what_was_handed_out_is_only_answered() {
    let mut c = conversation(5);
    let offered = c.offer(entry(3, 1), vec![9]);
    assert!(offered.ready.is_empty() && !offered.repair);
    assert_eq!(offered.answered.unwrap().origins, [9]);
}

#[test]
fn who_waits_for_an_entry_that_finds_no_room_behind_a_hole_is_answered_at_once() {
    let mut c = conversation(0);
    let held = limits::HELD_ENTRIES_MAX as u64;
    for seq in 2..2 + held {
        assert!(c.offer(entry(seq, 1), vec![]).answered.is_none());
    }
    let offered = c.offer(entry(2 + held, 1), vec![9]);
    assert_eq!(offered.answered.unwrap().origins, [9]);
    assert!(c.offer(entry(2, 1), vec![8]).answered.is_none(), "it is held");
    // The repair reads it again.
    assert_eq!(c.offer(entry(1, 1), vec![]).ready.len() as u64, 1 + held);
    assert_eq!(seqs(&c.offer(entry(2 + held, 1), vec![]).ready), [2 + held]);
}

#[test]
fn receipts_rise_only_and_stop_at_the_head() {
    let mut c = conversation(5);
    let at = |delivered, read| Receipt { delivered: Seq(delivered), read: Seq(read) };
    assert_eq!(c.raise_receipt(BOB, at(9, 3)), Some(at(5, 3)));
    assert_eq!(c.raise_receipt(BOB, at(1, 2)), None);
    assert_eq!(c.raise_receipt(BOB, at(0, 5)), Some(at(5, 5)));
    assert_eq!(c.raise_receipt(ALICE, at(0, 4)), Some(at(4, 4)), "read implies delivered");
}

#[test]
fn one_sees_only_ones_own_interval() {
    let mut c = conversation(9);
    c.members = vec![
        Member::new(ALICE, Seq(4)),
        Member { until: Some(Seq(6)), ..Member::new(BOB, Seq(1)) },
    ];
    assert_eq!(c.readers(Seq(3)).collect::<Vec<_>>(), [BOB]);
    assert_eq!(c.readers(Seq(5)).collect::<Vec<_>>(), [ALICE, BOB]);
    assert_eq!(c.readers(Seq(7)).collect::<Vec<_>>(), [ALICE]);
    assert_eq!(c.leavers(Seq(6)).collect::<Vec<_>>(), [BOB]);
    assert_eq!(c.view(ALICE, Seq(1)), Ok(View::Gap(Seq(3))));
    assert_eq!(c.view(ALICE, Seq(4)), Ok(View::Shown(None)));
    assert_eq!(c.view(BOB, Seq(2)), Ok(View::Shown(Some(Seq(6)))));
    assert_eq!(c.view(BOB, Seq(7)), Ok(View::Over));
    assert_eq!((c.last_seen_by(ALICE), c.last_seen_by(BOB)), (Ok(None), Ok(Some(Seq(6)))));
}

proptest! {
    #[test]
    fn any_arrival_order_is_handed_out_once_and_in_order(
        order in Just((1..=40u64).collect::<Vec<_>>()).prop_shuffle(),
        again in prop::collection::vec(1..=40u64, 0..40),
    ) {
        let mut c = conversation(0);
        let mut out = Vec::new();
        for seq in order.into_iter().chain(again) {
            out.extend(seqs(&c.offer(entry(seq, 1), vec![]).ready));
        }
        prop_assert_eq!(out, (1..=40).collect::<Vec<_>>());
    }
}

#[test]
fn what_was_refused_for_good_stays_refused_until_no_older_copy_can_come() {
    let mut c = conversation(0);
    let (id, digest) = (id_at(NOW, 1), ContentDigest([1; 32]));
    assert_eq!(c.refuse((ALICE, id), digest, Rejection::Blocked, 10, 20), Rejection::Blocked);
    assert_eq!(c.refused_before(ALICE, id, digest), Some(&Rejection::Blocked));
    assert_eq!(c.refused_before(BOB, id, digest), None);
    assert_eq!(c.refused_before(ALICE, id, ContentDigest([2; 32])), None);
    assert!(!c.is_idle(), "it must not be forgotten with the conversation");
    // Refused once more: it is kept from then on.
    assert_eq!(c.refuse((ALICE, id), digest, Rejection::Blocked, 15, 25), Rejection::Blocked);
    c.forget_refused(20);
    assert!(c.refused_before(ALICE, id, digest).is_some());
    c.forget_refused(25);
    assert_eq!(c.refused_before(ALICE, id, digest), None);
    assert!(c.is_idle());
}

#[test]
fn without_room_to_remember_it_nothing_is_refused_for_good() {
    let mut c = conversation(0);
    let digest = ContentDigest([1; 32]);
    for n in 0..limits::REFUSED_KEPT_MAX as u64 {
        let refused = c.refuse((ALICE, id_at(NOW, n)), digest, Rejection::Blocked, 0, 10);
        assert_eq!(refused, Rejection::Blocked);
    }
    let mut one_more = |now_s| {
        c.refuse((ALICE, id_at(NOW, u64::from(u32::MAX))), digest, Rejection::Blocked, now_s, 20)
    };
    assert!(one_more(9).is_retryable());
    assert_eq!(one_more(10), Rejection::Blocked);
    // Retryable ones, and ids that stand for something else, take no room.
    let mut c = conversation(0);
    for rejection in [Rejection::Unavailable, Rejection::IdConflict] {
        let id = id_at(NOW, 1);
        assert_eq!(c.refuse((ALICE, id), digest, rejection.clone(), 0, 10), rejection);
        assert_eq!(c.refused_before(ALICE, id, digest), None);
    }
    assert!(c.is_idle());
}

#[test]
fn what_another_gateway_stored_is_a_hole_that_is_read_and_handed_out_once() {
    let mut c = conversation(2);
    assert!(!c.learn_head(Seq(2), 2), "nothing is missing");
    assert!(c.learn_head(Seq(5), 4));
    assert_eq!((c.head(), c.next()), ((Seq(5), 4), Seq(3)));
    assert!(!c.learn_head(Seq(4), 3), "it is under way");
    assert_eq!(c.hole(), Some((Seq(3), Seq(5))));
    assert_eq!(seqs(&c.offer(entry(3, 1), vec![]).ready), [3]);
    // One of this gateway's own comes meanwhile.
    assert!(c.offer(entry(6, 1), vec![]).ready.is_empty());
    assert_eq!(c.hole(), Some((Seq(4), Seq(5))));
    assert_eq!(seqs(&c.offer(entry(4, 1), vec![]).ready), [4]);
    assert!(c.repaired().1);
    assert_eq!(seqs(&c.offer(entry(5, 1), vec![]).ready), [5, 6]);
    assert_eq!((c.repaired().1, c.hole(), c.head()), (false, None, (Seq(6), 6)));
    // A look at the store that began before it was told of more changes nothing.
    assert!(c.learn_head(Seq(9), 9));
    c.refresh(record(6));
    assert!(c.repaired().1);
    // What a store does not have any more is not waited for.
    c.unlearn_head(Seq(8), Seq(6), 6);
    assert!(c.repaired().1, "it was told of more since");
    c.unlearn_head(Seq(9), Seq(6), 6);
    assert!(!c.repaired().1);
}

#[test]
fn an_entry_that_finds_no_room_behind_a_hole_is_read_by_the_repair() {
    let mut c = conversation(2);
    assert!(c.offer(entry(4, 1), vec![]).repair);
    let last = 4 + limits::HELD_ENTRIES_MAX as u64;
    for seq in 5..=last {
        c.offer(entry(seq, 1), vec![]);
    }
    let ready = c.offer(entry(3, 1), vec![]).ready;
    assert_eq!(ready.len(), limits::HELD_ENTRIES_MAX + 1);
    assert!(c.repaired().1);
    assert_eq!(c.hole(), Some((Seq(last), Seq(last))));
}

#[test]
fn what_was_in_the_log_when_it_was_loaded_is_told_of_once() {
    let mut c = conversation(2);
    assert!(!c.take_unseen(Seq(3)));
    assert!(c.take_unseen(Seq(2)) && !c.take_unseen(Seq(2)) && !c.take_unseen(Seq(1)));
}
