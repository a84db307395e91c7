//! Copies of small writes, in datagrams of later packets, while packets to this client are being
//! lost or nothing is heard of them (docs/protocol.md §7).

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use bytes::Bytes;
use petrel_proto::echo::{self, COPY_BYTES_MAX, EchoSender, Inboxes, Path};
use petrel_transport::Connection;
use tokio::time::Sleep;

use super::Outgoing;
use crate::metrics;

/// The echo of one session. One that says nothing holds counts alone.
pub(super) struct Echo {
    connection: Connection,
    inboxes: Arc<Inboxes>,
    sender: EchoSender,
    due: Option<Pin<Box<Sleep>>>,
}

/// What is about to be written to a stream, when, and where it begins.
pub(super) struct Original {
    written: Instant,
    offset: u64,
    chunks: Vec<Bytes>,
}

impl Echo {
    pub(super) fn of(connection: &Connection, inboxes: &Arc<Inboxes>) -> Self {
        Self {
            connection: connection.clone(),
            inboxes: Arc::clone(inboxes),
            sender: EchoSender::default(),
            due: None,
        }
    }

    /// Looks at what waits for a stream, before it is written; `None` if it needs no copy.
    pub(super) fn look(&mut self, outgoing: &Outgoing) -> Option<Original> {
        if outgoing.pending.is_empty() {
            return None;
        }
        let written = Instant::now();
        let path = || path_of(&self.connection);
        self.sender.look(written, path, || self.inboxes.take_heard());
        let is_small = outgoing.pending.iter().map(Bytes::len).sum::<usize>() <= COPY_BYTES_MAX;
        is_small.then(|| Original {
            written,
            offset: outgoing.offset,
            chunks: outgoing.pending.clone(),
        })
    }

    /// Queues copies of what was written.
    pub(super) fn wrote(&mut self, outgoing: &Outgoing, original: Original) {
        // QUIC has not taken all of it: more is under way than the path takes.
        if !outgoing.pending.is_empty() {
            return;
        }
        let stream = outgoing.stream.id();
        let mut offset = original.offset;
        for chunk in &original.chunks {
            metrics::echo_offered(self.sender.wrote(original.written, (stream, offset), chunk));
            offset += chunk.len() as u64;
        }
    }

    /// The client is heard from another address.
    pub(super) fn moved(&mut self) {
        if let Some(path) = path_of(&self.connection) {
            self.sender.go_on(Instant::now(), path);
        }
    }

    /// Sends what is due, and has the task woken for what is not.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) {
        while let Some(next) = self.sender.next_due() {
            let due =
                self.due.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next.into())));
            if Instant::now() < next {
                if due.deadline() != next.into() {
                    due.as_mut().reset(next.into());
                }
                if due.as_mut().poll(cx).is_pending() {
                    return;
                }
            }
            let bytes_max = self.connection.max_datagram_size().unwrap_or(0);
            let due = self.sender.take_due(Instant::now(), bytes_max);
            metrics::echo_sent(&due);
            for datagram in due.datagrams {
                // A connection that is over needs no copies.
                self.connection.send_datagram(datagram).ok();
            }
        }
        self.due = None;
    }
}

/// The path that a connection is on; `None` for one that is not QUIC's.
fn path_of(connection: &Connection) -> Option<Path> {
    let flights = echo::flights(connection.quic()?.congestion_state())?;
    let lost = connection.stats().lost_packets;
    Some(Path { flights, peer: connection.remote_address(), lost })
}
