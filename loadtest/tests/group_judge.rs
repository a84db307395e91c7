//! The judge of groups judged: members who see what was said pass, and one whose deliveries are
//! dropped, doubled, swapped or altered turns the run red.

use bytes::Bytes;
use parking_lot::Mutex;
use petrel_loadtest::body::Bodies;
use petrel_loadtest::dial::Stored;
use petrel_loadtest::group::judge::{Chunk, Judge, Watch};
use petrel_loadtest::group::scan::{Scanned, what};
use petrel_loadtest::group::text::Texts;
use petrel_loadtest::verdict::Verdict;

/// What happens to one member's delivery, or to a message, of this number.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    /// One member never gets it.
    Drops(u32),
    /// One member gets nothing from here on.
    GoesDeaf(u32),
    Doubles(u32),
    Swaps(u32),
    Alters(u32),
    /// One member sees it at another place than the others.
    Misplaces(u32),
    /// The sender hears nothing of it.
    SwallowsAck(u32),
    /// It is not in the history.
    Forgets(u32),
}

const MEMBERS: u32 = 4;
const MESSAGES: u32 = 24;
const MS: u64 = 1_000_000;
/// The member to whom the faults happen.
const FAULTY: u32 = 2;
/// The group was made by the entry at place 1.
const FIRST: u64 = 2;

fn run(fault: Fault) -> (Verdict, Judge) {
    let judge = Judge::new(Texts::new(&Bodies::generated(1, 20, 300)), MEMBERS as usize);
    let watches: Vec<Mutex<Watch>> =
        (0..MEMBERS).map(|seat| Mutex::new(Watch::new(seat))).collect();
    let mut chunk = Chunk::default();
    for watch in &watches {
        watch.lock().starts_after(FIRST - 1);
    }
    let sender = |message: u32| [0, 1, 3][(message % 3) as usize];
    for message in 0..MESSAGES {
        let seat = sender(message);
        assert_eq!(judge.send(seat, u64::from(message) * MS, true), message);
        watches[seat as usize].lock().sends(message);
    }
    let mut say = |seat: u32, message: u32, seq: u64, altered: bool| {
        let (text, id) = (judge.texts.of(message), judge.numbering.id(message, 7));
        let mut watch = watches[seat as usize].lock();
        let body: &[u8] = if altered { b"x" } else { &text.bytes };
        let frame = Scanned {
            id: &id,
            seq,
            encoding: text.encoding.into(),
            body,
            what: what::PUSH,
            ..Scanned::default()
        };
        judge.hear(&mut watch, &frame, u64::from(message) * MS + MS, &mut chunk);
        judge.enter(&mut chunk);
    };
    let mut order: Vec<u32> = (0..MESSAGES).collect();
    for seat in 0..MEMBERS {
        let faulty = seat == FAULTY;
        if let (Fault::Swaps(n), true) = (fault, faulty) {
            order.swap(n as usize, n as usize + 1);
        }
        for message in &order {
            let (message, seq) = (*message, FIRST + u64::from(*message));
            if sender(message) == seat {
                continue;
            }
            match fault {
                Fault::Drops(n) if faulty && n == message => {}
                Fault::GoesDeaf(n) if faulty && n <= message => {}
                Fault::Doubles(n) if faulty && n == message => {
                    say(seat, message, seq, false);
                    say(seat, message, seq, false);
                }
                Fault::Misplaces(n) if faulty && n == message => {
                    say(seat, message, seq + 99, false)
                }
                Fault::Alters(n) if faulty && n == message => say(seat, message, seq, true),
                _ => say(seat, message, seq, false),
            }
        }
        order.sort_unstable();
    }
    for message in 0..MESSAGES {
        let mut watch = watches[sender(message) as usize].lock();
        let number = (0..message).filter(|m| sender(*m) == sender(message)).count() as u64 + 1;
        let seq = FIRST + u64::from(message);
        let ack = Scanned { number, seq, what: what::ACK, ..Scanned::default() };
        if fault != Fault::SwallowsAck(message) {
            judge.hear(&mut watch, &ack, u64::from(message) * MS + 2 * MS, &mut chunk);
        }
        judge.enter(&mut chunk);
    }
    let late = 10_000 * MS;
    judge.record_unanswered(watches.iter().map(Mutex::lock), late, late);
    judge.close(watches.iter().map(Mutex::lock));
    let stored: Vec<Stored> = (0..MESSAGES)
        .filter(|message| fault != Fault::Forgets(*message))
        .map(|message| Stored {
            id: judge.numbering.id(message, 7),
            seq: FIRST + u64::from(message),
            sender: [0; 16],
            hash: judge.texts.of(message).hash,
        })
        .collect();
    judge.judge_history(0, &stored);
    (judge.verdict(), judge)
}

#[test]
fn members_who_see_what_was_said_pass() {
    let (verdict, judge) = run(Fault::None);
    assert!(verdict.is_clean(), "{verdict:?}: {:?}", judge.findings());
    assert_eq!(judge.outstanding(), 0);
    let delivered = u64::from(MESSAGES * (MEMBERS - 1));
    assert_eq!(judge.totals(), (u64::from(MESSAGES), delivered));
    assert_eq!(judge.series().delivery.quantiles().count, delivered);
    assert_eq!(judge.series().ack.quantiles().count, u64::from(MESSAGES));
    assert_eq!(judge.lowest_seq(0), Some(FIRST));
}

#[test]
fn each_fault_is_called_by_its_name() {
    type Count = fn(&Verdict) -> u64;
    let lost: Count = |v| v.lost;
    let duplicated: Count = |v| v.duplicated;
    let reordered: Count = |v| v.reordered;
    let gaps: Count = |v| v.gaps;
    let altered: Count = |v| v.altered;
    for (fault, counts) in [
        (Fault::Drops(5), &[lost, gaps][..]),
        (Fault::GoesDeaf(20), &[lost, gaps]),
        (Fault::GoesDeaf(0), &[lost, gaps]),
        (Fault::Doubles(5), &[duplicated]),
        (Fault::Swaps(5), &[reordered]),
        (Fault::Alters(5), &[altered]),
        (Fault::Misplaces(5), &[reordered, gaps]),
        (Fault::SwallowsAck(5), &[lost]),
        (Fault::Forgets(5), &[lost, gaps]),
    ] {
        let (verdict, judge) = run(fault);
        for count in counts {
            assert!(count(&verdict) > 0, "{fault:?}: {verdict:?}");
        }
        assert!(fault == Fault::Alters(5) || !judge.findings().is_empty() || verdict.lost == 0);
    }
}

#[test]
fn what_never_came_counts_as_late_as_the_time_out() {
    let (_, judge) = run(Fault::GoesDeaf(20));
    let delivery = judge.series().delivery.quantiles();
    assert_eq!(delivery.count, u64::from(MESSAGES * (MEMBERS - 1)));
    assert!(delivery.max >= 10_000.0, "{delivery:?}");
}

#[test]
fn a_refusal_is_no_loss_and_one_s_own_push_no_delivery() {
    let judge = Judge::new(Texts::new(&Bodies::generated(1, 20, 300)), 2);
    let watches = [0, 1].map(|seat| Mutex::new(Watch::new(seat)));
    let mut chunk = Chunk::default();
    let refused = judge.send(0, 0, true);
    watches[0].lock().sends(refused);
    judge.give_up(refused);
    assert_eq!(judge.outstanding(), 0);
    let kept = judge.send(0, 0, true);
    watches[0].lock().sends(kept);
    assert_eq!(judge.outstanding(), 2);
    let id = Bytes::copy_from_slice(&judge.numbering.id(kept, 7));
    let text = judge.texts.of(kept);
    let push = Scanned {
        id: &id,
        seq: 1,
        encoding: text.encoding.into(),
        body: &text.bytes,
        what: what::PUSH,
        ..Scanned::default()
    };
    let ack = Scanned { number: 2, seq: 1, what: what::ACK, ..Scanned::default() };
    for (seat, frame) in [(0, ack), (0, push), (1, push)] {
        judge.hear(&mut watches[seat].lock(), &frame, MS, &mut chunk);
        judge.enter(&mut chunk);
    }
    assert_eq!((judge.outstanding(), judge.totals()), (0, (1, 1)));
    judge.close(watches.iter().map(Mutex::lock));
    assert!(judge.verdict().is_clean(), "{:?}", judge.verdict());
}
