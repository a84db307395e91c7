//! The echo of one connection: copies of small writes while packets are being lost, and copies
//! that come (docs/protocol.md §7).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use petrel_proto::echo::{Copied, EchoQueue, Inboxes, Loss, Spliced};
use petrel_proto::version::FEATURE_ECHO;
use petrel_proto::wire;
use petrel_transport::Connection;
use tokio::sync::Notify;

/// The echo on one connection.
#[derive(Debug)]
pub(crate) struct Echo {
    connection: Connection,
    inboxes: Arc<Inboxes>,
    sending: Mutex<Sending>,
    /// Something was queued where nothing was.
    queued: Notify,
    counters: Mutex<EchoCounters>,
}

#[derive(Debug, Default)]
struct Sending {
    loss: Loss,
    queue: EchoQueue,
}

/// What the echo did on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EchoCounters {
    /// Datagrams that were sent.
    pub(crate) sent: u64,
    /// Copies that came before their original.
    pub(crate) won: u64,
}

impl Echo {
    /// For a connection on which both sides speak it.
    pub(crate) fn of(connection: &Connection, features: &[String]) -> Option<Arc<Self>> {
        features.iter().any(|feature| feature == FEATURE_ECHO).then(|| {
            Arc::new(Self {
                connection: connection.clone(),
                inboxes: Arc::default(),
                sending: Mutex::default(),
                queued: Notify::new(),
                counters: Mutex::default(),
            })
        })
    }

    /// Notes what was just written to a stream at this offset.
    pub(crate) fn wrote(&self, stream: u64, offset: u64, data: &Bytes) {
        let now = Instant::now();
        let mut sending = self.sending.lock();
        let Sending { loss, queue } = &mut *sending;
        if loss.is_due(now) {
            let stats = self.connection.stats();
            loss.sample(now, stats.sent_packets, stats.lost_packets);
        }
        let was_idle = queue.next_due().is_none();
        if queue.offer(now, loss.copies(), (stream, offset), data) && was_idle {
            self.queued.notify_one();
        }
    }

    /// Sends what is due, until it is dropped.
    pub(crate) async fn send(&self) -> std::convert::Infallible {
        loop {
            let next = self.sending.lock().queue.next_due();
            match next {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => self.queued.notified().await,
            }
            let bytes_max = self.connection.max_datagram_size().unwrap_or(0);
            let due = self.sending.lock().queue.take_due(Instant::now(), bytes_max);
            self.counters.lock().sent += due.len() as u64;
            for datagram in due {
                // A connection that is over needs no copies.
                self.connection.send_datagram(datagram).ok();
            }
        }
    }

    /// Hands the copies of a datagram to their streams.
    pub(crate) fn heard(&self, echo: wire::Echo) {
        for copy in echo.copies {
            if !self.inboxes.deliver(copy) {
                tracing::trace!("a copy of a stream that is not read");
            }
        }
    }

    /// Lets a stream of this connection take copies.
    pub(crate) fn splice(&self, stream: u64, spliced: &mut Spliced) {
        spliced.take_copies(stream, &self.inboxes);
    }

    /// What became of a copy.
    pub(crate) fn told(&self, copied: &Copied) {
        if matches!(copied, Copied::News(_)) {
            self.counters.lock().won += 1;
        }
    }

    pub(crate) fn counters(&self) -> EchoCounters {
        *self.counters.lock()
    }
}
