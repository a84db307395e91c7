//! The queue, beside the packets of one path.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
use super::*;
use crate::frame;

const RTT: Duration = Duration::from_millis(50);

struct Scene {
    start: Instant,
    queue: EchoQueue,
    flights: Flights,
}

impl Scene {
    fn new() -> Self {
        let begun = Instant::now();
        let mut flights = Flights::new(begun);
        flights.on_acked(begun, 0, RTT);
        let start = begun + Duration::from_secs(1);
        Self { start, queue: EchoQueue::default(), flights }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// A write and the packet that carries it.
    fn write(&mut self, ms: u64, copies: u8, place: (u64, u64), length: usize) -> Offered {
        let offered = self.queue.offer(self.at(ms), copies, RTT, place, &data(length));
        self.flights.on_sent(self.at(ms), length as u64 + 40);
        offered
    }

    fn due(&mut self, ms: u64, bytes_max: usize) -> Due {
        self.queue.take_due(self.at(ms), &self.flights, bytes_max)
    }

    fn ack(&mut self, sent_ms: u64) {
        self.flights.on_acked(self.at(sent_ms), 100, RTT);
    }

    fn next(&self) -> Option<u128> {
        self.queue.next_due().map(|next| (next - self.start).as_millis())
    }
}

fn data(length: usize) -> Bytes {
    vec![7; length].into()
}

fn copies(due: Due) -> Vec<Vec<(u64, u64, usize)>> {
    let of = |datagram: Bytes| match frame::decode(datagram).unwrap().1 {
        What::Echo(echo) => {
            echo.copies.iter().map(|c| (c.stream, c.offset, c.data.len())).collect()
        }
        other => panic!("{other:?}"),
    };
    due.datagrams.into_iter().map(of).collect()
}

#[test]
fn copies_go_later_and_those_due_together_share_a_datagram() {
    let mut scene = Scene::new();
    scene.write(0, 1, (4, 0), 100);
    scene.write(0, 2, (8, 50), 200);
    assert_eq!(scene.next(), Some(4));
    assert_eq!(scene.due(3, 1_200), Due::default());
    assert_eq!(copies(scene.due(4, 1_200)), [[(4, 0, 100), (8, 50, 200)]]);
    assert_eq!(scene.next(), Some(16));
    assert_eq!(copies(scene.due(16, 1_200)), [[(8, 50, 200)]]);
    scene.ack(0);
    assert_eq!(scene.due(100, 1_200), Due::default());
    assert_eq!(scene.next(), None);
}

#[test]
fn what_was_heard_of_is_not_copied() {
    let mut scene = Scene::new();
    scene.write(0, 2, (4, 0), 100);
    scene.ack(0);
    assert_eq!(scene.due(4, 1_200), Due::default());
    assert_eq!(scene.next(), None);
}

#[test]
fn a_copy_does_not_go_before_its_original() {
    let mut scene = Scene::new();
    scene.queue.offer(scene.at(0), 1, RTT, (4, 0), &data(100));
    assert_eq!(scene.due(4, 1_200), Due::default());
    assert_eq!(scene.next(), Some(8));
    scene.flights.on_sent(scene.at(9), 140);
    assert_eq!(scene.due(12, 1_200).first, 1);
    scene.queue.offer(scene.at(20), 1, RTT, (4, 100), &data(900));
    for ms in 20..600 {
        assert_eq!(scene.due(ms, 1_200).first, 0);
    }
    scene.ack(9);
    scene.due(620, 1_200);
    assert_eq!(scene.next(), None, "it was given up");
}

#[test]
fn into_a_silence_goes_all_that_waits_until_something_is_heard() {
    let mut scene = Scene::new();
    scene.write(0, 1, (4, 0), 100);
    scene.write(10, 1, (8, 0), 100);
    assert_eq!(scene.due(14, 1_200).first, 2);
    // A round trip and an eighth, and the delay of an acknowledgement.
    assert_eq!(scene.next(), Some(64));
    assert_eq!(scene.due(64, 1_200), Due::default(), "the last half millisecond");
    assert_eq!(copies(scene.due(65, 1_200)), [[(4, 0, 100)]]);
    let both = scene.due(77, 1_200);
    assert_eq!(both.rescues, 2);
    assert_eq!(copies(both), [[(4, 0, 100), (8, 0, 100)]]);
    scene.ack(10);
    assert_eq!(scene.due(200, 1_200), Due::default());
    assert_eq!(scene.next(), None);
}

#[test]
fn a_path_that_loses_nothing_has_to_be_silent_for_longer() {
    let mut scene = Scene::new();
    scene.write(0, 0, (4, 0), 100);
    assert_eq!(scene.next(), Some(150));
    assert_eq!(scene.due(150, 1_200).rescues, 1);
}

#[test]
fn a_notice_is_a_datagram_without_copies() {
    let mut scene = Scene::new();
    scene.write(0, 0, (4, 0), 100);
    scene.queue.notice(scene.at(1));
    let due = scene.due(1, 1_200);
    assert_eq!(due.notices, 1);
    assert_eq!(copies(due), [[]]);
    assert_eq!(scene.next(), Some(150));
}

#[test]
fn rescues_end() {
    let mut scene = Scene::new();
    scene.write(0, 1, (4, 0), 100);
    let mut all = Due::default();
    for ms in 0..60_000 {
        let due = scene.due(ms, 1_200);
        all.rescues += due.rescues;
        all.first += due.first;
    }
    assert_eq!((all.first, all.rescues), (1, u64::from(RESCUES_MAX)));
    assert_eq!(scene.next(), None);
}

#[test]
fn no_datagram_is_larger_than_the_path_takes() {
    let mut scene = Scene::new();
    for n in 0..10 {
        scene.write(0, 1, (1 << 40, n << 40), COPY_BYTES_MAX - 500);
    }
    let due = scene.due(4, 1_150);
    assert!(due.datagrams.iter().all(|d| d.len() <= 1_150) && due.datagrams.len() == 5);
    let due = scene.due(100, 1_150);
    assert!(due.datagrams.len() == 1 && due.rescues == 2, "a rescue is one datagram");
    let mut scene = Scene::new();
    scene.write(0, 1, (4, 0), 900);
    assert!(scene.due(4, 500).datagrams.is_empty(), "it does not fit any more");
}

#[test]
fn what_is_too_much_is_not_echoed() {
    let mut scene = Scene::new();
    assert_eq!(scene.write(0, 1, (4, 0), 0), Offered::Unfit);
    assert_eq!(scene.write(0, 1, (4, 0), COPY_BYTES_MAX + 1), Offered::Unfit);
    let taken = |copies, length, max| {
        let mut scene = Scene::new();
        let all: Vec<_> = (0..1_000).map(|n| scene.write(0, copies, (4, n), length)).collect();
        let taken = all.iter().filter(|offered| **offered == Offered::Taken).count();
        assert_eq!(taken, max);
        *all.last().unwrap()
    };
    assert_eq!(taken(1, 1, WAITING_MAX), Offered::Full);
    assert_eq!(taken(0, 1, WAITING_QUIET_MAX), Offered::Full);
    assert_eq!(taken(1, 1_000, BYTES_PER_S_MAX / 1_000), Offered::Spent);
    let mut scene = Scene::new();
    for n in 0..1_000 {
        scene.write(0, 2, (4, n), 1_000);
    }
    assert_eq!(scene.write(1_000, 2, (4, 0), 1_000), Offered::Taken, "another second");
}

#[test]
fn what_may_have_gone_to_where_the_peer_was_goes_again_at_once() {
    let mut scene = Scene::new();
    scene.write(0, 0, (4, 0), 100);
    scene.queue.moved(scene.at(20), &scene.flights);
    assert_eq!(scene.due(20, 1_200).rescues, 1);
    scene.flights.on_acked(scene.at(20), 100, RTT);
    scene.queue.moved(scene.at(60), &scene.flights);
    assert_eq!(scene.due(60, 1_200), Due::default(), "it was heard of");
}
