//! Looks after a connection: probes it while the server is silent, and notices long before QUIC's idle
//! timeout that it may be dead. A gateway that was killed says nothing, and neither does a
//! path that is gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use petrel_proto::probe::{self, Counts, Look, Prober};
use petrel_transport::Connection;
use tokio::sync::watch;

use crate::shared::Shared;
use crate::unrest::Unrest;

/// A shorter silence is left to QUIC.
const PATIENCE: Duration = Duration::from_millis(250);
/// The longest time between two looks while nothing is sent.
const IDLE_TICK: Duration = Duration::from_secs(10);
/// Between two looks while the connection is in doubt and not probed.
const DOUBT_TICK: Duration = Duration::from_millis(500);
/// Where the server has several addresses, another one is tried after so long a silence: gateways die one at a time.
const OTHERS_AFTER: Duration = Duration::from_secs(1);
/// After a change of networks the connection is in doubt when for two round trips and this nothing came.
const MOVE_PATIENCE: Duration = Duration::from_millis(300);

/// Between two looks right after a change of networks: the old connection, if it works, is to be heard
/// before another one is signed in.
const MOVE_TICK: Duration = Duration::from_millis(20);
/// For so long.
const MOVE_LOOKS: Duration = Duration::from_secs(1);

/// What is thought of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Doubt {
    /// It is answered, or nothing was asked.
    Sure,
    /// Another one should be tried beside it.
    Doubtful,
    /// And it was silent for so long that the application is told.
    Silent,
}

/// A change of networks.
#[derive(Clone, Copy, Debug)]
struct Moved {
    at: Instant,
    /// By when something should come.
    until: Instant,
    /// What had come before.
    heard: u64,
}

/// The rules for one connection. Pure.
#[derive(Debug)]
struct Watch {
    prober: Prober,
    /// After so long a silence another connection is tried beside this one.
    doubt_after: Duration,
    silence_max: Duration,
    /// After a change of networks, until something comes.
    moved: Option<Moved>,
}

impl Watch {
    fn new(silence_max: Duration, has_others: bool) -> Self {
        let doubt_after = if has_others { silence_max.min(OTHERS_AFTER) } else { silence_max };
        Self { prober: Prober::new(PATIENCE), doubt_after, silence_max, moved: None }
    }

    /// The device's network is another one.
    fn moved(&mut self, now: Instant, heard: u64, rtt: Duration) {
        self.prober.start_over(now);
        self.moved = Some(Moved { at: now, until: now + 2 * rtt + MOVE_PATIENCE, heard });
    }

    fn look(
        &mut self,
        now: Instant,
        counts: Counts,
        rtt: Duration,
        waiting: bool,
    ) -> (Look, Doubt) {
        let mut look = self.prober.look(now, counts, rtt, waiting);
        self.moved = self.moved.filter(|moved| counts.heard == moved.heard);
        let silent = self.prober.silent(now);
        let doubt = if silent >= self.silence_max {
            Doubt::Silent
        } else if silent >= self.doubt_after || self.moved.is_some_and(|moved| now >= moved.until) {
            Doubt::Doubtful
        } else {
            Doubt::Sure
        };
        // The look that finds it is not to be late.
        if silent < self.doubt_after && !silent.is_zero() {
            let due = now + (self.doubt_after - silent);
            look.again = Some(look.again.map_or(due, |at| at.min(due)));
        }
        if doubt > Doubt::Sure {
            look.again = look.again.or(Some(now + DOUBT_TICK));
        }
        if self.moved.is_some_and(|moved| now < moved.at + MOVE_LOOKS) {
            look.again = Some(look.again.map_or(now + MOVE_TICK, |at| at.min(now + MOVE_TICK)));
        }
        (look, doubt)
    }
}

/// Looks after a connection until it is dropped, and says what is to be thought of it.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    connection: &Connection,
    has_others: bool,
    said: &watch::Sender<Doubt>,
) -> Infallible {
    let mut watch = Watch::new(shared.options.silence_max, has_others);
    let mut unrest = Unrest::default();
    let mut attention = shared.attention.subscribe();
    let probes = shared.state.lock().probes;
    let mut due = None;
    loop {
        let idle_tick = match shared.keep_alive() {
            // The device is not to be woken for a look.
            Some(every) if shared.attention.is_background() => every / 2,
            Some(every) => every.min(IDLE_TICK),
            None => IDLE_TICK,
        };
        let until = due.unwrap_or_else(|| Instant::now() + idle_tick);
        let is_moved = tokio::select! {
            () = tokio::time::sleep_until(until.into()) => false,
            () = shared.busy.notified(), if due.is_none() => {
                due = Some(watch.prober.stir(Instant::now()));
                continue;
            }
            () = shared.moved.notified() => true,
            // An error would mean that the client is gone.
            _ = attention.changed() => continue,
        };
        let (now, stats) = (Instant::now(), connection.stats());
        if is_moved {
            watch.moved(now, stats.received, stats.rtt);
        }
        let counts = Counts { heard: stats.received, asked: stats.asked };
        let (look, doubt) = watch.look(now, counts, stats.rtt, shared.is_waiting());
        let show = match shared.attention.is_background() {
            true => unrest.rest(&stats),
            false => unrest.look(now, &stats),
        };
        if (look.probe || show.now) && probes {
            shared.probes_sent.fetch_add(1, Ordering::Relaxed);
            // A connection that is over needs none.
            connection.send_datagram(probe::datagram(false)).ok();
        }
        said.send_if_modified(|before| std::mem::replace(before, doubt) != doubt);
        due = look.again.into_iter().chain(show.again).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn silence_is_doubted_after_its_limit_until_something_comes() {
        let start = Instant::now();
        let mut watch = Watch::new(Duration::from_secs(3), false);
        watch.prober.stir(start);
        let mut heard = Counts { heard: 0, asked: 1 };
        let mut doubts = Vec::new();
        let mut look = |counts, ms| watch.look(at(start, ms), counts, RTT, true);
        for ms in (250..30_000).step_by(50) {
            let (looked, doubt) = look(heard, ms);
            if doubts.last().is_none_or(|(_, before)| *before != doubt) {
                doubts.push((ms, doubt));
            }
            assert!(looked.again.is_some(), "somebody waits");
        }
        assert_eq!(doubts, [(250, Doubt::Sure), (3_250, Doubt::Silent)]);
        heard.heard += 1;
        assert_eq!(look(heard, 30_000).1, Doubt::Sure);
    }

    #[test]
    fn where_there_are_other_gateways_one_is_tried_after_a_second_of_silence() {
        let start = Instant::now();
        let mut watch = Watch::new(Duration::from_secs(3), true);
        watch.prober.stir(start);
        let counts = Counts { heard: 0, asked: 1 };
        let (mut at_ms, mut doubts) = (250, Vec::new());
        while at_ms < 4_000 {
            let (look, doubt) = watch.look(at(start, at_ms), counts, RTT, true);
            doubts.push((at_ms, doubt));
            let again = look.again.map_or(4_000, |due| (due - start).as_millis());
            at_ms = u64::try_from(again).unwrap_or(4_000);
        }
        let first = |wanted| doubts.iter().find(|(_, doubt)| *doubt == wanted).map(|(ms, _)| *ms);
        assert!(
            first(Doubt::Doubtful).is_some_and(|ms| (1_000..=1_300).contains(&ms)),
            "{doubts:?}"
        );
        assert!(first(Doubt::Silent).is_some_and(|ms| ms >= 3_000), "{doubts:?}");
    }

    #[test]
    fn after_a_change_of_networks_silence_is_doubted_soon() {
        let start = Instant::now();
        let mut watch = Watch::new(Duration::from_secs(3), false);
        let mut counts = Counts { heard: 9, asked: 5 };
        watch.look(start, counts, RTT, false);
        watch.moved(start, 9, RTT);
        let (look, doubt) = watch.look(start, counts, RTT, false);
        assert_eq!((look.probe, doubt), (true, Doubt::Sure));
        assert_eq!(look.again, Some(start + MOVE_TICK));
        counts.asked += 1;
        assert_eq!(watch.look(at(start, 200), counts, RTT, false).1, Doubt::Sure);
        assert_eq!(watch.look(at(start, 400), counts, RTT, false).1, Doubt::Doubtful);
        counts.heard += 1;
        assert_eq!(watch.look(at(start, 500), counts, RTT, false).1, Doubt::Sure);
        assert_eq!(watch.look(at(start, 600), counts, RTT, false).1, Doubt::Sure);
    }
}
