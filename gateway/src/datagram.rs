//! Datagrams: who types, copies of what streams carry, probes. Each may be lost, and is dropped freely.

use std::time::{Duration, Instant};

use petrel_core::rate::Bucket;
use petrel_proto::wire::{self, frame::What};
use petrel_proto::{frame, probe};
use petrel_transport::Connection;

use crate::connection::Context;
use crate::metrics::path;
use crate::session::Session;
use crate::typing::Typist;
use crate::{clock, metrics};

/// Bytes of datagrams of one connection that wait to be read. Few, as each keeps the packets that came
/// with it in memory; they are read at once, before sign-in too.
pub(crate) const RECEIVE_BYTES: usize = 4 * 1024;
/// Bytes of datagrams of one connection that wait to be sent; the oldest are dropped.
pub(crate) const SEND_BYTES: usize = 8 * 1024;
/// Datagrams that are read between two chances for other tasks.
const READ_AT_ONCE: u32 = 32;

/// A client's probes that come sooner after another are not answered.
const ANSWER_INTERVAL: Duration = Duration::from_millis(50);

/// Reads and forgets datagrams, until the connection ends: nobody has signed in.
pub(crate) async fn forget(connection: &Connection) {
    let mut read = 0u32;
    while connection.read_datagram().await.is_ok() {
        give_way(&mut read).await;
    }
}

/// Reads the datagrams of a signed-in client until its connection ends.
pub(crate) async fn read(context: &Context) {
    let (mut typist, mut answers, mut read) = (Typist::default(), Answers::default(), 0u32);
    let (mut used, rate) = (Bucket::default(), context.gateway.rates.datagrams);
    let mut address = context.connection.remote_address();
    while let Ok(datagram) = context.connection.read_datagram().await {
        if used.take(rate, clock::monotonic_ns()).is_err() {
            metrics::excess(metrics::Excess::Datagrams);
        } else if let Some(session) = context.session.get() {
            let bytes = datagram.len();
            let before = std::mem::replace(&mut address, context.connection.remote_address());
            if address != before {
                session.moved();
            }
            match frame::decode(datagram) {
                Ok((_, What::Echo(echo))) => {
                    if let Some(inboxes) = session.echo_inboxes() {
                        inboxes.hear(echo, metrics::echo_delivered);
                    }
                }
                Ok((_, What::Typing(said))) if session.wants_typing() => {
                    context.gateway.hear_typing(&mut typist, session, &said, bytes);
                }
                Ok((_, What::Probe(probe))) if session.takes_probes() => {
                    answers.hear(context, session, &probe);
                }
                Ok(_) => {}
                Err(_) => metrics::typing(metrics::Typing::Malformed),
            }
        }
        give_way(&mut read).await;
    }
}

/// The answers to one client's probes.
#[derive(Default)]
struct Answers {
    last: Option<Instant>,
}

impl Answers {
    /// Answers, by a packet that the client has to acknowledge: what was lost on the way to it is
    /// found out by that.
    fn hear(&mut self, context: &Context, session: &Session, heard: &wire::Probe) {
        let now = Instant::now();
        let is_early = self.last.is_some_and(|last| now < last + ANSWER_INTERVAL);
        let heard = match (heard.answer, is_early) {
            (true, _) => {
                session.probe_answered();
                path::Heard::Answer
            }
            (false, true) => path::Heard::Limited,
            (false, false) => {
                self.last = Some(now);
                // A connection that is over needs none.
                context.connection.send_datagram(probe::datagram(true)).ok();
                path::Heard::Answered
            }
        };
        path::probe_received(heard);
    }
}

/// Who sends datagrams without a pause does not keep this thread for himself.
async fn give_way(read: &mut u32) {
    *read = read.wrapping_add(1);
    if read.is_multiple_of(READ_AT_ONCE) {
        tokio::task::yield_now().await;
    }
}
