//! The tester tested: good histories are green, and each way to break one is caught by name.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test says what it needs by failing; its numbers are small"
)]

mod generator;
mod liveness;
mod log;
mod recorder;
mod session;
mod written;

use std::collections::BTreeSet;

use generator::{conversation, expectations, good, history, user};
use petrel_tests::checker::event::{Body, Event, LogEntry, MessageId, Way, What};
use petrel_tests::checker::{Check, Verdict, check};

const SEEDS: std::ops::Range<u64> = 1..21;
const FIRST: usize = 0;

#[test]
fn good_histories_are_green() {
    for seed in 1..200 {
        let verdict = check(&history(good(seed)), &expectations());
        assert!(verdict.is_green(), "seed {seed}: {verdict}");
        assert!(verdict.counts.unknown > 0 && verdict.counts.refused > 0, "seed {seed}: {verdict}");
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
        assert_found(&check(&history(events), &expectations()), expected, companions, seed);
    }
}

fn assert_found(verdict: &Verdict, expected: Check, companions: &[Check], seed: u64) {
    assert!(verdict.total(expected) > 0, "seed {seed}: no {expected:?} in {verdict}");
    let found: BTreeSet<Check> = verdict.totals.keys().copied().collect();
    let others: Vec<_> =
        found.iter().filter(|c| **c != expected && !companions.contains(c)).collect();
    assert!(others.is_empty(), "seed {seed}: {others:?} beside {expected:?} in {verdict}");
}

fn log(events: &mut [Event]) -> &mut Vec<LogEntry> {
    let logs = events.iter_mut().find_map(|event| match &mut event.what {
        What::FinalLog { conversation: c, entries } if *c == conversation(FIRST) => Some(entries),
        _ => None,
    });
    logs.unwrap()
}

fn append(events: &mut [Event], id: MessageId, body: Body) {
    let log = log(events);
    let seq = log.len() as u64 + 1;
    log.push(LogEntry { seq, sender: Some(user(0)), id, body });
}

/// The messages of user 1 in the first conversation: id, body, and whether it was acknowledged.
fn sent(events: &[Event]) -> Vec<(MessageId, Body, bool)> {
    let sends = events.iter().filter_map(|event| match event.what {
        What::InvokeSend { sender, conversation: c, id, body, .. }
            if sender == user(0) && c == conversation(FIRST) =>
        {
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
    (0..events.len()).filter(|at| is(&events[*at].what)).collect()
}

fn push(events: &mut Vec<Event>, what: What) {
    let at_us = events.last().unwrap().at_us + 1;
    events.push(Event { at_us, process: 1, what });
}
