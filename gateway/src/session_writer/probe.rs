//! Probes of a client that has not acknowledged what was sent to it, and from which nothing comes
//! (docs/protocol.md §7). They also bring to light what quinn forgets after an address change that came to
//! nothing: what was sent there is not missed until something new is acknowledged. So after each change of the address
//! probes go out until one is answered, whatever else was heard.

use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use petrel_proto::probe::{self, Counts, Prober};
use petrel_transport::Connection;
use tokio::time::Sleep;

use crate::metrics;

/// A shorter silence is left to QUIC.
const PATIENCE: Duration = Duration::from_millis(500);

/// The probes of one session. While nothing is on its way to the client they take no room.
pub(super) struct Probes {
    connection: Connection,
    /// The client's address at the last look.
    address: SocketAddr,
    /// Its changes up to then.
    path_challenges: u64,
    /// After such a change: the answers that had come before, as long as no other has.
    unproven: Option<u32>,
    watched: Option<Box<Watched>>,
}

struct Watched {
    prober: Prober,
    due: Pin<Box<Sleep>>,
    /// Whether a look is planned. After the last probe of many none is, until more is written.
    is_due: bool,
}

impl Probes {
    pub(super) fn of(connection: &Connection) -> Self {
        Self {
            connection: connection.clone(),
            address: connection.remote_address(),
            path_challenges: 0,
            unproven: None,
            watched: None,
        }
    }

    /// Something was written.
    pub(super) fn wrote(&mut self) {
        let now = Instant::now();
        match &mut self.watched {
            Some(watched) if watched.is_due => {}
            Some(watched) => {
                let due = watched.prober.stir(now);
                watched.plan(Some(due));
            }
            None => {
                let mut prober = Prober::new(PATIENCE);
                let due = Box::pin(tokio::time::sleep_until(prober.stir(now).into()));
                self.watched = Some(Box::new(Watched { prober, due, is_due: true }));
            }
        }
    }

    /// Looks when it is time, and has the task woken for the next look. So many probes were `answered`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, answered: u32) {
        while let Some(watched) = &mut self.watched
            && watched.is_due
            && watched.due.as_mut().poll(cx).is_ready()
        {
            let now = Instant::now();
            let stats = self.connection.stats();
            let counts = Counts { heard: stats.received, asked: stats.asked };
            self.unproven = self.unproven.filter(|before| *before == answered);
            let look = watched.prober.look(now, counts, stats.rtt, self.unproven.is_some());
            watched.plan(look.again);
            if stats.path_challenges != self.path_challenges {
                self.path_challenges = stats.path_challenges;
                self.unproven = Some(answered);
                watched.prober.start_over(now);
                watched.plan(Some(now));
            }
            let is_over = !watched.is_due && watched.prober.silent(now).is_zero();
            if is_over {
                self.watched = None;
            }
            if look.probe {
                metrics::path::probe_sent();
                // A connection that is over needs none.
                self.connection.send_datagram(probe::datagram(false)).ok();
            }
            let address = self.connection.remote_address();
            if address != self.address {
                metrics::path::changed(self.address, address);
                self.address = address;
            }
        }
    }
}

impl Watched {
    fn plan(&mut self, due: Option<Instant>) {
        self.is_due = due.is_some();
        if let Some(due) = due {
            self.due.as_mut().reset(due.into());
        }
    }
}
