//! What comes in datagrams, which may be lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use petrel_proto::frame;
use petrel_proto::probe;
use petrel_proto::wire::frame::What;
use petrel_transport::Connection;

use crate::shared::Shared;

/// A server's probes that come sooner after another are not answered.
const ANSWER_INTERVAL: Duration = Duration::from_millis(50);

/// Reads datagrams until the connection ends. What makes no sense is dropped.
pub(crate) async fn read(shared: &Arc<Shared>, connection: &Connection) {
    let echo = shared.echo();
    let mut answered: Option<Instant> = None;
    while let Ok(bytes) = connection.read_datagram().await {
        match (frame::decode(bytes), &echo) {
            (Ok((_, What::Echo(copies))), Some(echo)) => echo.heard(copies),
            (Ok((frame, What::Typing(said))), _) => {
                shared.heard_typing(&frame, &said);
                shared.events.room().await;
            }
            (Ok((_, What::Probe(probe))), _) => {
                let now = Instant::now();
                let is_early = answered.is_some_and(|last| now < last + ANSWER_INTERVAL);
                if !probe.answer && !is_early {
                    answered = Some(now);
                    // A connection that is over needs none.
                    connection.send_datagram(probe::datagram(true)).ok();
                }
            }
            _ => tracing::debug!("a datagram that says nothing"),
        }
    }
}
