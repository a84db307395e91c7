//! The judge judged: a stub of a server that keeps its promises passes, and
//! one that drops, doubles, swaps, alters or delays turns the ledger red.

use petrel_loadtest::body;
use petrel_loadtest::layout::Lane;
use petrel_loadtest::ledger::{HistoryEntry, Id, Ledger, Seen};
use petrel_loadtest::verdict::Verdict;

/// What the stub does to the message with this number (from 0).
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    /// Acknowledged and stored, but never pushed.
    DropsPush(usize),
    /// Acknowledged and pushed, but not in the history.
    DropsFromHistory(usize),
    /// Neither acknowledged, stored nor pushed.
    Swallows(usize),
    /// The same push twice.
    DoublesPush(usize),
    /// Stored and pushed at two places.
    StoresTwice(usize),
    /// Pushed after its successor.
    SwapsPushes(usize),
    /// Stored before its predecessor of the same sender.
    SwapsPlaces(usize),
    /// Pushed with another body.
    Alters(usize),
    /// Stored with another body.
    AltersHistory(usize),
    /// Acknowledged at another place than it is stored and pushed at.
    MisplacesAck(usize),
    /// Acknowledged and pushed so late.
    Delays(usize, u64),
}

const MESSAGES: usize = 20;
const MS: u64 = 1_000_000;

fn id(number: usize) -> Id {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    id
}

/// Runs twenty messages of one member through the stub; what the other
/// member and a fresh client saw is judged.
fn run(fault: Fault) -> (Verdict, Ledger) {
    let ledger = Ledger::new(1);
    let [sender, receiver] = [0, 1].map(|member| Lane { conversation: 0, member });
    let hash = |number: usize| body::hash(format!("text {number}").as_bytes());
    let mut order: Vec<usize> = (0..MESSAGES).collect();
    match fault {
        Fault::SwapsPlaces(n) => order.swap(n, n + 1),
        Fault::Swallows(n) => order.retain(|number| *number != n),
        Fault::StoresTwice(n) => order.insert(n + 3, n),
        _ => {}
    }
    // (number, seq, hash) as stored.
    let stored: Vec<(usize, u64, u64)> =
        order.iter().zip(1..).map(|(number, seq)| (*number, seq, hash(*number))).collect();
    let mut pushes = stored.clone();
    match fault {
        Fault::DropsPush(n) => pushes.retain(|p| p.0 != n),
        Fault::DoublesPush(n) => pushes.insert(n, stored[n]),
        Fault::SwapsPushes(n) => pushes.swap(n, n + 1),
        Fault::Alters(n) => pushes[n].2 = 99,
        _ => {}
    }
    for number in 0..MESSAGES {
        ledger.sent(sender, id(number), number as u64 * MS, hash(number), true);
    }
    let late = |number: usize| match fault {
        Fault::Delays(n, by) if n == number => by,
        _ => MS,
    };
    let mut acked = std::collections::HashSet::new();
    for (number, seq, _) in &stored {
        if !acked.insert(*number) {
            continue;
        }
        let seq = match fault {
            Fault::MisplacesAck(n) if n == *number => 1_000,
            _ => *seq,
        };
        ledger.acked(sender, id(*number), seq, *number as u64 * MS + late(*number));
    }
    for (number, seq, hash) in pushes {
        let seen = Seen { id: id(number), seq, hash };
        ledger.entered(receiver, seen, number as u64 * MS + late(number));
    }
    ledger.record_unanswered(MESSAGES as u64 * MS, 10_000 * MS);
    ledger.verdict();
    let history: Vec<HistoryEntry> = stored
        .iter()
        .filter(|s| fault != Fault::DropsFromHistory(s.0))
        .map(|(number, seq, hash)| HistoryEntry {
            seen: Seen {
                id: id(*number),
                seq: *seq,
                hash: if fault == Fault::AltersHistory(*number) { 98 } else { *hash },
            },
            member: Some(0),
        })
        .collect();
    ledger.judge_history(0, &history);
    (ledger.verdict(), ledger)
}

/// Histograms keep three digits.
fn near(got: f64, want: f64) {
    assert!((got / want - 1.0).abs() < 0.002, "{got} {want}");
}

#[test]
fn a_stub_that_keeps_its_promises_passes() {
    let (verdict, ledger) = run(Fault::None);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(ledger.series().delivery.quantiles().count, 20);
    assert_eq!(ledger.outstanding(), 0);
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
        (Fault::DropsPush(5), &[lost, gaps][..]),
        (Fault::DropsFromHistory(5), &[lost, gaps]),
        (Fault::Swallows(5), &[lost]),
        (Fault::DoublesPush(5), &[duplicated]),
        (Fault::StoresTwice(5), &[duplicated]),
        (Fault::SwapsPushes(5), &[reordered]),
        (Fault::SwapsPlaces(5), &[reordered]),
        (Fault::Alters(5), &[altered]),
        (Fault::AltersHistory(5), &[altered]),
        (Fault::MisplacesAck(5), &[reordered]),
    ] {
        let (verdict, _) = run(fault);
        for count in counts {
            assert!(count(&verdict) > 0, "{fault:?}: {verdict:?}");
        }
    }
}

#[test]
fn a_delay_is_seen_in_the_series_and_not_in_the_verdict() {
    let (verdict, ledger) = run(Fault::Delays(5, 700 * MS));
    assert!(verdict.is_clean(), "{verdict:?}");
    for series in [&ledger.series().ack, &ledger.series().delivery] {
        assert!((series.quantiles().max - 700.0).abs() < 1.0);
    }
}

#[test]
fn what_never_came_counts_as_late_as_the_time_out() {
    let (verdict, ledger) = run(Fault::Swallows(5));
    assert_eq!(verdict.lost, 1);
    let delivery = ledger.series().delivery.quantiles();
    assert_eq!(delivery.count, 20);
    assert!(delivery.max >= 10_000.0);
}

#[test]
fn an_answer_that_overtakes_the_sender_still_counts() {
    let ledger = Ledger::new(1);
    let [sender, receiver] = [0, 1].map(|member| Lane { conversation: 0, member });
    let seen = Seen { id: id(1), seq: 1, hash: 5 };
    ledger.previewed(receiver, id(1), 2 * MS);
    ledger.entered(receiver, seen, 3 * MS);
    ledger.acked(sender, id(1), 1, 4 * MS);
    ledger.sent(sender, id(1), MS, 5, true);
    assert_eq!(ledger.outstanding(), 0);
    near(ledger.series().first_sight.quantiles().max, 1.0);
    near(ledger.series().delivery.quantiles().max, 2.0);
    near(ledger.series().ack.quantiles().max, 3.0);
    assert!(ledger.verdict().is_clean());
}

#[test]
fn a_refusal_is_an_error_by_code_and_no_loss() {
    let ledger = Ledger::new(1);
    let lane = Lane { conversation: 0, member: 0 };
    ledger.sent(lane, id(1), MS, 5, true);
    ledger.refused(0, &id(1), "overloaded");
    assert_eq!(ledger.outstanding(), 0);
    assert_eq!(ledger.errors().get("overloaded"), Some(&1));
    assert!(ledger.verdict().is_clean());
}
