//! Open-loop messages to groups, from members in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use quinn::Connection;
use tokio::sync::oneshot;

use super::seat::{Job, Room, Seat};
use crate::arrival::{Arrival, Arrivals, sleep_until};
use crate::ledger::AllSeries;
use crate::traffic::{Load, Phase, until};

/// Between two first messages.
const PRIME_GAP_NS: u64 = 2_000_000;

/// One load on groups whose members are all online.
#[derive(Debug)]
pub struct GroupLoad {
    /// What the seats share.
    pub room: Arc<Room>,
    /// The seats of one group follow each other.
    pub seats: Arc<[Seat]>,
    /// Of all users.
    pub connections: Arc<[Connection]>,
    members: usize,
    /// Whose turn it is in each group.
    turn: usize,
    seed: u64,
    stop: Arc<AtomicBool>,
}

impl GroupLoad {
    /// Seats of groups with so many members each.
    pub fn new(
        room: Arc<Room>,
        seats: Vec<Seat>,
        connections: Vec<Connection>,
        members: usize,
        seed: u64,
    ) -> Self {
        Self {
            room,
            seats: seats.into(),
            connections: connections.into(),
            members,
            turn: 0,
            seed,
            stop: Arc::default(),
        }
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.seats.len() / self.members
    }

    /// One message in each group, so that what the first one costs is not measured.
    ///
    /// # Errors
    /// When some deliveries never come.
    pub async fn prime(&mut self, at_most: Duration) -> anyhow::Result<()> {
        let arrivals = (0..self.groups()).map(|group| Arrival {
            at_ns: group as u64 * PRIME_GAP_NS,
            lane: group,
            body: 0,
        });
        self.pace(arrivals, false).await?;
        let left = || self.room.judge.outstanding();
        anyhow::ensure!(
            until(at_most, || left() == 0).await,
            "{} answers and deliveries of the first messages have not come; errors: {:?}",
            left(),
            self.room.judge.errors()
        );
        Ok(())
    }

    /// As [`crate::traffic::Traffic`]: a thread of its own; what is late is sent at once, and its
    /// latency counts from when it was due. Gives back how many were due.
    async fn pace(
        &mut self,
        arrivals: impl Iterator<Item = Arrival> + Send + 'static,
        measured: bool,
    ) -> anyhow::Result<u64> {
        let (done, finished) = oneshot::channel();
        let (room, seats) = (Arc::clone(&self.room), Arc::clone(&self.seats));
        let stop = Arc::clone(&self.stop);
        let (members, mut turn) = (self.members, self.turn);
        let start_ns = room.clock.now();
        std::thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
            let mut due = 0;
            for arrival in arrivals {
                if stop.load(Ordering::Relaxed) || !room.judge.has_room() {
                    break;
                }
                let intended_ns = start_ns + arrival.at_ns;
                sleep_until(room.clock.instant(intended_ns));
                due += 1;
                turn += 1;
                let seat = arrival.lane * members + turn % members;
                if measured {
                    let late = room.clock.now().saturating_sub(intended_ns);
                    room.judge.series().slip.record(late);
                }
                let number = u32::try_from(seat).unwrap_or(u32::MAX);
                let message = room.judge.send(number, intended_ns, measured);
                if seats[seat].jobs.try_send(Job::Say(message)).is_err() {
                    room.judge.error("queue_full");
                    room.judge.give_up(message);
                }
            }
            // The run may have been given up.
            done.send((due, turn)).ok();
        })?;
        let (due, turn) = finished.await.context("the arrivals' thread ended")?;
        self.turn = turn;
        Ok(due)
    }
}

impl Load for GroupLoad {
    async fn phase(&mut self, rate: f64, seconds: f64, measured: bool) -> anyhow::Result<Phase> {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let end = Duration::from_secs_f64(seconds);
        let end_ns = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        let arrivals = Arrivals::new(self.seed, rate, self.groups(), 1)
            .take_while(move |arrival| arrival.at_ns < end_ns);
        let before = self.room.judge.totals();
        let started = Instant::now();
        let due = self.pace(arrivals, measured).await?;
        tokio::time::sleep_until((started + end).into()).await;
        let after = self.room.judge.totals();
        Ok(Phase {
            due,
            seconds: started.elapsed().as_secs_f64(),
            acked: after.0 - before.0,
            delivered: after.1 - before.1,
        })
    }

    async fn drain(&self, at_most: Duration) -> bool {
        until(at_most, || self.room.judge.outstanding() == 0).await
    }

    fn record_unanswered(&self, waited_ns: u64) -> u64 {
        let watches = self.seats.iter().map(|seat| seat.watch.lock());
        self.room.judge.record_unanswered(watches, self.room.clock.now(), waited_ns)
    }

    fn series(&self) -> &AllSeries {
        self.room.judge.series()
    }

    fn errors_total(&self) -> u64 {
        self.room.judge.errors().values().sum()
    }

    fn udp_bytes(&self) -> u64 {
        let stats = self.connections.iter().map(Connection::stats);
        stats.map(|stats| stats.udp_rx.bytes + stats.udp_tx.bytes).sum()
    }

    fn deliveries_per_message(&self) -> f64 {
        (self.members - 1) as f64
    }
}

impl Drop for GroupLoad {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
