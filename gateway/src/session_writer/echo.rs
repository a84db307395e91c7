//! Copies of small writes, in datagrams of later packets, while packets to this client are being
//! lost (docs/protocol.md §7).

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

use bytes::Bytes;
use petrel_proto::echo::{COPY_BYTES_MAX, EchoQueue, Loss};
use petrel_transport::Connection;
use tokio::time::Sleep;

use super::Outgoing;
use crate::metrics;

/// The echo of one session. An idle one, or one whose packets arrive, holds counts alone.
pub(super) struct Echo {
    connection: Connection,
    loss: Loss,
    copies: Option<Box<Copies>>,
}

struct Copies {
    queue: EchoQueue,
    due: Pin<Box<Sleep>>,
}

/// What is about to be written to a stream, and where it begins.
pub(super) struct Original {
    offset: u64,
    chunks: Vec<Bytes>,
}

impl Echo {
    pub(super) fn of(connection: &Connection) -> Self {
        Self { connection: connection.clone(), loss: Loss::default(), copies: None }
    }

    /// Looks at what waits for a stream, before it is written; `None` if it needs no copy.
    pub(super) fn look(&mut self, outgoing: &Outgoing) -> Option<Original> {
        if outgoing.pending.is_empty() {
            return None;
        }
        let now = Instant::now();
        if self.loss.is_due(now) {
            let stats = self.connection.stats();
            self.loss.sample(now, stats.sent_packets, stats.lost_packets);
        }
        let is_small = outgoing.pending.iter().map(Bytes::len).sum::<usize>() <= COPY_BYTES_MAX;
        (self.loss.copies() > 0 && is_small)
            .then(|| Original { offset: outgoing.offset, chunks: outgoing.pending.clone() })
    }

    /// Queues copies of what was written.
    pub(super) fn wrote(&mut self, outgoing: &Outgoing, original: Original) {
        // QUIC has not taken all of it: more is under way than the path takes.
        if !outgoing.pending.is_empty() {
            return;
        }
        let now = Instant::now();
        let stream = outgoing.stream.id();
        let copies = self.copies.get_or_insert_with(|| {
            let due = Box::pin(tokio::time::sleep_until(now.into()));
            Box::new(Copies { queue: EchoQueue::default(), due })
        });
        let mut offset = original.offset;
        for chunk in &original.chunks {
            copies.queue.offer(now, self.loss.copies(), (stream, offset), chunk);
            offset += chunk.len() as u64;
        }
    }

    /// Sends what is due, and has the task woken for what is not.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) {
        let Some(copies) = &mut self.copies else { return };
        while let Some(next) = copies.queue.next_due() {
            if Instant::now() < next {
                if copies.due.deadline() != next.into() {
                    copies.due.as_mut().reset(next.into());
                }
                if copies.due.as_mut().poll(cx).is_pending() {
                    return;
                }
            }
            let bytes_max = self.connection.max_datagram_size().unwrap_or(0);
            for datagram in copies.queue.take_due(Instant::now(), bytes_max) {
                metrics::get().echo_sent.increment(1);
                // A connection that is over needs no copies.
                self.connection.send_datagram(datagram).ok();
            }
        }
    }
}
