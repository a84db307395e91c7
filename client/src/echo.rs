//! The echo of one connection: copies of small writes while packets are being lost, and copies
//! that come (docs/protocol.md §7).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use petrel_proto::echo::{self, Copied, Delivered, EchoSender, Inboxes, Path, Spliced};
use petrel_proto::version::FEATURE_ECHO;
use petrel_proto::wire;
use petrel_transport::Connection;
use tokio::sync::Notify;

/// The echo on one connection.
#[derive(Debug)]
pub(crate) struct Echo {
    connection: Connection,
    inboxes: Arc<Inboxes>,
    sending: Mutex<EchoSender>,
    /// Something was queued that is due earlier than all before it.
    queued: Notify,
    counters: Mutex<EchoCounters>,
}

/// What the echo did on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EchoCounters {
    /// Datagrams that were sent.
    pub(crate) sent: u64,
    /// Copies in them that went into a silence.
    pub(crate) rescues: u64,
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

    /// Notes what was handed to QUIC for a stream at `written`, from this offset on.
    pub(crate) fn wrote(&self, written: Instant, stream: u64, offset: u64, data: &Bytes) {
        let mut sender = self.sending.lock();
        let path = || {
            let flights = echo::flights(self.connection.quic()?.congestion_state())?;
            let lost = self.connection.stats().lost_packets;
            Some(Path { flights, peer: self.connection.remote_address(), lost })
        };
        let before = sender.next_due();
        sender.look(written, path, || self.inboxes.take_heard());
        sender.wrote(written, (stream, offset), data);
        if sender.next_due() != before {
            self.queued.notify_one();
        }
    }

    /// Sends what is due, until it is dropped.
    pub(crate) async fn send(&self) -> std::convert::Infallible {
        loop {
            let next = self.sending.lock().next_due();
            let sooner = self.queued.notified();
            match next {
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = sooner => continue,
                    }
                }
                None => {
                    sooner.await;
                    continue;
                }
            }
            let bytes_max = self.connection.max_datagram_size().unwrap_or(0);
            let due = self.sending.lock().take_due(Instant::now(), bytes_max);
            {
                let mut counters = self.counters.lock();
                counters.sent += due.datagrams.len() as u64 - due.notices;
                counters.rescues += due.rescues;
            }
            for datagram in due.datagrams {
                // A connection that is over needs no copies.
                self.connection.send_datagram(datagram).ok();
            }
        }
    }

    /// Hands the copies of a datagram to their streams.
    pub(crate) fn heard(&self, echo: wire::Echo) {
        self.inboxes.hear(echo, |delivered| {
            if delivered != Delivered::Waits {
                tracing::trace!("a copy of a stream that is not read, or not read on");
            }
        });
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
