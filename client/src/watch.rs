//! Noticing that a connection is dead long before QUIC's idle timeout: a gateway
//! that was killed says nothing, and neither does a path that is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use petrel_transport::Connection;

use crate::shared::Shared;

/// How often a connection is looked at while something has no answer.
const BUSY_TICK: Duration = Duration::from_millis(500);
/// The longest time between two looks otherwise.
const IDLE_TICK: Duration = Duration::from_secs(10);

/// When packets came last, and since when something waits for an answer. Pure.
#[derive(Debug)]
struct Silence {
    received: u64,
    received_at: Instant,
    waiting_since: Option<Instant>,
}

impl Silence {
    fn new(now: Instant) -> Self {
        Self { received: 0, received_at: now, waiting_since: None }
    }

    /// For how long an answer is overdue without any packet.
    fn overdue(&mut self, received: u64, waiting: bool, now: Instant) -> Duration {
        if received != self.received {
            self.received = received;
            self.received_at = now;
        }
        if !waiting {
            self.waiting_since = None;
            return Duration::ZERO;
        }
        let since = *self.waiting_since.get_or_insert(now);
        now.saturating_duration_since(since.max(self.received_at))
    }

    fn quiet(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.received_at)
    }
}

/// Returns when the connection is dead.
pub(crate) async fn until_dead(shared: &Arc<Shared>, connection: &Connection) {
    let mut silence = Silence::new(Instant::now());
    // A keep-alive is answered; twice its interval without a packet is no accident.
    let keep_alive = shared.options.dialer.keep_alive();
    let quiet_max = keep_alive.map(|every| every * 2);
    let idle_tick = keep_alive.map_or(IDLE_TICK, |every| every.min(IDLE_TICK));
    loop {
        let waiting = shared.is_waiting();
        let received = connection.stats().received;
        let now = Instant::now();
        let overdue = silence.overdue(received, waiting, now);
        if overdue >= shared.options.silence_max
            || quiet_max.is_some_and(|max| silence.quiet(now) >= max)
        {
            return;
        }
        let tick = if waiting { BUSY_TICK } else { idle_tick };
        tokio::select! {
            () = tokio::time::sleep(tick) => {}
            () = shared.busy.notified(), if !waiting => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_while_something_waits_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let mut silence = Silence::new(start);
        assert_eq!(silence.overdue(1, false, at(50)), seconds(0));
        assert_eq!(silence.overdue(1, true, at(60)), seconds(0));
        assert_eq!(silence.overdue(1, true, at(62)), seconds(2));
        assert_eq!(silence.overdue(2, true, at(63)), seconds(0));
        assert_eq!(silence.overdue(2, true, at(66)), seconds(3));
        assert_eq!(silence.overdue(2, false, at(67)), seconds(0));
        assert_eq!(silence.overdue(2, true, at(70)), seconds(0));
        assert_eq!(silence.quiet(at(70)), seconds(7));
    }
}
